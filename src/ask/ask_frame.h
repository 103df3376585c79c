/*-------------------------------------------------------------------------
 *
 * ask_frame.h
 *	  What is running around a call: may it wait for its answer there?
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_FRAME_H
#define LLM_ASK_FRAME_H

#include "base/llm_enrich.h"

/* Install the hooks; called once from _PG_init. */
extern void llm_ask_frame_init(void);

/*
 * Raise 0A000 or 25006 unless a call of the function may wait for its answer here.  "in_where":
 * the planner hook has found it in a condition of the statement that runs, which may be one
 * that writes then.
 */
extern void llm_ask_frame_check(const char *function, bool in_where);

#endif /* LLM_ASK_FRAME_H */
