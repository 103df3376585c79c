/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  What senders and writers share: how they start, reload and end.
 *
 *	  void
 *	  llm_sender_main(Datum arg)
 *	  {
 *		  if (!llm_worker_start(LLM_WORKER_SENDER, arg))
 *			  return;
 *		  for (;;)
 *		  {
 *			  ... look, work, note when the work ran out ...
 *			  if (idle && llm_worker_may_leave(LLM_WORKER_SENDER, worked, idle_since))
 *				  return;
 *			  ... wait for the latch, reset it ...
 *			  CHECK_FOR_INTERRUPTS();
 *			  llm_worker_reload_settings_if_asked();
 *		  }
 *	  }
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WORKER_H
#define LLM_WORKER_H

#include "base/shmem.h"

/*
 * Signals, connection, entry in shared memory, settings that ALTER ROLE and ALTER
 * DATABASE cannot spoil, and a look at the extension.  False: there is nothing to
 * do here, return from main.  No transaction is open afterwards.
 */
extern bool llm_worker_start(LlmWorkerKind kind, Datum arg);

/* Is this process a sender or writer of ours? */
extern bool llm_worker_is_here(void);

/* In a process of ours: SIGTERM ends it as ever, and the log does not call that fatal. */
extern void llm_worker_end_quietly(void);

/*
 * Nothing to do since idle_since (worked: there was something before).  True: return
 * from main at once, without looking again.  False: sleep until the latch is set, at
 * most until idle_since + llm_guc_idle_timeout_ms, look, and ask again.
 */
extern bool llm_worker_may_leave(LlmWorkerKind kind, bool worked, TimestampTz idle_since);

/*
 * Was it woken, or told to reload, since llm_shmem_woken() gave "heard"?  Its latch does not say:
 * whatever waits inside of PostgreSQL meanwhile, for a lock or a standby, resets it.
 */
extern bool llm_worker_was_woken(uint32 heard);

/* After SIGHUP: read the configuration again.  True when it did. */
extern bool llm_worker_reload_settings_if_asked(void);

#endif /* LLM_WORKER_H */
