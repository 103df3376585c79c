/*-------------------------------------------------------------------------
 *
 * planner_kept.c
 *	  What is around a call, as text that is stored until the answer is there.
 *
 * No tree of nodes and no raw value goes into our tables: a function that was dropped,
 * and another created under its number, would be called as if it were the same.  The text
 * is made as pg_dump makes views, under settings of its own: every name that is not in
 * pg_catalog is qualified, and constants read the same anywhere.  The settings under which
 * it is evaluated are those of the session that asks; enqueue.c adds them.
 *
 * Read by writeback_value.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "base/called.h"
#include "base/compat.h"
#include "base/pinned.h"
#include "bind/planner.h"

/* For check_functions_in_node(). */
static bool
is_temporary_function(Oid function, void *unused)
{
	return isAnyTempNamespace(get_func_namespace(function));
}

static bool
temporary_walker(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_temporary_function, NULL))
		return true;
	if (IsA(node, Const) || IsA(node, Param) || IsA(node, RowExpr) || IsA(node, CoerceToDomain) ||
		IsA(node, CoerceViaIO) || IsA(node, ArrayExpr) || IsA(node, RelabelType))
	{
		HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(exprType(node)));
		bool is_temporary = HeapTupleIsValid(tuple) &&
							isAnyTempNamespace(((Form_pg_type) GETSTRUCT(tuple))->typnamespace);

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		if (is_temporary)
			return true;
	}
	return expression_tree_walker(node, temporary_walker, unused);
}

bool
llm_kept_is_temporary(Node *expr)
{
	return temporary_walker(expr, NULL);
}

static void
append_string(StringInfo out, const char *name, const char *value)
{
	appendStringInfo(out, "%s\"%s\": ", out->len > 1 && out->data[out->len - 1] != '{' ? ", " : "", name);
	escape_json(out, value);
}

static char *
full_type(Oid type, int32 typmod)
{
	return format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/* {"type": ..., "collation": ...} of a leaf; no collation where it is the type's own. */
static void
append_leaf(StringInfo out, Node *leaf)
{
	Oid type = exprType(leaf);
	Oid collation = exprCollation(leaf);

	appendStringInfoChar(out, '{');
	append_string(out, "type", full_type(type, -1));
	if (OidIsValid(collation) && collation != get_typcollation(type))
		append_string(out, "collation", generate_collation_name(collation));
	appendStringInfoChar(out, '}');
}

/* What a bare call's answer is before it is the column's, as a parameter. */
static Node *
make_answer(Oid type)
{
	Param *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = 1;
	param->paramtype = type;
	param->paramtypmod = -1;
	param->paramcollid = get_typcollation(type);
	param->location = -1;
	return (Node *) param;
}

/* The functions that make the column's value. */
static void
append_called(StringInfo out, const LlmFoundTarget *target, const LlmFoundQuietColumn *column, Node *value)
{
	Oid type;
	int32 typmod;
	Oid collation;
	Node *coerced;
	ListCell *cell;

	get_atttypetypmodcoll(target->spec->relation, target->shown[column->attno - 1], &type, &typmod, &collation);
	coerced = coerce_to_target_type(NULL, copyObject(value), exprType(value), type, typmod, COERCION_ASSIGNMENT,
									COERCE_IMPLICIT_CAST, -1);
	appendStringInfoString(out, ", \"called\": [");
	foreach(cell, llm_called_by(coerced != NULL ? coerced : value))
	{
		if (foreach_current_index(cell) > 0)
			appendStringInfoString(out, ", ");
		escape_json(out, lfirst(cell));
	}
	appendStringInfoChar(out, ']');
}

char *
llm_kept_describe(const LlmFoundTarget *target, const LlmFoundQuietColumn *column,
				  const LlmFoundQuiet *quiet, const LlmFoundBranch *branch)
{
	int nest = llm_pinned_begin();
	bool is_own = branch->kept == NULL && quiet->is_own && branch->returns == JSONBOID;
	Node *value;
	StringInfoData out;
	ListCell *cell;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	append_string(&out, "returns", full_type(branch->returns, -1));
	if (branch->kept != NULL)
		append_string(&out, "expression", deparse_expression(branch->kept, NIL, false, false));
	else if (is_own)
		appendStringInfoString(&out, ", \"own\": true");
	appendStringInfoString(&out, ", \"leaves\": [");
	foreach(cell, branch->leaves)
	{
		if (foreach_current_index(cell) > 0)
			appendStringInfoString(&out, ", ");
		append_leaf(&out, lfirst(cell));
	}
	appendStringInfoString(&out, "], \"reads\": [");
	foreach(cell, column->reads)
	{
		AttrNumber shown = target->shown[lfirst_int(cell) - 1];

		if (foreach_current_index(cell) > 0)
			appendStringInfoString(&out, ", ");
		escape_json(&out, get_attname(target->spec->relation, shown, false));
	}
	appendStringInfoChar(&out, ']');
	value = branch->kept != NULL ? branch->kept : make_answer(is_own ? TEXTOID : branch->returns);
	append_called(&out, target, column, value);
	appendStringInfoChar(&out, '}');
	llm_pinned_end(nest);
	return out.data;
}
