/*-------------------------------------------------------------------------
 *
 * dialect_openai_read.c
 *	  Chat Completions as OpenAI defined them and most others speak them: judge
 *	  an answer.
 *
 * An error goes by its code, then its words, then the status; an error may
 * come with status 200 (OpenRouter).  Usage is made five disjoint counts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/error.h"
#include "base/json.h"
#include "dialect/dialect_openai.h"

/* Longer than any provider's id of a request; the same as a header's value may have. */
#define ID_BYTES 127

static int64
at_least_zero(int64 n)
{
	return Max(n, 0);
}

/* Make the five disjoint counts of what the provider told. */
static void
settle_usage(const LlmOpenaiCounts *told, LlmUsage *usage)
{
	int64 prompt = told->prompt;
	int64 cached = told->cached >= 0 ? told->cached : told->cache_hit;
	int64 output = at_least_zero(told->completion);

	usage->known = told->prompt >= 0 || told->completion >= 0 || told->total >= 0 || told->cache_miss >= 0;
	if (prompt < 0 && told->cache_miss >= 0)
		prompt = told->cache_miss + at_least_zero(cached);
	if (prompt < 0)
		prompt = at_least_zero(told->total - output);
	/* what the total has besides is output that is billed as such */
	output = Max(output, told->total - prompt);
	usage->cached = Min(at_least_zero(cached), prompt);
	usage->cache_write = Min(at_least_zero(told->cache_write), prompt - usage->cached);
	usage->input = prompt - usage->cached - usage->cache_write;
	usage->output = output;
	usage->reasoning = Min(at_least_zero(told->reasoning), output);
}

/* A noted string fit to be kept, or NULL. */
static char *
clean_slice(const LlmJsonSlice *slice)
{
	bool clean = true;
	size_t len;
	char *decoded;

	if (slice->at == NULL || slice->len == 0)
		return NULL;
	decoded = llm_json_decode(slice, &len, &clean);
	decoded = llm_error_clean(decoded, len);
	return decoded[0] == '\0' ? NULL : decoded;
}

/*
 * The provider's own id of the request.  It looks like a key to whoever goes by looks,
 * and is what the provider wants to be told; the key itself has not come this far.
 */
static char *
read_id(const LlmRawAnswer *raw, const LlmJsonSlice *slice)
{
	bool clean = true;
	size_t len;
	char *id;

	if (raw->request_id != NULL)
		return pstrdup(raw->request_id);
	if (slice->at == NULL || slice->len == 0)
		return NULL;
	id = llm_json_decode(slice, &len, &clean);
	id[Min(len, ID_BYTES)] = '\0';
	for (char *p = id; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f)
			*p = '?';
	return id[0] == '\0' ? NULL : id;
}

/* Status that a numeric code stands for, 0 if none. */
static int
code_as_status(const char *code)
{
	long status = code == NULL ? 0 : strtol(code, NULL, 10);

	return status >= 300 && status <= 599 && strlen(code) == 3 ? (int) status : 0;
}

/* The class of an error. */
static LlmErrorClass
judge_error(const LlmRawAnswer *raw, const LlmOpenaiNotes *notes, const LlmReply *reply)
{
	char *type = clean_slice(&notes->type);
	LlmErrorClass by_code = llm_error_by_code(reply->code);
	LlmErrorClass by_words = llm_error_by_message(reply->message);
	int status = raw->status;

	if (by_code == LLM_OK)
		by_code = llm_error_by_code(type);
	/* a rate limit that this very request can never keep, or that no waiting lifts */
	if (by_code == LLM_ERR_RATE_LIMITED && (by_words == LLM_ERR_TOO_LONG || by_words == LLM_ERR_QUOTA))
		return by_words;
	if (by_code != LLM_OK)
		return by_code;
	if (status >= 200 && status < 300)
		status = code_as_status(reply->code);
	if (status == 403 && notes->flagged)
		return LLM_ERR_REFUSED;
	if (status == 402 && (raw->retry_after != NULL || raw->retry_after_ms != NULL))
		return LLM_ERR_RATE_LIMITED;
	if (by_words != LLM_OK && status != 401 && status != 429)
		return by_words;
	if (status == 404 && reply->message != NULL && strstr(reply->message, "model") != NULL)
		return LLM_ERR_UNKNOWN_MODEL;
	return status == 0 ? LLM_ERR_TRANSIENT : llm_error_by_status(status);
}

/* The class of an answer that is not an error, and what is wrong with it. */
static LlmErrorClass
judge_answer(const LlmOpenaiNotes *notes, const char **problem)
{
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
	if (llm_json_is(&notes->finish, "content_filter"))
	{
		*problem = "The provider's content filter stopped the answer.";
		return LLM_ERR_REFUSED;
	}
	if (llm_json_is(&notes->finish, "length") || llm_json_is(&notes->finish, "model_length"))
	{
		*problem = "The answer was cut off at the limit of tokens.";
		return LLM_ERR_TRUNCATED;
	}
	if (llm_json_is(&notes->finish, "error"))
	{
		*problem = "The provider reported an error while the model answered.";
		return LLM_ERR_INVALID;
	}
	if (notes->content_len == 0)
	{
		*problem = "The answer is empty.";
		return LLM_ERR_INVALID;
	}
	return LLM_OK;
}

/* An error whose body tells nothing is described by its status. */
static char *
describe_status(int status)
{
	if (status >= 300 && status < 400)
		return psprintf("The provider answered with a redirect (HTTP status %d), which is not followed.", status);
	if (status >= 200 && status < 300)
		return pstrdup("The provider reported an error and said no more.");
	if (status == 404)
		return pstrdup("The provider does not know this address (HTTP status 404).");
	return psprintf("The provider answered with HTTP status %d.", status);
}

/* A failed request: its class, and what was said about it. */
static void
settle_error(const LlmRawAnswer *raw, const LlmOpenaiNotes *notes, LlmReply *reply)
{
	reply->code = clean_slice(&notes->code);
	if (reply->code == NULL)
		reply->code = clean_slice(&notes->type);
	reply->message = clean_slice(&notes->message);
	reply->class = judge_error(raw, notes, reply);
	if (raw->status >= 300 && raw->status < 400)
		reply->class = LLM_ERR_CONFIG;
	if (reply->message == NULL || reply->class == LLM_ERR_CONFIG)
		reply->message = describe_status(raw->status);
	reply->retry_after_ms = llm_error_retry_after_ms(raw->retry_after, raw->retry_after_ms, raw->date, reply->message);
}

/* An answer: its text, and whether it is whole. */
static void
settle_answer(const LlmOpenaiNotes *notes, bool is_json, LlmReply *reply)
{
	const char *problem = NULL;
	bool clean = true;

	reply->content = notes->content;
	reply->content_len = notes->content_len;
	if (is_json)
		reply->class = judge_answer(notes, &problem);
	else
	{
		reply->class = LLM_ERR_INVALID;
		problem = "The provider answered with something other than JSON.";
	}
	if (reply->class == LLM_ERR_REFUSED && reply->content_len == 0 && notes->refusal.at != NULL)
		reply->content = llm_json_decode(&notes->refusal, &reply->content_len, &clean);
	if (problem != NULL)
		reply->message = pstrdup(problem);
}

void
llm_dialect_openai_read(const LlmRawAnswer *raw, LlmReply *reply)
{
	LlmOpenaiNotes notes;
	bool is_json = llm_dialect_openai_walk(raw, &notes);

	memset(reply, 0, sizeof(*reply));
	reply->retry_after_ms = -1;
	if (!is_json)
	{
		/* what was noted before the walk stumbled may be half a truth */
		memset(&notes, 0, sizeof(notes));
		memset(&notes.counts, 0xff, sizeof(notes.counts));
	}
	settle_usage(&notes.counts, &reply->usage);
	reply->request_id = read_id(raw, &notes.id);
	if (raw->status < 200 || raw->status >= 300 || notes.has_error)
		settle_error(raw, &notes, reply);
	else
		settle_answer(&notes, is_json, reply);
}
