/*-------------------------------------------------------------------------
 *
 * http_answer.c
 *	  The growing answer of one exchange, and the headers that matter.
 *
 * A provider is not trusted: the answer has a limit, a header value is cut to a
 * fixed size, and what is not printable ASCII in one becomes a question mark,
 * since it ends up in text columns and log lines.  One that sends our key back, in
 * whatever place, finds it blacked out: nothing behind this file could tell.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stddef.h>
#include <stdlib.h>

#include "http/http_answer.h"

/* Most answers are smaller, so that one allocation serves a connection for long. */
#define FIRST_ROOM 8192

/* A larger buffer is not kept for the next exchange. */
#define KEPT_ROOM 65536

/* A shorter key is none, but what local servers are given: "none", "EMPTY", "ollama". */
#define LEAST_KEY_BYTES 8

/* Header names in lower case, and where their values go.  The first of a name counts. */
static const struct
{
	const char *name;
	size_t field; /* offset in LlmHttpExchange */
} known[] = {
	{"date", offsetof(LlmHttpExchange, date)},
	{"retry-after", offsetof(LlmHttpExchange, retry_after)},
	{"retry-after-ms", offsetof(LlmHttpExchange, retry_after_ms)},
	{"request-id", offsetof(LlmHttpExchange, request_id)},
	{"x-request-id", offsetof(LlmHttpExchange, request_id)},
	{"x-ratelimit-limit-requests", offsetof(LlmHttpExchange, limit_requests)},
	{"x-ratelimit-remaining-requests", offsetof(LlmHttpExchange, remaining_requests)},
	{"x-ratelimit-reset-requests", offsetof(LlmHttpExchange, reset_requests)},
	{"x-ratelimit-limit-tokens", offsetof(LlmHttpExchange, limit_tokens)},
	{"x-ratelimit-remaining-tokens", offsetof(LlmHttpExchange, remaining_tokens)},
	{"x-ratelimit-reset-tokens", offsetof(LlmHttpExchange, reset_tokens)},
};

StaticAssertDecl(lengthof(known) == LLM_HTTP_HEADERS, "one place for each known header");

void
llm_http_answer_start(LlmHttpAnswer *answer, size_t limit)
{
	answer->len = 0;
	answer->limit = limit;
	answer->too_large = false;
	answer->no_memory = false;
	answer->present = 0;
}

/* Copy a value without the white space around it. */
static void
keep_value(LlmHttpAnswer *answer, int header, const char *value, size_t len)
{
	char *to = answer->headers[header];
	size_t kept = 0;

	while (len > 0 && (*value == ' ' || *value == '\t'))
	{
		value++;
		len--;
	}
	while (len > 0 && (unsigned char) value[len - 1] <= ' ')
		len--;
	for (; kept < len && kept < LLM_HTTP_HEADER_BYTES - 1; kept++)
		to[kept] = (value[kept] >= ' ' && value[kept] < 0x7f) ? value[kept] : '?';
	to[kept] = '\0';
	answer->present |= (uint32) 1 << header;
}

void
llm_http_answer_header(LlmHttpAnswer *answer, const char *line, size_t len)
{
	const char *colon;
	size_t name_len;

	/* the head of another answer: what an interim one said is void */
	if (len > 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		answer->present = 0;
		return;
	}
	if (len == 0 || strchr("dDrRxX", line[0]) == NULL || (colon = memchr(line, ':', len)) == NULL)
		return;
	name_len = colon - line;
	for (int i = 0; i < lengthof(known); i++)
	{
		if (strlen(known[i].name) != name_len || pg_strncasecmp(line, known[i].name, name_len) != 0)
			continue;
		if ((answer->present & ((uint32) 1 << i)) == 0)
			keep_value(answer, i, colon + 1, len - name_len - 1);
		return;
	}
}

/* Make room for so many bytes and a NUL, doubling, never far beyond the limit. */
static bool
reserve(LlmHttpAnswer *answer, size_t needed)
{
	size_t more = Max(answer->room, FIRST_ROOM);
	char *bytes;

	if (answer->bytes != NULL && needed <= answer->room)
		return true;
	while (more < needed)
		more *= 2;
	more = Max(needed, Min(more, answer->limit));
	bytes = realloc(answer->bytes, more + 1);
	if (bytes == NULL)
		return false;
	answer->bytes = bytes;
	answer->room = more;
	return true;
}

bool
llm_http_answer_append(LlmHttpAnswer *answer, const char *bytes, size_t len)
{
	if (len > answer->limit - answer->len)
	{
		answer->too_large = true;
		return false;
	}
	if (!reserve(answer, answer->len + len))
	{
		answer->no_memory = true;
		return false;
	}
	memcpy(answer->bytes + answer->len, bytes, len);
	answer->len += len;
	return true;
}

/* The key in a header line "Name: key" or "Name: Scheme key"; NULL when none is worth hiding. */
static const char *
find_key(const char *line)
{
	const char *blank = line != NULL ? strrchr(line, ' ') : NULL;

	return blank != NULL && strlen(blank + 1) >= LEAST_KEY_BYTES ? blank + 1 : NULL;
}

/* How many bytes spell the key, which JSON may have escaped with backslashes; 0 when they do not. */
static size_t
spelled_length(const char *bytes, size_t len, const char *key)
{
	size_t at = 0;

	for (; *key != '\0'; at++)
	{
		if (at == len)
			return 0;
		if (bytes[at] == *key)
			key++;
		else if (bytes[at] != '\\')
			return 0;
	}
	return at;
}

/* Black out the key wherever it stands; the length stays, and JSON stays JSON. */
static void
hide_key(char *bytes, size_t len, const char *key)
{
	char *end = bytes + len;
	char *at = bytes;

	while ((at = memchr(at, key[0], end - at)) != NULL)
	{
		size_t spelled = spelled_length(at, end - at, key);

		memset(at, '*', spelled);
		at += Max(spelled, 1);
	}
}

void
llm_http_answer_publish(LlmHttpAnswer *answer, LlmHttpExchange *exchange, bool whole)
{
	static char none[1] = "";
	const char *key = find_key(exchange->key_header);

	for (int i = 0; i < lengthof(known); i++)
	{
		if ((answer->present & ((uint32) 1 << i)) == 0)
			continue;
		*(const char **) ((char *) exchange + known[i].field) = answer->headers[i];
		if (key != NULL)
			hide_key(answer->headers[i], strlen(answer->headers[i]), key);
	}
	if (!whole)
		return;
	exchange->answer = none;
	exchange->answer_len = answer->len;
	if (answer->len > 0)
	{
		answer->bytes[answer->len] = '\0';
		exchange->answer = answer->bytes;
		if (key != NULL)
			hide_key(answer->bytes, answer->len, key);
	}
}

void
llm_http_answer_clear(LlmHttpExchange *exchange)
{
	for (int i = 0; i < lengthof(known); i++)
		*(const char **) ((char *) exchange + known[i].field) = NULL;
	exchange->outcome = LLM_HTTP_LOCAL;
	exchange->failure = NULL;
	exchange->status = 0;
	exchange->answer = NULL;
	exchange->answer_len = 0;
	exchange->latency_ms = 0;
}

void
llm_http_answer_trim(LlmHttpAnswer *answer)
{
	if (answer->room > KEPT_ROOM)
		llm_http_answer_free(answer);
}

void
llm_http_answer_free(LlmHttpAnswer *answer)
{
	free(answer->bytes);
	answer->bytes = NULL;
	answer->room = 0;
}
