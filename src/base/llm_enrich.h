/*-------------------------------------------------------------------------
 *
 * llm_enrich.h
 *	  Words that every room of the extension shares.
 *
 * A task is one cell to enrich; a request is one HTTP call that carries it, an
 * attempt the number of that call for the task; a try is an attempt that was
 * charged to the task.  docs/glossary.md has all words.  A recipe is what
 * the rows of a job share; a job is one call site of one statement.  A target
 * is where a task is sent: server, key and model.
 *
 * Nothing here includes anything but PostgreSQL's own headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ENRICH_H
#define LLM_ENRICH_H

#include "postgres.h"

#define LLM_LIBRARY "llm_enrich"
#define LLM_SCHEMA "llm"

/*
 * "Location" of a call that the planner hook has found in a condition of a statement that
 * writes: it is asked at once there.  A plan keeps it, and nobody else has a use for it.
 */
#define LLM_CALL_IN_WHERE (-20230)

/* The one key of a cell that is ours; a schema may not ask for it. */
#define LLM_MARKER_KEY "llm_enrich"

/*
 * What became of a request.  Every answer falls into exactly one class, and the
 * class alone decides what waits, what is charged and what is final (retry.c).
 */
typedef enum LlmErrorClass
{
	LLM_OK = 0, /* answered and, as far as the provider knows, complete */
	LLM_ERR_TRANSIENT, /* 5xx, connect failures: the target waits, the task is not charged */
	LLM_ERR_RATE_LIMITED, /* 429 and the like: the target cools down, the task is not charged */
	LLM_ERR_OVERLOADED, /* 503/529/slow_down: as above, and fewer at a time */
	LLM_ERR_TIMEOUT, /* no answer in time: may have been billed */
	LLM_ERR_UNKNOWN, /* sent, connection lost: may have been billed */
	LLM_ERR_INVALID, /* answered, billed, but not what was asked for: a try */
	LLM_ERR_REFUSED, /* the model or a filter refused: billed, final */
	LLM_ERR_TRUNCATED, /* cut off by the token limit: billed; final */
	LLM_ERR_TOO_LONG, /* the input does not fit the model: final */
	LLM_ERR_TOO_LARGE, /* the answer exceeds our size cap: may have been billed; a try */
	LLM_ERR_BAD_REQUEST, /* the provider rejects the request itself: final */
	LLM_ERR_WRONG_KIND, /* a chat asked of a model of vectors, or the other way round: final, and the job is paused */
	LLM_ERR_AUTH, /* 401/403: the key is paused, no task is charged */
	LLM_ERR_QUOTA, /* quota or spend limit: the key is paused, no task is charged */
	LLM_ERR_UNKNOWN_MODEL, /* the model is paused, no task is charged */
	LLM_ERR_CONFIG, /* no server, no key, no right: paused with what to type next */
	LLM_ERR_LOCAL, /* descriptors, memory, DNS: never final for a task */
	LLM_ERR_DROPPED /* memory was short here for an answer that may be billed: never final */
} LlmErrorClass;

/* Token counts of one request; disjoint, except for reasoning, which is part of output. */
typedef struct LlmUsage
{
	bool known; /* false: the provider told nothing */
	int64 input; /* uncached input tokens */
	int64 cached; /* input tokens read from the provider's cache */
	int64 cache_write; /* input tokens written to the provider's cache */
	int64 output; /* output tokens, reasoning included */
	int64 reasoning;
} LlmUsage;

/* A text argument of an SQL function as a string, in the current context; or NULL. */
#define LLM_GETARG_CSTRING(n) (PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n)))

#endif /* LLM_ENRICH_H */
