/*-------------------------------------------------------------------------
 *
 * scheduler_repeat.h
 *	  The sender's part in paying the same question once.
 *
 *	  ask()    what was claimed: which tasks ask, and which wait for one that asks already
 *	  store()  with the settlements: followers get the same
 *	  tend()   in each pass: what is left of that, and a look at all of it now and then
 *	  undo()   instead of store() and tend(), when the transaction failed
 *
 * Inside the transaction of a pass, except for undo().
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SCHEDULER_REPEAT_H
#define LLM_SCHEDULER_REPEAT_H

#include "base/llm_enrich.h"

#include "send/flight.h"
#include "tables/repeat.h"

/* Sets claim->follows of those that have to wait.  A list beside "claims": LlmQuestion, or NULL. */
extern List *llm_scheduler_repeat_ask(List *claims);

/* The first "n" of the landed flights have been settled. */
extern void llm_scheduler_repeat_store(dlist_head *landed, int n, LlmRepeatResult *result);

/* Followers of tasks that needed no request were served. */
extern void llm_scheduler_repeat_note(const LlmRepeatResult *result);

/* "sweep": it is time to look at all groups. */
extern void llm_scheduler_repeat_tend(bool sweep, TimestampTz now, LlmRepeatResult *result);

extern void llm_scheduler_repeat_undo(dlist_head *landed);

/* When tend() has something to do; DT_NOEND: nothing is left. */
extern TimestampTz llm_scheduler_repeat_due(void);

#endif /* LLM_SCHEDULER_REPEAT_H */
