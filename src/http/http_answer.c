/*-------------------------------------------------------------------------
 *
 * http_answer.c
 *	  The growing answer of one exchange, and its headers.
 *
 * A provider is not trusted: the answer has a limit.  One that sends our key back, in
 * whatever place, finds it blacked out: nothing behind this file could tell.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "http/http_answer.h"

/* Most answers are smaller, so that one allocation serves a connection for long. */
#define FIRST_ROOM 8192

/* A larger buffer is not kept for the next exchange. */
#define KEPT_ROOM 65536

/* Lines of all heads of an exchange, interim ones and those behind the body included. */
#define MOST_HEAD (1024 * 1024)

/* A shorter key is none, but what local servers are given: "none", "EMPTY", "ollama". */
#define LEAST_SECRET_BYTES 8

void
llm_http_answer_start(LlmHttpAnswer *answer, size_t limit)
{
	answer->len = 0;
	answer->head_len = 0;
	answer->limit = limit;
	answer->too_large = false;
	answer->no_memory = false;
	llm_http_headers_reset(&answer->headers);
}

bool
llm_http_answer_header(LlmHttpAnswer *answer, const char *line, size_t len)
{
	/* libcurl bounds a head, but not what comes behind the body, which it keeps as well */
	answer->head_len += len;
	if (answer->head_len > MOST_HEAD)
	{
		answer->too_large = true;
		return false;
	}
	/* the head of another answer: what an interim one said is void */
	if (len > 5 && memcmp(line, "HTTP/", 5) == 0)
		llm_http_headers_reset(&answer->headers);
	else
		llm_http_headers_add(&answer->headers, line, len);
	return true;
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

void
llm_http_answer_publish(LlmHttpAnswer *answer, LlmHttpExchange *exchange, bool whole)
{
	static char none[1] = "";
	const char *secret = exchange->secret;

	if (secret != NULL && strlen(secret) < LEAST_SECRET_BYTES)
		secret = NULL;
	if (secret != NULL)
		llm_http_headers_hide(&answer->headers, secret);
	exchange->answer_headers = &answer->headers;
	if (!whole)
		return;
	exchange->answer = none;
	exchange->answer_len = answer->len;
	if (answer->len > 0)
	{
		answer->bytes[answer->len] = '\0';
		exchange->answer = answer->bytes;
		if (secret != NULL)
			llm_http_hide(answer->bytes, answer->len, secret);
	}
}

void
llm_http_answer_clear(LlmHttpExchange *exchange)
{
	exchange->answer_headers = NULL;
	exchange->outcome = LLM_HTTP_LOCAL;
	exchange->cause = LLM_HTTP_CAUSE_NONE;
	exchange->failure = NULL;
	exchange->status = 0;
	exchange->answer = NULL;
	exchange->answer_len = 0;
	exchange->latency_ms = 0;
}

static void
free_bytes(LlmHttpAnswer *answer)
{
	free(answer->bytes);
	answer->bytes = NULL;
	answer->room = 0;
}

void
llm_http_answer_trim(LlmHttpAnswer *answer)
{
	if (answer->room > KEPT_ROOM)
		free_bytes(answer);
}

void
llm_http_answer_free(LlmHttpAnswer *answer)
{
	free_bytes(answer);
	llm_http_headers_free(&answer->headers);
}
