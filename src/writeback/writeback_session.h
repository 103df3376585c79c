/*-------------------------------------------------------------------------
 *
 * writeback_session.h
 *	  The writer's transactions and its session, in which users' triggers run.
 *
 *	  init()  once; then, for each transaction
 *	  begin()  enter_role()  carry()  start_timer()  connect()  ... users' code ...
 *	  end_users_code()  ... SQL of ours ...  commit()  stop_timer()  leave_role()
 *	  reset_session()
 *
 * After an ERROR: stop_timer(), AbortOutOfAnyTransaction(), leave_role(),
 * reset_session().  All keep the caller's memory context.  Only writeback.c calls
 * these, and writeback_diag.c pin_path().
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_SESSION_H
#define LLM_WRITEBACK_SESSION_H

#include "base/llm_enrich.h"

#include "utils/jsonb.h"

extern void llm_writeback_session_init(void);

/* Start a transaction with pinned settings; "activity" is shown in pg_stat_activity. */
extern void llm_writeback_begin(const char *activity);

/* For what runs as anybody but the role: nothing is found but by its full name. */
extern void llm_writeback_pin_path(void);

/*
 * Settings of the asking session, and llm_enrich.writeback, until the transaction ends.
 * Its search_path is among them: triggers find what they found in the statement.
 */
extern void llm_writeback_carry(Jsonb *settings);

/*
 * Be the role, for the session too, until after the commit or the abort: whatever runs
 * before that runs as the role, and nothing can leave it.
 */
extern void llm_writeback_enter_role(Oid role);
extern void llm_writeback_leave_role(void);

/* SPI and a snapshot. */
extern void llm_writeback_connect(void);

/* Nothing that a user wrote runs any more in this transaction; what it left is gone. */
extern void llm_writeback_end_users_code(void);

/* Close what connect() opened, commit, flush statistics. */
extern void llm_writeback_commit(void);

/*
 * Bound what users' code may take, from here to the end of the commit: it is cancelled
 * after most_ms; after sure_ms as soon as llm_shmem_asked() is not "asked" any more.
 */
extern void llm_writeback_start_timer(int sure_ms, int most_ms, uint32 asked);

/* Since start_timer(): most_ms are over; others' answers came.  Only until stop_timer(). */
extern bool llm_writeback_time_is_over(void);
extern bool llm_writeback_was_called_off(void);

/* Half of most_ms is over: begin nothing that can as well be done in the next transaction. */
extern bool llm_writeback_half_time_is_over(void);

extern void llm_writeback_stop_timer(void);

/* Never fails for what users' code left; require_clean(), before the next one runs, may. */
extern void llm_writeback_reset_session(void);
extern void llm_writeback_require_clean(void);

#endif /* LLM_WRITEBACK_SESSION_H */
