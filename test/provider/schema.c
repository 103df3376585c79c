/*-------------------------------------------------------------------------
 *
 * schema.c
 *	  A JSON schema, checked and made ready for answering.
 *
 * A schema with strict:true is held to OpenAI's subset (see
 * schema_strict.c).  The result is a Recipe: a tree of nodes with the words of
 * the prompt worked in.  Called by recipe.c, which keeps them; answer.c walks
 * the tree.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <math.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Node *read_node(Builder *builder, const json_t *schema, const char *path, int depth);

static bool
refused(const Builder *builder)
{
	return builder->recipe->error[0] != '\0';
}

static Span
copy_span(Builder *builder, const char *text, size_t len)
{
	return (Span){arena_copy(&builder->recipe->arena, text, len), len};
}

static Span
json_span(Builder *builder, const json_t *value)
{
	char *text = need(json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY));
	Span span = copy_span(builder, text, strlen(text));

	free(text);
	return span;
}

/* ---- types and keywords ---- */

static unsigned
type_of_name(const char *name)
{
	static const char *const names[] = {"null", "boolean", "integer", "number",
										"string", "array", "object"};

	for (int i = 0; name != NULL && i < 7; i++)
	{
		if (strcmp(name, names[i]) == 0)
			return 1u << i;
	}
	return 0;
}

static bool
read_types(Builder *builder, const json_t *schema, Node *node, const char *path)
{
	const json_t *type = json_object_get(schema, "type");
	size_t index;
	json_t *one;

	if (type == NULL)
		return true;
	if (json_is_string(type))
		node->types = type_of_name(json_string_value(type));
	json_array_foreach((json_t *) type, index, one)
	{
		unsigned bit = type_of_name(json_string_value(one));

		node->types |= bit;
		if (bit == 0)
			return schema_refuse(builder, "In %s, 'type' holds a name that is not a type.", path);
	}
	return node->types != 0 || schema_refuse(builder, "In %s, 'type' is not a type.", path);
}

/* ---- parts of a node ---- */

static void
add_value(Builder *builder, Node *node, const json_t *value)
{
	Span text = json_span(builder, value);

	node->values[node->value_count] = text;
	if (json_is_string(value))
	{
		node->labels[node->value_count] =
			copy_span(builder, json_string_value(value), json_string_length(value));
		node->value_strings = true;
	}
	else
		node->labels[node->value_count] = text;
	node->value_count++;
	builder->values++;
	builder->characters += text.len;
}

static bool
read_values(Builder *builder, const json_t *schema, Node *node, const char *path)
{
	const json_t *constant = json_object_get(schema, "const");
	const json_t *list = json_object_get(schema, "enum");
	size_t count = constant != NULL ? 1 : json_array_size(list);
	Arena *arena = &builder->recipe->arena;

	if (list != NULL && (!json_is_array(list) || count == 0))
		return schema_refuse(builder, "In %s, 'enum' must be an array with values.", path);
	if (count == 0)
		return true;
	node->values = arena_alloc(arena, count * sizeof(Span));
	node->labels = arena_alloc(arena, count * sizeof(Span));
	if (constant != NULL)
		add_value(builder, node, constant);
	for (size_t i = 0; constant == NULL && i < count; i++)
		add_value(builder, node, json_array_get(list, i));
	if (node->value_strings)
		node->ballot =
			ballot_make(arena, node->labels, (uint32_t) node->value_count, builder->recipe->hints);
	return true;
}

static double
number_or(const json_t *schema, const char *name, double otherwise)
{
	const json_t *value = json_object_get(schema, name);

	return json_is_number(value) ? json_number_value(value) : otherwise;
}

static void
read_bounds(const json_t *schema, Node *node)
{
	double step = (node->types & TYPE_INTEGER) != 0 ? 1 : 1e-6;

	node->minimum = number_or(schema, "minimum", -INFINITY);
	node->maximum = number_or(schema, "maximum", INFINITY);
	if (number_or(schema, "exclusiveMinimum", -INFINITY) >= node->minimum)
		node->minimum = number_or(schema, "exclusiveMinimum", -INFINITY) + step;
	if (number_or(schema, "exclusiveMaximum", INFINITY) <= node->maximum)
		node->maximum = number_or(schema, "exclusiveMaximum", INFINITY) - step;
	node->multiple = number_or(schema, "multipleOf", 0);
	node->min_items = (long) number_or(schema, "minItems", 0);
	node->max_items = (long) number_or(schema, "maxItems", -1);
	node->min_length = (long) number_or(schema, "minLength", 0);
	node->max_length = (long) number_or(schema, "maxLength", -1);
}

/*
 * Turn a pattern into what regcomp() knows: no \d, no (?: and no anchors,
 * since a fitting piece may stand anywhere in the input.
 */
static void
translate_pattern(Buf *posix, const char *at)
{
	bool in_class = false;

	if (*at == '^')
		at++;
	for (; *at != '\0'; at++)
	{
		if (at[0] == '\\' && at[1] == 'd')
			buf_text(posix, in_class ? "0-9" : "[0-9]");
		else if (at[0] == '\\' && at[1] != '\0')
			buf_add(posix, at, 2);
		else if (at[0] == '(' && at[1] == '?' && at[2] == ':' && !in_class)
		{
			buf_char(posix, '(');
			at++;
		}
		else
		{
			if (*at == '[' || *at == ']')
				in_class = *at == '[';
			if (*at != '$' || at[1] != '\0')
				buf_char(posix, *at);
			continue;
		}
		at++;
	}
	buf_char(posix, '\0');
}

static void
compile_pattern(Builder *builder, Node *node)
{
	Recipe *recipe = builder->recipe;
	Buf posix = {0};
	regex_t *regex = need(malloc(sizeof(regex_t)));

	translate_pattern(&posix, node->pattern);
	if (posix.len > 1 && regcomp(regex, posix.at, REG_EXTENDED) == 0)
	{
		recipe->regexes =
			need(realloc(recipe->regexes, (recipe->regex_count + 1) * sizeof(void *)));
		recipe->regexes[recipe->regex_count++] = regex;
		node->regex = regex;
	}
	else
		free(regex);
	buf_free(&posix);
}

static void
read_string_rules(Builder *builder, const json_t *schema, Node *node)
{
	const char *pattern = json_string_value(json_object_get(schema, "pattern"));
	const char *format = json_string_value(json_object_get(schema, "format"));

	if (format != NULL)
		node->format = copy_span(builder, format, strlen(format));
	if (pattern != NULL)
	{
		node->pattern = copy_span(builder, pattern, strlen(pattern)).at;
		compile_pattern(builder, node);
	}
}

static void
name_property(Builder *builder, Property *property, const char *name)
{
	static Words words;
	Buf quoted = {0};

	property->name = copy_span(builder, name, strlen(name));
	buf_char(&quoted, '"');
	buf_json(&quoted, property->name);
	buf_text(&quoted, "\":");
	property->quoted = copy_span(builder, quoted.at, quoted.len);
	buf_free(&quoted);
	words_split(&words, property->name);
	for (size_t i = 0; i < words.count && property->stem_count < 4; i++)
	{
		if (!words.word[i].weak)
			property->stems[property->stem_count++] = words.word[i].hash;
	}
}

static bool
read_properties(Builder *builder, const json_t *schema, Node *node, const char *path, int depth)
{
	const json_t *properties = json_object_get(schema, "properties");
	const json_t *required = json_object_get(schema, "required");
	const char *key;
	json_t *value;
	char inner[200];

	if (properties == NULL)
		return true;
	if (!json_is_object(properties))
		return schema_refuse(builder, "In %s, 'properties' must be an object.", path);
	node->properties =
		arena_alloc(&builder->recipe->arena, (json_object_size(properties) + 1) * sizeof(Property));
	json_object_foreach((json_t *) properties, key, value)
	{
		Property *property = &node->properties[node->property_count++];

		snprintf(inner, sizeof(inner), "%.100s.properties.%.60s", path, key);
		name_property(builder, property, key);
		property->required = schema_lists(required, key);
		property->node = read_node(builder, value, inner, depth + 1);
		if (property->node == NULL)
			return false;
	}
	return true;
}

static bool
read_items(Builder *builder, const json_t *schema, Node *node, const char *path, int depth)
{
	const json_t *items = json_object_get(schema, "items");
	char inner[200];

	if (!json_is_object(items))
		return true;
	snprintf(inner, sizeof(inner), "%.180s.items", path);
	node->items = read_node(builder, items, inner, depth + 1);
	return node->items != NULL;
}

static bool
read_any(Builder *builder, const json_t *schema, Node *node, const char *path, int depth)
{
	const json_t *any = json_object_get(schema, "anyOf");
	size_t index;
	json_t *one;
	char inner[220];

	if (any == NULL && !builder->recipe->strict)
		any = json_object_get(schema, "oneOf");
	if (any == NULL)
		return true;
	if (!json_is_array(any) || json_array_size(any) == 0)
		return schema_refuse(builder, "In %s, 'anyOf' must be an array with schemas.", path);
	node->any = arena_alloc(&builder->recipe->arena, json_array_size(any) * sizeof(Node *));
	json_array_foreach((json_t *) any, index, one)
	{
		snprintf(inner, sizeof(inner), "%.170s.anyOf[%zu]", path, index);
		node->any[index] = read_node(builder, one, inner, depth);
		if (node->any[index] == NULL)
			return false;
		node->any_count++;
	}
	return true;
}

/*
 * Follow "#", "#/a/b"; other references are not possible.
 */
static bool
read_reference(Builder *builder, const json_t *schema, Node *node, const char *path, int depth)
{
	const char *reference = json_string_value(json_object_get(schema, "$ref"));
	const json_t *target = builder->root;

	if (json_object_get(schema, "$ref") == NULL)
		return true;
	if (reference == NULL || reference[0] != '#')
		return schema_refuse(builder, "In %s, '$ref' must point into this schema.", path);
	for (const char *at = reference + 1; target != NULL && *at == '/';)
	{
		size_t len = strcspn(at + 1, "/");
		char *name = need(strndup(at + 1, len));

		target = json_object_get(target, name);
		free(name);
		at += len + 1;
	}
	if (!json_is_object(target))
		return schema_refuse(builder, "In %s, reference '%.60s' points nowhere.", path, reference);
	node->target = read_node(builder, target, reference, depth);
	return node->target != NULL;
}

/* ---- nodes ---- */

/*
 * Make the empty node of a schema, or find it: *fresh tells which.
 */
static Node *
node_for(Builder *builder, const json_t *schema, bool *fresh)
{
	*fresh = false;
	for (size_t i = 0; i < builder->made_count; i++)
	{
		if (builder->made[i].from == schema)
			return builder->made[i].node;
	}
	if (builder->made_count == builder->made_room)
	{
		builder->made_room = builder->made_room * 2 + 32;
		builder->made = need(realloc(builder->made, builder->made_room * sizeof(*builder->made)));
	}
	*fresh = true;
	builder->made[builder->made_count].from = schema;
	builder->made[builder->made_count].node = arena_alloc(&builder->recipe->arena, sizeof(Node));
	return builder->made[builder->made_count++].node;
}

/*
 * Types that a schema without "type" must mean.
 */
static void
guess_types(Node *node)
{
	if (node->types != 0 || node->target != NULL || node->any_count > 0 || node->value_count > 0)
		return;
	node->types = node->property_count > 0 ? TYPE_OBJECT
				  : node->items != NULL	   ? TYPE_ARRAY
										   : TYPE_STRING;
}

static Node *
read_node(Builder *builder, const json_t *schema, const char *path, int depth)
{
	bool fresh;
	Node *node;

	if (!json_is_object(schema) || depth > 100)
	{
		schema_refuse(
			builder, "In %s, a schema must be an object, and not nested too deeply.", path);
		return NULL;
	}
	node = node_for(builder, schema, &fresh);
	if (!fresh)
		return node;
	if (!read_types(builder, schema, node, path))
		return NULL;
	if (builder->recipe->strict && !schema_check_strict(builder, schema, node, path, depth))
		return NULL;
	if (!read_values(builder, schema, node, path))
		return NULL;
	read_bounds(schema, node);
	read_string_rules(builder, schema, node);
	if (!read_properties(builder, schema, node, path, depth) ||
		!read_items(builder, schema, node, path, depth) ||
		!read_any(builder, schema, node, path, depth) ||
		!read_reference(builder, schema, node, path, depth))
		return NULL;
	guess_types(node);
	return node;
}

/*
 * Definitions are checked even if nothing refers to them.
 */
static void
read_definitions(Builder *builder, const char *keyword)
{
	const char *key;
	json_t *value;
	char path[200];

	json_object_foreach(json_object_get(builder->root, keyword), key, value)
	{
		snprintf(path, sizeof(path), "%s.%.60s", keyword, key);
		if (!refused(builder))
			read_node(builder, value, path, 1);
	}
}

static void
read_root(Builder *builder)
{
	const json_t *type = json_object_get(builder->root, "type");
	bool object = json_is_string(type) && strcmp(json_string_value(type), "object") == 0;

	if (builder->recipe->strict && json_object_get(builder->root, "anyOf") != NULL)
		schema_refuse(builder, "The root schema must not be 'anyOf'.");
	if (builder->recipe->strict && !object)
		schema_refuse(builder,
					  "schema must be a JSON Schema of 'type: \"object\"', "
					  "got a root of another type.");
	if (!refused(builder))
		builder->recipe->root = read_node(builder, builder->root, "context=()", 1);
	if (!refused(builder))
		read_definitions(builder, "$defs");
	if (!refused(builder))
		read_definitions(builder, "definitions");
	if (refused(builder))
		builder->recipe->root = NULL;
}

/* ---- the whole ---- */

/*
 * Make a recipe; if the schema is refused, it has no root and says why.
 */
Recipe *
schema_read(Span schema, Span hints, bool strict, uint64_t hash)
{
	Recipe *recipe = need(calloc(1, sizeof(Recipe)));
	Builder builder = {.recipe = recipe};
	json_error_t error;

	recipe->hash = hash;
	recipe->strict = strict;
	recipe->schema = (Span){arena_copy(&recipe->arena, schema.at, schema.len), schema.len};
	recipe->hints = (Span){arena_copy(&recipe->arena, hints.at, hints.len), hints.len};
	builder.root = json_loadb(schema.at, schema.len, JSON_REJECT_DUPLICATES, &error);
	if (builder.root == NULL)
		schema_refuse(&builder, "The schema could not be read: %.100s.", error.text);
	else
		read_root(&builder);
	json_decref(builder.root);
	free(builder.made);
	return recipe;
}
