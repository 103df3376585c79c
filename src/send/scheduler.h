/*-------------------------------------------------------------------------
 *
 * scheduler.h
 *	  What the sender does next.
 *
 *	  init()     once
 *	  pass()     then wait until the time that it says, or until woken; again
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SCHEDULER_H
#define LLM_SCHEDULER_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"

extern void llm_scheduler_init(void);

/* One turn: land, store, claim, send.  When to run next; DT_NOBEGIN: at once. */
extern TimestampTz llm_scheduler_pass(void);

/* Somebody queued something or has posted a letter. */
extern void llm_scheduler_wake(void);

/* Nothing is in flight, waiting to be stored, ready or waiting for its time. */
extern bool llm_scheduler_is_idle(void);

/* The extension was dropped: there is nothing left to serve. */
extern bool llm_scheduler_is_orphaned(void);

/* Claim nothing any more.  True as soon as all that was in flight is stored. */
extern bool llm_scheduler_drain(void);

/* For llm.health. */
extern int llm_scheduler_slots(void);

#endif /* LLM_SCHEDULER_H */
