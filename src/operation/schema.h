/*-------------------------------------------------------------------------
 *
 * schema.h
 *	  A JSON Schema made ready to check answers with.
 *
 * We take the part of JSON Schema that we check in full, and nothing else: a
 * keyword that would be ignored is refused when the statement runs, by name,
 * so that no rule that a user wrote goes unheeded.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SCHEMA_H
#define LLM_SCHEMA_H

#include "base/llm_enrich.h"

#include "utils/jsonb.h"

/* Types that a value may have, as bits. */
#define LLM_SCHEMA_NULL 0x01
#define LLM_SCHEMA_BOOLEAN 0x02
#define LLM_SCHEMA_STRING 0x04
#define LLM_SCHEMA_INTEGER 0x08
#define LLM_SCHEMA_NUMBER 0x10
#define LLM_SCHEMA_ARRAY 0x20
#define LLM_SCHEMA_OBJECT 0x40

typedef struct LlmSchema LlmSchema;

typedef bool (*LlmSchemaFormat)(const char *str, int len);

typedef struct LlmSchemaProperty
{
	JsonbValue name;
	LlmSchema *schema;
} LlmSchemaProperty;

/* Rules; one that is absent is NULL, 0 or -1 as told.  All of them hold at once. */
struct LlmSchema
{
	bool nothing; /* the schema "false" */
	int types; /* bits; 0: any */

	int nproperties;
	LlmSchemaProperty *properties; /* in jsonb's order of keys */
	int nrequired;
	JsonbValue *required; /* strings */
	LlmSchema *additional; /* for properties not named; NULL: anything */
	int min_properties; /* -1: none */
	int max_properties; /* -1: none */

	LlmSchema *items; /* NULL: anything */
	int min_items; /* -1: none */
	int max_items; /* -1: none */
	bool unique_items;

	int nchoices;
	JsonbValue *choices; /* "enum", sorted by llm_json_compare */
	JsonbValue *enumeration; /* the same as it was written, for messages; NULL: none */
	JsonbValue *constant;

	Numeric minimum;
	Numeric maximum;
	Numeric exclusive_minimum;
	Numeric exclusive_maximum;
	Numeric multiple_of;

	int min_length; /* -1: none */
	int max_length; /* -1: none */
	const char *format_name;
	LlmSchemaFormat format;

	int nany;
	LlmSchema **any_of;
	LlmSchema *reference; /* "$ref" */

	char mark; /* of the search for circular references */
};

/*
 * Make a user's schema ready.  Raises 22023 with the path and a hint, also for
 * a keyword that we do not check.  The root must be an object.  The result
 * lives in the current context and borrows from the argument.
 */
extern LlmSchema *llm_schema_compile(Jsonb *schema);

/*
 * A short form, {"product": "text", "amount": "number - total with tax", "lines": [{"item": "text"}]},
 * and the JSON Schema that it stands for: each property is required, and null where the text does not
 * say it.  expand() raises 22023 for words that it does not know.
 */
extern bool llm_schema_is_short(const JsonbValue *schema);
extern JsonbValue llm_schema_expand(const JsonbValue *schema);

/* NULL for a name of "format" that we do not check. */
extern LlmSchemaFormat llm_schema_find_format(const char *name);

/* "date, time, …" for hints. */
extern const char *llm_schema_formats(void);

#endif /* LLM_SCHEMA_H */
