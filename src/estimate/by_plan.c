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

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/guc.h"
#include "estimate/by_plan.h"

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

/* The arguments but the input, if they do not vary from row to row. */
static bool
constant_args(const FuncExpr *call, LlmCallArgs *args)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	bool constant = true;
	Oid *types;
	char **names;
	char *modes;
	int n;

	if (!HeapTupleIsValid(tuple))
		return false;
	n = get_func_arg_info(tuple, &types, &names, &modes);
	ReleaseSysCache(tuple);
	memset(args, 0, sizeof(*args));
	for (int i = 1; i < n && i < list_length(call->args); i++)
	{
		Node *node = list_nth(call->args, i);
		LlmArg arg = names == NULL ? LLM_ARGS : llm_argument_find(names[i]);

		if (!IsA(node, Const) || arg == LLM_ARGS)
			constant = false;
		else if (!((Const *) node)->constisnull)
			llm_argument_set(args, arg, ((Const *) node)->constvalue);
	}
	return constant;
}

void
llm_by_plan_ask(Query *query, FuncExpr *call, double rows, LlmForecastAsk *ask)
{
	Node *folded = eval_const_expressions(NULL, copyObject((Node *) call));
	LlmCallArgs args;
	text *model = NULL;

	memset(ask, 0, sizeof(*ask));
	ask->op = llm_operation_by_function(get_func_name(call->funcid));
	ask->role = GetUserId();
	ask->calls = rows;
	ask->ascii_share = 1;
	if (ask->op == NULL || !IsA(folded, FuncExpr))
		elog(ERROR, "function %u is not known", call->funcid);
	ask->input_bytes = rows * input_bytes(query, linitial(((FuncExpr *) folded)->args));
	if (constant_args((FuncExpr *) folded, &args))
	{
		ask->spec = llm_operation_spec(ask->op, &args);
		model = llm_argument_text(&args, LLM_ARG_MODEL);
	}
	if (model != NULL)
		ask->model = text_to_cstring(model);
	else if (llm_guc_model != NULL && llm_guc_model[0] != '\0')
		ask->model = llm_guc_model;
}
