/*-------------------------------------------------------------------------
 *
 * op_filter.c
 *	  llm_filter: does the message satisfy a condition?
 *
 *	  {"match": true}
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/validate.h"

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	JsonbPair type[1];
	JsonbValue schema;
	StringInfoData buf;

	llm_json_set_pair(type, "type", llm_json_make_text("boolean"));
	schema = llm_prompt_object_schema("match", llm_json_make_object(type, 1));
	recipe->schema = llm_json_store(&schema);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "Decide whether this holds for the user's message: ");
	llm_json_append(&buf, llm_json_get(spec, "condition"));
	appendStringInfoString(&buf, "\nWhere the message does not show it, it does not hold.\n");
	llm_prompt_finish(&buf, spec, "{\"match\": true} or {\"match\": false}", true);
	recipe->system = buf.data;
	recipe->value_key = "match";
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	JsonbValue *match = llm_validate_member(given->str, given->len, "match", fault);

	if (match == NULL)
		return NULL;
	if (match->type != jbvBool)
	{
		appendStringInfo(fault, "\"match\" must be true or false, not a JSON %s.", llm_json_type(match));
		return NULL;
	}
	return llm_json_store_member("match", *match);
}

const LlmOperation llm_op_filter = {
	.name = "filter",
	.function = "llm_filter",
	.output_tokens = 16,
	.takes = LLM_TAKES(CONDITION),
	.needs = LLM_TAKES(CONDITION),
	.is_plain = true,
	.load = load,
	.check = check,
};
