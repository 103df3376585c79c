/*-------------------------------------------------------------------------
 *
 * forecast_call.c
 *	  A call as it stands in a plan, as something to forecast.
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

#include "base/guc.h"
#include "money/forecast_call.h"
#include "operation/spec.h"

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
llm_forecast_call(const FuncExpr *call, double rows, double bytes_each, LlmForecastAsk *ask)
{
	char *name = get_func_name(call->funcid);
	LlmCallArgs args;
	text *model = NULL;

	memset(ask, 0, sizeof(*ask));
	ask->op = name == NULL ? NULL : llm_operation_by_function(name);
	ask->role = GetUserId();
	ask->calls = rows;
	ask->input_bytes = rows * bytes_each;
	ask->ascii_share = 1;
	if (ask->op == NULL)
		elog(ERROR, "function %u is not known", call->funcid);
	if (constant_args(call, &args))
	{
		ask->spec = llm_operation_spec(ask->op, &args);
		model = llm_argument_text(&args, LLM_ARG_MODEL);
	}
	ask->model = llm_guc_model_or(model == NULL ? NULL : text_to_cstring(model));
}
