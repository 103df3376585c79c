/*-------------------------------------------------------------------------
 *
 * question.h
 *	  What is being asked now: a task that asks the same waits for that answer.
 *
 *	  ask()      in the claim's transaction: is it the first, and if not, which task is?
 *	  undo()     that transaction failed
 *	  keep()     it has committed
 *	  close()    in the transaction that stores the answer; reopen() when it failed
 *	  forget()   the flight is over
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_QUESTION_H
#define LLM_QUESTION_H

#include "base/llm_enrich.h"

#include "lib/ilist.h"
#include "send/route.h"

typedef struct LlmQuestion
{
	dlist_node node; /* while the claim has not committed */
	uint64 hash;
	const LlmRoute *route; /* whose: role and target */
	int64 recipe;
	const char *input;
	size_t input_len;
	int64 task; /* that asks */
	bool followed; /* others wait for the answer */
} LlmQuestion;

/*
 * The question of a claimed task, allocated until forget(), or the one of another task
 * under way that is the same: then ->task is not this one's.
 */
extern LlmQuestion *llm_question_ask(const LlmRoute *route, int64 recipe, const char *input, size_t input_len,
									 int64 task);
extern void llm_question_undo(void);
extern void llm_question_keep(void);
extern void llm_question_close(LlmQuestion *question);
extern void llm_question_reopen(LlmQuestion *question);
extern void llm_question_forget(LlmQuestion *question);

#endif /* LLM_QUESTION_H */
