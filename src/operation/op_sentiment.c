/*-------------------------------------------------------------------------
 *
 * op_sentiment.c
 *	  llm_sentiment: how the writer of the message feels, and about each aspect of it.
 *
 *	  {"sentiment": "mixed"}    or, with aspects,
 *	  {"sentiment": "mixed", "aspects": {"price": "negative", "service": "positive"}}
 *
 * The check is that of a schema, whose faults name the path.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/validate.h"

static const char *const words[] = {"positive", "negative", "neutral", "mixed", "unknown"};

/* Schema of one of the words. */
static JsonbValue
word_schema(void)
{
	JsonbValue *choices = palloc(lengthof(words) * sizeof(JsonbValue));
	JsonbPair *pairs = palloc(2 * sizeof(JsonbPair));

	for (int i = 0; i < lengthof(words); i++)
		choices[i] = llm_json_make_text(words[i]);
	llm_json_set_pair(&pairs[0], "type", llm_json_make_text("string"));
	llm_json_set_pair(&pairs[1], "enum", llm_json_make_array(choices, lengthof(words)));
	return llm_json_make_object(pairs, 2);
}

/* Schema of an object with these properties, all of which are required. */
static JsonbValue
object_schema(JsonbPair *properties, JsonbValue *names, int n)
{
	JsonbPair *pairs = palloc(4 * sizeof(JsonbPair));

	llm_json_set_pair(&pairs[0], "type", llm_json_make_text("object"));
	llm_json_set_pair(&pairs[1], "properties", llm_json_make_object(properties, n));
	llm_json_set_pair(&pairs[2], "required", llm_json_make_array(names, n));
	llm_json_set_pair(&pairs[3], "additionalProperties", llm_json_make_bool(false));
	return llm_json_make_object(pairs, 4);
}

static JsonbValue
aspects_schema(const JsonbValue *aspects)
{
	int n = aspects->val.array.nElems;
	JsonbPair *properties = palloc(n * sizeof(JsonbPair));

	for (int i = 0; i < n; i++)
		llm_json_set_pair(&properties[i], llm_json_cstring(&aspects->val.array.elems[i]), word_schema());
	return object_schema(properties, aspects->val.array.elems, n);
}

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	const JsonbValue *aspects = llm_json_get(spec, "aspects");
	JsonbPair *properties = palloc(2 * sizeof(JsonbPair));
	JsonbValue *names = palloc(2 * sizeof(JsonbValue));
	JsonbValue schema;
	StringInfoData buf;

	names[0] = llm_json_make_text("sentiment");
	names[1] = llm_json_make_text("aspects");
	llm_json_set_pair(&properties[0], "sentiment", word_schema());
	if (aspects != NULL)
		llm_json_set_pair(&properties[1], "aspects", aspects_schema(aspects));
	schema = object_schema(properties, names, aspects == NULL ? 1 : 2);
	recipe->schema = llm_json_store(&schema);
	recipe->private_data = llm_schema_compile(recipe->schema);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "Say how the writer of the user's message feels: positive, negative, neutral, mixed where "
								 "both are there, unknown where it cannot be told.\n");
	if (aspects != NULL)
	{
		appendStringInfoString(&buf, "Say the same of each of these aspects, unknown where the message says nothing of it: ");
		llm_json_append(&buf, aspects);
		appendStringInfoChar(&buf, '\n');
	}
	llm_prompt_finish(&buf, spec, aspects == NULL ? "{\"sentiment\": \"…\"}" : "{\"sentiment\": \"…\", \"aspects\": {\"…\": \"…\"}}", true);
	recipe->system = buf.data;
	recipe->value_key = aspects == NULL ? "sentiment" : NULL;
}

const LlmOperation llm_op_sentiment = {
	.name = "sentiment",
	.function = "llm_sentiment",
	.takes = LLM_TAKES(ASPECTS),
	.load = load,
	.check = llm_validate_answer,
};
