/*-------------------------------------------------------------------------
 *
 * dialect_openai_read.c
 *	  Chat Completions as OpenAI defined them and most others speak them: judge
 *	  an answer.
 *
 * An error may come with status 200 (OpenRouter).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_openai.h"

/* Make the five disjoint counts of what the provider told. */
static void
settle_usage(LlmOpenaiNotes *notes, LlmUsage *usage)
{
	LlmToldUsage *told = &notes->usage;

	if (told->prompt < 0 && notes->cache_miss >= 0)
		told->prompt = notes->cache_miss + Max(told->cached, 0);
	llm_dialect_settle_usage(told, usage);
}

/* The class of an answer that is not an error, and what is wrong with it. */
static LlmErrorClass
judge_answer(const LlmRawAnswer *raw, const LlmOpenaiNotes *notes, const char **problem)
{
	LlmErrorClass class;

	if (!notes->has_choice)
	{
		*problem = "The provider's answer has no \"choices\".";
		return LLM_ERR_INVALID;
	}
	if (notes->refusal.at != NULL && notes->refusal.len > 0)
	{
		*problem = "The model refused to answer.";
		return LLM_ERR_REFUSED;
	}
	class = llm_dialect_judge_finish(raw, &notes->finish, problem);
	if (class != LLM_OK)
		return class;
	if (notes->content_len == 0)
	{
		*problem = "The answer is empty.";
		return LLM_ERR_INVALID;
	}
	return LLM_OK;
}

/* An answer: its text, and whether it is whole. */
static void
settle_answer(const LlmRawAnswer *raw, LlmOpenaiNotes *notes, LlmReply *reply)
{
	const char *problem = NULL;
	bool clean = true;

	llm_dialect_skip_thoughts(&notes->content, &notes->content_len);
	reply->content = notes->content;
	reply->content_len = notes->content_len;
	reply->class = judge_answer(raw, notes, &problem);
	if (reply->class == LLM_ERR_REFUSED && reply->content_len == 0 && notes->refusal.at != NULL)
		reply->content = llm_json_decode(&notes->refusal, &reply->content_len, &clean);
	if (problem != NULL)
		reply->message = pstrdup(problem);
}

void
llm_dialect_openai_read(const LlmRawAnswer *raw, LlmReply *reply)
{
	LlmOpenaiNotes notes;
	const char *problem;
	LlmErrorClass class = llm_dialect_openai_walk(raw, &notes, &problem);

	llm_dialect_reply(reply, class, problem);
	settle_usage(&notes, &reply->usage);
	llm_dialect_note_tier(&notes.tier, reply);
	llm_dialect_note_headers(raw, &notes.id, NULL, NULL, reply);
	if (raw->status < 200 || raw->status >= 300 || notes.has_error)
		llm_dialect_fail(raw, &notes.error, reply);
	else if (class != LLM_OK)
		return;
	else if (raw->kind == LLM_REQUEST_EMBED)
	{
		reply->vectors = notes.vectors;
		(void) llm_dialect_check_vectors(raw, reply);
	}
	else
		settle_answer(raw, &notes, reply);
}
