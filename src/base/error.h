/*-------------------------------------------------------------------------
 *
 * error.h
 *	  From what a provider says to what it means: error classes, waiting times,
 *	  and texts that are fit to be kept and shown.
 *
 * Pure, and never raises for what the bytes hold.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ERROR_H
#define LLM_ERROR_H

#include "base/llm_enrich.h"

/* Longest text of a provider that we keep, in bytes. */
#define LLM_ERROR_TEXT_MAX 300

/*
 * Classes by HTTP status, by the provider's error code (or type), by its
 * words.  The latter two return LLM_OK when they tell nothing.  What says more goes
 * first: code, words, status.
 */
extern LlmErrorClass llm_error_by_status(int status);
extern LlmErrorClass llm_error_by_code(const char *code);
extern LlmErrorClass llm_error_by_message(const char *message);

/* "ok", "transient", …: the class for messages, tests and views. */
extern const char *llm_error_name(LlmErrorClass class);

/*
 * What has to be mended before a target that is paused for this class can answer, for
 * llm.progress and llm.health.
 */
extern const char *llm_error_pause_text(LlmErrorClass class);

/*
 * A provider's text made fit to be kept: at most LLM_ERROR_TEXT_MAX bytes of
 * valid UTF-8, no control characters, nothing that looks like a key.  In the current context.
 */
extern char *llm_error_clean(const char *str, size_t len);

/*
 * Milliseconds to wait as the headers tell, or else the message ("try again in 20s");
 * -1 when none does.  0 to one day.  Any pointer may be NULL.
 */
extern int64 llm_error_retry_after_ms(const char *retry_after, const char *retry_after_ms,
									  const char *date, const char *message);

#endif /* LLM_ERROR_H */
