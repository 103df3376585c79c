/*-------------------------------------------------------------------------
 *
 * ask_explain.h
 *	  What EXPLAIN says of a node's calls before they are made.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_EXPLAIN_H
#define LLM_ASK_EXPLAIN_H

#include "base/llm_enrich.h"

#include "base/compat.h"
#include "nodes/plannodes.h"

/* Calls, tokens and US dollars that the planner's rows would take; what a LIMIT lets through at most. */
extern void llm_ask_explain_estimate(const CustomScan *plan, ExplainState *es);

#endif /* LLM_ASK_EXPLAIN_H */
