/*-------------------------------------------------------------------------
 *
 * writeback_session.h
 *	  The writer's transactions and its session, in which users' triggers run.
 *
 *	  begin()  ... become the role ...  start_timer()  connect()  ... SQL ...
 *	  commit()  stop_timer()  ... become ourselves ...  reset_session()
 *
 * After an ERROR: AbortOutOfAnyTransaction(), stop_timer(), reset_session().  All
 * keep the caller's memory context.  Only writeback.c calls these.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_SESSION_H
#define LLM_WRITEBACK_SESSION_H

#include "llm_enrich.h"

#include "utils/jsonb.h"

/* Start a transaction with pinned settings; "activity" is shown in pg_stat_activity. */
extern void llm_writeback_begin(const char *activity);

/* Settings of the asking session, and llm_enrich.writeback, until the transaction ends. */
extern void llm_writeback_carry(Jsonb *settings);

/* SPI and a snapshot. */
extern void llm_writeback_connect(void);

/* Close what connect() opened, commit, flush statistics. */
extern void llm_writeback_commit(void);

extern void llm_writeback_start_timer(void);
extern void llm_writeback_stop_timer(void);
extern void llm_writeback_reset_session(void);

#endif /* LLM_WRITEBACK_SESSION_H */
