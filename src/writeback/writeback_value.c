/*-------------------------------------------------------------------------
 *
 * writeback_value.c
 *	  From an answer to the value of a quiet cell.
 *
 * What is around the call is kept as SQL over parameters (planner_kept.c).  It is parsed
 * as one expression, with no path but pg_catalog, since all other names are qualified;
 * planned and evaluated under the settings of the session that asked, as the role that
 * asked, so that a function which is gone, or may not be called any more, is an error like
 * any other.  Values are evaluated before any row is locked.
 *
 * They reach the UPDATE by number, not as arrays: so they keep their type, whatever it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/params.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"

#include "base/called.h"
#include "base/compat.h"
#include "base/json.h"
#include "base/json_sql.h"
#include "base/pinned.h"
#include "operation/meaning.h"
#include "writeback/writeback_value.h"

/* A parameter: $1 is the answer, the others are leaves. */
typedef struct CellParam
{
	LlmJsonInput input;
	Oid collation;
} CellParam;

struct LlmCellValue
{
	Oid type; /* of the column */
	bool by_value;
	int16 length;
	bool is_own; /* $1 is the answer's own value as text */
	char *value_key; /* its member in the answer; NULL: the whole object */
	int nparams;
	CellParam *params;
	JsonbValue *settings; /* or NULL */
	ParamListInfo values;
	EState *estate;
	ExprContext *econtext;
	ExprState *expr;
};

/* What llm.cell_value() gives; written by offer() and by the callback at the end of a transaction. */
static LlmWriteRow **offered = NULL;
static int noffered = 0;
static Oid offered_type = InvalidOid;
static bool callback_registered = false;

PG_FUNCTION_INFO_V1(llm_enrich_cell_value);

static void
forget_offered(XactEvent event, void *arg)
{
	offered = NULL;
	noffered = 0;
}

void
llm_cell_value_offer(LlmWriteRow **rows, int n, Oid type)
{
	if (!callback_registered)
	{
		RegisterXactCallback(forget_offered, NULL);
		callback_registered = true;
	}
	offered = rows;
	noffered = n;
	offered_type = type;
}

/* SQL: llm.cell_value(cell anyelement, number) → the value to write */
Datum
llm_enrich_cell_value(PG_FUNCTION_ARGS)
{
	int number = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT32(1);

	if (offered == NULL || number < 0 || number >= noffered ||
		get_fn_expr_argtype(fcinfo->flinfo, 0) != offered_type)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function %s.%s cannot be called from SQL", LLM_SCHEMA, "cell_value"),
				 errdetail("The write-back calls it.")));
	if (offered[number]->value_is_null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(offered[number]->value);
}

/* The member as a string, NULL when there is none. */
static char *
member_string(const JsonbValue *object, const char *key)
{
	JsonbValue *value = llm_json_get(object, key);

	return value == NULL || value->type != jbvString ? NULL : llm_json_cstring(value);
}

/* A type by its qualified name; a collation of its own, or the type's. */
static void
read_param(CellParam *param, const char *type, const char *collation)
{
	Oid oid;
	int32 typmod;

	if (type == NULL)
		elog(ERROR, "a parameter has no type");
	llm_parse_type(type, &oid, &typmod);
	param->collation = collation == NULL ? get_typcollation(oid) : get_collation_oid(llm_name_list(collation), false);
	llm_json_input(&param->input, oid);
}

static void
read_params(LlmCellValue *cell, const JsonbValue *description)
{
	const JsonbValue *leaves = llm_json_get(description, "leaves");
	int nleaves = leaves == NULL ? 0 : leaves->val.array.nElems;

	cell->nparams = 1 + nleaves;
	cell->params = palloc0(cell->nparams * sizeof(CellParam));
	read_param(&cell->params[0], cell->is_own ? "pg_catalog.text" : member_string(description, "returns"), NULL);
	for (int i = 0; i < nleaves; i++)
	{
		const JsonbValue *leaf = &leaves->val.array.elems[i];

		read_param(&cell->params[1 + i], member_string(leaf, "type"), member_string(leaf, "collation"));
	}
}

static Node *
make_param(const LlmCellValue *cell, int number)
{
	Param *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = cell->params[number - 1].input.type;
	param->paramtypmod = -1;
	param->paramcollid = cell->params[number - 1].collation;
	param->location = -1;
	return (Node *) param;
}

/* ParseParamRefHook */
static Node *
param_ref(ParseState *pstate, ParamRef *ref)
{
	LlmCellValue *cell = pstate->p_ref_hook_state;

	if (ref->number < 1 || ref->number > cell->nparams)
		elog(ERROR, "there is no parameter $%d", ref->number);
	return make_param(cell, ref->number);
}

/* One expression, and nothing else that a SELECT may have; its value becomes one of the type. */
static Node *
parse_expression(ParseState *pstate, const char *sql, Oid type, const List *called)
{
	List *parsed = raw_parser(sql, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = NULL;
	Node *raw;

	if (list_length(parsed) == 1)
		select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	if (select == NULL || !IsA(select, SelectStmt) || list_length(select->targetList) != 1 ||
		select->op != SETOP_NONE ||
		select->fromClause != NIL || select->whereClause != NULL || select->distinctClause != NIL ||
		select->intoClause != NULL || select->groupClause != NIL || select->havingClause != NULL ||
		select->windowClause != NIL || select->sortClause != NIL || select->limitOffset != NULL ||
		select->limitCount != NULL || select->lockingClause != NIL || select->withClause != NULL)
		elog(ERROR, "what is kept of a call is no expression");
	raw = linitial_node(ResTarget, select->targetList)->val;
	llm_called_check_literals(raw, type, called);
	return transformExpr(pstate, raw, EXPR_KIND_UPDATE_SOURCE);
}

/* The value of the column, as an expression over the parameters. */
static Expr *
make_expression(LlmCellValue *cell, const char *sql, const List *called, Oid type, int32 typmod)
{
	ParseState *pstate = make_parsestate(NULL);
	Node *expr;
	Node *coerced;

	pstate->p_paramref_hook = param_ref;
	pstate->p_ref_hook_state = cell;
	expr = sql == NULL ? make_param(cell, 1) : parse_expression(pstate, sql, type, called);
	coerced = coerce_to_target_type(pstate, expr, exprType(expr), type, typmod, COERCION_ASSIGNMENT,
									COERCE_IMPLICIT_CAST, -1);
	if (coerced == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the column is of type %s, but the value would be of type %s",
						format_type_be(type), format_type_be(exprType(expr)))));
	assign_expr_collations(pstate, coerced);
	if (pstate->p_hasSubLinks)
		elog(ERROR, "what is kept of a call has a sub-select");
	llm_called_check(coerced, called);
	return (Expr *) coerced;
}

static void
start_evaluation(LlmCellValue *cell, Expr *expr)
{
	int nest = llm_meaning_begin(cell->settings);
	MemoryContext caller;

	cell->estate = CreateExecutorState();
	caller = MemoryContextSwitchTo(cell->estate->es_query_cxt);
	cell->values = makeParamList(cell->nparams);
	for (int i = 0; i < cell->nparams; i++)
	{
		cell->values->params[i].pflags = 0; /* not a constant: it differs from row to row */
		cell->values->params[i].ptype = cell->params[i].input.type;
	}
	cell->estate->es_param_list_info = cell->values;
	cell->expr = ExecInitExprWithParams(expression_planner(expr), cell->values);
	cell->econtext = GetPerTupleExprContext(cell->estate);
	cell->econtext->ecxt_param_list_info = cell->values;
	MemoryContextSwitchTo(caller);
	AtEOXact_GUC(true, nest);
}

LlmCellValue *
llm_cell_value_prepare(Jsonb *description, Oid relation, const char *column)
{
	LlmCellValue *cell = palloc0(sizeof(LlmCellValue));
	JsonbValue *tree = palloc(sizeof(JsonbValue));
	JsonbValue *own;
	int32 typmod;
	Oid collation;
	Expr *expr;
	int nest;

	if (!llm_json_tree(description, tree) || tree->type != jbvObject)
		elog(ERROR, "description of a cell is no object");
	get_atttypetypmodcoll(relation, get_attnum(relation, column), &cell->type, &typmod, &collation);
	get_typlenbyval(cell->type, &cell->length, &cell->by_value);
	own = llm_json_get(tree, "own");
	cell->is_own = own != NULL && own->type == jbvBool && own->val.boolean &&
				   TypeCategory(getBaseType(cell->type)) == TYPCATEGORY_STRING; /* else it was retyped since */
	cell->value_key = member_string(tree, "value");
	cell->settings = llm_json_get(tree, "settings");
	nest = llm_pinned_begin();
	read_params(cell, tree);
	expr = make_expression(cell, member_string(tree, "expression"), llm_json_strings(llm_json_get(tree, "called")),
						   cell->type, typmod);
	llm_pinned_end(nest);
	start_evaluation(cell, expr);
	return cell;
}

/* The call's value, as the function would return it. */
static void
answer_value(LlmCellValue *cell, Jsonb *answer, ParamExternData *param)
{
	LlmJsonInput *input = &cell->params[0].input;
	JsonbValue tree;
	const JsonbValue *value = &tree;

	if (input->type == JSONBOID && !cell->is_own)
	{
		param->value = JsonbPGetDatum(answer);
		param->isnull = false;
		return;
	}
	if (!llm_json_tree(answer, &tree))
		elog(ERROR, "answer nests too deep");
	if (cell->value_key != NULL && llm_json_get(&tree, cell->value_key) != NULL)
		value = llm_json_get(&tree, cell->value_key);
	param->value = llm_json_to_datum(input, value, &param->isnull);
}

/* All parameters of a row. */
static ParamExternData *
row_params(LlmCellValue *cell, const LlmWriteRow *row)
{
	ParamExternData *params = palloc0(cell->nparams * sizeof(ParamExternData));
	JsonbValue leaves = {.type = jbvNull};

	answer_value(cell, row->answer, &params[0]);
	if (row->leaves != NULL && !llm_json_tree(row->leaves, &leaves))
		elog(ERROR, "leaves of a cell nest too deep");
	if (cell->nparams > 1 && (leaves.type != jbvArray || leaves.val.array.nElems != cell->nparams - 1))
		elog(ERROR, "a cell has not as many leaves as its expression");
	for (int i = 1; i < cell->nparams; i++)
		params[i].value = llm_json_to_datum(&cell->params[i].input, &leaves.val.array.elems[i - 1], &params[i].isnull);
	return params;
}

static void
evaluate_row(LlmCellValue *cell, LlmWriteRow *row, const ParamExternData *params)
{
	Datum value;

	for (int i = 0; i < cell->nparams; i++)
	{
		cell->values->params[i].value = params[i].value;
		cell->values->params[i].isnull = params[i].isnull;
	}
	ResetExprContext(cell->econtext);
	value = ExecEvalExprSwitchContext(cell->expr, cell->econtext, &row->value_is_null);
	if (!row->value_is_null && cell->length == -1)
		row->value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	else if (!row->value_is_null)
		row->value = datumCopy(value, cell->by_value, cell->length);
}

void
llm_cell_value_evaluate(LlmCellValue *cell, LlmWriteRow **rows, int n)
{
	ParamExternData **params = palloc(n * sizeof(ParamExternData *));
	int nest = llm_pinned_begin();

	for (int i = 0; i < n; i++)
		params[i] = row_params(cell, rows[i]);
	llm_pinned_end(nest);
	nest = llm_meaning_begin(cell->settings);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		evaluate_row(cell, rows[i], params[i]);
	}
	AtEOXact_GUC(true, nest);
}
