/*-------------------------------------------------------------------------
 *
 * condition.c
 *	  The user's own conditions on an answer: the argument "checks".
 *
 * The recipe has them as they were typed, to tell them, and as text with every name qualified and every
 * type said, to evaluate them: a function that somebody puts into the search_path between the statement
 * and the answer is not found.  No tree of them is stored: a function that was dropped and another one
 * that has its number now would crash the server.  They are parsed as a CHECK constraint is, so that they
 * have no sub-select and no aggregate, and are no statement.  Nothing here is privileged: a caller that evaluates
 * them is the role that asked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/ruleutils.h"

#include "base/called.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/json.h"
#include "base/json_sql.h"
#include "base/pinned.h"
#include "operation/condition.h"
#include "operation/meaning.h"
#include "operation/spec.h"

/* More, or longer ones, are a mistake. */
#define MAX_CONDITIONS 20
#define MAX_BYTES 10000

/* What a model is told of one. */
#define TOLD_BYTES 500

typedef enum ConditionParam
{
	PARAM_ANSWER = 1,
	PARAM_INPUT,
	PARAMS = PARAM_INPUT
} ConditionParam;

typedef struct Condition
{
	char *sql;
	ExprState *state;
} Condition;

struct LlmConditions
{
	JsonbValue *settings; /* an object; or NULL */
	const char *value_key; /* the member that "answer" is; NULL: the whole object */
	int n;
	Condition *all;
	EState *estate;
	ParamListInfo values;
	ExprContext *econtext;
};

/* Context of an error while one is parsed. */
static void
tell_condition(void *arg)
{
	const char *sql = arg;
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(sql);
	}
	errcontext("condition \"%s\" of argument \"checks\"", sql);
}

static Node *
make_param(ConditionParam number)
{
	Param *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = number == PARAM_ANSWER ? JSONBOID : TEXTOID;
	param->paramtypmod = -1;
	param->paramcollid = get_typcollation(param->paramtype);
	param->location = -1;
	return (Node *) param;
}

/* PreParseColumnRefHook: the two names that there are. */
static Node *
find_name(ParseState *pstate, ColumnRef *ref)
{
	Node *field = linitial(ref->fields);

	if (list_length(ref->fields) != 1 || !IsA(field, String))
		return NULL;
	if (strcmp(strVal(field), "answer") == 0)
		return make_param(PARAM_ANSWER);
	return strcmp(strVal(field), "input") == 0 ? make_param(PARAM_INPUT) : NULL;
}

/* ParseParamRefHook: the same as they stand in what is stored. */
static Node *
find_number(ParseState *pstate, ParamRef *ref)
{
	return ref->number == PARAM_ANSWER || ref->number == PARAM_INPUT ? make_param(ref->number) : NULL;
}

/* Does a function call ask a model?  It would wait for a sender that waits for the writer. */
static bool
is_call(Oid function, void *context)
{
	char *name = get_func_name(function);

	return name != NULL && llm_operation_by_function(name) != NULL;
}

static bool
find_call(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, is_call, context) || expression_tree_walker(node, find_call, context);
}

/* "*", which only the target list of a SELECT may have, or an expression that is given a name. */
static bool
is_more_than_expression(const ResTarget *target)
{
	const ColumnRef *ref = (const ColumnRef *) target->val;

	return target->name != NULL || target->indirection != NIL || target->val == NULL ||
		   (IsA(ref, ColumnRef) && IsA(llast(ref->fields), A_Star));
}

/* One expression, and nothing else that a SELECT may have; one that is stored calls no others than these. */
static Expr *
parse(const char *sql, bool is_stored, const List *called)
{
	List *parsed = raw_parser(sql, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = NULL;
	ParseState *pstate = make_parsestate(NULL);
	Node *expr;

	if (list_length(parsed) == 1)
		select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	if (select == NULL || !IsA(select, SelectStmt) || list_length(select->targetList) != 1 ||
		select->op != SETOP_NONE || select->fromClause != NIL || select->whereClause != NULL ||
		select->distinctClause != NIL || select->intoClause != NULL || select->groupClause != NIL ||
		select->havingClause != NULL || select->windowClause != NIL || select->sortClause != NIL ||
		select->limitOffset != NULL || select->limitCount != NULL || select->lockingClause != NIL ||
		select->withClause != NULL || is_more_than_expression(linitial_node(ResTarget, select->targetList)))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("a condition must be one expression"),
				 errhint("For example: answer->>'label' <> 'other' OR length(input) < 20")));
	expr = linitial_node(ResTarget, select->targetList)->val;
	if (is_stored)
	{
		pstate->p_paramref_hook = find_number;
		llm_called_check_literals(expr, BOOLOID, called);
	}
	else
		pstate->p_pre_columnref_hook = find_name;
	expr = transformExpr(pstate, expr, EXPR_KIND_CHECK_CONSTRAINT);
	expr = coerce_to_boolean(pstate, expr, "checks");
	assign_expr_collations(pstate, expr);
	if (find_call(expr, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a condition cannot ask a model"),
				 errhint("Ask in a statement of its own about what is stored.")));
	return (Expr *) expr;
}

/* Those of the other list that are not in this one yet, too. */
static List *
add_names(List *names, const List *more)
{
	ListCell *cell;

	foreach(cell, more)
	{
		String *name = makeString(lfirst(cell));

		names = list_append_unique(names, name);
	}
	return names;
}

static JsonbValue
make_texts(const List *names)
{
	JsonbValue *texts = palloc(Max(list_length(names), 1) * sizeof(JsonbValue));
	ListCell *cell;

	foreach(cell, names)
		texts[foreach_current_index(cell)] = llm_json_make_text(strVal(lfirst(cell)));
	return llm_json_make_array(texts, list_length(names));
}

/* As it is stored: what was meant when it was typed, wherever and whenever it is read. */
static char *
qualify(char *sql, List **called)
{
	ErrorContextCallback context = {.previous = error_context_stack, .callback = tell_condition, .arg = sql};
	Node *expr;
	char *qualified;
	int nest;

	error_context_stack = &context;
	expr = (Node *) parse(sql, false, NIL);
	error_context_stack = context.previous;
	nest = llm_pinned_begin();
	qualified = deparse_expression(expr, NIL, false, false);
	*called = add_names(*called, llm_called_by(expr));
	llm_pinned_end(nest);
	return qualified;
}

static void
start(LlmConditions *conditions, const JsonbValue *list, const JsonbValue *parsed, const List *called)
{
	Expr **trees = palloc(list->val.array.nElems * sizeof(Expr *));
	int nest;
	MemoryContext caller;

	conditions->estate = CreateExecutorState();
	caller = MemoryContextSwitchTo(conditions->estate->es_query_cxt);
	conditions->n = list->val.array.nElems;
	conditions->all = palloc0(conditions->n * sizeof(Condition));
	conditions->values = makeParamList(PARAMS);
	for (int i = 0; i < PARAMS; i++)
		conditions->values->params[i] = (ParamExternData){.ptype = i + 1 == PARAM_ANSWER ? JSONBOID : TEXTOID};
	conditions->estate->es_param_list_info = conditions->values;
	nest = llm_pinned_begin();
	for (int i = 0; i < conditions->n; i++)
	{
		ErrorContextCallback context = {.previous = error_context_stack, .callback = tell_condition};

		context.arg = llm_json_cstring(&list->val.array.elems[i]);
		error_context_stack = &context;
		trees[i] = parse(llm_json_cstring(&parsed->val.array.elems[i]), true, called);
		llm_called_check((Node *) trees[i], called);
		error_context_stack = context.previous;
	}
	llm_pinned_end(nest);
	nest = llm_meaning_begin(conditions->settings);
	for (int i = 0; i < conditions->n; i++)
	{
		Condition *condition = &conditions->all[i];
		ErrorContextCallback context = {.previous = error_context_stack, .callback = tell_condition};

		condition->sql = llm_json_cstring(&list->val.array.elems[i]);
		context.arg = condition->sql;
		error_context_stack = &context;
		condition->state = ExecInitExprWithParams(expression_planner(trees[i]), conditions->values);
		error_context_stack = context.previous;
	}
	AtEOXact_GUC(true, nest);
	conditions->econtext = GetPerTupleExprContext(conditions->estate);
	conditions->econtext->ecxt_param_list_info = conditions->values;
	MemoryContextSwitchTo(caller);
}

LlmConditions *
llm_conditions_prepare(Jsonb *spec)
{
	JsonbValue tree;
	const JsonbValue *list;
	const JsonbValue *parsed;
	const JsonbValue *value_key;
	LlmConditions *conditions;

	if (!llm_json_tree(spec, &tree) || tree.type != jbvObject)
		return NULL;
	list = llm_json_get(&tree, LLM_CONDITION_KEY);
	if (list == NULL || list->type != jbvArray)
		return NULL;
	parsed = llm_json_get(&tree, LLM_CONDITION_PARSED_KEY);
	if (parsed == NULL || parsed->type != jbvArray || parsed->val.array.nElems != list->val.array.nElems)
		elog(ERROR, "a recipe has conditions that were not parsed");
	conditions = palloc0(sizeof(LlmConditions));
	conditions->settings = llm_json_get(&tree, LLM_CONDITION_SETTINGS_KEY);
	value_key = llm_json_get(&tree, LLM_CONDITION_VALUE_KEY);
	if (value_key != NULL)
		conditions->value_key = llm_json_cstring(value_key);
	start(conditions, list, parsed, llm_json_strings(llm_json_get(&tree, LLM_CONDITION_CALLED_KEY)));
	return conditions;
}

/* The first that does not hold; NULL: all do.  *at is the one that is evaluated, for a caller that catches errors. */
static const char *
find_false(LlmConditions *conditions, volatile int *at)
{
	for (*at = 0; *at < conditions->n; (*at)++)
	{
		Datum holds;
		bool isnull;

		ResetExprContext(conditions->econtext);
		holds = ExecEvalExprSwitchContext(conditions->all[*at].state, conditions->econtext, &isnull);
		if (!isnull && !DatumGetBool(holds))
			return conditions->all[*at].sql;
	}
	return NULL;
}

/*
 * Is it no answer's fault?  A function may raise 57014 or 55P03, too: nobody cancels that or has locked
 * anything, so that it would be tried for ever.
 */
static bool
is_ours(const ErrorData *error)
{
	int sqlerrcode = error->sqlerrcode;

	if (llm_error_is_said(error))
		return false;
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_SYSTEM_ERROR:
			return true;
		default:
			return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
				   sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
	}
}

/* Would it be raised here for any answer? */
static bool
is_not_here(const ErrorData *error)
{
	return error->sqlerrcode == LLM_ERRCODE_NOT_HERE && !llm_error_is_said(error);
}

static char *
clip(const char *words)
{
	return pnstrdup(words, llm_json_clip(words, strlen(words), TOLD_BYTES));
}

/* What conditions know as "answer". */
static Jsonb *
own_value(const LlmConditions *conditions, Jsonb *answer)
{
	JsonbValue tree;
	const JsonbValue *value = NULL;

	if (conditions->value_key != NULL && llm_json_tree(answer, &tree) && tree.type == jbvObject)
		value = llm_json_get(&tree, conditions->value_key);
	return value == NULL ? answer : llm_json_store(value);
}

char *
llm_conditions_fault(LlmConditions *conditions, Jsonb *answer, const char *input, size_t input_len,
					 ErrorData **forbidden)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ParamExternData *params = conditions->values->params;
	char *volatile fault = NULL;
	volatile int at = 0;

	params[PARAM_ANSWER - 1].value = JsonbPGetDatum(own_value(conditions, answer));
	params[PARAM_INPUT - 1].value = PointerGetDatum(cstring_to_text_with_len(input, (int) input_len));
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		int nest = llm_meaning_begin(conditions->settings);
		const char *sql = find_false(conditions, &at);

		if (sql != NULL)
			fault = psprintf("The answer does not satisfy the condition %s", clip(sql));
		AtEOXact_GUC(false, nest);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (forbidden != NULL && is_not_here(error))
			*forbidden = error;
		else if (is_ours(error) || is_not_here(error))
			ReThrowError(error);
		else
			fault = psprintf("The condition %s raises an error for the answer: %s", clip(conditions->all[at].sql),
							 clip(error->message == NULL ? "unknown" : error->message));
	}
	PG_END_TRY();
	return fault;
}

/* Where the function returns a value of its own: which member of an answer that is. */
static void
add_value_key(LlmSpec *spec)
{
	JsonbPair pairs[LLM_SPEC_MAX_KEYS];
	JsonbValue content;
	LlmRecipe *recipe;

	if (!spec->op->is_plain)
		return;
	memcpy(pairs, spec->pairs, sizeof(pairs));
	content = llm_json_make_object(pairs, spec->n);
	recipe = llm_operation_load(0, spec->op->name, llm_json_store(&content));
	if (recipe != NULL && recipe->value_key != NULL)
		llm_spec_add(spec, LLM_CONDITION_VALUE_KEY, llm_json_make_text(recipe->value_key));
}

/* The argument: texts, and what they mean in this session.  What is wrong with them is said now. */
void
llm_argument_checks(LlmSpec *spec, LlmArg arg, Datum value)
{
	JsonbValue *list;
	JsonbValue *parsed;
	JsonbPair pairs[4];
	JsonbValue content;
	List *called = NIL;
	Datum *texts;
	bool *nulls;
	int n;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
	if (n == 0 || n > MAX_CONDITIONS)
		llm_spec_refuse(arg, psprintf("It must have from 1 to %d conditions, such as answer->>'label' <> ''.", MAX_CONDITIONS));
	list = palloc(n * sizeof(JsonbValue));
	parsed = palloc(n * sizeof(JsonbValue));
	for (int i = 0; i < n; i++)
	{
		char *words = nulls[i] ? pstrdup("") : TextDatumGetCString(texts[i]);

		if (llm_spec_is_blank(words, strlen(words)) || strlen(words) > MAX_BYTES)
			llm_spec_refuse(arg, "A condition must not be null, blank or longer than 10,000 bytes.");
		list[i] = llm_json_make_text(words);
		parsed[i] = llm_json_make_text(qualify(words, &called));
	}
	llm_json_set_pair(&pairs[0], LLM_CONDITION_KEY, llm_json_make_array(list, n));
	llm_json_set_pair(&pairs[1], LLM_CONDITION_PARSED_KEY, llm_json_make_array(parsed, n));
	llm_json_set_pair(&pairs[2], LLM_CONDITION_SETTINGS_KEY, llm_meaning());
	llm_json_set_pair(&pairs[3], LLM_CONDITION_CALLED_KEY, make_texts(called));
	llm_spec_add(spec, LLM_CONDITION_KEY, pairs[0].value);
	llm_spec_add(spec, LLM_CONDITION_PARSED_KEY, pairs[1].value);
	llm_spec_add(spec, LLM_CONDITION_SETTINGS_KEY, pairs[2].value);
	llm_spec_add(spec, LLM_CONDITION_CALLED_KEY, pairs[3].value);
	add_value_key(spec);
	content = llm_json_make_object(pairs, lengthof(pairs));
	(void) llm_conditions_prepare(llm_json_store(&content));
}
