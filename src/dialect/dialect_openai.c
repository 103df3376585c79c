/*-------------------------------------------------------------------------
 *
 * dialect_openai.c
 *	  Chat Completions as OpenAI defined them and most others speak them: the
 *	  question.
 *
 * What the rows share comes first in the body and the row's own text last, so
 * that a request costs one copy of the text, and providers can cache the rest.
 * Optional parameters are absent unless the user set them, since many models
 * refuse them.  The instructions have the role "system", which every server of
 * this form understands.
 *
 * A schema goes along with "strict": true when it lies within OpenAI's strict
 * subset as it is.  When it does not (a property that is not required,
 * additionalProperties not false, a keyword that the subset lacks), it goes
 * with "strict": false, which asks the model for the best it can do; the answer
 * is checked here in any case.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_openai.h"
#include "operation/prompt.h"

/* Bytes of the answer at fault that are shown to the model again. */
#define LAST_ANSWER_MAX 8192

static const char message_end[] = "\"}";

static void
append_response_format(StringInfo buf, const LlmRecipe *recipe)
{
	JsonbValue schema;

	if (recipe->schema == NULL || !llm_json_tree(recipe->schema, &schema))
		return;
	appendStringInfo(buf, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"%s\",\"strict\":%s,\"schema\":",
					 recipe->schema_name, llm_dialect_openai_is_strict(recipe->schema) ? "true" : "false");
	llm_json_append(buf, &schema);
	appendStringInfoString(buf, "}}");
}

static void
append_number(StringInfo buf, const char *key, const char *number)
{
	if (number != NULL)
		appendStringInfo(buf, ",\"%s\":%s", key, number);
}

static void
append_word(StringInfo buf, const char *key, const char *word)
{
	if (word == NULL)
		return;
	appendStringInfo(buf, ",\"%s\":", key);
	llm_json_append_string(buf, word, strlen(word));
}

static void
append_params(StringInfo buf, const LlmParams *params)
{
	append_number(buf, "temperature", params->temperature);
	append_number(buf, "top_p", params->top_p);
	append_number(buf, "seed", params->seed);
	if (params->max_tokens > 0)
		appendStringInfo(buf, ",\"max_completion_tokens\":%d", params->max_tokens);
	append_word(buf, "reasoning_effort", params->reasoning_effort);
	append_word(buf, "verbosity", params->verbosity);
	append_word(buf, "service_tier", params->service_tier);
}

static void
begin_message(StringInfo buf, const char *role)
{
	appendStringInfo(buf, "{\"role\":\"%s\",\"content\":\"", role);
}

static LlmFrame *
prepare(const LlmRecipe *recipe, const char *model)
{
	LlmFrame *frame = palloc(sizeof(LlmFrame));
	StringInfo head = &frame->head;

	initStringInfo(head);
	initStringInfo(&frame->tail);
	appendStringInfoString(head, "{\"model\":");
	llm_json_append_string(head, model, strlen(model));
	append_params(head, &recipe->params);
	append_response_format(head, recipe);
	appendStringInfoString(head, ",\"messages\":[");
	if (recipe->system[0] != '\0')
	{
		begin_message(head, "system");
		llm_json_escape(head, recipe->system, strlen(recipe->system));
		appendStringInfo(head, "%s,", message_end);
	}
	begin_message(head, "user");
	appendStringInfoString(&frame->tail, "]}");
	return frame;
}

/*
 * The second asking.  Some chat templates want the roles to alternate, so
 * there is an answer even where none came.
 */
static void
append_again(StringInfo buf, const char *last_answer, const char *fault)
{
	StringInfoData words;

	if (last_answer == NULL || last_answer[0] == '\0')
		last_answer = "(no answer)";
	initStringInfo(&words);
	llm_prompt_again(&words, fault);
	appendStringInfoChar(buf, ',');
	begin_message(buf, "assistant");
	llm_json_escape(buf, last_answer, llm_json_clip(last_answer, strlen(last_answer), LAST_ANSWER_MAX));
	appendStringInfo(buf, "%s,", message_end);
	begin_message(buf, "user");
	llm_json_escape(buf, words.data, words.len);
	appendStringInfoString(buf, message_end);
	pfree(words.data);
}

static void
write_body(const LlmFrame *frame, const char *input, size_t input_len,
		   const char *last_answer, const char *fault, StringInfo body)
{
	/* room for it all at once, a few escapes included */
	enlargeStringInfo(body, frame->head.len + frame->tail.len + input_len + input_len / 16 + 64);
	appendBinaryStringInfo(body, frame->head.data, frame->head.len);
	llm_json_escape(body, input, input_len);
	appendBinaryStringInfo(body, message_end, sizeof(message_end) - 1);
	if (fault != NULL)
		append_again(body, last_answer, fault);
	appendBinaryStringInfo(body, frame->tail.data, frame->tail.len);
}

const LlmDialect llm_dialect_openai = {
	.name = "openai",
	.path = "/chat/completions",
	.key_header = "Authorization: Bearer %s",
	.prepare = prepare,
	.body = write_body,
	.read = llm_dialect_openai_read,
};
