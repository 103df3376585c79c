/*-------------------------------------------------------------------------
 *
 * ask_jit.h
 *	  Statements that ask are not compiled for the sake of what answers cost.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_JIT_H
#define LLM_ASK_JIT_H

#include "base/llm_enrich.h"

#include "nodes/plannodes.h"

/* Decide about JIT again, without the costs of our calls.  Before nodes are put into the plan. */
extern void llm_ask_jit_decide(PlannedStmt *stmt);

#endif /* LLM_ASK_JIT_H */
