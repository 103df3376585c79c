/*-------------------------------------------------------------------------
 *
 * schema_keyword.h
 *	  A schema read into nodes, one by one; schema.c knows the whole.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SCHEMA_KEYWORD_H
#define LLM_SCHEMA_KEYWORD_H

#include "base/llm_enrich.h"

#include "base/compat.h"
#include "operation/schema.h"

/* More sub-schemas than this are refused: it bounds memory and recursion. */
#define LLM_SCHEMA_MAX_NODES 5000

/* Where we are in the schema, for messages. */
typedef struct LlmSchemaPath
{
	const struct LlmSchemaPath *parent;
	const char *name; /* NULL: use index */
	int name_len;
	int index;
} LlmSchemaPath;

/* A named definition, which "$ref" finds. */
typedef struct LlmSchemaDefinition
{
	const char *section; /* "$defs" or "definitions" */
	const JsonbValue *name;
	LlmSchema *schema;
} LlmSchemaDefinition;

typedef struct LlmSchemaCompiler
{
	LlmSchema *root;
	LlmSchemaDefinition *definitions;
	int ndefinitions;
	int nodes;
	LlmSchema **all; /* every node made so far */
} LlmSchemaCompiler;

/* An empty node, which has no rules. */
extern LlmSchema *llm_schema_make_node(LlmSchemaCompiler *c, const LlmSchemaPath *path);

/* Read a schema, and all below it, into a node; raises for a keyword that we do not check. */
extern void llm_schema_fill_node(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value,
								 const LlmSchemaPath *path);

/* Raise 22023 about this path. */
pg_noreturn extern void llm_schema_refuse(const LlmSchemaPath *path, const char *detail);
extern void llm_schema_need_type(const JsonbValue *value, enum jbvType type, const LlmSchemaPath *path,
								 const char *detail);

/* The path as a JSON pointer: "#/properties/code". */
extern char *llm_schema_path_text(const LlmSchemaPath *path);

/* The path of a member. */
extern LlmSchemaPath llm_schema_step(const LlmSchemaPath *parent, const JsonbValue *name);

#endif /* LLM_SCHEMA_KEYWORD_H */
