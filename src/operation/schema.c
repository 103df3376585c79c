/*-------------------------------------------------------------------------
 *
 * schema.c
 *	  Make a user's JSON Schema ready, or say what is wrong with it and where.
 *
 * Called when the statement runs, so that a bad schema costs one error and not
 * one request per row, and again in the sender, where it cannot fail.
 *
 * References may recurse, since the depth of an answer is bounded.  A circle
 * of "$ref" and "anyOf" that never steps into the answer is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "operation/schema_keyword.h"

/* More sub-schemas than this are refused: it bounds memory and recursion. */
#define MAX_NODES 5000

static LlmSchema *
make_node(LlmSchemaCompiler *c, const LlmSchemaPath *path)
{
	LlmSchema *s = palloc0(sizeof(LlmSchema));

	if (c->nodes >= MAX_NODES)
		llm_schema_refuse(path, psprintf("The schema has more than %d parts.", MAX_NODES));
	c->all[c->nodes++] = s;
	s->min_properties = s->max_properties = -1;
	s->min_items = s->max_items = -1;
	s->min_length = s->max_length = -1;
	return s;
}

/* Read a schema into a node that exists already. */
static void
fill_node(LlmSchemaCompiler *c, LlmSchema *s, const JsonbValue *value, const LlmSchemaPath *path)
{
	int i;

	if (value->type == jbvBool)
	{
		s->nothing = !value->val.boolean;
		return;
	}
	llm_schema_need_type(value, jbvObject, path, "A schema is an object, true or false.");
	for (i = 0; i < value->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &value->val.object.pairs[i];
		LlmSchemaPath here = llm_schema_step(path, &pair->key);

		llm_schema_apply_keyword(c, s, pair, &here);
	}
}

/* Recursion is as deep as the schema, which llm_json_tree() bounds. */
LlmSchema *
llm_schema_compile_node(LlmSchemaCompiler *c, const JsonbValue *value, const LlmSchemaPath *path)
{
	LlmSchema *s = make_node(c, path);

	fill_node(c, s, value, path);
	return s;
}

/*
 * Make a node for each definition, so that references find them in any order.  They are
 * sorted by section and name, as find_definition() needs them.
 */
static void
collect_definitions(LlmSchemaCompiler *c, const JsonbValue *root, const LlmSchemaPath *top)
{
	static const char *const sections[] = {"$defs", "definitions"};
	int i;
	int j;

	c->definitions = palloc(MAX_NODES * sizeof(LlmSchemaDefinition));
	for (i = 0; i < lengthof(sections); i++)
	{
		const JsonbValue *section = llm_json_get(root, sections[i]);

		if (section == NULL || section->type != jbvObject)
			continue;
		for (j = 0; j < section->val.object.nPairs; j++)
		{
			LlmSchemaDefinition *d = &c->definitions[c->ndefinitions];

			d->schema = make_node(c, top);
			d->section = sections[i];
			d->name = &section->val.object.pairs[j].key;
			c->ndefinitions++;
		}
	}
}

static void
compile_definitions(LlmSchemaCompiler *c, const JsonbValue *root, const LlmSchemaPath *top)
{
	int i;

	for (i = 0; i < c->ndefinitions; i++)
	{
		LlmSchemaDefinition *d = &c->definitions[i];
		JsonbValue section = llm_json_make_text(d->section);
		LlmSchemaPath parent = llm_schema_step(top, &section);
		LlmSchemaPath here = llm_schema_step(&parent, d->name);
		const JsonbValue *all = llm_json_get(root, d->section);

		fill_node(c, d->schema, llm_json_find(all, d->name->val.string.val, d->name->val.string.len), &here);
	}
}

/* Refuse a way from the schema back to itself by "$ref" and "anyOf" alone. */
static void
refuse_circle(LlmSchema *s, const LlmSchemaPath *top)
{
	int i;

	if (s->mark == 'd')
		return;
	if (s->mark == 'b')
		llm_schema_refuse(top, "References form a circle and never reach a value.");
	s->mark = 'b';
	if (s->reference != NULL)
		refuse_circle(s->reference, top);
	for (i = 0; i < s->nany; i++)
		refuse_circle(s->any_of[i], top);
	s->mark = 'd';
}

LlmSchema *
llm_schema_compile(Jsonb *schema)
{
	LlmSchemaCompiler c = {0};
	LlmSchemaPath top = {0};
	JsonbValue root;
	int i;

	if (!llm_json_tree(schema, &root))
		llm_schema_refuse(&top, psprintf("The schema is nested deeper than %d levels.", LLM_JSON_MAX_DEPTH));
	llm_schema_need_type(&root, jbvObject, &top, "A schema is a JSON object, for instance {\"type\": \"object\", \"properties\": {…}}.");
	c.all = palloc(MAX_NODES * sizeof(LlmSchema *));
	c.root = make_node(&c, &top);
	collect_definitions(&c, &root, &top);
	fill_node(&c, c.root, &root, &top);
	compile_definitions(&c, &root, &top);
	for (i = 0; i < c.nodes; i++)
		refuse_circle(c.all[i], &top);
	if (c.root->types != LLM_SCHEMA_OBJECT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema must describe an object"),
				 errdetail("An answer is always a JSON object."),
				 errhint("Give the schema \"type\": \"object\" at its top, and put a list or a single value into a property.")));
	pfree(c.all);
	pfree(c.definitions);
	return c.root;
}
