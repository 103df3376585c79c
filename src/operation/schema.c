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

/*
 * Make a node for each definition, so that references find them in any order.  They are
 * sorted by section and name, as find_definition() needs them.
 */
static void
collect_definitions(LlmSchemaCompiler *c, const JsonbValue *root, const LlmSchemaPath *top)
{
	static const char *const sections[] = {"$defs", "definitions"};

	c->definitions = palloc(LLM_SCHEMA_MAX_NODES * sizeof(LlmSchemaDefinition));
	for (int i = 0; i < lengthof(sections); i++)
	{
		const JsonbValue *section = llm_json_get(root, sections[i]);

		if (section == NULL || section->type != jbvObject)
			continue;
		for (int j = 0; j < section->val.object.nPairs; j++)
		{
			LlmSchemaDefinition *d = &c->definitions[c->ndefinitions];

			d->schema = llm_schema_make_node(c, top);
			d->section = sections[i];
			d->name = &section->val.object.pairs[j].key;
			c->ndefinitions++;
		}
	}
}

static void
compile_definitions(LlmSchemaCompiler *c, const JsonbValue *root, const LlmSchemaPath *top)
{
	for (int i = 0; i < c->ndefinitions; i++)
	{
		LlmSchemaDefinition *d = &c->definitions[i];
		JsonbValue section = llm_json_make_text(d->section);
		LlmSchemaPath parent = llm_schema_step(top, &section);
		LlmSchemaPath here = llm_schema_step(&parent, d->name);
		const JsonbValue *all = llm_json_get(root, d->section);

		llm_schema_fill_node(c, d->schema, llm_json_find(all, d->name->val.string.val, d->name->val.string.len), &here);
	}
}

/* Refuse a way from the schema back to itself by "$ref" and "anyOf" alone. */
static void
refuse_circle(LlmSchema *s, const LlmSchemaPath *top)
{
	if (s->mark == 'd')
		return;
	if (s->mark == 'b')
		llm_schema_refuse(top, "References form a circle and never reach a value.");
	s->mark = 'b';
	if (s->reference != NULL)
		refuse_circle(s->reference, top);
	for (int i = 0; i < s->nany; i++)
		refuse_circle(s->any_of[i], top);
	s->mark = 'd';
}

LlmSchema *
llm_schema_compile(Jsonb *schema)
{
	LlmSchemaCompiler c = {0};
	LlmSchemaPath top = {0};
	JsonbValue root;

	if (!llm_json_tree(schema, &root))
		llm_schema_refuse(&top, psprintf("The schema is nested deeper than %d levels.", LLM_JSON_MAX_DEPTH));
	llm_schema_need_type(&root, jbvObject, &top, "A schema is a JSON object, for instance {\"type\": \"object\", \"properties\": {…}}.");
	c.all = palloc(LLM_SCHEMA_MAX_NODES * sizeof(LlmSchema *));
	c.root = llm_schema_make_node(&c, &top);
	collect_definitions(&c, &root, &top);
	llm_schema_fill_node(&c, c.root, &root, &top);
	compile_definitions(&c, &root, &top);
	for (int i = 0; i < c.nodes; i++)
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
