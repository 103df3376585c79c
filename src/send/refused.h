/*-------------------------------------------------------------------------
 *
 * refused.h
 *	  Tasks that their provider has refused, as far as the sender remembers them.
 *
 * A refused task is ready as before, and is set aside: it is not claimed before its time, nor
 * while its target is shut and another row is there to try it with.  So a probe is of a row
 * that was not refused yet, and a row that is always turned away stops nobody but itself.
 * A task that is refused again and again is counted here; the rule is in limiter_blame.h and retry.h.
 *
 *	  recall()   a request was refused: what is known of its task
 *	  set_aside() the task waits; from then on claims pass it over
 *	  stored()   that it is ready again has been committed
 *	  tend()     at the start of a pass: those whose time has come may be claimed
 *	  forget()   the task was answered, or failed, or anything else than refused
 *
 * All of it is the sender's memory, and bounded: after a restart counting starts again, and the
 * limiters in shared memory go on to hold their targets shut.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_REFUSED_H
#define LLM_REFUSED_H

#include "base/llm_enrich.h"

#include "lib/ilist.h"
#include "limiter/limiter_blame.h"

typedef struct LlmRefusedTask
{
	int64 task; /* hash key: must be first */
	dlist_node node; /* in the order of the last refusals */
	int64 job;
	LlmRefusal refusal; /* as judged the last time */
	int refusals;
	int counted; /* against the task */
	bool aside;
	bool stored; /* its job has it among those that are aside */
	bool target_shut; /* it waits for its target, too */
	bool reported; /* llm.health shows it */
	Oid role; /* that asked, as reported */
	uint32 repairs; /* of its target, when it was refused: it need not wait for what was told before the last one */
	TimestampTz until; /* 0: for nothing but its target */
} LlmRefusedTask;

/* The number by which a limiter knows the task. */
extern uint64 llm_refused_row(int64 task);

/* The entry of a task that was refused now, made when there is none; NULL when there is no room. */
extern LlmRefusedTask *llm_refused_recall(int64 task, int64 job);

extern void llm_refused_set_aside(LlmRefusedTask *refused, TimestampTz until, bool target_shut, uint32 repairs);

/* A task that is ready is not to be claimed before that time; it was not refused now. */
extern void llm_refused_wait(int64 task, int64 job, TimestampTz until);

/* Is it set aside?  Then its job is not to look for it. */
extern bool llm_refused_stored(int64 task);

extern void llm_refused_forget(int64 task);

extern void llm_refused_tend(TimestampTz now);

/* When tend() has something to do. */
extern TimestampTz llm_refused_wake_at(void);

/* Tasks that are not to be claimed, in the current context; how many. */
extern int llm_refused_aside(int64 **tasks);

/* Refused, and others pass: llm.health names it.  "what" is how the provider refuses it. */
extern void llm_refused_report(LlmRefusedTask *refused, Oid role, const char *what);

#endif /* LLM_REFUSED_H */
