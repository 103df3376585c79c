/*-------------------------------------------------------------------------
 *
 * op_translate.c
 *	  llm_translate: the message in another language.
 *
 *	  {"translation": "…"}
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
	const JsonbValue *from = llm_json_get(spec, "from_language");
	JsonbPair type[1];
	JsonbValue schema;
	StringInfoData buf;

	llm_json_set_pair(type, "type", llm_json_make_text("string"));
	schema = llm_prompt_object_schema("translation", llm_json_make_object(type, 1));
	recipe->schema = llm_json_store(&schema);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "Translate the user's message ");
	if (from != NULL)
	{
		appendStringInfoString(&buf, "from the language ");
		llm_json_append(&buf, from);
		appendStringInfoChar(&buf, ' ');
	}
	appendStringInfoString(&buf, "into the language ");
	llm_json_append(&buf, llm_json_get(spec, "to_language"));
	appendStringInfoString(&buf, ". Translate all of it and add nothing. Keep its tone, names, numbers, line breaks, markup and "
								 "placeholders. What is in that language already stays as it is.\n");
	llm_prompt_finish(&buf, spec, "{\"translation\": \"…\"}", true);
	recipe->system = buf.data;
	recipe->value_key = "translation";
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	JsonbValue *translation = llm_validate_member(given->str, given->len, "translation", fault);

	if (translation == NULL)
		return NULL;
	if (translation->type != jbvString)
		appendStringInfo(fault, "\"translation\" must be a string, not a JSON %s.", llm_json_type(translation));
	else if (llm_spec_is_blank(translation->val.string.val, translation->val.string.len))
		appendStringInfoString(fault, "The translation is empty.");
	else
	{
		return llm_json_store_member("translation", *translation);
	}
	return NULL;
}

const LlmOperation llm_op_translate = {
	.name = "translate",
	.function = "llm_translate",
	.takes = LLM_TAKES(TO_LANGUAGE) | LLM_TAKES(FROM_LANGUAGE),
	.needs = LLM_TAKES(TO_LANGUAGE),
	.is_plain = true,
	.load = load,
	.check = check,
};
