/*-------------------------------------------------------------------------
 *
 * http_failure.c
 *	  One short sentence for an exchange that brought no answer.
 *
 * It ends up in the ledger, in markers and in the log, so it never holds a key, a
 * user name of a URL, or bytes that are not printable ASCII.  A time-out says how
 * far the exchange came and what each part took, since that tells a slow name
 * server from a slow model.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/http_failure.h"
#include "http/http_origin.h"

static const char *
phase(const LlmHttpFailure *failure)
{
	if (failure->answering_us > 0)
		return "reading the answer";
	if (failure->ready_us > 0)
		return failure->outcome == LLM_HTTP_NOT_SENT ? "sending the request" : "waiting for the answer";
	if (failure->connected_us > 0)
		return "setting up TLS";
	if (failure->resolved_us > 0)
		return "connecting";
	return "resolving the host name";
}

static void
describe_timeout(const LlmHttpFailure *failure, char *sentence)
{
	int64 connected_us = Max(failure->connected_us, failure->resolved_us);
	int64 secured_us = Max(failure->secured_us, connected_us);

	snprintf(sentence, LLM_HTTP_FAILURE_BYTES,
			 "timed out after %d ms while %s (name %d ms, connection %d ms, TLS %d ms, answer %d ms)",
			 (int) (failure->total_us / 1000), phase(failure),
			 (int) (failure->resolved_us / 1000),
			 (int) ((connected_us - failure->resolved_us) / 1000),
			 (int) ((secured_us - connected_us) / 1000),
			 failure->ready_us > 0 ? (int) (Max(0, failure->total_us - failure->ready_us) / 1000) : 0);
}

void
llm_http_failure_describe(const LlmHttpFailure *failure, char *sentence)
{
	if (failure->outcome == LLM_HTTP_TOO_LARGE && failure->head)
		strlcpy(sentence, "a header of the answer is larger than 100 kB", LLM_HTTP_FAILURE_BYTES);
	else if (failure->outcome == LLM_HTTP_TOO_LARGE)
		snprintf(sentence, LLM_HTTP_FAILURE_BYTES, "the answer is larger than %zu bytes", failure->answer_limit);
	else if (failure->outcome == LLM_HTTP_DROPPED)
		strlcpy(sentence, "out of memory while reading the answer", LLM_HTTP_FAILURE_BYTES);
	else if (failure->no_descriptor && failure->outcome == LLM_HTTP_LOCAL)
		strlcpy(sentence, "too many open files on the server", LLM_HTTP_FAILURE_BYTES);
	else if (failure->timed_out)
		describe_timeout(failure, sentence);
	else if (failure->closed)
		strlcpy(sentence, "connection lost before the answer: closed by the other side", LLM_HTTP_FAILURE_BYTES);
	else if (failure->outcome == LLM_HTTP_LOST)
		snprintf(sentence, LLM_HTTP_FAILURE_BYTES, "connection lost before the whole answer: %s", failure->words);
	else
		snprintf(sentence, LLM_HTTP_FAILURE_BYTES, "could not connect: %s", failure->words);
}

bool
llm_http_failure_clean(char *words, const char *url)
{
	if (words[0] == '\0' || memchr(url, '@', llm_http_origin_length(url)) != NULL)
		return false;
	for (char *p = words; *p != '\0'; p++)
	{
		if (*p < ' ' || *p >= 0x7f)
			*p = '?';
	}
	return true;
}
