/*-------------------------------------------------------------------------
 *
 * schema_short.c
 *	  The short form of a schema, and the JSON Schema that it stands for.
 *
 *	  {"product": "text", "amount": "number - total with tax", "lines": [{"item": "text"}]}
 *
 * A value is the name of a type, with a description behind " - " if need be; a list of one such
 * value; or an object of them.  No keyword of JSON Schema is taken for a property: what has one at
 * its top is JSON Schema.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/compat.h"
#include "base/json.h"
#include "operation/schema.h"

static const struct
{
	const char *name;
	const char *type;
	const char *format; /* or NULL */
} types[] = {
	{"text", "string", NULL},
	{"number", "number", NULL},
	{"integer", "integer", NULL},
	{"boolean", "boolean", NULL},
	{"date", "string", "date"},
	{"time", "string", "time"},
	{"timestamp", "string", "date-time"},
	{"uuid", "string", "uuid"},
	{"email", "string", "email"},
};

/* What PostgreSQL calls them, too. */
static const struct
{
	const char *name;
	const char *means;
} synonyms[] = {
	{"int", "integer"},
	{"bigint", "integer"},
	{"smallint", "integer"},
	{"bool", "boolean"},
	{"float", "number"},
	{"float8", "number"},
	{"real", "number"},
	{"numeric", "number"},
	{"varchar", "text"},
	{"timestamptz", "timestamp"},
};

#define SEPARATOR " - "

static bool is_short_value(const JsonbValue *value);

/* What stands before the description, and where that begins; NULL: there is none. */
static int
type_len(const JsonbValue *value, const char **description)
{
	const char *words = value->val.string.val;
	int len = value->val.string.len;

	*description = NULL;
	for (int i = 0; i + (int) strlen(SEPARATOR) <= len; i++)
	{
		if (memcmp(words + i, SEPARATOR, strlen(SEPARATOR)) != 0)
			continue;
		*description = words + i + strlen(SEPARATOR);
		return i;
	}
	return len;
}

/* Index of the type that the value names, or -1. */
static int
find_type(const JsonbValue *value)
{
	const char *description;
	int len = type_len(value, &description);
	const char *name = pnstrdup(value->val.string.val, len);

	for (int i = 0; i < lengthof(synonyms); i++)
	{
		if (strcmp(synonyms[i].name, name) == 0)
			name = synonyms[i].means;
	}
	for (int i = 0; i < lengthof(types); i++)
	{
		if (strcmp(types[i].name, name) == 0)
			return i;
	}
	return -1;
}

static bool
is_short_object(const JsonbValue *object)
{
	for (int i = 0; i < object->val.object.nPairs; i++)
	{
		if (!is_short_value(&object->val.object.pairs[i].value))
			return false;
	}
	return object->val.object.nPairs > 0;
}

static bool
is_short_value(const JsonbValue *value)
{
	check_stack_depth();
	switch (value->type)
	{
		case jbvString:
			return true;
		case jbvArray:
			return value->val.array.nElems == 1 && is_short_value(&value->val.array.elems[0]);
		case jbvObject:
			return is_short_object(value);
		default:
			return false;
	}
}

/* A keyword at the top that makes it JSON Schema, unless "type" is the name of a property here. */
static bool
has_keyword(const JsonbValue *schema)
{
	static const char *const keywords[] = {"properties", "$ref", "$defs", "$schema", "definitions", "anyOf",
										   "required", "enum", "additionalProperties"};
	const JsonbValue *type = llm_json_get(schema, "type");
	const JsonbValue *items = llm_json_get(schema, "items");

	for (int i = 0; i < lengthof(keywords); i++)
	{
		if (llm_json_get(schema, keywords[i]) != NULL)
			return true;
	}
	/* "items": ["text"] is a property of that name: a schema's own is an object */
	if (items != NULL && items->type != jbvArray && items->type != jbvString)
		return true;
	return type != NULL && (type->type != jbvString || find_type(type) < 0);
}

bool
llm_schema_is_short(const JsonbValue *schema)
{
	return schema->type == jbvObject && !has_keyword(schema) && is_short_object(schema);
}

pg_noreturn static void refuse_type(const JsonbValue *value);

static void
refuse_type(const JsonbValue *value)
{
	const char *description;
	int len = type_len(value, &description);
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < lengthof(types); i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", types[i].name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the short form of a schema knows no type \"%.*s\"",
					(int) llm_json_clip(value->val.string.val, len, 60), value->val.string.val),
			 errhint("Types are: %s. A description stands behind \"%s\"; a list is [\"text\"].", names.data, SEPARATOR)));
}

/* ["string", "null"] */
static JsonbValue
or_null(const char *type)
{
	JsonbValue *names = palloc(2 * sizeof(JsonbValue));

	names[0] = llm_json_make_text(type);
	names[1] = llm_json_make_text("null");
	return llm_json_make_array(names, 2);
}

static JsonbValue
expand_type(const JsonbValue *value, bool nullable)
{
	JsonbPair *pairs = palloc(3 * sizeof(JsonbPair));
	const char *description;
	int type = find_type(value);
	int len = type_len(value, &description);
	int n = 0;

	if (type < 0)
		refuse_type(value);
	len = value->val.string.len - len - (int) strlen(SEPARATOR);
	llm_json_set_pair(&pairs[n++], "type",
					  nullable ? or_null(types[type].type) : llm_json_make_text(types[type].type));
	if (types[type].format != NULL)
		llm_json_set_pair(&pairs[n++], "format", llm_json_make_text(types[type].format));
	if (description != NULL)
		llm_json_set_pair(&pairs[n++], "description", llm_json_make_string(description, len));
	return llm_json_make_object(pairs, n);
}

static JsonbValue expand(const JsonbValue *value, bool nullable);

static JsonbValue
expand_object(const JsonbValue *object, bool nullable)
{
	int n = object->val.object.nPairs;
	JsonbPair *pairs = palloc(4 * sizeof(JsonbPair));
	JsonbPair *properties = palloc(n * sizeof(JsonbPair));
	JsonbValue *names = palloc(n * sizeof(JsonbValue));

	for (int i = 0; i < n; i++)
	{
		properties[i] = object->val.object.pairs[i];
		properties[i].value = expand(&properties[i].value, true);
		names[i] = properties[i].key;
	}
	llm_json_set_pair(&pairs[0], "type", nullable ? or_null("object") : llm_json_make_text("object"));
	llm_json_set_pair(&pairs[1], "properties", llm_json_make_object(properties, n));
	llm_json_set_pair(&pairs[2], "required", llm_json_make_array(names, n));
	llm_json_set_pair(&pairs[3], "additionalProperties", llm_json_make_bool(false));
	return llm_json_make_object(pairs, 4);
}

static JsonbValue
expand(const JsonbValue *value, bool nullable)
{
	JsonbPair *pairs;

	check_stack_depth();
	if (value->type == jbvString)
		return expand_type(value, nullable);
	if (value->type == jbvObject)
		return expand_object(value, nullable);
	pairs = palloc(2 * sizeof(JsonbPair));
	llm_json_set_pair(&pairs[0], "type", llm_json_make_text("array"));
	llm_json_set_pair(&pairs[1], "items", expand(&value->val.array.elems[0], false));
	return llm_json_make_object(pairs, 2);
}

JsonbValue
llm_schema_expand(const JsonbValue *schema)
{
	return expand_object(schema, false);
}
