/*-------------------------------------------------------------------------
 *
 * operation.c
 *	  The table of operations, and what loading a recipe has in common.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "base/json.h"
#include "operation/condition.h"
#include "operation/operation.h"
#include "operation/spec.h"

static const LlmOperation *const operations[] = {
#define LLM_OPERATION(name) &llm_op_##name,
#include "operation/operation_list.h"
#undef LLM_OPERATION
};

const LlmOperation *
llm_operation_find(const char *name)
{
	for (int i = 0; i < lengthof(operations); i++)
	{
		if (strcmp(operations[i]->name, name) == 0)
			return operations[i];
	}
	return NULL;
}

const LlmOperation *
llm_operation_by_function(const char *function)
{
	for (int i = 0; i < lengthof(operations); i++)
	{
		if (strcmp(operations[i]->function, function) == 0)
			return operations[i];
	}
	return NULL;
}

const char *
llm_operation_names(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(operations); i++)
	{
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", operations[i]->name);
	}
	return buf.data;
}

/* JSON text of a number that the spec holds, or NULL. */
static const char *
load_number(const JsonbValue *spec, const char *key)
{
	JsonbValue *value = llm_json_get(spec, key);

	if (value == NULL || value->type != jbvNumeric)
		return NULL;
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
}

static const char *
load_word(const JsonbValue *spec, const char *key)
{
	JsonbValue *value = llm_json_get(spec, key);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return llm_json_cstring(value);
}

/* The members of an object, without its braces; NULL: there are none. */
static const char *
load_members(const JsonbValue *spec, const char *key)
{
	JsonbValue *value = llm_json_get(spec, key);
	StringInfoData buf;

	if (value == NULL || value->type != jbvObject || value->val.object.nPairs == 0)
		return NULL;
	initStringInfo(&buf);
	llm_json_append(&buf, value);
	return pnstrdup(buf.data + 1, buf.len - 2);
}

static void
load_params(const LlmOperation *op, LlmParams *params, const JsonbValue *spec)
{
	const JsonbValue *max_tokens = llm_json_get(spec, "max_tokens");
	const JsonbValue *reuse = llm_json_get(spec, "reuse");

	params->temperature = load_number(spec, "temperature");
	params->top_p = load_number(spec, "top_p");
	params->seed = load_number(spec, "seed");
	params->max_tokens = max_tokens == NULL ? 0 : llm_json_to_int(max_tokens);
	params->reasoning_effort = load_word(spec, "reasoning_effort");
	params->verbosity = load_word(spec, "verbosity");
	params->service_tier = load_word(spec, "service_tier");
	params->extra_body = load_members(spec, "extra_body");
	params->truncate = llm_truncate_find(load_word(spec, "truncate"));
	/* an answer that the user's conditions may find wrong is asked for each time */
	params->reuse = llm_json_get(spec, LLM_CONDITION_KEY) == NULL &&
					(reuse == NULL ? !op->not_kept : reuse->val.boolean);
}

LlmRecipe *
llm_operation_load(int64 id, const char *operation, Jsonb *spec)
{
	const LlmOperation *op = llm_operation_find(operation);
	LlmRecipe *recipe;
	JsonbValue content;

	if (op == NULL)
		return NULL;
	recipe = palloc0(sizeof(LlmRecipe));
	recipe->id = id;
	recipe->op = op;
	/* a copy, so that the recipe does not depend on the caller's row */
	recipe->spec = palloc(VARSIZE(spec));
	memcpy(recipe->spec, spec, VARSIZE(spec));
	if (!llm_json_tree(recipe->spec, &content) || content.type != jbvObject)
		return NULL;
	recipe->schema_name = op->name;
	recipe->output_tokens = op->output_tokens;
	load_params(op, &recipe->params, &content);
	op->load(recipe, &content);
	return recipe;
}

void
llm_operation_job_options(Jsonb *options, int *priority, Jsonb **tags, Jsonb **deadline)
{
	const JsonbValue *tree = llm_options_check(options);
	JsonbValue *value;

	value = llm_json_get(tree, "priority");
	if (priority != NULL)
		*priority = value == NULL ? 0 : llm_json_to_int(value);
	value = llm_json_get(tree, "tags");
	if (tags != NULL)
		*tags = value == NULL ? NULL : llm_json_store(value);
	value = llm_json_get(tree, "deadline");
	if (deadline != NULL)
		*deadline = value == NULL ? NULL : llm_json_store(value);
}
