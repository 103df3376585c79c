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

typedef enum LlmFrameCall
{
	LLM_FRAME_CALL = 0,
	LLM_FRAME_WHERE, /* the planner hook has found it in a condition of the statement, which may be one that writes */
	LLM_FRAME_AGGREGATE /* which is never deferred */
} LlmFrameCall;

/* Raise 0A000 or 25006 unless a call of the function may wait for its answer here. */
extern void llm_ask_frame_check(const char *function, LlmFrameCall kind);

/* Raise 25006 on a standby, where no question can be booked. */
extern void llm_ask_frame_require_primary(const char *function);

/* Raise what an aggregate of this name raises in a statement that writes. */
extern void llm_ask_frame_refuse_aggregate(const char *function);

/* Does the innermost statement run to its end in one go?  Not one that a cursor reads in parts. */
extern bool llm_ask_frame_reads_all(void);

#endif /* LLM_ASK_FRAME_H */
