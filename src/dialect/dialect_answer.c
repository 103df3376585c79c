/*-------------------------------------------------------------------------
 *
 * dialect_answer.c
 *	  How an answer ended, and what in it is no part of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "dialect/dialect_shared.h"

/* Parts of words by which providers say how an answer ended; lower case.  The first that fits counts. */
static const struct
{
	const char *part;
	LlmFinish finish;
} parts[] = {
	{"max_tokens", LLM_FINISH_CUT},
	{"max_output", LLM_FINISH_CUT},
	{"token_limit", LLM_FINISH_CUT},
	{"length", LLM_FINISH_CUT},
	{"context_window", LLM_FINISH_CUT},
	{"filter", LLM_FINISH_FILTERED},
	{"safety", LLM_FINISH_FILTERED},
	{"recitation", LLM_FINISH_FILTERED},
	{"blocklist", LLM_FINISH_FILTERED},
	{"blocked", LLM_FINISH_FILTERED},
	{"prohibited", LLM_FINISH_FILTERED},
	{"spii", LLM_FINISH_FILTERED},
	{"refus", LLM_FINISH_FILTERED},
	{"guardrail", LLM_FINISH_FILTERED},
	{"sensitive", LLM_FINISH_FILTERED},
	{"moderat", LLM_FINISH_FILTERED},
	{"insufficient", LLM_FINISH_BROKEN},
	{"abort", LLM_FINISH_BROKEN},
	{"cancel", LLM_FINISH_BROKEN},
	{"overload", LLM_FINISH_BROKEN},
	{"timeout", LLM_FINISH_BROKEN},
	{"error", LLM_FINISH_ERROR},
	{"malformed", LLM_FINISH_ERROR},
	{"fail", LLM_FINISH_ERROR},
};

/* Whole words by which they say that it is whole. */
static const char *const whole[] = {
	"stop",
	"stop_sequence",
	"end_turn",
	"eos",
	"eos_token",
	"end",
	"done",
	"complete",
	"completed",
	"finished",
	"finish",
	"success",
	"tool_calls",
	"tool_use",
	"function_call",
};

LlmFinish
llm_dialect_finish(const LlmJsonSlice *word)
{
	char lower[64];
	size_t len = Min(word->len, sizeof(lower) - 1);

	if (word->at == NULL || word->len == 0)
		return LLM_FINISH_WHOLE;
	for (size_t i = 0; i < len; i++)
		lower[i] = pg_ascii_tolower((unsigned char) word->at[i]);
	lower[len] = '\0';
	for (int i = 0; i < lengthof(whole); i++)
	{
		if (strcmp(lower, whole[i]) == 0)
			return LLM_FINISH_WHOLE;
	}
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (strstr(lower, parts[i].part) != NULL)
			return parts[i].finish;
	}
	return LLM_FINISH_UNKNOWN;
}

LlmErrorClass
llm_dialect_judge_finish(const LlmRawAnswer *raw, const LlmJsonSlice *word, const char **problem)
{
	*problem = NULL;
	switch (llm_dialect_finish(word))
	{
		case LLM_FINISH_WHOLE:
			break;
		case LLM_FINISH_CUT:
			*problem = "The answer was cut off at the limit of tokens.";
			return LLM_ERR_TRUNCATED;
		case LLM_FINISH_FILTERED:
			*problem = "The provider's content filter stopped the answer.";
			return LLM_ERR_REFUSED;
		case LLM_FINISH_BROKEN:
			*problem = psprintf("The provider broke off the answer (%s).", llm_dialect_clean_slice(word));
			return LLM_ERR_TRANSIENT;
		case LLM_FINISH_ERROR:
			*problem = "The provider reported an error while the model answered.";
			return LLM_ERR_INVALID;
		case LLM_FINISH_UNKNOWN:
			if (!raw->plain)
				break;
			*problem = psprintf("The answer ended in a way that is not known (%s).", llm_dialect_clean_slice(word));
			return LLM_ERR_INVALID;
	}
	return LLM_OK;
}

static void
skip_blanks(const char **at, const char *end)
{
	while (*at < end && llm_json_is_blank(**at))
		(*at)++;
}

/* Move past a word, whatever its case; false: it does not stand there. */
static bool
skip_word(const char **at, const char *end, const char *word)
{
	size_t len = strlen(word);

	if ((size_t) (end - *at) < len || pg_strncasecmp(*at, word, len) != 0)
		return false;
	*at += len;
	return true;
}

static const char *
find_word(const char *at, const char *end, const char *word)
{
	size_t len = strlen(word);

	for (; (size_t) (end - at) >= len; at++)
	{
		if (pg_strncasecmp(at, word, len) == 0)
			return at;
	}
	return NULL;
}

void
llm_dialect_skip_thoughts(char **content, size_t *len)
{
	static const char *const tags[][2] = {
		{"<think>", "</think>"},
		{"<thinking>", "</thinking>"},
		{"<thought>", "</thought>"},
		{"<reasoning>", "</reasoning>"},
	};
	const char *at = *content;
	const char *end = at + *len;
	bool moved = true;

	if (at == NULL)
		return;
	(void) skip_word(&at, end, "\xef\xbb\xbf");
	while (moved)
	{
		const char *first = at;

		moved = false;
		skip_blanks(&first, end);
		for (int i = 0; i < lengthof(tags); i++)
		{
			const char *inner = first;
			const char *close;

			if (!skip_word(&inner, end, tags[i][0]))
				continue;
			close = find_word(inner, end, tags[i][1]);
			/* thoughts without an end are all that came */
			at = close == NULL ? end : close + strlen(tags[i][1]);
			moved = true;
		}
	}
	if (at != *content)
		skip_blanks(&at, end);
	*len = end - at;
	*content = unconstify(char *, at);
}

/* Latin-1 as UTF-8. */
static LlmText
from_latin1(const LlmText *body)
{
	StringInfoData buf;

	initStringInfo(&buf);
	enlargeStringInfo(&buf, (int) Min(body->len + 16, MaxAllocSize / 2));
	for (size_t i = 0; i < body->len; i++)
	{
		unsigned char c = body->at[i];

		if (c >= 0x80)
			appendStringInfoChar(&buf, (char) (0xC0 | c >> 6));
		appendStringInfoChar(&buf, (char) (c < 0x80 ? c : 0x80 | (c & 0x3f)));
	}
	return (LlmText){buf.data, buf.len};
}

static bool
tells_latin1(const LlmRawAnswer *raw)
{
	const char *type = llm_dialect_header(raw, "content-type");
	const char *end = type == NULL ? NULL : type + strlen(type);

	return type != NULL && (find_word(type, end, "iso-8859-1") != NULL || find_word(type, end, "latin1") != NULL ||
							find_word(type, end, "windows-1252") != NULL);
}

/* Comments of an event stream, sent to keep a connection open, before the answer itself. */
static void
skip_comments(const char **at, const char *end)
{
	skip_blanks(at, end);
	while (*at < end && **at == ':')
	{
		const char *line_end = memchr(*at, '\n', end - *at);

		*at = line_end == NULL ? end : line_end + 1;
		skip_blanks(at, end);
	}
}

LlmErrorClass
llm_dialect_body(const LlmRawAnswer *raw, LlmText *body, const char **problem)
{
	const char *at = raw->body;
	const char *end = at + raw->len;

	*problem = NULL;
	(void) skip_word(&at, end, "\xef\xbb\xbf");
	skip_comments(&at, end);
	*body = (LlmText){at, end - at};
	if (body->len == 0 && raw->status >= 200 && raw->status < 300)
	{
		*problem = "connection closed without an answer";
		return LLM_ERR_UNKNOWN;
	}
	if (memchr(at, '\0', body->len) != NULL)
		*problem = "The provider's answer holds null characters.";
	else if (skip_word(&at, end, "data:") || skip_word(&at, end, "event:"))
	{
		*problem = "The provider answered with a stream of events, which was not asked for.";
		return LLM_ERR_CONFIG;
	}
	else if (!llm_json_is_utf8(body->at, body->len))
	{
		if (tells_latin1(raw) && body->len < MaxAllocSize / 4)
			*body = from_latin1(body);
		else
			*problem = "The provider's answer is not valid UTF-8 text.";
	}
	return *problem == NULL ? LLM_OK : LLM_ERR_INVALID;
}
