/*-------------------------------------------------------------------------
 *
 * http_failure.h
 *	  One short sentence for an exchange that brought no answer.  Only http.c
 *	  uses it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HTTP_FAILURE_H
#define LLM_HTTP_FAILURE_H

#include "base/llm_enrich.h"

#include "http/http.h"

#define LLM_HTTP_FAILURE_BYTES 256

/* What is known of a transfer that failed. */
typedef struct LlmHttpFailure
{
	LlmHttpOutcome outcome;
	bool timed_out;
	bool closed; /* by the other side, ahead of the answer's first byte */
	bool no_descriptor;
	bool head; /* it is the head that is too large */
	size_t answer_limit;
	const char *words; /* libcurl's */

	/* microseconds from the start; 0 = not reached */
	int64 resolved_us;
	int64 connected_us;
	int64 secured_us; /* TLS */
	int64 ready_us; /* the request may be written */
	int64 answering_us; /* first byte of the answer */
	int64 total_us;
} LlmHttpFailure;

/* sentence has LLM_HTTP_FAILURE_BYTES. */
extern void llm_http_failure_describe(const LlmHttpFailure *failure, char *sentence);

/*
 * Make libcurl's words fit to be shown: only printable ASCII, and nothing at all of
 * them (false) when the URL has a user name or password in it, which they might quote.
 */
extern bool llm_http_failure_clean(char *words, const char *url);

#endif /* LLM_HTTP_FAILURE_H */
