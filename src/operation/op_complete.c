/*-------------------------------------------------------------------------
 *
 * op_complete.c
 *	  llm_complete: the row's text is the prompt itself.
 *
 *	  {"text": "…"}, or with a schema the object that it asks for
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/spec.h"
#include "operation/validate.h"

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	const JsonbValue *schema = llm_json_get(spec, "schema");
	StringInfoData buf;

	if (schema != NULL)
	{
		recipe->schema = llm_json_store(schema);
		recipe->private_data = llm_schema_compile(recipe->schema);
	}
	initStringInfo(&buf);
	llm_prompt_finish(&buf, spec, schema == NULL ? NULL : llm_prompt_schema_form(schema), false);
	recipe->system = buf.data;
	recipe->value_key = schema == NULL ? "text" : NULL;
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	if (recipe->schema == NULL)
	{
		if (!llm_validate_text(given->str, given->len, fault))
			return NULL;
		return llm_json_store_member("text", llm_json_make_string(given->str, given->len));
	}
	return llm_validate_answer(recipe, given, fault);
}

const LlmOperation llm_op_complete = {
	.name = "complete",
	.function = "llm_complete",
	.takes = LLM_TAKES(SCHEMA),
	.load = load,
	.check = check,
};
