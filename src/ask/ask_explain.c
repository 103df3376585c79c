/*-------------------------------------------------------------------------
 *
 * ask_explain.c
 *	  What EXPLAIN says of a node's calls before they are made.
 *
 * Rows are the planner's, and widths those of ANALYZE: llm.estimate() reads the rows and
 * knows more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "base/compat.h"
#include "catalog/pg_class.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "ask/ask_aggregate.h"
#include "ask/ask_explain.h"
#include "ask/ask_site.h"
#include "money/dollars.h"
#include "money/forecast_call.h"

/* Width in statistics of a text that is kept out of line, and what such a text has at least, about. */
#define POINTER_BYTES 20
#define LONG_INPUT_BYTES 3000

/* Bytes of an expression over a plan that is a column of a table; else of the plan's whole row, which are more. */
static double
bytes_of(const Plan *below, const Node *input, const ExplainState *es)
{
	double width = 0;

	if (IsA(input, Const) && ((const Const *) input)->constlen == -1 && !((const Const *) input)->constisnull)
		return VARSIZE_ANY_EXHDR(DatumGetPointer(((const Const *) input)->constvalue));
	if (IsA(input, Var) && ((const Var *) input)->varattno > 0 &&
		((const Var *) input)->varattno <= list_length(below->targetlist))
	{
		const TargetEntry *entry = list_nth_node(TargetEntry, below->targetlist, ((const Var *) input)->varattno - 1);
		const Var *column = (const Var *) entry->expr;

		if (IsA(column, Var) && column->varno > 0 && column->varno <= list_length(es->rtable))
		{
			const RangeTblEntry *rte = list_nth_node(RangeTblEntry, es->rtable, column->varno - 1);

			if (rte->rtekind == RTE_RELATION)
				width = get_attavgwidth(rte->relid, column->varattno);
		}
		if (width > 0)
			return width <= POINTER_BYTES ? LONG_INPUT_BYTES : width;
	}
	return below->plan_width;
}

/* Rows of a table that is read whole; 0: not known. */
static double
rows_of_table(const Plan *below, const ExplainState *es)
{
	const RangeTblEntry *rte;
	HeapTuple tuple;
	double rows = 0;

	if (!IsA(below, SeqScan) || below->qual != NIL)
		return 0;
	rte = list_nth_node(RangeTblEntry, es->rtable, ((const Scan *) below)->scanrelid - 1);
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(rte->relid));
	if (HeapTupleIsValid(tuple))
	{
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return rows;
}

/* As the planner has it for a function of type boolean of which it knows nothing, in clausesel.c. */
#define FUNCTION_SELECTIVITY 0.3333333

/* By what part of the rows the planner took a condition to hold, where that is known here; else 1. */
static double
part_of(const Node *condition)
{
	if (IsA(condition, FuncExpr))
		return FUNCTION_SELECTIVITY;
	if (IsA(condition, BoolExpr) && ((const BoolExpr *) condition)->boolop == NOT_EXPR &&
		IsA(linitial(((const BoolExpr *) condition)->args), FuncExpr))
		return 1 - FUNCTION_SELECTIVITY;
	return 1;
}

/*
 * Rows that the node reads: those of the plan below, or of the LIMIT above it.  Where the planner had
 * conditions in that plan which were moved to this node, it expects too few.
 */
static double
rows_of(const CustomScan *plan, const ExplainState *es)
{
	const Plan *below = plan->scan.plan.lefttree;
	double rows = below->plan_rows;
	const Node *count = lsecond(plan->custom_private);
	double all = plan->scan.plan.qual == NIL ? 0 : rows_of_table(below, es);
	ListCell *cell;

	if (all > 0)
		rows = Max(rows, all);
	else if (rows > 1)
	{
		foreach(cell, plan->scan.plan.qual)
			rows /= part_of(lfirst(cell));
	}
	rows = rint(rows);
	if (IsA(count, Const) && !((const Const *) count)->constisnull)
		rows = Min(rows, (double) DatumGetInt64(((const Const *) count)->constvalue));
	return rows;
}

/* What the node asks by this call. */
static void
forecast_rows(const CustomScan *plan, const FuncExpr *call, const ExplainState *es, LlmForecastAsk *ask)
{
	const Plan *below = plan->scan.plan.lefttree;

	llm_forecast_call(call, rows_of(plan, es), bytes_of(below, linitial(call->args), es), ask);
}

/* The aggregate whose texts the call asks about; NULL: it is a call of one row's text. */
static const Aggref *
aggregate_of(const CustomScan *plan, const FuncExpr *call)
{
	const Plan *below = plan->scan.plan.lefttree;
	const Var *input = linitial(call->args);
	const TargetEntry *entry;

	if (!IsA(below, Agg) || !IsA(input, Var) || input->varattno <= 0 ||
		input->varattno > list_length(below->targetlist))
		return NULL;
	entry = list_nth_node(TargetEntry, below->targetlist, input->varattno - 1);
	return OidIsValid(llm_site_aggregate((Node *) entry->expr)) ? (const Aggref *) entry->expr : NULL;
}

/* The same of an aggregate: the rows below are divided evenly over its groups. */
static void
forecast_aggregate(const CustomScan *plan, const Aggref *aggref, const ExplainState *es, LlmForecastAsk *ask)
{
	const Plan *rows = plan->scan.plan.lefttree->lefttree;
	double groups = Max(rows_of(plan, es), 1);
	double bytes = rows->plan_rows / groups *
				   bytes_of(rows, (Node *) linitial_node(TargetEntry, aggref->args)->expr, es);

	llm_ask_aggregate_forecast(aggref, groups, bytes, ask);
}

void
llm_ask_explain_estimate(const CustomScan *plan, ExplainState *es)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich explain", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	LlmForecast forecast;
	List *models;
	ListCell *cell;

	llm_forecast_begin(&forecast);
	foreach(cell, plan->custom_exprs)
	{
		const FuncExpr *call = linitial_node(FuncExpr, lfirst_node(List, cell));
		const Aggref *aggref = aggregate_of(plan, call);
		LlmForecastAsk ask;
		LlmEstimate estimate;

		if (aggref != NULL)
			forecast_aggregate(plan, aggref, es, &ask);
		else
			forecast_rows(plan, call, es, &ask);
		llm_forecast_add(&forecast, &ask, &estimate);
	}
	MemoryContextSwitchTo(caller);
	models = llm_forecast_aliases(&forecast);
	if (models != NIL)
		ExplainPropertyList("Models", models, es);
	ExplainPropertyFloat("Estimated Calls", NULL, forecast.sum.calls, 0, es);
	ExplainPropertyFloat("Estimated Input Tokens", NULL, forecast.sum.input_tokens, 0, es);
	ExplainPropertyFloat("Estimated Output Tokens", NULL, forecast.sum.output_tokens, 0, es);
	if (forecast.sum.is_priced)
		ExplainPropertyText("Estimated Cost",
							psprintf("%s to %s US dollars", llm_dollars(forecast.sum.cost_low),
									 llm_dollars(forecast.sum.cost_high)),
							es);
	MemoryContextDelete(scratch);
}
