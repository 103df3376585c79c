/*-------------------------------------------------------------------------
 *
 * expect.c
 *	  How long the answers of a recipe may be, before any has come.
 *
 * An answer that has a schema is as long as what the schema allows: the words of an enum,
 * the digits of a number.  What it leaves open (free text) is as long as texts of that
 * operation are, by a table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "miscadmin.h"
#include "operation/expect.h"

/* Values of a schema that says nothing, and of an array's bounds where it has none. */
#define ARRAY_TYPICAL 2
#define ARRAY_HIGH 10

/* Optional properties are there as often as not. */
#define OPTIONAL_SHARE 0.7

/* Bytes of a word with its blank. */
#define WORD_LOW 2.0
#define WORD_TYPICAL 6.5
#define WORD_HIGH 11.0

/* The text that an operation leaves open: so many bytes, and so many for each byte of the input. */
typedef struct OpenText
{
	const char *operation;
	LlmExpectation fixed;
	LlmExpectation by_input;
} OpenText;

static const OpenText open_texts[] = {
	{"agg", {8, 600, 5000}, {0, 0, 0}},
	{"complete", {2, 700, 8000}, {0, 0, 0}},
	{"embed", {0, 0, 0}, {0, 0, 0}},
	{"summarize", {8, 300, 1500}, {0, 0, 0}},
	{"summarize_agg", {8, 300, 1500}, {0, 0, 0}},
	{"translate", {1, 2, 40}, {0.4, 1.1, 2.5}},
	{"redact", {1, 2, 40}, {0.5, 1.0, 1.3}},
	{"extract", {2, 24, 200}, {0, 0, 0.25}},
};
static const OpenText other_text = {NULL, {2, 24, 300}, {0, 0, 0.25}};

/* What a walk through a schema knows. */
typedef struct Walk
{
	LlmExpectation open; /* of a string that the schema leaves open */
	int nodes; /* that it may still look at */
} Walk;

static void expect_value(const JsonbValue *schema, Walk *walk, LlmExpectation *value);

static void
add(LlmExpectation *sum, const LlmExpectation *part, double low, double typical, double high)
{
	sum->low += low * part->low;
	sum->typical += typical * part->typical;
	sum->high += high * part->high;
}

/* One of several. */
static void
choose(const JsonbValue *list, Walk *walk, bool is_literal, LlmExpectation *value)
{
	int n = list->val.array.nElems;

	*value = (LlmExpectation){n > 0 ? 1e9 : 0, 0, 0};
	for (int i = 0; i < n; i++)
	{
		LlmExpectation one;

		if (is_literal)
		{
			StringInfoData literal;

			initStringInfo(&literal);
			llm_json_append(&literal, &list->val.array.elems[i]);
			one = (LlmExpectation){literal.len, literal.len, literal.len};
			pfree(literal.data);
		}
		else
			expect_value(&list->val.array.elems[i], walk, &one);
		value->low = Min(value->low, one.low);
		value->typical += one.typical / n;
		value->high = Max(value->high, one.high);
	}
}

static bool
is_listed(const JsonbValue *list, const JsonbValue *name)
{
	for (int i = 0; list != NULL && list->type == jbvArray && i < list->val.array.nElems; i++)
	{
		if (llm_json_compare(&list->val.array.elems[i], name) == 0)
			return true;
	}
	return false;
}

static void
expect_object(const JsonbValue *schema, Walk *walk, LlmExpectation *value)
{
	const JsonbValue *properties = llm_json_get(schema, "properties");
	const JsonbValue *required = llm_json_get(schema, "required");

	*value = (LlmExpectation){2, 2, 4};
	if (properties == NULL || properties->type != jbvObject || properties->val.object.nPairs == 0)
	{
		*value = (LlmExpectation){2, 40, 400};
		return;
	}
	for (int i = 0; i < properties->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &properties->val.object.pairs[i];
		LlmExpectation one;
		double name = pair->key.val.string.len + 4.0; /* quotes, colon, comma */
		bool is_required = is_listed(required, &pair->key);

		expect_value(&pair->value, walk, &one);
		one.low += name;
		one.typical += name;
		one.high += name + 6; /* blanks and new lines */
		add(value, &one, is_required ? 1 : 0, is_required ? 1 : OPTIONAL_SHARE, 1);
	}
}

static double
number_of(const JsonbValue *schema, const char *key, double otherwise)
{
	const JsonbValue *value = llm_json_get(schema, key);

	return value == NULL || value->type != jbvNumeric ? otherwise : Max(llm_json_to_int(value), 0);
}

static void
expect_array(const JsonbValue *schema, Walk *walk, LlmExpectation *value)
{
	const JsonbValue *items = llm_json_get(schema, "items");
	double least = number_of(schema, "minItems", 0);
	double most = number_of(schema, "maxItems", Max(least, ARRAY_HIGH));
	LlmExpectation one = {2, 20, 200};

	if (items != NULL)
		expect_value(items, walk, &one);
	*value = (LlmExpectation){2, 2, 4};
	one.low += 1;
	one.typical += 2;
	one.high += 6;
	add(value, &one, least, Min(Max(least, ARRAY_TYPICAL), most), most);
}

static void
expect_string(const JsonbValue *schema, const Walk *walk, LlmExpectation *value)
{
	double most = number_of(schema, "maxLength", 0);

	*value = walk->open;
	if (llm_json_get(schema, "format") != NULL)
		*value = (LlmExpectation){4, 12, 60};
	if (most > 0)
	{
		/* in characters, of which some have several bytes */
		value->high = Min(value->high, 3 * most);
		value->typical = Min(value->typical, most);
		value->low = Min(value->low, value->typical);
	}
	value->low += 2;
	value->typical += 2;
	value->high += 2;
}

/* By the name of a type, or the first of several. */
static void
expect_type(const JsonbValue *schema, const JsonbValue *type, Walk *walk, LlmExpectation *value)
{
	if (type != NULL && type->type == jbvArray && type->val.array.nElems > 0)
	{
		bool may_be_null = false;

		for (int i = type->val.array.nElems - 1; i >= 0; i--)
		{
			const JsonbValue *one = &type->val.array.elems[i];

			if (llm_json_string_is(one, "null"))
				may_be_null = true;
			else
				expect_type(schema, one, walk, value);
		}
		if (may_be_null)
			value->low = Min(value->low, 4);
		return;
	}
	*value = (LlmExpectation){1, 20, 300};
	if (type == NULL)
		return;
	if (llm_json_string_is(type, "object"))
		expect_object(schema, walk, value);
	else if (llm_json_string_is(type, "array"))
		expect_array(schema, walk, value);
	else if (llm_json_string_is(type, "string"))
		expect_string(schema, walk, value);
	else if (llm_json_string_is(type, "boolean"))
		*value = (LlmExpectation){4, 5, 5};
	else if (llm_json_string_is(type, "null"))
		*value = (LlmExpectation){4, 4, 4};
	else
		*value = (LlmExpectation){1, 4, 16};
}

static void
expect_value(const JsonbValue *schema, Walk *walk, LlmExpectation *value)
{
	const JsonbValue *choices = llm_json_get(schema, "enum");
	const JsonbValue *constant = llm_json_get(schema, "const");
	const JsonbValue *any = llm_json_get(schema, "anyOf");

	check_stack_depth();
	*value = (LlmExpectation){1, 20, 300};
	if (schema->type != jbvObject || walk->nodes-- <= 0)
		return;
	if (any == NULL)
		any = llm_json_get(schema, "oneOf");
	if (choices != NULL && choices->type == jbvArray)
		choose(choices, walk, true, value);
	else if (constant != NULL)
	{
		JsonbValue only = {.type = jbvArray, .val.array = {1, unconstify(JsonbValue *, constant), false}};

		choose(&only, walk, true, value);
	}
	else if (any != NULL && any->type == jbvArray)
		choose(any, walk, false, value);
	else
	{
		const JsonbValue *type = llm_json_get(schema, "type");

		if (type == NULL && llm_json_get(schema, "properties") != NULL)
			expect_object(schema, walk, value);
		else
			expect_type(schema, type, walk, value);
	}
}

/* The text that the operation leaves open; a bound of words is the recipe's. */
static LlmExpectation
open_text(const LlmRecipe *recipe, double input_bytes)
{
	const OpenText *found = &other_text;
	LlmExpectation bytes;
	JsonbValue spec;
	double words = 0;

	for (int i = 0; i < lengthof(open_texts); i++)
	{
		if (strcmp(open_texts[i].operation, recipe->op->name) == 0)
			found = &open_texts[i];
	}
	bytes = found->fixed;
	add(&bytes, &found->by_input, input_bytes, input_bytes, input_bytes);
	if (llm_json_tree(recipe->spec, &spec))
		words = number_of(&spec, "max_words", 0);
	if (words > 0)
		bytes = (LlmExpectation){WORD_LOW, WORD_TYPICAL * words * 0.8, WORD_HIGH * words};
	return bytes;
}

void
llm_operation_expect(const LlmRecipe *recipe, double input_bytes, LlmExpectation *answer)
{
	Walk walk = {open_text(recipe, input_bytes), 5000};
	JsonbValue schema;

	*answer = walk.open;
	if (recipe->schema != NULL && llm_json_tree(recipe->schema, &schema))
		expect_value(&schema, &walk, answer);
}
