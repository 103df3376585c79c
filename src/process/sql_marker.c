/*-------------------------------------------------------------------------
 *
 * sql_marker.c
 *	  What SQL may ask of a cell, and the two pure helpers of the write-back.
 *
 * The helpers run as the role that asked for the answer, hence PUBLIC may call
 * them; they only compute, so that calling them by hand gains nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "cell/marker.h"

PG_FUNCTION_INFO_V1(llm_enrich_is_pending);
PG_FUNCTION_INFO_V1(llm_enrich_status);
PG_FUNCTION_INFO_V1(llm_enrich_marker_task);
PG_FUNCTION_INFO_V1(llm_enrich_resolve);

/* The cell type of the first argument, found once per call site. */
static LlmCellType
argument_cell_type(FunctionCallInfo fcinfo)
{
	LlmCellType *type = fcinfo->flinfo->fn_extra;

	if (type == NULL)
	{
		Oid argtype = get_fn_expr_argtype(fcinfo->flinfo, 0);

		type = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(LlmCellType));
		*type = OidIsValid(argtype) ? llm_marker_cell_type(argtype) : LLM_CELL_OTHER;
		fcinfo->flinfo->fn_extra = type;
	}
	return *type;
}

/* SQL: llm_is_pending(cell jsonb) → is an answer still to come? */
Datum
llm_enrich_is_pending(PG_FUNCTION_ARGS)
{
	const char *status = llm_marker_status(LLM_CELL_JSONB, PG_GETARG_DATUM(0));

	PG_RETURN_BOOL(status != NULL && strcmp(status, "pending") == 0);
}

/* SQL: llm_status(cell jsonb) → 'pending', 'failed' or 'done' */
Datum
llm_enrich_status(PG_FUNCTION_ARGS)
{
	const char *status = llm_marker_status(LLM_CELL_JSONB, PG_GETARG_DATUM(0));

	PG_RETURN_TEXT_P(cstring_to_text(status ? status : "done"));
}

/* SQL: llm.marker_task(cell anyelement) → task that the cell's marker names, or NULL */
Datum
llm_enrich_marker_task(PG_FUNCTION_ARGS)
{
	bool nested;
	int64 task = llm_marker_task(argument_cell_type(fcinfo), PG_GETARG_DATUM(0), &nested);

	if (task == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(task);
}

static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* SQL: llm.resolve(cell anyelement, outcome, task, answer, error, message) → the new cell */
Datum
llm_enrich_resolve(PG_FUNCTION_ARGS)
{
	LlmCellType type = argument_cell_type(fcinfo);
	char *outcome = text_argument(fcinfo, 1);
	Datum held;

	if (type == LLM_CELL_OTHER)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("a cell of this type cannot hold an answer"),
				 errhint("Use a column of type jsonb, json or text.")));
	if (strcmp(outcome, "answered") == 0 && !PG_ARGISNULL(3))
		PG_RETURN_DATUM(llm_marker_cell(type, PG_GETARG_JSONB_P(3)));
	if (strcmp(outcome, "failed") == 0)
	{
		int64 task = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
		Jsonb *marker = llm_marker_failed(task, text_argument(fcinfo, 4), text_argument(fcinfo, 5));

		PG_RETURN_DATUM(llm_marker_keep(type, PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0),
										PG_ARGISNULL(0), llm_marker_cell(type, marker)));
	}
	if (strcmp(outcome, "cancelled") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid outcome \"%s\" of a task", outcome),
				 errhint("Valid outcomes are \"answered\" (with an answer), \"failed\" and \"cancelled\".")));
	if (PG_ARGISNULL(0) || !llm_marker_restore(type, PG_GETARG_DATUM(0), &held))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(held);
}
