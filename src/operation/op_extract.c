/*-------------------------------------------------------------------------
 *
 * op_extract.c
 *	  llm_extract: the object that a JSON Schema asks for.
 *
 * With the option "quotes" the answer has a property "quotes" besides, which says for each
 * property of the object where the text says it.  A quote that the text does not hold, letter by
 * letter, is no quote, and the answer is refused.
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
#include "operation/redaction.h"
#include "operation/spec.h"
#include "operation/validate.h"

#define QUOTES "quotes"

/* {"type": "object", "properties": {"field": {"type": ["string", "null"]}, …}, …} for the properties of a schema. */
static JsonbValue
quotes_schema(const JsonbValue *properties)
{
	int n = properties->val.object.nPairs;
	JsonbPair *pairs = palloc(4 * sizeof(JsonbPair));
	JsonbPair *quotes = palloc(Max(n, 1) * sizeof(JsonbPair));
	JsonbValue *names = palloc(Max(n, 1) * sizeof(JsonbValue));
	JsonbValue types[2] = {llm_json_make_text("string"), llm_json_make_text("null")};
	JsonbPair *type = palloc(sizeof(JsonbPair));
	JsonbValue *both = palloc(sizeof(types));

	memcpy(both, types, sizeof(types));
	llm_json_set_pair(type, "type", llm_json_make_array(both, 2));
	for (int i = 0; i < n; i++)
	{
		names[i] = properties->val.object.pairs[i].key;
		quotes[i] = properties->val.object.pairs[i];
		quotes[i].value = llm_json_make_object(type, 1);
	}
	llm_json_set_pair(&pairs[0], "type", llm_json_make_text("object"));
	llm_json_set_pair(&pairs[1], "properties", llm_json_make_object(quotes, n));
	llm_json_set_pair(&pairs[2], "required", llm_json_make_array(names, n));
	llm_json_set_pair(&pairs[3], "additionalProperties", llm_json_make_bool(false));
	return llm_json_make_object(pairs, 4);
}

/* The members of an object but for one, and that one with its new value. */
static JsonbValue
with_member(const JsonbValue *object, const char *key, JsonbValue value)
{
	int n = object == NULL ? 0 : object->val.object.nPairs;
	JsonbPair *pairs = palloc((n + 1) * sizeof(JsonbPair));
	int kept = 0;

	for (int i = 0; i < n; i++)
	{
		if (!llm_json_string_is(&object->val.object.pairs[i].key, key))
			pairs[kept++] = object->val.object.pairs[i];
	}
	llm_json_set_pair(&pairs[kept++], key, value);
	return llm_json_make_object(pairs, kept);
}

/* The schema of an answer with quotes. */
static JsonbValue
with_quotes(const JsonbValue *schema)
{
	const JsonbValue *properties = llm_json_get(schema, "properties");
	const JsonbValue *required = llm_json_get(schema, "required");
	int n = required == NULL ? 0 : required->val.array.nElems;
	JsonbValue *names = palloc((n + 1) * sizeof(JsonbValue));
	JsonbValue result;

	if (n > 0)
		memcpy(names, required->val.array.elems, n * sizeof(JsonbValue));
	names[n] = llm_json_make_text(QUOTES);
	result = with_member(schema, "required", llm_json_make_array(names, n + 1));
	return with_member(&result, "properties", with_member(properties, QUOTES, quotes_schema(properties)));
}

/* Are there properties to quote for, is none of them called so, and is it not too much with the quotes? */
static void
check_quotable(const JsonbValue *schema)
{
	const JsonbValue *properties = llm_json_get(schema, "properties");
	JsonbValue whole;

	if (properties == NULL || properties->val.object.nPairs == 0 || llm_json_get(properties, QUOTES) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" does not go with this schema", QUOTES),
				 errhint("Name the properties of the object at the top of the schema; none of them may be \"%s\".", QUOTES)));
	whole = with_quotes(schema);
	(void) llm_schema_compile(llm_json_store(&whole));
}

static Jsonb *
make_spec(const LlmCallArgs *args)
{
	Jsonb *spec;
	JsonbValue content;

	if (!args->given[LLM_ARG_SCHEMA])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("llm_extract needs a schema"),
				 errhint("Give a JSON Schema, for instance {\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"}}}.")));
	spec = llm_spec_make(&llm_op_extract, args);
	if (llm_json_tree(spec, &content) && llm_json_get(&content, QUOTES) != NULL)
		check_quotable(llm_json_get(&content, "schema"));
	return spec;
}

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	JsonbValue schema = *llm_json_get(spec, "schema");
	StringInfoData buf;

	recipe->reads_input = llm_json_get(spec, QUOTES) != NULL;
	if (recipe->reads_input)
		schema = with_quotes(&schema);
	recipe->schema = llm_json_store(&schema);
	recipe->private_data = llm_schema_compile(recipe->schema);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "Extract what is asked for from the user's message. Make nothing up: "
								 "leave out, or set to null where the schema allows it, what the message does not say.\n");
	if (recipe->reads_input)
		appendStringInfoString(&buf, "In \"quotes\", copy for each property the words of the message that say it, letter by letter; "
									 "null where no words do.\n");
	llm_prompt_finish(&buf, spec, llm_prompt_schema_form(&schema), true);
	recipe->system = buf.data;
}

/* Does each quote occur in the input, and has each value one that is neither null, false nor empty? */
static bool
has_quotes(const JsonbValue *answer, const LlmCandidate *given, StringInfo fault)
{
	const JsonbValue *quotes = llm_json_get(answer, QUOTES);

	if (given->input == NULL)
		elog(ERROR, "quotes cannot be checked without the input");
	for (int i = 0; i < quotes->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &quotes->val.object.pairs[i];
		const JsonbValue *value = llm_json_find(answer, pair->key.val.string.val, pair->key.val.string.len);
		bool is_quoted = pair->value.type == jbvString;

		if (is_quoted && (pair->value.val.string.len == 0 ||
						  llm_redaction_find(given->input, given->input_len, pair->value.val.string.val,
											 pair->value.val.string.len) == NULL))
			appendStringInfo(fault, "The quote for \"%s\" is not in the message, letter by letter.",
							 llm_json_cstring(&pair->key));
		else if (!is_quoted && value != NULL && (value->type == jbvString || value->type == jbvNumeric))
			appendStringInfo(fault, "There is no quote for \"%s\", but a value.", llm_json_cstring(&pair->key));
		else
			continue;
		llm_validate_clip(fault);
		return false;
	}
	return true;
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	JsonbValue answer;

	if (!llm_validate_object(given->str, given->len, &answer, fault) ||
		!llm_validate(recipe->private_data, &answer, fault))
		return NULL;
	if (recipe->reads_input && !has_quotes(&answer, given, fault))
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
