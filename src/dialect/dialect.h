/*-------------------------------------------------------------------------
 *
 * dialect.h
 *	  A dialect writes questions and reads answers in the form that a provider
 *	  speaks: structs to bytes and back, no I/O, no catalog.
 *
 *	  find()      by the server's option "dialect"
 *	  prepare()   once per (recipe, model): the bytes that all rows share
 *	  body()      once per request
 *	  read()      once per answer; never raises for what the bytes hold
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DIALECT_H
#define LLM_DIALECT_H

#include "base/llm_enrich.h"

#include "lib/stringinfo.h"
#include "operation/operation.h"

/* The bytes around a row's own text.  Belongs to the context it was made in. */
typedef struct LlmFrame
{
	StringInfoData head; /* up to the row's text */
	StringInfoData tail; /* after it */
} LlmFrame;

/* One answer as it came over the wire.  Pointers are borrowed for the call. */
typedef struct LlmRawAnswer
{
	int status; /* HTTP status */
	const char *body; /* not NUL-terminated by contract */
	size_t len;
	const char *retry_after; /* header values or NULL */
	const char *retry_after_ms;
	const char *date; /* the Date header: what retry-after as a date is relative to */
	const char *request_id;
} LlmRawAnswer;

/* What the provider said.  Strings belong to the current context. */
typedef struct LlmReply
{
	LlmErrorClass class;
	char *content; /* the model's text (NULL: none), also when truncated */
	size_t content_len;
	char *code; /* the provider's error code, or NULL */
	char *message; /* short, no key, no prompt; NULL when LLM_OK */
	char *request_id;
	int64 retry_after_ms; /* -1: not told */
	LlmUsage usage;
} LlmReply;

typedef struct LlmDialect
{
	const char *name; /* as given in the server's option "dialect" */
	const char *path; /* appended to base_url: "/chat/completions" */
	const char *key_header; /* format with one %s: "Authorization: Bearer %s" */

	LlmFrame *(*prepare)(const LlmRecipe *recipe, const char *model);

	/*
	 * Append one request body: the row's input and, when this is a second
	 * asking, the answer that was at fault and what was wrong with it (else NULL).
	 */
	void (*body)(const LlmFrame *frame, const char *input, size_t input_len,
				 const char *last_answer, const char *fault, StringInfo body);

	void (*read)(const LlmRawAnswer *raw, LlmReply *reply);
} LlmDialect;

extern const LlmDialect llm_dialect_openai;

/* NULL when there is no such dialect. */
extern const LlmDialect *llm_dialect_find(const char *name);

/* "openai, ..." for hints. */
extern const char *llm_dialect_names(void);

/* Rough input tokens of so many bytes of text: only for limits and for estimated costs. */
extern int64 llm_dialect_estimate_tokens(const char *text, size_t len);

#endif /* LLM_DIALECT_H */
