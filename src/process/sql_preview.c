/*-------------------------------------------------------------------------
 *
 * sql_preview.c
 *	  llm.preview: the request body of a call, without sending it.
 *
 * Runs with the caller's rights: it resolves the model as the sender would for
 * this role, and reads no key.  The input of an aggregate is a JSON array of its rows'
 * texts, or the text of one; where they do not fit the model, it is the first part.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/syscache.h"

#include "ask/ask_aggregate.h"
#include "base/guc.h"
#include "base/json.h"
#include "base/shmem.h"
#include "catalog/catalog_target.h"
#include "dialect/dialect.h"
#include "operation/input.h"
#include "operation/operation.h"
#include "operation/spec.h"
#include "send/fit.h"

PG_FUNCTION_INFO_V1(llm_enrich_preview);

/* Arguments of llm.preview; what follows is that of the public functions, known by name. */
#define ARG_OPERATION 0
#define ARG_INPUT 1
#define ARG_CALL 2

static const LlmOperation *
find_operation(const char *name)
{
	const LlmOperation *op = llm_operation_find(name);

	if (op == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown operation \"%s\"", name),
				 errhint("Operations are: %s.", llm_operation_names())));
	return op;
}

static void
read_args(FunctionCallInfo fcinfo, LlmCallArgs *args)
{
	HeapTuple function = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	Oid *types;
	char **names;
	char *modes;
	int nargs;

	if (!HeapTupleIsValid(function))
		elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
	nargs = get_func_arg_info(function, &types, &names, &modes);
	memset(args, 0, sizeof(*args));
	for (int i = ARG_CALL; i < nargs; i++)
	{
		LlmArg arg = llm_argument_find(names[i]);

		if (arg == LLM_ARGS || types[i] != llm_argument_type_oid(arg))
			elog(ERROR, "argument \"%s\" of function %s is not known", names[i],
				 NameStr(((Form_pg_proc) GETSTRUCT(function))->proname));
		if (!PG_ARGISNULL(i))
			llm_argument_set(args, arg, PG_GETARG_DATUM(i));
	}
	ReleaseSysCache(function);
}

/* Where the call would be sent; raises what keeps it from being sent. */
static LlmTarget *
resolve_target(const char *alias)
{
	LlmTarget *target;

	target = llm_catalog_target(llm_guc_model_or(alias), GetUserId());
	if (target->problem != NULL)
	{
		bool forbidden = target->problem_class == LLM_ERR_AUTH;

		ereport(ERROR,
				(errcode(forbidden ? ERRCODE_INSUFFICIENT_PRIVILEGE : ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s", target->problem),
				 target->hint == NULL ? 0 : errhint("%s", target->hint)));
	}
	return target;
}

/* The body of a request for one vector; raises where the dialect has none. */
static void
append_embed(const LlmDialect *dialect, const LlmEndpoint *endpoint, const LlmRecipe *recipe, const LlmText *input,
			 StringInfo body)
{
	LlmEmbed ask = {input, 1, recipe->dimensions, recipe->params.extra_body};

	if (dialect->embed == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a server of dialect \"%s\" makes no vectors", dialect->name)));
	dialect->embed(endpoint, &ask, body);
}

/* Bytes of a request that has nothing of a row in it. */
static int64
our_bytes(const LlmDialect *dialect, const LlmEndpoint *endpoint, LlmRecipe *recipe)
{
	LlmChat chat = {{"", 0}, NULL, NULL};
	StringInfoData body;

	if (recipe->op->kind == LLM_REQUEST_EMBED)
		return 0;
	initStringInfo(&body);
	dialect->body(dialect->prepare(recipe, endpoint), &chat, &body);
	return body.len;
}

/* The texts of an aggregate's rows, as many as the array has; NULL and blank ones are left out, as it does. */
static LlmItem *
read_rows(text *input, int *n)
{
	StringInfoData fault;
	JsonbValue rows;
	LlmItem *items;
	bool is_list;

	initStringInfo(&fault);
	is_list = llm_json_parse(VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input), &rows, &fault) && rows.type == jbvArray;
	items = palloc(sizeof(LlmItem) * (is_list ? Max(rows.val.array.nElems, 1) : 1));
	*n = 0;
	if (!is_list && !llm_input_is_blank(input))
		items[(*n)++] = (LlmItem){VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input), 0};
	for (int i = 0; is_list && i < rows.val.array.nElems; i++)
	{
		const JsonbValue *row = &rows.val.array.elems[i];

		if (row->type == jbvNull)
			continue;
		if (row->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the input of an aggregate is an array of texts, and element %d is a JSON %s", i + 1,
							llm_json_type(row)),
					 errhint("Use to_jsonb(ARRAY[...])::text, or (SELECT jsonb_agg(column) FROM ...)::text.")));
		if (!llm_input_is_blank(cstring_to_text_with_len(row->val.string.val, row->val.string.len)))
			items[(*n)++] = (LlmItem){row->val.string.val, row->val.string.len, 0};
	}
	return items;
}

/* SQL: llm.preview(operation, input, …) → the request body, nothing sent */
Datum
llm_enrich_preview(PG_FUNCTION_ARGS)
{
	const LlmOperation *op;
	const LlmDialect *dialect;
	LlmCallArgs args;
	LlmTarget *target;
	LlmRecipe *recipe;
	LlmEndpoint endpoint;
	LlmChat chat = {0};
	StringInfoData body;
	text *input;
	text *model;

	llm_shmem_require_preload();
	if (PG_ARGISNULL(ARG_OPERATION) || PG_ARGISNULL(ARG_INPUT))
		PG_RETURN_NULL();
	op = find_operation(text_to_cstring(PG_GETARG_TEXT_PP(ARG_OPERATION)));
	input = PG_GETARG_TEXT_PP(ARG_INPUT);
	read_args(fcinfo, &args);
	if (op->is_aggregate)
	{
		int n;
		LlmItem *rows = read_rows(input, &n);

		if (n == 0)
			PG_RETURN_NULL(); /* nothing would be asked */
		recipe = llm_ask_aggregate_first(op, &args, rows, n, &input);
	}
	else
		recipe = llm_operation_load(0, op->name, llm_operation_spec(op, &args));
	llm_operation_job_options(llm_argument_jsonb(&args, LLM_ARG_OPTIONS), NULL, NULL, NULL);
	model = llm_argument_text(&args, LLM_ARG_MODEL);
	target = resolve_target(model == NULL ? NULL : text_to_cstring(model));
	dialect = llm_dialect_find(target->dialect);
	if (dialect == NULL || recipe == NULL)
		elog(ERROR, "dialect \"%s\" of server \"%s\" is not known", target->dialect, target->server);
	initStringInfo(&body);
	endpoint = target->endpoint;
	chat.input.at = llm_fit(recipe, VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input), target->context_tokens,
							our_bytes(dialect, &endpoint, recipe), &chat.input.len);
	if (op->kind == LLM_REQUEST_EMBED)
		append_embed(dialect, &endpoint, recipe, &chat.input, &body);
	else
		dialect->body(dialect->prepare(recipe, &endpoint), &chat, &body);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(body.data)));
}
