/*-------------------------------------------------------------------------
 *
 * schema_strict.c
 *	  OpenAI's strict subset of JSON Schema.
 *
 * With strict:true every object must be closed, every property required, only
 * known keywords may stand, and there are limits on size.  A dialect that breaks
 * one of these rules would fail at a real provider for each row, so it fails
 * here too.  Called by schema.c for each schema and sub-schema.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STRICT_DEPTH 10
#define STRICT_PROPERTIES 5000
#define STRICT_CHARACTERS 120000
#define STRICT_VALUES 1000

/*
 * Note why a schema is refused; the first reason stands.
 */
bool
schema_refuse(Builder *builder, const char *format, ...)
{
	va_list args;

	if (builder->recipe->error[0] != '\0')
		return false;
	va_start(args, format);
	vsnprintf(builder->recipe->error, sizeof(builder->recipe->error), format, args);
	va_end(args);
	return false;
}

/*
 * In a strict schema only these keywords may stand.
 */
static bool
check_keywords(Builder *builder, const json_t *schema, const char *path)
{
	static const char *const known[] = {
		"type",
		"properties",
		"required",
		"additionalProperties",
		"enum",
		"const",
		"anyOf",
		"items",
		"$ref",
		"$defs",
		"definitions",
		"title",
		"description",
		"pattern",
		"format",
		"multipleOf",
		"minimum",
		"maximum",
		"exclusiveMinimum",
		"exclusiveMaximum",
		"minItems",
		"maxItems",
	};
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) schema, key, value)
	{
		bool found = false;

		for (size_t i = 0; !found && i < sizeof(known) / sizeof(known[0]); i++)
			found = strcmp(key, known[i]) == 0;
		if (!found)
			return schema_refuse(builder, "In %s, '%.60s' is not permitted.", path, key);
	}
	return true;
}

static bool
check_format(Builder *builder, const json_t *schema, const char *path)
{
	static const char *const known[] = {
		"date-time",
		"time",
		"date",
		"duration",
		"email",
		"hostname",
		"ipv4",
		"ipv6",
		"uuid",
	};
	const char *format = json_string_value(json_object_get(schema, "format"));

	for (size_t i = 0; format != NULL && i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (strcmp(format, known[i]) == 0)
			return true;
	}
	return format == NULL ||
		   schema_refuse(builder, "In %s, format '%.60s' is not supported.", path, format);
}

/*
 * Is the name one of the strings in an array?
 */
bool
schema_lists(const json_t *array, const char *name)
{
	size_t index;
	json_t *one;

	json_array_foreach((json_t *) array, index, one)
	{
		if (json_is_string(one) && strcmp(json_string_value(one), name) == 0)
			return true;
	}
	return false;
}

/*
 * Hold an object to the strict subset.
 */
static bool
check_strict_object(Builder *builder, const json_t *schema, const char *path)
{
	const json_t *properties = json_object_get(schema, "properties");
	const json_t *required = json_object_get(schema, "required");
	const char *key;
	json_t *value;

	if (!json_is_false(json_object_get(schema, "additionalProperties")))
		return schema_refuse(builder,
							 "In %s, 'additionalProperties' is required to be supplied "
							 "and to be false.",
							 path);
	json_object_foreach((json_t *) properties, key, value)
	{
		builder->properties++;
		builder->characters += strlen(key);
		if (!schema_lists(required, key))
			return schema_refuse(
				builder,
				"In %s, 'required' is required to be supplied and to be an array including "
				"every key in properties. Missing '%.60s'.",
				path, key);
	}
	for (size_t i = 0; i < json_array_size(required); i++)
	{
		const char *name = json_string_value(json_array_get(required, i));

		if (name == NULL || json_object_get(properties, name) == NULL)
			return schema_refuse(
				builder, "In %s, 'required' names '%.60s', which is not in properties.",
				path, name != NULL ? name : "(no string)");
	}
	if (builder->properties > STRICT_PROPERTIES)
		return schema_refuse(builder, "The schema has more than %d properties.", STRICT_PROPERTIES);
	return true;
}

bool
schema_check_strict(Builder *builder, const json_t *schema, const Node *node, const char *path,
					int depth)
{
	if (!check_keywords(builder, schema, path) || !check_format(builder, schema, path))
		return false;
	if (depth > STRICT_DEPTH)
		return schema_refuse(builder, "In %s, the schema has more than %d levels of nesting.", path,
							 STRICT_DEPTH);
	if (json_object_get(schema, "$ref") == NULL && json_object_get(schema, "anyOf") == NULL &&
		json_object_get(schema, "enum") == NULL && json_object_get(schema, "const") == NULL &&
		node->types == 0)
		return schema_refuse(builder, "In %s, schema must have a 'type' key.", path);
	if ((node->types & TYPE_ARRAY) != 0 && json_object_get(schema, "items") == NULL)
		return schema_refuse(builder, "In %s, array schema missing items.", path);
	if ((node->types & TYPE_OBJECT) != 0 && !check_strict_object(builder, schema, path))
		return false;
	if (builder->characters > STRICT_CHARACTERS || builder->values > STRICT_VALUES)
		return schema_refuse(
			builder,
			"The schema has more than %d characters of names and values, or more than %d values.",
			STRICT_CHARACTERS, STRICT_VALUES);
	return true;
}
