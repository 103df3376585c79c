/*-------------------------------------------------------------------------
 *
 * dialect_openai_strict.c
 *	  Does a schema lie within OpenAI's strict subset, as it is?
 *
 * A schema sent as strict that does not is refused with every row, so in doubt
 * the answer is no.  Rules and limits are those that OpenAI documents for
 * structured outputs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_openai.h"

#define MAX_LEVELS 10
#define MAX_PROPERTIES 5000
#define MAX_NAME_BYTES 120000
#define MAX_ENUM_VALUES 1000

/* A long enum of strings has a limit of its own. */
#define LONG_ENUM 250
#define LONG_ENUM_BYTES 15000

/* Totals over the whole schema. */
typedef struct Totals
{
	int properties;
	int64 name_bytes;
	int enum_values;
} Totals;

static bool is_strict_node(const JsonbValue *schema, Totals *totals, int level);

static bool
is_known_keyword(const JsonbValue *key)
{
	static const char *const known[] = {
		"$defs",
		"$ref",
		"additionalProperties",
		"anyOf",
		"const",
		"definitions",
		"description",
		"enum",
		"exclusiveMaximum",
		"exclusiveMinimum",
		"format",
		"items",
		"maxItems",
		"maximum",
		"minItems",
		"minimum",
		"multipleOf",
		"properties",
		"required",
		"title",
		"type",
	};

	for (int i = 0; i < lengthof(known); i++)
	{
		if (llm_json_string_is(key, known[i]))
			return true;
	}
	return false;
}

static int64
text_bytes(const JsonbValue *value)
{
	return value->type == jbvString ? value->val.string.len : 0;
}

static bool
is_strict_enum(const JsonbValue *list, Totals *totals)
{
	int64 bytes = 0;

	if (list == NULL || list->type != jbvArray)
		return list == NULL;
	for (int i = 0; i < list->val.array.nElems; i++)
		bytes += text_bytes(&list->val.array.elems[i]);
	totals->enum_values += list->val.array.nElems;
	totals->name_bytes += bytes;
	return list->val.array.nElems <= LONG_ENUM || bytes <= LONG_ENUM_BYTES;
}

/* Every property is required, and no other is allowed. */
static bool
is_strict_object(const JsonbValue *schema, const JsonbValue *properties, Totals *totals, int level)
{
	const JsonbValue *required = llm_json_get(schema, "required");
	const JsonbValue *additional = llm_json_get(schema, "additionalProperties");

	if (properties == NULL || additional == NULL || additional->type != jbvBool || additional->val.boolean)
		return false;
	/* the compiled schema knows that they are names; as many of them as properties, and each found */
	if ((required == NULL ? 0 : required->val.array.nElems) != properties->val.object.nPairs)
		return false;
	totals->properties += properties->val.object.nPairs;
	for (int i = 0; i < properties->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &properties->val.object.pairs[i];
		const JsonbValue *name = &required->val.array.elems[i];

		if (llm_json_find(properties, name->val.string.val, name->val.string.len) == NULL)
			return false;
		totals->name_bytes += text_bytes(&pair->key);
		if (!is_strict_node(&pair->value, totals, level + 1))
			return false;
	}
	return true;
}

/* The schemas that are the values of an object: definitions. */
static bool
are_strict_values(const JsonbValue *object, Totals *totals, int level)
{
	for (int i = 0; object != NULL && i < object->val.object.nPairs; i++)
	{
		totals->name_bytes += text_bytes(&object->val.object.pairs[i].key);
		if (!is_strict_node(&object->val.object.pairs[i].value, totals, level))
			return false;
	}
	return true;
}

static bool
are_strict_elements(const JsonbValue *array, Totals *totals, int level)
{
	for (int i = 0; array != NULL && i < array->val.array.nElems; i++)
	{
		if (!is_strict_node(&array->val.array.elems[i], totals, level))
			return false;
	}
	return true;
}

/* Is a type, or one of a list of types, this one? */
static bool
has_type(const JsonbValue *type, const char *name)
{
	if (type == NULL || type->type != jbvArray)
		return type != NULL && llm_json_string_is(type, name);
	for (int i = 0; i < type->val.array.nElems; i++)
	{
		if (llm_json_string_is(&type->val.array.elems[i], name))
			return true;
	}
	return false;
}

static bool
is_strict_node(const JsonbValue *schema, Totals *totals, int level)
{
	const JsonbValue *type = llm_json_get(schema, "type");
	const JsonbValue *properties = llm_json_get(schema, "properties");
	const JsonbValue *items = llm_json_get(schema, "items");
	const JsonbValue *constant = llm_json_get(schema, "const");

	if (schema->type != jbvObject || level > MAX_LEVELS)
		return false;
	for (int i = 0; i < schema->val.object.nPairs; i++)
	{
		if (!is_known_keyword(&schema->val.object.pairs[i].key))
			return false;
	}
	if (type == NULL && llm_json_get(schema, "anyOf") == NULL && llm_json_get(schema, "$ref") == NULL)
		return false;
	if (constant != NULL)
		totals->name_bytes += text_bytes(constant);
	if (!is_strict_enum(llm_json_get(schema, "enum"), totals))
		return false;
	if ((has_type(type, "object") || properties != NULL) && !is_strict_object(schema, properties, totals, level))
		return false;
	if (has_type(type, "array") && (items == NULL || !is_strict_node(items, totals, level + 1)))
		return false;
	return are_strict_elements(llm_json_get(schema, "anyOf"), totals, level) &&
		   are_strict_values(llm_json_get(schema, "$defs"), totals, level) &&
		   are_strict_values(llm_json_get(schema, "definitions"), totals, level);
}

bool
llm_dialect_openai_is_strict(Jsonb *schema)
{
	Totals totals = {0};
	JsonbValue root;

	return llm_json_tree(schema, &root) && llm_json_get(&root, "anyOf") == NULL &&
		   is_strict_node(&root, &totals, 1) && totals.properties <= MAX_PROPERTIES &&
		   totals.name_bytes <= MAX_NAME_BYTES && totals.enum_values <= MAX_ENUM_VALUES;
}
