/*-------------------------------------------------------------------------
 *
 * by_plan.c
 *	  What calls would ask as far as plan and statistics tell.
 *
 * For statements that cannot be read without doing what they do.  Rows are those that the
 * planner expects, inputs as long as ANALYZE found the column; each is asked about.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/lsyscache.h"

#include "ask/ask_aggregate.h"
#include "ask/ask_walk.h"
#include "base/compat.h"
#include "estimate/by_plan.h"
#include "money/forecast_call.h"

/* Bytes of an input of which nothing is known; what is out of line has that width in statistics. */
#define INPUT_BYTES 400
#define POINTER_BYTES 20
#define LONG_INPUT_BYTES 3000

double
llm_by_plan_rows(const PlannedStmt *plan)
{
	const Plan *top = plan->planTree;

	if (IsA(top, ModifyTable) && outerPlan(top) != NULL)
		top = outerPlan(top);
	return Max(top->plan_rows, 0);
}

/* Average bytes of an expression, which is a column of a table or is not known. */
static double
input_bytes(Query *query, Node *input)
{
	double width = 0;

	while (IsA(input, RelabelType))
		input = (Node *) ((RelabelType *) input)->arg;
	if (IsA(input, Const) && !((Const *) input)->constisnull && ((Const *) input)->constlen == -1)
		return VARSIZE_ANY_EXHDR(DatumGetPointer(((Const *) input)->constvalue));
	if (IsA(input, Var) && ((Var *) input)->varlevelsup == 0 && ((Var *) input)->varno <= list_length(query->rtable))
	{
		const Var *var = (const Var *) input;
		RangeTblEntry *rte = list_nth_node(RangeTblEntry, query->rtable, var->varno - 1);

		if (rte->rtekind == RTE_RELATION)
			width = get_attavgwidth(rte->relid, var->varattno);
		if (width > 0 && width <= POINTER_BYTES)
			width = LONG_INPUT_BYTES;
	}
	return width > 0 ? width : INPUT_BYTES;
}

void
llm_by_plan_ask(Query *query, FuncExpr *call, double rows, LlmForecastAsk *ask)
{
	Node *folded = eval_const_expressions(NULL, copyObject((Node *) call));

	if (!IsA(folded, FuncExpr))
		elog(ERROR, "function %u is not known", call->funcid);
	llm_forecast_call((FuncExpr *) folded, rows, input_bytes(query, linitial(((FuncExpr *) folded)->args)), ask);
}

static bool
has_aggregate(Node *node, Oid *aggregate)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref) && ((Aggref *) node)->aggfnoid == *aggregate)
		return true;
	return expression_tree_walker(node, has_aggregate, aggregate);
}

/* The node that collects for an aggregate; NULL: it is not in this plan. */
static const Plan *
find_agg(const Plan *plan, Oid aggregate)
{
	ListCell *cell;

	check_stack_depth();
	if (plan == NULL)
		return NULL;
	if (IsA(plan, Agg) &&
		(has_aggregate((Node *) plan->targetlist, &aggregate) || has_aggregate((Node *) plan->qual, &aggregate)))
		return plan;
	foreach(cell, llm_plan_children(plan))
	{
		const Plan *found = find_agg(lfirst(cell), aggregate);

		if (found != NULL)
			return found;
	}
	return NULL;
}

double
llm_by_plan_ask_aggregate(Query *query, const PlannedStmt *plan, const Aggref *aggref, LlmForecastAsk *ask)
{
	const Plan *agg = find_agg(plan->planTree, aggref->aggfnoid);
	Aggref *folded = (Aggref *) eval_const_expressions(NULL, copyObject((Node *) aggref));
	Oid function = aggref->aggfnoid;
	double groups = 1;
	double rows = 1;
	double bytes;
	ListCell *cell;

	foreach(cell, plan->subplans)
		agg = agg != NULL ? agg : find_agg(lfirst(cell), aggref->aggfnoid);
	if (agg != NULL)
	{
		/* HAVING may want the answer of each group, of which the node's rows are those that pass */
		groups = agg->plan_rows;
		if (has_aggregate((Node *) agg->qual, &function))
			groups = (double) ((const Agg *) agg)->numGroups;
		groups = Max(groups, 1);
		rows = outerPlan(agg)->plan_rows;
	}
	bytes = rows / groups * input_bytes(query, (Node *) linitial_node(TargetEntry, folded->args)->expr);
	llm_ask_aggregate_forecast(folded, groups, bytes, ask);
	return groups;
}
