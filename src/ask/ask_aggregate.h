/*-------------------------------------------------------------------------
 *
 * ask_aggregate.h
 *	  llm_agg() and its like: texts of many rows, asked about together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_AGGREGATE_H
#define LLM_ASK_AGGREGATE_H

#include "base/llm_enrich.h"

#include "ask/ask_collect.h"
#include "ask/ask_ring.h"
#include "fmgr.h"
#include "money/forecast_call.h"
#include "nodes/primnodes.h"

/*
 * C symbol of the final function.  A node above the aggregate calls it, too, with what the
 * aggregate has collected, where the aggregate was told to give that (location).
 */
#define LLM_AGGREGATE_SYMBOL "llm_enrich_agg_answer"

/* "Location" of an aggregate that gives what it has collected; as LLM_CALL_IN_WHERE. */
#define LLM_AGGREGATE_COLLECTS (-20231)

extern Datum llm_enrich_agg_answer(PG_FUNCTION_ARGS);

/*
 * Post the questions about what was collected for a row ahead, as many as may be in flight, and
 * those of the next stages when there are answers.  The argument has to live as long as the row.
 * Nothing where nothing was collected, or nothing may be asked.
 */
extern void llm_ask_aggregate_ahead(LlmAskRing *ring, FunctionCallInfo fcinfo, LlmAskRow *row);

/* The first question about these texts, which borrows from them: its recipe, and *input; in the current context. */
extern LlmRecipe *llm_ask_aggregate_first(const LlmOperation *op, const LlmCallArgs *args, LlmItem *items, int n,
										  text **input);

/* What an aggregate would ask about groups of so many bytes each; by the model and the constant arguments. */
extern void llm_ask_aggregate_forecast(const Aggref *aggref, double groups, double bytes, LlmForecastAsk *ask);

#endif /* LLM_ASK_AGGREGATE_H */
