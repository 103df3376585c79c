/*-------------------------------------------------------------------------
 *
 * op_embed.c
 *	  llm_embed: a vector of the row's text.
 *
 *	  {"embedding": "<the numbers, packed: base/vector.h>"}
 *
 * Nothing is said to the model but the text, so there are no instructions, no examples and
 * none of the options that steer how a text is written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "base/json.h"
#include "base/vector.h"
#include "operation/operation.h"
#include "operation/spec.h"

/* More than any model gives. */
#define MAX_DIMENSIONS 16000

/* Check of the argument "dimensions". */
void
llm_argument_dimensions(LlmSpec *spec, LlmArg arg, Datum value)
{
	int dimensions = DatumGetInt32(value);

	if (dimensions < 1 || dimensions > MAX_DIMENSIONS)
		llm_spec_refuse(arg, psprintf("It must be from 1 to %d.", MAX_DIMENSIONS));
	llm_spec_add(spec, llm_arguments[arg].name, llm_json_make_int(dimensions));
}

pg_noreturn static void refuse(const char *what);

static void
refuse(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s does not take \"%s\"", llm_op_embed.function, what),
			 errdetail("A model that makes vectors writes no text."),
			 errhint("Omit \"%s\".", what)));
}

static Jsonb *
make_spec(const LlmCallArgs *args)
{
	static const LlmArg arguments[] = {LLM_ARG_INSTRUCTIONS, LLM_ARG_EXAMPLES};
	static const char *const options[] = {"max_tokens", "reasoning_effort", "seed", "service_tier",
										  "temperature", "top_p", "verbosity"};
	JsonbValue tree;
	Jsonb *spec;

	for (int i = 0; i < lengthof(arguments); i++)
	{
		if (args->given[arguments[i]])
			refuse(llm_arguments[arguments[i]].name);
	}
	spec = llm_spec_make(&llm_op_embed, args);
	if (!llm_json_tree(spec, &tree))
		elog(ERROR, "content of a recipe nests too deep");
	for (int i = 0; i < lengthof(options); i++)
	{
		if (llm_json_get(&tree, options[i]) != NULL)
			refuse(options[i]);
	}
	return spec;
}

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	const JsonbValue *dimensions = llm_json_get(spec, "dimensions");

	recipe->system = "";
	recipe->value_key = "embedding";
	recipe->dimensions = dimensions == NULL ? 0 : llm_json_to_int(dimensions);
}

static Jsonb *
check_vector(const LlmRecipe *recipe, const float4 *values, int n, StringInfo fault)
{

	if (recipe->dimensions > 0 && n != recipe->dimensions)
	{
		appendStringInfo(fault, "The vector has %d numbers; %d were asked for.", n, recipe->dimensions);
		return NULL;
	}
	if (n < 1 || n > MAX_DIMENSIONS)
	{
		appendStringInfo(fault, "The vector has %d numbers.", n);
		return NULL;
	}
	for (int i = 0; i < n; i++)
	{
		if (!isfinite(values[i]))
		{
			appendStringInfo(fault, "Number %d of the vector is not finite.", i + 1);
			return NULL;
		}
	}
	return llm_json_store_member(recipe->value_key, llm_vector_pack(values, n));
}

const LlmOperation llm_op_embed = {
	.name = "embed",
	.function = "llm_embed",
	.takes = LLM_TAKES(DIMENSIONS),
	.kind = LLM_REQUEST_EMBED,
	.not_kept = true,
	.make_spec = make_spec,
	.load = load,
	.check_vector = check_vector,
};
