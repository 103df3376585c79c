/*-------------------------------------------------------------------------
 *
 * fuzz_words.c
 *	  What is read from headers and error texts: waiting times, rate limits,
 *	  classes, texts fit to be kept.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/error.h"
#include "dialect/dialect_shared.h"
#include "fuzz.h"
#include "http/http_failure.h"
#include "limiter/limiter.h"

#define MS_PER_DAY (INT64CONST(24) * 3600 * 1000)

/* A header as it comes; NULL: it does not. */
static void
add_header(LlmHttpHeaders *headers, const char *name, const char *value)
{
	char line[1024];

	if (value == NULL)
		return;
	snprintf(line, sizeof(line), "%s: %s", name, value);
	llm_http_headers_add(headers, line, strlen(line));
}

static void
check_wait(const char *retry_after, const char *retry_after_ms, const char *date, const char *message)
{
	LlmHttpHeaders headers = {0};
	LlmRawAnswer raw = {.status = 429, .headers = &headers, .now = INT64CONST(1800000000)};
	int64 ms;

	add_header(&headers, "Retry-After", retry_after);
	add_header(&headers, "Retry-After-Ms", retry_after_ms);
	add_header(&headers, "Date", date);
	ms = llm_dialect_retry_after_ms(&raw, message);
	must(ms >= -1 && ms <= MS_PER_DAY);
	ms = llm_dialect_time_ms(&raw, retry_after);
	must(ms >= -1 && ms <= MS_PER_DAY);
	llm_http_headers_free(&headers);
}

static void
check_limit(const char *value)
{
	int64 ms = llm_limiter_parse_duration_ms(value);
	int64 count = llm_limiter_parse_count(value);

	must(ms >= -1 && ms <= MS_PER_DAY);
	must(count >= -1 && count <= INT64CONST(1000000000000000));
}

static void
check_class(const char *word)
{
	LlmErrorClass by_code = llm_dialect_by_code(word);
	LlmErrorClass by_message = llm_dialect_by_words(word);
	LlmErrorClass by_status = llm_dialect_by_status(atoi(word));

	must(strcmp(llm_error_name(by_code), "") != 0);
	must(strcmp(llm_error_name(by_message), "") != 0);
	must(strcmp(llm_error_name(by_status), "") != 0);
	must(llm_error_pause_text(by_code) != NULL);
}

/* A text of libcurl's, and a URL that may hold a password. */
static void
check_failure(char *words, const char *url)
{
	LlmHttpFailure failure = {.outcome = LLM_HTTP_LOST, .words = words};
	char sentence[LLM_HTTP_FAILURE_BYTES];

	if (!llm_http_failure_clean(words, url))
		return;
	must(llm_fuzz_is_shown(words, strlen(words)));
	llm_http_failure_describe(&failure, sentence);
	must(strlen(sentence) < LLM_HTTP_FAILURE_BYTES);
}

/* Four lines; none of them needs to be there. */
static void
run(const uint8 *data, size_t size)
{
	const uint8 *at = data;
	const uint8 *end = data + size;
	char *lines[4];
	size_t len[4];
	char *clean;

	must(llm_dialect_estimate_tokens((const char *) data, size) >= 0);
	must(llm_dialect_estimate_tokens((const char *) data, size) <= (int64) size * 2 + 20);
	clean = llm_dialect_clean((const char *) data, size);
	must(llm_fuzz_is_shown(clean, LLM_DIALECT_TEXT_MAX));
	for (int i = 0; i < lengthof(lines); i++)
		lines[i] = llm_fuzz_piece(&at, end, '\n', &len[i]);
	check_wait(lines[0], lines[1], lines[2], lines[3]);
	check_wait(lines[0], NULL, lines[2], NULL);
	check_wait(NULL, NULL, NULL, lines[3]);
	check_limit(lines[0]);
	check_limit(lines[1]);
	check_class(lines[0]);
	check_class(clean);
	check_failure(lines[2], lines[3]);
}

const LlmFuzzTarget llm_fuzz_words = {
	.name = "words",
	.run = run,
	.fixed = 100000,
	.per_byte = 50,
};
