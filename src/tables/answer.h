/*-------------------------------------------------------------------------
 *
 * answer.h
 *	  llm.answer: checked answers that are given again to the same question.
 *
 *	  add()    with the settlement of what was asked
 *	  find()   before something is asked
 *	  drop()   now and then; dropped() when that has committed
 *	  look()   in a backend, which wants to know what need not be asked
 *
 * All inside a transaction of the sender (spi.h), but for dropped(), forget() and look().
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ANSWER_H
#define LLM_ANSWER_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* Of SHA-256. */
#define LLM_ANSWER_KEY_BYTES 32

/* What a question is known by. */
typedef struct LlmAnswerKey
{
	uint8 bytes[LLM_ANSWER_KEY_BYTES];
} LlmAnswerKey;

/* A row to add. */
typedef struct LlmNewAnswer
{
	const LlmAnswerKey *key;
	Oid role;
	const char *operation;
	int64 recipe;
	const char *server;
	const char *model;
	int64 task;
	Jsonb *answer;
} LlmNewAnswer;

/* What was found for a key; an answer of NULL: nothing. */
typedef struct LlmKeptAnswer
{
	Jsonb *answer; /* in the current context */
	int64 task; /* that paid */
} LlmKeptAnswer;

/* Is there any row?  Also in a backend, as the owner of the tables. */
extern bool llm_answer_exists(void);

extern void llm_answer_add(const LlmNewAnswer *answers, int n);

/* The newest answer to each of the keys that came after "since"; how many were found. */
extern int llm_answer_find(const LlmAnswerKey *keys, int n, TimestampTz since, LlmKeptAnswer *found);

/* Of each of the keys, whether there is an answer that came after "since".  As the owner of the tables (spi.h). */
extern void llm_answer_look(const LlmAnswerKey *keys, int n, TimestampTz since, bool *found);

/*
 * Delete what came before "since", and the oldest beyond "most_bytes"; at most "limit" rows.
 * How many were looked at in *seen: when that is 0 there are no rows.  How many were deleted.
 */
extern int llm_answer_drop(TimestampTz since, int64 most_bytes, int limit, int *seen);

/* That has committed: the next look begins behind what it deleted. */
extern void llm_answer_dropped(void);

/* A transaction of add() has failed: how many bytes there are is asked of the table. */
extern void llm_answer_forget(void);

#endif /* LLM_ANSWER_H */
