/*-------------------------------------------------------------------------
 *
 * schema_keyword.c
 *	  The nodes of a schema, and the keywords that we check, one handler each.
 *
 * A handler checks the form of the keyword's value and fills in the node; a keyword
 * without a handler is refused by name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "base/json.h"
#include "operation/schema_keyword.h"

typedef void (*KeywordHandler)(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value,
							   const LlmSchemaPath *path);

/* A keyword has a handler, or is a number or a count that goes into a member of the node as it is. */
typedef struct Keyword
{
	const char *name;
	KeywordHandler handler;
	size_t number; /* where that is; 0: no number */
	size_t count; /* likewise */
} Keyword;

#define KEYWORD(name, handler) \
	{                          \
		name, handler, 0, 0    \
	}
#define NUMBER(name, member)                       \
	{                                              \
		name, NULL, offsetof(LlmSchema, member), 0 \
	}
#define COUNT(name, member)                        \
	{                                              \
		name, NULL, 0, offsetof(LlmSchema, member) \
	}

/* Append a name as a JSON pointer writes it: "~" and "/" escaped. */
static void
append_pointer_name(StringInfo buf, const char *name, int len)
{
	for (int i = 0; i < len; i++)
	{
		if (name[i] == '~')
			appendStringInfoString(buf, "~0");
		else if (name[i] == '/')
			appendStringInfoString(buf, "~1");
		else
			appendStringInfoChar(buf, name[i]);
	}
}

/* The path as a JSON pointer: "#/properties/code". */
static void
append_path(StringInfo buf, const LlmSchemaPath *path)
{
	if (path->parent == NULL)
	{
		appendStringInfoChar(buf, '#');
		return;
	}
	append_path(buf, path->parent);
	if (path->name == NULL)
	{
		appendStringInfo(buf, "/%d", path->index);
		return;
	}
	appendStringInfoChar(buf, '/');
	append_pointer_name(buf, path->name, path->name_len);
}

char *
llm_schema_path_text(const LlmSchemaPath *path)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_path(&buf, path);
	return buf.data;
}

void
llm_schema_refuse(const LlmSchemaPath *path, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("schema is not valid at \"%s\"", llm_schema_path_text(path)),
			 errdetail("%s", detail)));
}

LlmSchemaPath
llm_schema_step(const LlmSchemaPath *parent, const JsonbValue *name)
{
	LlmSchemaPath path = {parent, name->val.string.val, name->val.string.len, 0};

	return path;
}

static LlmSchemaPath
step_index(const LlmSchemaPath *parent, int index)
{
	LlmSchemaPath path = {parent, NULL, 0, index};

	return path;
}

void
llm_schema_need_type(const JsonbValue *value, enum jbvType type, const LlmSchemaPath *path, const char *detail)
{
	if (value->type != type)
		llm_schema_refuse(path, detail);
}

/* A node of a sub-schema. */
static LlmSchema *
compile_node(LlmSchemaCompiler *c, const JsonbValue *value, const LlmSchemaPath *path)
{
	LlmSchema *s = llm_schema_make_node(c, path);

	llm_schema_fill_node(c, s, value, path);
	return s;
}

/* A whole number of 0 or more, as lengths and counts are. */
static int
read_count(const JsonbValue *value, const LlmSchemaPath *path)
{
	JsonbValue min = llm_json_make_int(0);
	JsonbValue max = llm_json_make_int(INT_MAX);
	JsonbValue count;

	if (value->type == jbvNumeric && llm_json_compare(value, &min) >= 0 && llm_json_compare(value, &max) <= 0)
	{
		count = llm_json_make_int(llm_json_to_int(value));
		if (llm_json_compare(&count, value) == 0)
			return llm_json_to_int(value);
	}
	llm_schema_refuse(path, "This must be a whole number of 0 or more.");
}

/* As in answers, which have none with more digits: to work with thousands takes its time. */
static void
refuse_long_number(const JsonbValue *number, const LlmSchemaPath *path)
{
	char *str = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number->val.numeric)));

	if (strlen(str) > LLM_JSON_MAX_NUMBER)
		llm_schema_refuse(path, psprintf("A number has at most %d characters, written without exponent.", LLM_JSON_MAX_NUMBER));
	pfree(str);
}

/* The same for each number in a value that answers are compared with. */
static void
refuse_long_numbers(const JsonbValue *value, const LlmSchemaPath *path)
{
	if (value->type == jbvNumeric)
		refuse_long_number(value, path);
	for (int i = 0; value->type == jbvArray && i < value->val.array.nElems; i++)
		refuse_long_numbers(&value->val.array.elems[i], path);
	for (int i = 0; value->type == jbvObject && i < value->val.object.nPairs; i++)
		refuse_long_numbers(&value->val.object.pairs[i].value, path);
}

static Numeric
read_number(const JsonbValue *value, const LlmSchemaPath *path)
{
	llm_schema_need_type(value, jbvNumeric, path, "This must be a number.");
	refuse_long_number(value, path);
	return value->val.numeric;
}

/* Bit of a type name, 0 when there is no such type. */
static int
type_bit(const JsonbValue *name)
{
	static const struct
	{
		const char *name;
		int bit;
	} types[] = {
		{"null", LLM_SCHEMA_NULL},
		{"boolean", LLM_SCHEMA_BOOLEAN},
		{"string", LLM_SCHEMA_STRING},
		{"integer", LLM_SCHEMA_INTEGER},
		{"number", LLM_SCHEMA_NUMBER},
		{"array", LLM_SCHEMA_ARRAY},
		{"object", LLM_SCHEMA_OBJECT},
	};

	for (int i = 0; i < lengthof(types); i++)
	{
		if (llm_json_string_is(name, types[i].name))
			return types[i].bit;
	}
	return 0;
}

static void
handle_type(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	const JsonbValue *names = value;
	int n = 1;

	if (value->type == jbvArray)
	{
		names = value->val.array.elems;
		n = value->val.array.nElems;
	}
	for (int i = 0; i < n; i++)
	{
		int bit = type_bit(&names[i]);

		if (bit == 0)
			llm_schema_refuse(path, "A type is one of null, boolean, string, integer, number, array and object, or a list of these.");
		s->types |= bit;
	}
	if (s->types == 0)
		llm_schema_refuse(path, "The list of types is empty.");
}

static void
refuse_reserved(const JsonbValue *name, const LlmSchemaPath *path)
{
	if (llm_json_string_is(name, LLM_MARKER_KEY))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema must not ask for a property \"%s\"", LLM_MARKER_KEY),
				 errdetail("The schema names it at \"%s\".", llm_schema_path_text(path)),
				 errhint("This name is reserved for the marker of a pending answer. Choose another one.")));
}

static void
handle_properties(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	llm_schema_need_type(value, jbvObject, path, "This must be an object of schemas.");
	s->nproperties = value->val.object.nPairs;
	s->properties = palloc0(Max(s->nproperties, 1) * sizeof(LlmSchemaProperty));
	for (int i = 0; i < s->nproperties; i++)
	{
		const JsonbPair *pair = &value->val.object.pairs[i];
		LlmSchemaPath here = llm_schema_step(path, &pair->key);

		refuse_reserved(&pair->key, &here);
		s->properties[i].name = pair->key;
		s->properties[i].schema = compile_node(c, &pair->value, &here);
	}
}

/* The elements of a list in order, in a copy. */
static JsonbValue *
sort_list(const JsonbValue *list)
{
	size_t size = list->val.array.nElems * sizeof(JsonbValue);
	JsonbValue *sorted = palloc(Max(size, 1));

	memcpy(sorted, list->val.array.elems, size);
	llm_json_sort(sorted, list->val.array.nElems, sizeof(JsonbValue), llm_json_order);
	return sorted;
}

static void
handle_required(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	llm_schema_need_type(value, jbvArray, path, "This must be a list of property names.");
	s->nrequired = value->val.array.nElems;
	s->required = sort_list(value);
	for (int i = 0; i < s->nrequired; i++)
	{
		llm_schema_need_type(&s->required[i], jbvString, path, "This must be a list of property names.");
		refuse_reserved(&s->required[i], path);
		if (i > 0 && llm_json_order(&s->required[i - 1], &s->required[i]) == 0)
			llm_schema_refuse(path, "The same property is named twice.");
	}
}

static void
handle_additional(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	s->additional = compile_node(c, value, path);
}

static void
handle_items(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	if (value->type == jbvArray)
		llm_schema_refuse(path, "A list of schemas, one for each position, is not supported.");
	s->items = compile_node(c, value, path);
}

static void
handle_enum(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	if (value->type != jbvArray || value->val.array.nElems == 0)
		llm_schema_refuse(path, "This must be a list with at least one value.");
	refuse_long_numbers(value, path);
	s->nchoices = value->val.array.nElems;
	s->choices = sort_list(value);
	s->enumeration = unconstify(JsonbValue *, value);
}

static void
handle_const(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	refuse_long_numbers(value, path);
	s->constant = unconstify(JsonbValue *, value);
}

static void
handle_multiple_of(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	JsonbValue zero = llm_json_make_int(0);

	s->multiple_of = read_number(value, path);
	if (llm_json_compare(value, &zero) <= 0)
		llm_schema_refuse(path, "This must be a number greater than 0.");
}

static void
handle_unique_items(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	llm_schema_need_type(value, jbvBool, path, "This must be true or false.");
	s->unique_items = value->val.boolean;
}

static void
handle_format(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	llm_schema_need_type(value, jbvString, path, "This must be a string.");
	s->format_name = llm_json_cstring(value);
	s->format = llm_schema_find_format(s->format_name);
	if (s->format == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema format \"%s\" is not supported", s->format_name),
				 errdetail("The schema has it at \"%s\".", llm_schema_path_text(path)),
				 errhint("Supported formats are: %s.", llm_schema_formats())));
}

static void
handle_any_of(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	if (value->type != jbvArray || value->val.array.nElems == 0)
		llm_schema_refuse(path, "This must be a list with at least one schema.");
	s->nany = value->val.array.nElems;
	s->any_of = palloc(s->nany * sizeof(LlmSchema *));
	for (int i = 0; i < s->nany; i++)
	{
		LlmSchemaPath here = step_index(path, i);

		s->any_of[i] = compile_node(c, &value->val.array.elems[i], &here);
	}
}

/* Undo what append_pointer_name() does, in the same buffer; false when that never wrote it. */
static bool
read_pointer_name(char *name, int *len)
{
	char *out = name;
	char *in;

	for (in = name; *in != '\0'; in++)
	{
		if (*in == '/' || (*in == '~' && in[1] != '0' && in[1] != '1'))
			return false;
		if (*in == '~')
			*out++ = *++in == '0' ? '~' : '/';
		else
			*out++ = *in;
	}
	*len = (int) (out - name);
	return true;
}

/* The order of collect_definitions(): by section, then as jsonb has its keys. */
static int
compare_definitions(const void *a, const void *b)
{
	const LlmSchemaDefinition *x = a;
	const LlmSchemaDefinition *y = b;
	int order = strcmp(x->section, y->section);

	if (order == 0)
		order = x->name->val.string.len - y->name->val.string.len;
	return order != 0 ? order : memcmp(x->name->val.string.val, y->name->val.string.val, x->name->val.string.len);
}

/* The definition that a reference names, as "#/$defs/name"; NULL when there is none. */
static LlmSchema *
find_definition(const LlmSchemaCompiler *c, const JsonbValue *reference)
{
	char *section = llm_json_cstring(reference);
	char *slash = strncmp(section, "#/", 2) == 0 ? strchr(section + 2, '/') : NULL;
	LlmSchemaDefinition sought = {0};
	const LlmSchemaDefinition *found;
	JsonbValue name;

	if (slash == NULL)
		return NULL;
	*slash = '\0';
	name = llm_json_make_string(slash + 1, 0);
	if (!read_pointer_name(slash + 1, &name.val.string.len))
		return NULL;
	sought.section = section + 2;
	sought.name = &name;
	found = bsearch(&sought, c->definitions, c->ndefinitions, sizeof(sought), compare_definitions);
	pfree(section);
	return found == NULL ? NULL : found->schema;
}

static void
handle_ref(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	llm_schema_need_type(value, jbvString, path, "This must be a string.");
	if (llm_json_string_is(value, "#"))
		s->reference = c->root;
	else
		s->reference = find_definition(c, value);
	if (s->reference == NULL)
		llm_schema_refuse(path, "A reference is \"#\" or names a schema in \"#/$defs/\" or \"#/definitions/\".");
}

/* What the definitions say is read by compile_definitions(); here we only see where they stand. */
static void
handle_definitions(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	if (s != c->root)
		llm_schema_refuse(path, "Definitions belong at the top of the schema.");
	llm_schema_need_type(value, jbvObject, path, "This must be an object of schemas.");
}

static void
handle_words(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	llm_schema_need_type(value, jbvString, path, "This must be a string.");
}

static void
handle_anything(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
}

static const Keyword keywords[] = {
	KEYWORD("$comment", handle_words),
	KEYWORD("$defs", handle_definitions),
	KEYWORD("$id", handle_words),
	KEYWORD("$ref", handle_ref),
	KEYWORD("$schema", handle_words),
	KEYWORD("additionalProperties", handle_additional),
	KEYWORD("anyOf", handle_any_of),
	KEYWORD("const", handle_const),
	KEYWORD("default", handle_anything),
	KEYWORD("definitions", handle_definitions),
	KEYWORD("description", handle_words),
	KEYWORD("enum", handle_enum),
	KEYWORD("examples", handle_anything),
	NUMBER("exclusiveMaximum", exclusive_maximum),
	NUMBER("exclusiveMinimum", exclusive_minimum),
	KEYWORD("format", handle_format),
	KEYWORD("items", handle_items),
	COUNT("maxItems", max_items),
	COUNT("maxLength", max_length),
	COUNT("maxProperties", max_properties),
	NUMBER("maximum", maximum),
	COUNT("minItems", min_items),
	COUNT("minLength", min_length),
	COUNT("minProperties", min_properties),
	NUMBER("minimum", minimum),
	KEYWORD("multipleOf", handle_multiple_of),
	KEYWORD("properties", handle_properties),
	KEYWORD("required", handle_required),
	KEYWORD("title", handle_words),
	KEYWORD("type", handle_type),
	KEYWORD("uniqueItems", handle_unique_items),
};

static const Keyword *
find_keyword(const JsonbValue *name)
{
	for (int i = 0; i < lengthof(keywords); i++)
	{
		if (llm_json_string_is(name, keywords[i].name))
			return &keywords[i];
	}
	return NULL;
}

static char *
keyword_names(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(keywords); i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", keywords[i].name);
	return buf.data;
}

LlmSchema *
llm_schema_make_node(LlmSchemaCompiler *c, const LlmSchemaPath *path)
{
	LlmSchema *s = palloc0(sizeof(LlmSchema));

	if (c->nodes >= LLM_SCHEMA_MAX_NODES)
		llm_schema_refuse(path, psprintf("The schema has more than %d parts.", LLM_SCHEMA_MAX_NODES));
	c->all[c->nodes++] = s;
	s->min_properties = s->max_properties = -1;
	s->min_items = s->max_items = -1;
	s->min_length = s->max_length = -1;
	return s;
}

/* Read one keyword into the node; raises for one that we do not check. */
static void
apply_keyword(LlmSchemaCompiler *c, LlmSchema *s, const JsonbPair *pair, const LlmSchemaPath *path)
{
	const Keyword *keyword = find_keyword(&pair->key);

	if (keyword == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema keyword \"%s\" is not supported", llm_json_cstring(&pair->key)),
				 errdetail("The schema has it at \"%s\". A keyword that answers are not checked against is refused.",
						   llm_schema_path_text(path)),
				 errhint("Supported keywords are: %s.", keyword_names())));
	if (keyword->number != 0)
		*(Numeric *) ((char *) s + keyword->number) = read_number(&pair->value, path);
	else if (keyword->count != 0)
		*(int *) ((char *) s + keyword->count) = read_count(&pair->value, path);
	else
		keyword->handler(c, s, &pair->value, path);
}

/* Recursion is as deep as the schema, which llm_json_tree() bounds. */
void
llm_schema_fill_node(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	if (value->type == jbvBool)
	{
		s->nothing = !value->val.boolean;
		return;
	}
	llm_schema_need_type(value, jbvObject, path, "A schema is an object, true or false.");
	for (int i = 0; i < value->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &value->val.object.pairs[i];
		LlmSchemaPath here = llm_schema_step(path, &pair->key);

		apply_keyword(c, s, pair, &here);
	}
}
