/*-------------------------------------------------------------------------
 *
 * dialect_words.c
 *	  From a provider's words to what they mean: codes, phrases and statuses that
 *	  many providers share, and texts that are fit to be kept and shown.
 *
 * Providers use the same HTTP status for different things: 429 is "wait a
 * second" and "you have no money left", 400 is a bad request and a spend limit,
 * 403 a missing right and an input that is too long.  So the code in the body
 * goes first, then its words, then the status.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "dialect/dialect_shared.h"

/* Runs of letters and digits at least this long may be keys. */
#define KEY_LEN 32

/* The same after a prefix that only keys have. */
#define PREFIXED_KEY_LEN 8

/* Values of "code", "type" and "status", sorted for the eye; compared without case. */
static const LlmErrorWord code_classes[] = {
	{"account_deactivated", LLM_ERR_AUTH},
	{"api_error", LLM_ERR_TRANSIENT},
	{"api_key_invalid", LLM_ERR_AUTH},
	{"authentication_error", LLM_ERR_AUTH},
	{"billing_error", LLM_ERR_QUOTA},
	{"billing_hard_limit_reached", LLM_ERR_QUOTA},
	{"billing_not_active", LLM_ERR_QUOTA},
	{"budget_exceeded", LLM_ERR_QUOTA},
	{"capacity_exceeded", LLM_ERR_OVERLOADED},
	{"content_filter", LLM_ERR_REFUSED},
	{"content_policy_violation", LLM_ERR_REFUSED},
	{"context_length_exceeded", LLM_ERR_TOO_LONG},
	{"contract_spend_limit_reached", LLM_ERR_QUOTA},
	{"credit_balance_exhausted", LLM_ERR_QUOTA},
	{"deploymentnotfound", LLM_ERR_UNKNOWN_MODEL},
	{"enforced_spend_limit_reached", LLM_ERR_QUOTA},
	{"engine_overloaded", LLM_ERR_OVERLOADED},
	{"engine_overloaded_error", LLM_ERR_OVERLOADED},
	{"exceed_context_size_error", LLM_ERR_TOO_LONG},
	{"exceeded_current_quota_error", LLM_ERR_QUOTA},
	{"input_too_long", LLM_ERR_TOO_LONG},
	{"insufficient_balance", LLM_ERR_QUOTA},
	{"insufficient_quota", LLM_ERR_QUOTA},
	{"internal_error", LLM_ERR_TRANSIENT},
	{"internal_server_error", LLM_ERR_TRANSIENT},
	{"internalservererror", LLM_ERR_TRANSIENT},
	{"invalid_api_key", LLM_ERR_AUTH},
	{"invalid_api_key_error", LLM_ERR_AUTH},
	{"invalid_authentication_error", LLM_ERR_AUTH},
	{"invalid_model", LLM_ERR_UNKNOWN_MODEL},
	{"invalid_request_prompt", LLM_ERR_TOO_LONG},
	{"ip_not_authorized", LLM_ERR_AUTH},
	{"json_validate_failed", LLM_ERR_INVALID},
	{"model_deprecated", LLM_ERR_UNKNOWN_MODEL},
	{"model_not_available", LLM_ERR_UNKNOWN_MODEL},
	{"model_not_found", LLM_ERR_UNKNOWN_MODEL},
	{"model_not_found_error", LLM_ERR_UNKNOWN_MODEL},
	{"organization_restricted", LLM_ERR_AUTH},
	{"organization_spend_limit_exceeded", LLM_ERR_QUOTA},
	{"organization_usage_limit_exceeded", LLM_ERR_QUOTA},
	{"overloaded_error", LLM_ERR_OVERLOADED},
	{"payment_required", LLM_ERR_QUOTA},
	{"permission_denied", LLM_ERR_AUTH},
	{"permission_error", LLM_ERR_AUTH},
	{"project_spend_limit_exceeded", LLM_ERR_QUOTA},
	{"quota_exceeded", LLM_ERR_QUOTA},
	{"ramp_limit_exceeded", LLM_ERR_RATE_LIMITED},
	{"rate_limit_error", LLM_ERR_RATE_LIMITED},
	{"rate_limit_exceeded", LLM_ERR_RATE_LIMITED},
	{"rate_limit_reached_error", LLM_ERR_RATE_LIMITED},
	{"rate_limited", LLM_ERR_RATE_LIMITED},
	{"request_too_large", LLM_ERR_TOO_LONG},
	{"resource_exhausted", LLM_ERR_RATE_LIMITED},
	{"resource_unavailable", LLM_ERR_OVERLOADED},
	{"responsibleaipolicyviolation", LLM_ERR_REFUSED},
	{"server_error", LLM_ERR_TRANSIENT},
	{"server_is_overloaded", LLM_ERR_OVERLOADED},
	{"service_unavailable", LLM_ERR_OVERLOADED},
	{"service_unavailable_error", LLM_ERR_OVERLOADED},
	{"slow_down", LLM_ERR_OVERLOADED},
	{"string_above_max_length", LLM_ERR_TOO_LONG},
	{"timeout", LLM_ERR_TRANSIENT},
	{"timeout_error", LLM_ERR_TRANSIENT},
	{"too_many_requests", LLM_ERR_RATE_LIMITED},
	{"unauthenticated", LLM_ERR_AUTH},
	{"unauthorized", LLM_ERR_AUTH},
	{"unavailable_error", LLM_ERR_OVERLOADED},
	{"unknown_error", LLM_ERR_TRANSIENT},
};

/* Words in messages, where the code says nothing of the kind; lower case. */
static const LlmErrorWord message_classes[] = {
	{"maximum context length", LLM_ERR_TOO_LONG},
	{"maximum model length", LLM_ERR_TOO_LONG},
	{"context window", LLM_ERR_TOO_LONG},
	{"context length", LLM_ERR_TOO_LONG},
	{"context size", LLM_ERR_TOO_LONG},
	{"prompt is too long", LLM_ERR_TOO_LONG},
	{"input is too long", LLM_ERR_TOO_LONG},
	{"prompt too long", LLM_ERR_TOO_LONG},
	{"too many tokens", LLM_ERR_TOO_LONG},
	{"request too large for", LLM_ERR_TOO_LONG},
	{"specified api usage limits", LLM_ERR_QUOTA},
	{"insufficient balance", LLM_ERR_QUOTA},
	{"insufficient credits", LLM_ERR_QUOTA},
	{"content management policy", LLM_ERR_REFUSED},
	{"not a valid model", LLM_ERR_UNKNOWN_MODEL},
	{"invalid model:", LLM_ERR_UNKNOWN_MODEL},
	{"model not exist", LLM_ERR_UNKNOWN_MODEL},
	{"model does not exist", LLM_ERR_UNKNOWN_MODEL},
	{"invalid model name", LLM_ERR_UNKNOWN_MODEL},
	{"unknown model", LLM_ERR_UNKNOWN_MODEL},
	{"model not found", LLM_ERR_UNKNOWN_MODEL},
	{"exceeds the maximum number of tokens", LLM_ERR_TOO_LONG},
	{"exceeds the context", LLM_ERR_TOO_LONG},
	{"exceeds the available context", LLM_ERR_TOO_LONG},
	{"reduce the length of the", LLM_ERR_TOO_LONG},
	{"budget has been exceeded", LLM_ERR_QUOTA},
	{"all available credits", LLM_ERR_QUOTA},
	{"monthly spending limit", LLM_ERR_QUOTA},
	{"requires more credits", LLM_ERR_QUOTA},
	{"can only afford", LLM_ERR_QUOTA},
	{"insufficient funds", LLM_ERR_QUOTA},
	{"credit balance is too low", LLM_ERR_QUOTA},
	{"api key not valid", LLM_ERR_AUTH},
	{"api key expired", LLM_ERR_AUTH},
	{"api key not found", LLM_ERR_AUTH},
	{"incorrect api key", LLM_ERR_AUTH},
	{"invalid api key", LLM_ERR_AUTH},
	{"invalid api-key", LLM_ERR_AUTH},
	{"invalid x-api-key", LLM_ERR_AUTH},
	{"invalid subscription key", LLM_ERR_AUTH},
	{"missing api key", LLM_ERR_AUTH},
	{"no api key", LLM_ERR_AUTH},
	{"authentication error", LLM_ERR_AUTH},
};

/* Prefixes that only keys have. */
static const char *const key_prefixes[] = {
	"sk-",
	"sk_",
	"gsk_",
	"xai-",
	"AIza",
	"hf_",
	"pplx-",
	"nvapi-",
	"fw_",
	"r8_",
	"tgp_",
	"csk-",
	"eyJ",
	"rk-",
	"ghp_",
};

LlmErrorClass
llm_dialect_by_status(int status)
{
	switch (status)
	{
		case 401:
		case 403:
			return LLM_ERR_AUTH;
		case 402:
			return LLM_ERR_QUOTA;
		case 404:
		case 405:
		case 407:
			return LLM_ERR_CONFIG;
		case 408:
		case 409:
		case 425:
			return LLM_ERR_TRANSIENT;
		case 410:
			return LLM_ERR_UNKNOWN_MODEL;
		case 413:
			return LLM_ERR_TOO_LONG;
		case 429:
			return LLM_ERR_RATE_LIMITED;
		case 498: /* Groq: no flex capacity */
		case 503:
		case 529: /* Anthropic: overloaded */
			return LLM_ERR_OVERLOADED;
		default:
			break;
	}
	if (status >= 200 && status < 300)
		return LLM_OK;
	if (status >= 300 && status < 400)
		return LLM_ERR_CONFIG;
	if (status >= 400 && status < 500)
		return LLM_ERR_BAD_REQUEST;
	return LLM_ERR_TRANSIENT;
}

LlmErrorClass
llm_dialect_by_code(const char *code)
{
	for (int i = 0; code != NULL && i < lengthof(code_classes); i++)
	{
		if (pg_strcasecmp(code, code_classes[i].word) == 0)
			return code_classes[i].class;
	}
	return LLM_OK;
}

/* Does the text hold the words, which are in lower case?  Text is short: it was cut. */
static bool
has_words(const char *str, const char *words)
{
	size_t len = strlen(words);

	for (; *str != '\0'; str++)
	{
		if (pg_strncasecmp(str, words, len) == 0)
			return true;
	}
	return false;
}

LlmErrorClass
llm_dialect_by_words(const char *message)
{
	for (int i = 0; message != NULL && i < lengthof(message_classes); i++)
	{
		if (has_words(message, message_classes[i].word))
			return message_classes[i].class;
	}
	return LLM_OK;
}

static bool
is_word_char(char c)
{
	return isalnum((unsigned char) c) || c == '_' || c == '-' || c == '*';
}

static bool
has_key_prefix(const char *word, size_t len)
{
	for (int i = 0; i < lengthof(key_prefixes); i++)
	{
		size_t n = strlen(key_prefixes[i]);

		if (len >= n && memcmp(word, key_prefixes[i], n) == 0)
			return true;
	}
	return false;
}

/* May this run of word characters be a key, or part of one? */
static bool
looks_like_key(const char *word, size_t len)
{
	bool digit = false;
	size_t i;

	if (len >= PREFIXED_KEY_LEN && has_key_prefix(word, len))
		return true;
	for (i = 0; i < len; i++)
		digit = digit || (word[i] >= '0' && word[i] <= '9') || word[i] == '*';
	return digit && len >= KEY_LEN;
}

/* Bytes to look at: valid characters only, twice what can be kept, no word that is cut. */
static size_t
usable_length(const char *str, size_t len)
{
	size_t limit = Min(len, 2 * LLM_DIALECT_TEXT_MAX);
	size_t usable = (size_t) pg_encoding_verifymbstr(PG_UTF8, str, (int) limit);

	while (usable < len && usable > 0 && is_word_char(str[usable - 1]))
		usable--;
	return usable;
}

/* Word by word: one that may be a key is replaced, a control character becomes a blank. */
char *
llm_dialect_clean(const char *str, size_t len)
{
	StringInfoData buf;
	size_t usable = usable_length(str, len);
	size_t at = 0;

	initStringInfo(&buf);
	while (at < usable && buf.len < LLM_DIALECT_TEXT_MAX)
	{
		size_t run = 0;

		while (at + run < usable && is_word_char(str[at + run]))
			run++;
		if (run == 0)
		{
			bool control = (unsigned char) str[at] < 0x20 || str[at] == 0x7f;

			appendStringInfoCharMacro(&buf, control ? ' ' : str[at]);
			at++;
			continue;
		}
		if (looks_like_key(str + at, run))
			appendStringInfoString(&buf, "[key]");
		else
			appendBinaryStringInfo(&buf, str + at, (int) run);
		at += run;
	}
	if (buf.len > LLM_DIALECT_TEXT_MAX)
		buf.len = LLM_DIALECT_TEXT_MAX;
	/* the cut may have split a character */
	buf.len = pg_encoding_verifymbstr(PG_UTF8, buf.data, buf.len);
	buf.data[buf.len] = '\0';
	return buf.data;
}

char *
llm_dialect_clean_slice(const LlmJsonSlice *slice)
{
	bool clean = true;
	size_t len;
	char *decoded;

	if (slice->at == NULL || slice->len == 0)
		return NULL;
	decoded = llm_json_decode(slice, &len, &clean);
	decoded = llm_dialect_clean(decoded, len);
	return decoded[0] == '\0' ? NULL : decoded;
}

bool
llm_dialect_holds_key(const char *str)
{
	while (*str != '\0')
	{
		size_t run = 0;

		while (is_word_char(str[run]))
			run++;
		if (run >= PREFIXED_KEY_LEN && has_key_prefix(str, run))
			return true;
		str += Max(run, 1);
	}
	return false;
}
