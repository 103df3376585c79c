/*-------------------------------------------------------------------------
 *
 * ask_walk.c
 *	  What stands in a node of a finished plan: the plans below it, and its expressions.
 *
 * PostgreSQL has walkers for expressions and for the states of plans, and none for plans.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ask/ask_walk.h"

List *
llm_plan_children(const Plan *plan)
{
	List *children = NIL;

	if (IsA(plan, Append))
		children = list_copy(((const Append *) plan)->appendplans);
	else if (IsA(plan, MergeAppend))
		children = list_copy(((const MergeAppend *) plan)->mergeplans);
	else if (IsA(plan, SubqueryScan))
		children = list_make1(((const SubqueryScan *) plan)->subplan);
	else if (IsA(plan, BitmapAnd))
		children = list_copy(((const BitmapAnd *) plan)->bitmapplans);
	else if (IsA(plan, BitmapOr))
		children = list_copy(((const BitmapOr *) plan)->bitmapplans);
	else if (IsA(plan, CustomScan))
		children = list_copy(((const CustomScan *) plan)->custom_plans);
	if (plan->lefttree != NULL)
		children = lappend(children, plan->lefttree);
	if (plan->righttree != NULL)
		children = lappend(children, plan->righttree);
	return children;
}

/* Of conditions and keys, what a node has beside its target list and its conditions. */
static List *
own_expressions(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_IndexScan:
			return list_make2(((const IndexScan *) plan)->indexqual, ((const IndexScan *) plan)->indexorderby);
		case T_IndexOnlyScan:
			return list_make2(((const IndexOnlyScan *) plan)->indexqual, ((const IndexOnlyScan *) plan)->indexorderby);
		case T_BitmapIndexScan:
			return list_make1(((const BitmapIndexScan *) plan)->indexqual);
		case T_BitmapHeapScan:
			return list_make1(((const BitmapHeapScan *) plan)->bitmapqualorig);
		case T_TidScan:
			return list_make1(((const TidScan *) plan)->tidquals);
		case T_TidRangeScan:
			return list_make1(((const TidRangeScan *) plan)->tidrangequals);
		case T_ValuesScan:
			return list_make1(((const ValuesScan *) plan)->values_lists);
		case T_ForeignScan:
			return list_make1(((const ForeignScan *) plan)->fdw_exprs);
		case T_CustomScan:
			return list_make1(((const CustomScan *) plan)->custom_exprs);
		case T_NestLoop:
			return list_make1(((const Join *) plan)->joinqual);
		case T_MergeJoin:
			return list_make2(((const Join *) plan)->joinqual, ((const MergeJoin *) plan)->mergeclauses);
		case T_HashJoin:
			return list_make2(((const Join *) plan)->joinqual, ((const HashJoin *) plan)->hashclauses);
		case T_Hash:
			return list_make1(((const Hash *) plan)->hashkeys);
		case T_Memoize:
			return list_make1(((const Memoize *) plan)->param_exprs);
		case T_WindowAgg:
			return list_make1(((const WindowAgg *) plan)->runCondition);
		default:
			return NIL;
	}
}

List *
llm_plan_row_expressions(const Plan *plan)
{
	return lcons(plan->targetlist, lcons(plan->qual, own_expressions(plan)));
}

List *
llm_plan_start_expressions(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Result:
			return list_make2(plan->initPlan, ((const Result *) plan)->resconstantqual);
		case T_FunctionScan:
			return list_make2(plan->initPlan, ((const FunctionScan *) plan)->functions);
		case T_TableFuncScan:
			return list_make2(plan->initPlan, ((const TableFuncScan *) plan)->tablefunc);
		case T_SampleScan:
			return list_make2(plan->initPlan, ((const SampleScan *) plan)->tablesample);
		case T_Limit:
			return list_make3(plan->initPlan, ((const Limit *) plan)->limitOffset, ((const Limit *) plan)->limitCount);
		case T_WindowAgg:
			return list_make3(plan->initPlan, ((const WindowAgg *) plan)->startOffset,
							  ((const WindowAgg *) plan)->endOffset);
		default:
			return list_make1(plan->initPlan);
	}
}
