/*-------------------------------------------------------------------------
 *
 * sql_preview.c
 *	  llm.preview: the request body of a call, without sending it.
 *
 * Runs with the caller's rights: it resolves the model as the sender would for
 * this role, and reads no key.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/guc.h"
#include "base/shmem.h"
#include "catalog/catalog_target.h"
#include "dialect/dialect.h"
#include "operation/operation.h"

PG_FUNCTION_INFO_V1(llm_enrich_preview);

/* Arguments of llm.preview, in order. */
enum
{
	ARG_OPERATION,
	ARG_INPUT,
	ARG_LABELS,
	ARG_MULTI,
	ARG_SCHEMA,
	ARG_MAX_WORDS,
	ARG_MODEL,
	ARG_INSTRUCTIONS,
	ARG_EXAMPLES,
	ARG_OPTIONS
};

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

/* A word count that the user gave is never 0 to make_spec(): that means "not given". */
static int
read_max_words(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(ARG_MAX_WORDS))
		return 0;
	return PG_GETARG_INT32(ARG_MAX_WORDS) == 0 ? -1 : PG_GETARG_INT32(ARG_MAX_WORDS);
}

static void
read_args(FunctionCallInfo fcinfo, LlmCallArgs *args)
{
	memset(args, 0, sizeof(*args));
	if (!PG_ARGISNULL(ARG_LABELS))
		args->labels = PG_GETARG_ARRAYTYPE_P(ARG_LABELS);
	args->multi = !PG_ARGISNULL(ARG_MULTI) && PG_GETARG_BOOL(ARG_MULTI);
	if (!PG_ARGISNULL(ARG_SCHEMA))
		args->schema = PG_GETARG_JSONB_P(ARG_SCHEMA);
	args->max_words = read_max_words(fcinfo);
	if (!PG_ARGISNULL(ARG_INSTRUCTIONS))
		args->instructions = PG_GETARG_TEXT_PP(ARG_INSTRUCTIONS);
	if (!PG_ARGISNULL(ARG_EXAMPLES))
		args->examples = PG_GETARG_JSONB_P(ARG_EXAMPLES);
	if (!PG_ARGISNULL(ARG_OPTIONS))
		args->options = PG_GETARG_JSONB_P(ARG_OPTIONS);
}

/* Where the call would be sent; raises what keeps it from being sent. */
static LlmTarget *
resolve_target(const char *alias)
{
	LlmTarget *target;

	if (alias == NULL && llm_guc_model != NULL && llm_guc_model[0] != '\0')
		alias = llm_guc_model;
	target = llm_catalog_target(alias, GetUserId());
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

/* SQL: llm.preview(operation, input, …) → the request body, nothing sent */
Datum
llm_enrich_preview(PG_FUNCTION_ARGS)
{
	const LlmOperation *op;
	const LlmDialect *dialect;
	LlmCallArgs args;
	LlmTarget *target;
	LlmRecipe *recipe;
	StringInfoData body;
	text *input;

	llm_shmem_require_preload();
	if (PG_ARGISNULL(ARG_OPERATION) || PG_ARGISNULL(ARG_INPUT))
		PG_RETURN_NULL();
	op = find_operation(text_to_cstring(PG_GETARG_TEXT_PP(ARG_OPERATION)));
	input = PG_GETARG_TEXT_PP(ARG_INPUT);
	read_args(fcinfo, &args);
	recipe = llm_operation_load(0, op->name, op->make_spec(&args));
	llm_operation_job_options(args.options, NULL, NULL, NULL);
	target = resolve_target(PG_ARGISNULL(ARG_MODEL) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(ARG_MODEL)));
	dialect = llm_dialect_find(target->dialect);
	if (dialect == NULL || recipe == NULL)
		elog(ERROR, "dialect \"%s\" of server \"%s\" is not known", target->dialect, target->server);
	initStringInfo(&body);
	dialect->body(dialect->prepare(recipe, target->model), VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input),
				  NULL, NULL, &body);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(body.data)));
}
