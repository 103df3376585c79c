/*-------------------------------------------------------------------------
 *
 * by_plan.h
 *	  What calls would ask as far as plan and statistics tell.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_BY_PLAN_H
#define LLM_BY_PLAN_H

#include "base/llm_enrich.h"

#include "money/forecast.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

/* Rows that the planner expects to be written, or to be given. */
extern double llm_by_plan_rows(const PlannedStmt *plan);

/* What so many rows would ask by this call; the role is the current one. */
extern void llm_by_plan_ask(Query *query, FuncExpr *call, double rows, LlmForecastAsk *ask);

/* The same by an aggregate of ours; how many groups there are. */
extern double llm_by_plan_ask_aggregate(Query *query, const PlannedStmt *plan, const Aggref *aggref,
										LlmForecastAsk *ask);

#endif /* LLM_BY_PLAN_H */
