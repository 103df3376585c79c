/*-------------------------------------------------------------------------
 *
 * kept.h
 *	  Kept answers: the same question of the same role is not paid twice.
 *
 *	  find()       inside the transaction that would send it
 *	  serve()      the same for claimed tasks
 *	  store()      with the settlement
 *	  tidy()       a step of the sender: what is old, or too much, goes
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_KEPT_H
#define LLM_KEPT_H

#include "base/llm_enrich.h"

#include "send/step.h"
#include "tables/answer.h"
#include "tables/repeat.h"

/* Can there be anything to find()?  Inside a transaction. */
extern bool llm_kept_may_exist(void);

/* What is kept for the keys; how many of them have an answer. */
extern int llm_kept_find(const LlmAnswerKey *keys, int n, LlmKeptAnswer *found);

/* The settlement of a question that such an answer settles, but for whose it is. */
extern void llm_kept_settle(LlmSettlement *settlement, const LlmRoute *route, const LlmKeptAnswer *kept);

/*
 * Settle those of pass->claims whose answers are kept, and mark them so.  True: their answers
 * are to be written.
 */
extern bool llm_kept_serve(LlmPass *pass, LlmRepeatResult *result);

/* Keep the answers of the first flights that have landed. */
extern void llm_kept_store(LlmPass *pass);

extern TimestampTz llm_kept_tidy_due(const LlmPass *pass);
extern void llm_kept_tidy(LlmPass *pass);
extern void llm_kept_keep(LlmPass *pass);
extern void llm_kept_undo(LlmPass *pass);

#endif /* LLM_KEPT_H */
