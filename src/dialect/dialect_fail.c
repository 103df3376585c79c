/*-------------------------------------------------------------------------
 *
 * dialect_fail.c
 *	  What an error means.
 *
 * What is particular goes first: a code that says one thing only, then the words, then
 * the status.  A code that says no more than "something went wrong" yields to a status that
 * says what.
 *
 * The row's own words, where an error repeats them, say nothing: anybody could write "insufficient
 * credits" into a text and stop everybody's requests by it.  And words alone shut a target only
 * with a status under which providers do say such things.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "dialect/dialect_shared.h"

/* So many bytes that also stand in the row's text are a quotation. */
#define QUOTED_BYTES 12

/* Status that a numeric code stands for, 0 if none. */
static int
code_as_status(const char *code)
{
	long status = code == NULL ? 0 : strtol(code, NULL, 10);

	return status >= 300 && status <= 599 && strlen(code) == 3 ? (int) status : 0;
}

static LlmErrorClass
by_own_code(const LlmErrorWord *codes, const char *code)
{
	for (; codes != NULL && codes->word != NULL && code != NULL; codes++)
	{
		if (pg_strcasecmp(code, codes->word) == 0)
			return codes->class;
	}
	return llm_dialect_by_code(code);
}

static bool
has_phrase(const char *str, const char *phrase)
{
	size_t len = strlen(phrase);

	for (; str != NULL && *str != '\0'; str++)
	{
		if (pg_strncasecmp(str, phrase, len) == 0)
			return true;
	}
	return false;
}

static bool
has_one_of(const char *str, const char *const *phrases)
{
	for (; *phrases != NULL; phrases++)
	{
		if (has_phrase(str, *phrases))
			return true;
	}
	return false;
}

static LlmErrorClass
by_own_words(const LlmErrorWord *phrases, const char *message)
{
	for (; phrases != NULL && phrases->word != NULL; phrases++)
	{
		if (has_phrase(message, phrases->word))
			return phrases->class;
	}
	return llm_dialect_by_words(message);
}

/* A sentence without what it quotes from the row's text. */
static char *
without_quotations(const char *message, const LlmText *input)
{
	StringInfoData buf;
	size_t len = strlen(message);
	size_t at = 0;

	initStringInfo(&buf);
	while (at < len)
	{
		const char *found = len - at < QUOTED_BYTES || input->len < QUOTED_BYTES
								? NULL
								: memmem(input->at, input->len, message + at, QUOTED_BYTES);
		size_t run = QUOTED_BYTES;

		if (found == NULL)
		{
			appendStringInfoChar(&buf, message[at++]);
			continue;
		}
		while (at + run < len && found + run < input->at + input->len && message[at + run] == found[run])
			run++;
		appendStringInfoString(&buf, " ... ");
		at += run;
	}
	return buf.data;
}

/* Would this class shut the target for everybody? */
static bool
shuts_target(LlmErrorClass class)
{
	return class == LLM_ERR_AUTH || class == LLM_ERR_QUOTA || class == LLM_ERR_UNKNOWN_MODEL;
}

/* The class by words that hold with that status; LLM_OK: none does. */
static LlmErrorClass
by_words(const LlmRawAnswer *raw, const LlmErrorSigns *signs, const char *message, int status)
{
	LlmErrorClass class = by_own_words(signs->phrases, message);

	if (raw->added && shuts_target(class))
		return LLM_OK; /* they may be the caller's, who would shut it for others */
	if (status == 401 || status == 429 || (shuts_target(class) && status >= 500))
		return LLM_OK;
	return class;
}

static bool
is_model_missing(int status, const char *message)
{
	static const char *const gone[] = {
		"not found",
		"not exist",
		"does not exist",
		"not available",
		"no such",
		NULL,
	};

	if (status == 404)
		return has_phrase(message, "model") || has_phrase(message, "deployment");
	return status == 400 && has_phrase(message, "model") && !has_phrase(message, "parameter") && has_one_of(message, gone);
}

/*
 * The model is of the other kind: it gives vectors, or it does not.  Only in words that say so; an
 * unknown model, or a wrong address, is something else.
 */
static bool
is_wrong_kind(const LlmRawAnswer *raw, const char *message)
{
	static const char *const no_vectors[] = {
		"generate embeddings from this model",
		"not support embedding",
		"not support generating embedding",
		"not support the embedding",
		"embeddings operation does not work",
		"not an embedding",
		"not an embeddings",
		"not a text embedding",
		NULL,
	};
	static const char *const no_chat[] = {
		"not a chat model",
		"not support chat",
		"not support the chat",
		"not support generate",
		"not in v1/chat/completions",
		"chatcompletion operation does not work",
		"chat completion operation does not work",
		"is an embedding model",
		NULL,
	};

	if (raw->status == 401 || raw->status == 402 || raw->status == 429 || raw->status == 503)
		return false;
	return has_one_of(message, raw->kind == LLM_REQUEST_EMBED ? no_vectors : no_chat);
}

/* The class of an error; "message" is without quotations. */
static LlmErrorClass
judge(const LlmRawAnswer *raw, const LlmErrorSigns *signs, const char *code, const char *message)
{
	char *type = llm_dialect_clean_slice(&signs->type);
	int status = raw->status >= 200 && raw->status < 300 ? code_as_status(code) : raw->status;
	LlmErrorClass by_status = status == 0 ? LLM_ERR_TRANSIENT : llm_dialect_by_status(status);
	LlmErrorClass by_code = by_own_code(signs->codes, code);
	LlmErrorClass words = by_words(raw, signs, message, status);

	if (is_wrong_kind(raw, message))
		return LLM_ERR_WRONG_KIND;
	if (by_code == LLM_OK || by_code == LLM_ERR_TRANSIENT)
	{
		LlmErrorClass by_type = by_own_code(signs->codes, type);

		by_code = by_type != LLM_OK ? by_type : by_code;
	}
	/* a rate limit that this very request can never keep, or that no waiting lifts */
	if (by_code == LLM_ERR_RATE_LIMITED)
	{
		LlmErrorClass said = by_own_words(signs->phrases, message);

		return said == LLM_ERR_TOO_LONG || said == LLM_ERR_QUOTA ? said : by_code;
	}
	if (by_code != LLM_OK && by_code != LLM_ERR_TRANSIENT)
		return by_code;
	if (status == 403 && signs->flagged)
		return LLM_ERR_REFUSED;
	if (status == 402 &&
		(llm_dialect_header(raw, "retry-after") != NULL || llm_dialect_header(raw, "retry-after-ms") != NULL))
		return LLM_ERR_RATE_LIMITED;
	if (words != LLM_OK)
		return words;
	if (!raw->added && is_model_missing(status, message))
		return LLM_ERR_UNKNOWN_MODEL;
	/* "something went wrong", with a status that says more or with one that says as little */
	if (by_code == LLM_ERR_TRANSIENT && (by_status == LLM_ERR_BAD_REQUEST || by_status == LLM_OK))
		return LLM_ERR_TRANSIENT;
	return by_status;
}

/* ---- what a host does not take ---- */

static const char *const refusing[] = {
	"not support",
	"unsupported",
	"unavailable",
	"not permitted",
	"not allowed",
	"not accept",
	"unknown",
	"unrecognized",
	"unexpected",
	"unrecognised",
	"extra inputs",
	"extra fields",
	"additional propert",
	"forbidden",
	"invalid parameter",
	"instead",
	"not available",
	"must be one of",
	"invalid value",
	"not a valid",
	NULL,
};

static const char *const form_words[] = {
	"response_format",
	"json_schema",
	"json_object",
	"structured output",
	"structured_output",
	"responseschema",
	"response_schema",
	"responsejsonschema",
	"response_json_schema",
	"responsemimetype",
	"response_mime_type",
	"outputconfig",
	"output_config",
	"output_format",
	"output_schema",
	"guided",
	NULL,
};

static const char *const cap_words[] = {
	"max_completion_tokens",
	"max_tokens",
	"max_output_tokens",
	"maxoutputtokens",
	NULL,
};

static const char *const role_words[] = {
	"system role",
	"role 'system'",
	"role \"system\"",
	"'system' role",
	"developer",
	"system message",
	"system prompt",
	"systeminstruction",
	"system_instruction",
	"system instruction",
	"role: system",
	NULL,
};

/* The schema itself is at fault, not that there is one. */
static const char *const schema_words[] = {
	"invalid schema",
	"invalid_json_schema",
	"schema is invalid",
	"schema is not valid",
	NULL,
};

/*
 * What the host says it does not take, of what the request had: an LLM_USED_… bit, or 0.  A
 * parameter is named where an error has a place for that, or in words that refuse something.
 */
static int
find_refused(const LlmRawAnswer *raw, const LlmErrorSigns *signs, const char *code, const char *message)
{
	char *param = llm_dialect_clean_slice(&signs->param);
	bool refuses = has_one_of(message, refusing) || has_one_of(code, refusing);

	if (raw->added || (raw->status != 400 && raw->status != 422))
		return 0;
	if (has_one_of(code, schema_words) || has_one_of(message, schema_words))
		return 0;
	if ((raw->used & LLM_USED_CAP) != 0 && refuses && (has_one_of(message, cap_words) || has_one_of(param, cap_words)))
		return LLM_USED_CAP;
	if ((raw->used & LLM_USED_FORM) != 0 &&
		(has_one_of(param, form_words) || (refuses && has_one_of(message, form_words))))
		return LLM_USED_FORM;
	if ((raw->used & LLM_USED_ROLE) != 0 && refuses && has_one_of(message, role_words))
		return LLM_USED_ROLE;
	return 0;
}

/* ---- the whole ---- */

/* An error whose body tells nothing is described by its status. */
static char *
describe_status(int status, const char *message)
{
	if (status >= 300 && status < 400)
		return psprintf("The provider answered with a redirect (HTTP status %d), which is not followed.", status);
	if (status >= 200 && status < 300)
		return pstrdup("The provider reported an error and said no more.");
	if (status == 404 && message != NULL)
		return psprintf("The provider does not know this address (HTTP status 404): %s", message);
	if (status == 404)
		return pstrdup("The provider does not know this address (HTTP status 404).");
	if (message != NULL)
		return psprintf("The provider answered with HTTP status %d: %s", status, message);
	return psprintf("The provider answered with HTTP status %d.", status);
}

/* The longest wait that limits with nothing left tell; -1: none does. */
static int64
reset_of_limits(const LlmRawAnswer *raw, const LlmReply *reply)
{
	static const char *const names[] = {"x-ratelimit-reset", "ratelimit-reset", "x-rate-limit-reset"};
	int64 ms = -1;

	if (reply->requests.remaining == 0)
		ms = reply->requests.reset_ms;
	if (reply->tokens.remaining == 0)
		ms = Max(ms, reply->tokens.reset_ms);
	for (int i = 0; ms < 0 && i < lengthof(names); i++)
		ms = llm_dialect_time_ms(raw, llm_dialect_header(raw, names[i]));
	return ms;
}

void
llm_dialect_fail(const LlmRawAnswer *raw, const LlmErrorSigns *signs, LlmReply *reply)
{
	char *said = NULL;

	reply->may_be_billed = false;
	reply->code = llm_dialect_clean_slice(&signs->code);
	if (reply->code == NULL)
		reply->code = llm_dialect_clean_slice(&signs->type);
	reply->message = llm_dialect_clean_slice(&signs->message);
	if (reply->message == NULL && signs->sentence != NULL)
		reply->message = llm_dialect_clean(signs->sentence, strlen(signs->sentence));
	if (reply->message != NULL)
		said = without_quotations(reply->message, &raw->input);
	reply->class = judge(raw, signs, reply->code, said);
	if (raw->status >= 300 && raw->status < 400)
		reply->class = LLM_ERR_CONFIG;
	if (reply->class == LLM_ERR_BAD_REQUEST)
		reply->refused = find_refused(raw, signs, reply->code, said);
	if (reply->refused != 0)
		reply->refusal = said;
	reply->plain = said;
	if (reply->message == NULL || reply->class == LLM_ERR_CONFIG)
	{
		reply->message = describe_status(raw->status, reply->message);
		reply->plain = describe_status(raw->status, said);
	}
	reply->retry_after_ms = llm_dialect_retry_after_ms(raw, NULL);
	if (reply->retry_after_ms < 0)
		reply->retry_after_ms = llm_dialect_time_ms(raw, llm_dialect_clean_slice(&signs->delay));
	if (reply->retry_after_ms < 0)
		reply->retry_after_ms = llm_dialect_retry_after_ms(raw, said);
	if (reply->retry_after_ms < 0 && reply->class == LLM_ERR_RATE_LIMITED)
		reply->retry_after_ms = reset_of_limits(raw, reply);
}
