/*-------------------------------------------------------------------------
 *
 * dialect_shared.h
 *	  What all dialects need to read an answer: note members of JSON, judge an
 *	  error, clean a text, read times, ids, limits and counts.
 *
 * A dialect walks over the body and notes what is of use; then
 *
 *	  fail()            for an error: its class, message, code and waiting time
 *	  settle_usage()    for an answer: the five counts
 *	  note_headers()    always: request id and rate limits
 *
 * An error goes by its code, then its words, then the status.  Where a provider's codes
 * or words mean something of their own, the dialect has a table that goes before the
 * common one.  Pure, and never raises for what the bytes hold.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DIALECT_SHARED_H
#define LLM_DIALECT_SHARED_H

#include "base/llm_enrich.h"

#include "base/json.h"
#include "dialect/dialect.h"

/* Longest text of a provider that is kept, in bytes. */
#define LLM_DIALECT_TEXT_MAX 300

/* A word of a provider's, in lower case: a code, or part of a sentence. */
typedef struct LlmErrorWord
{
	const char *word; /* NULL: the end of the table */
	LlmErrorClass class;
} LlmErrorWord;

/* What an error says of itself; NULL and 0 where it says nothing. */
typedef struct LlmErrorSigns
{
	LlmJsonSlice code; /* a string or a number */
	LlmJsonSlice type;
	LlmJsonSlice message;
	const char *sentence; /* what was put together where the message is no string; or NULL */
	LlmJsonSlice param; /* what of the request is at fault */
	LlmJsonSlice delay; /* how long to wait, as a duration */
	bool flagged; /* by a moderation */
	const LlmErrorWord *codes; /* the dialect's own, looked at first; or NULL */
	const LlmErrorWord *phrases; /* likewise */
} LlmErrorSigns;

/* Token counts as told; -1: not told. */
typedef struct LlmToldUsage
{
	int64 prompt; /* all input: cached and written to the cache included */
	int64 cached;
	int64 cache_write;
	int64 output; /* reasoning included */
	int64 reasoning;
	int64 total; /* input and output; what it has besides both is output */
} LlmToldUsage;

/* Names of headers that tell one kind of limit; NULL: there is none. */
typedef struct LlmLimitNames
{
	const char *limit;
	const char *remaining;
	const char *reset;
} LlmLimitNames;

/* ---- JSON: each reads one value; one of another kind is skipped ---- */

/* A string into the slice. */
extern void llm_note_string(LlmJsonReader *r, LlmJsonSlice *slice);

/* A string or a number. */
extern void llm_note_code(LlmJsonReader *r, LlmJsonSlice *slice);

/* A count as a number, whole or not, or as a string; what is none leaves *count as it is. */
extern void llm_note_count(LlmJsonReader *r, int64 *count);

/* Go into the object or list that comes; anything else is skipped, and false. */
extern bool llm_note_enter(LlmJsonReader *r, char open);

/* A list of numbers, or base64 of little-endian float4, as a vector; false when it is neither. */
extern bool llm_note_vector(LlmJsonReader *r, LlmVector *vector);

/* ---- a question ---- */

/*
 * Append members (JSON without the braces; NULL: none), each after a comma, to what begins at "from" in the
 * buffer.  A member that is there already stays as it is.
 */
extern void llm_dialect_append_members(StringInfo buf, int from, const char *members);

/*
 * Append the members that the call and then the habits add to a body that begins at "from".  To be called
 * after the parameters and before anything that nests: what the call asked for stays as it is.
 */
extern void llm_dialect_append_extra(StringInfo buf, int from, const char *of_call, const LlmHabits *habits);

/* ---- an answer ---- */

/* The value of a header by its name in lower case, or NULL. */
static inline const char *
llm_dialect_header(const LlmRawAnswer *raw, const char *name)
{
	return raw->headers == NULL ? NULL : llm_http_header(raw->headers, name);
}

/* An empty reply of that class; message may be NULL, and is copied. */
extern void llm_dialect_reply(LlmReply *reply, LlmErrorClass class, const char *message);

/* Make the five counts of what was told. */
extern void llm_dialect_settle_usage(const LlmToldUsage *told, LlmUsage *usage);

/*
 * What the headers tell: the provider's id of the request (else the one in the body, whose
 * slice may be empty), and the limits, each under the first of the names that is there.  The
 * tables end with an entry of NULLs, and may be NULL: then those that most providers use.
 */
extern void llm_dialect_note_headers(const LlmRawAnswer *raw, const LlmJsonSlice *id, const LlmLimitNames *requests,
									 const LlmLimitNames *tokens, LlmReply *reply);

/* A failed request: class, code, message and waiting time. */
extern void llm_dialect_fail(const LlmRawAnswer *raw, const LlmErrorSigns *signs, LlmReply *reply);

/* How an answer ended, from the provider's own word for it. */
typedef enum LlmFinish
{
	LLM_FINISH_WHOLE,
	LLM_FINISH_CUT, /* at the limit of tokens */
	LLM_FINISH_FILTERED,
	LLM_FINISH_BROKEN, /* the provider could not go on: to be asked again */
	LLM_FINISH_ERROR, /* it says that something went wrong */
	LLM_FINISH_UNKNOWN /* a word that nobody has told us of */
} LlmFinish;

extern LlmFinish llm_dialect_finish(const LlmJsonSlice *word);

/*
 * The class of an answer that ended so, and in *problem a sentence, which is NULL for LLM_OK.  An
 * unknown word is no success where the answer is plain text: nothing else shows that it is whole.
 */
extern LlmErrorClass llm_dialect_judge_finish(const LlmRawAnswer *raw, const LlmJsonSlice *word, const char **problem);

/* Move past what a model thought aloud before its answer: "<think>…</think>", and a byte order mark. */
extern void llm_dialect_skip_thoughts(char **content, size_t *len);

/*
 * The body as it can be read: without a byte order mark or comments of an event stream before it,
 * and as UTF-8 where a header says that it is Latin-1.  LLM_OK; or the class of what else it is, and a
 * sentence: a host that streams does so with every row.
 */
extern LlmErrorClass llm_dialect_body(const LlmRawAnswer *raw, LlmText *body, const char **problem);

/* Is there a vector for each input?  Else an INVALID reply that names the first without one. */
extern bool llm_dialect_check_vectors(const LlmRawAnswer *raw, LlmReply *reply);

/* ---- words ---- */

/* Classes by code and by words, from the common tables, and by status; LLM_OK when they tell nothing. */
extern LlmErrorClass llm_dialect_by_code(const char *code);
extern LlmErrorClass llm_dialect_by_words(const char *message);
extern LlmErrorClass llm_dialect_by_status(int status);

/*
 * A provider's text made fit to be kept: at most LLM_DIALECT_TEXT_MAX bytes of
 * valid UTF-8, no control characters, nothing that looks like a key.  In the current context.
 */
extern char *llm_dialect_clean(const char *str, size_t len);

/* The same of a noted string; NULL when there is none, or it is empty. */
extern char *llm_dialect_clean_slice(const LlmJsonSlice *slice);

/* The word by which an answer names its class of service, if it was there. */
extern void llm_dialect_note_tier(const LlmJsonSlice *word, LlmReply *reply);

/* Does a text hold a word that begins as only keys do? */
extern bool llm_dialect_holds_key(const char *str);

/* ---- times, in milliseconds from the answer on: 0 to one day; -1: not told ---- */

/* A header's value: a duration, a number of seconds, or a moment in any of the usual forms; may be NULL. */
extern int64 llm_dialect_time_ms(const LlmRawAnswer *raw, const char *value);

/* How long to wait, as the headers tell it, or else the message ("try again in 20s"), which may be NULL. */
extern int64 llm_dialect_retry_after_ms(const LlmRawAnswer *raw, const char *message);

#endif /* LLM_DIALECT_SHARED_H */
