/*-------------------------------------------------------------------------
 *
 * fuzz_check.c
 *	  What a model said, checked by each operation with various recipes.
 *
 * The first byte chooses the recipe, the rest is the model's text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/json.h"
#include "fuzz.h"
#include "operation/operation.h"
#include "operation/validate.h"

/* Longest sentence of any check: labels are cut at 60 characters. */
#define LONGEST_FAULT 1000

static const struct
{
	const char *operation;
	const char *spec;
} recipes[] = {
	{"classify", "{\"labels\": [\"bug\", \"billing\", \"feature\", \"caf\\u00e9\"]}"},
	{"classify", "{\"labels\": [\"bug\", \"billing\", \"feature\"], \"multi\": true}"},
	{"classify", "{}"},
	{"classify", "{\"multi\": true}"},
	{"summarize", "{\"max_words\": 3}"},
	{"complete", "{}"},
	{"complete", "{\"schema\": {\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\", \"minimum\": -3, \"maximum\": 1e3, \"multipleOf\": 0.5},"
				 " \"d\": {\"type\": \"string\", \"format\": \"date\"}, \"t\": {\"format\": \"time\"}, \"e\": {\"format\": \"email\"}}}}"},
	{"extract", "{\"schema\": {\"type\": \"object\", \"required\": [\"name\"], \"additionalProperties\": false, \"properties\": {"
				" \"name\": {\"type\": \"string\", \"minLength\": 2, \"maxLength\": 5}, \"at\": {\"type\": [\"string\", \"null\"], \"format\": \"date-time\"},"
				" \"id\": {\"type\": \"string\", \"format\": \"uuid\"}, \"on\": {\"type\": \"boolean\"}}}}"},
	{"extract", "{\"schema\": {\"type\": \"object\", \"properties\": {\"tree\": {\"$ref\": \"#/$defs/node\"}}, \"$defs\": {\"node\": {\"anyOf\": ["
				" {\"type\": \"null\"}, {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/node\"}, \"maxItems\": 3, \"uniqueItems\": true},"
				" {\"type\": \"object\", \"properties\": {\"l\": {\"$ref\": \"#/$defs/node\"}, \"r\": {\"$ref\": \"#\"}}, \"maxProperties\": 2}]}}}}"},
	{"extract", "{\"schema\": {\"type\": \"object\", \"minProperties\": 1, \"additionalProperties\": {\"anyOf\": [{\"enum\": [1, \"a\", null, {\"b\": [true]}]},"
				" {\"const\": 2.50}, {\"exclusiveMinimum\": 10, \"exclusiveMaximum\": 20}, {\"minItems\": 2, \"items\": {\"type\": \"number\"}}]}}}"},
	{"filter", "{\"condition\": \"it is spam\"}"},
	{"score", "{\"criterion\": \"urgency\", \"min\": -0.5, \"max\": 1e3}"},
	{"translate", "{\"to_language\": \"de\"}"},
	{"redact", "{\"kinds\": [\"name\", \"email\", \"phone\", \"card\", \"iban\"]}"},
};

/* What all of them were asked about. */
static const char *const input = "Call Anna Berg, +49 30 123456, or write to anna@example.com.";

static LlmRecipe *
find_recipe(int i)
{
	static LlmRecipe *loaded[lengthof(recipes)];
	MemoryContext outer = MemoryContextSwitchTo(llm_fuzz_lasting);

	if (loaded[i] == NULL)
		loaded[i] = llm_operation_load(i + 1, recipes[i].operation,
									   DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(recipes[i].spec))));
	must(loaded[i] != NULL);
	MemoryContextSwitchTo(outer);
	return loaded[i];
}

static void
run(const uint8 *data, size_t size)
{
	LlmRecipe *recipe;
	Jsonb *answer;
	Jsonb *again;
	StringInfoData fault;
	LlmCandidate given;
	JsonbValue tree;
	char *str;

	if (size == 0)
		return;
	recipe = find_recipe(data[0] % lengthof(recipes));
	/* exactly as long as it is */
	str = palloc(size - 1);
	memcpy(str, data + 1, size - 1);
	initStringInfo(&fault);
	given = (LlmCandidate){str, size - 1, input, strlen(input)};
	answer = recipe->op->check(recipe, &given, &fault);
	if (answer == NULL)
	{
		must(fault.len > 0 && fault.len <= LONGEST_FAULT && llm_json_is_utf8(fault.data, fault.len));
		return;
	}
	must(JB_ROOT_IS_OBJECT(answer) && llm_json_tree(answer, &tree));
	resetStringInfo(&fault);
	if (recipe->schema == NULL)
	{
		const JsonbValue *words = llm_json_get(&tree, "text");

		given.str = words->val.string.val;
		given.len = words->val.string.len;
		again = recipe->op->check(recipe, &given, &fault);
	}
	else
	{
		StringInfoData written;

		initStringInfo(&written);
		llm_json_append(&written, &tree);
		given.str = written.data;
		given.len = written.len;
		again = recipe->op->check(recipe, &given, &fault);
	}
	must(again != NULL && compareJsonbContainers(&answer->root, &again->root) == 0);
}

const LlmFuzzTarget llm_fuzz_check = {
	.name = "check",
	.run = run,
	.fixed = 200000,
	.per_byte = 1000,
};
