/*-------------------------------------------------------------------------
 *
 * op_extract.c
 *	  llm_extract: the object that a JSON Schema asks for.
 *
 * The schema stands in the system text besides the request's own field for it,
 * since some servers only bend the model's output to it and never show it to
 * the model, which then could not heed a description.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/spec.h"
#include "operation/validate.h"

static Jsonb *
make_spec(const LlmCallArgs *args)
{
	if (!args->given[LLM_ARG_SCHEMA])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("llm_extract needs a schema"),
				 errhint("Give a JSON Schema, for instance {\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"}}}.")));
	return llm_spec_make(&llm_op_extract, args);
}

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	StringInfoData buf;

	recipe->schema = llm_json_store(llm_json_get(spec, "schema"));
	recipe->private_data = llm_schema_compile(recipe->schema);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "Extract what is asked for from the user's message. Make nothing up: "
								 "leave out, or set to null where the schema allows it, what the message does not say.\n");
	llm_prompt_finish(&buf, spec, llm_prompt_schema_form(llm_json_get(spec, "schema")), true);
	recipe->system = buf.data;
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	JsonbValue answer;

	if (!llm_validate_object(given->str, given->len, &answer, fault) ||
		!llm_validate(recipe->private_data, &answer, fault))
		return NULL;
	return llm_json_store(&answer);
}

const LlmOperation llm_op_extract = {
	.name = "extract",
	.function = "llm_extract",
	.takes = LLM_TAKES(SCHEMA),
	.make_spec = make_spec,
	.load = load,
	.check = check,
};
