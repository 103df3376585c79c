/*-------------------------------------------------------------------------
 *
 * planner_rewrite.c
 *	  Put issue(), keep(), seen() and bind() into a statement.
 *
 *	  llm_classify(body, '{a,b}')            becomes  issue(magic, spec, body, '{a,b}', …)
 *	  SET label = <expression with a call>   becomes  SET label = keep(magic, spec, label, <expression>, tableoid, key)
 *	  and last of the checks on stored rows           seen(magic, …, condition, label) (planner_seen.c)
 *	                                                  bind(magic, spec, tableoid, key …, columns …)
 *
 * bind() travels as the condition of a view's WITH CHECK OPTION, which always holds.
 * The executor evaluates it on the row as stored, after defaults, BEFORE triggers and
 * tuple routing, for INSERT, UPDATE, upsert, MERGE and moved rows alike, and maps
 * columns to those of a partition or child by itself.  Bare columns are passed and
 * nothing is added to the columns that permissions are checked for: an UPDATE that was
 * legal without SELECT stays legal.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "operation/argument.h"

/* A function takes 100 arguments at most: these many are left for columns beside a key of the longest kind. */
#define COLUMNS_PER_CHECK 60

/* A role for each argument of a public function, from the names of its arguments. */
static char *
arg_roles(HeapTuple function)
{
	Oid *types;
	char **names;
	char *modes;
	int nargs = get_func_arg_info(function, &types, &names, &modes);
	char *roles = palloc0(nargs + 1);

	roles[0] = LLM_ROLE_INPUT;
	for (int i = 1; i < nargs; i++)
	{
		LlmArg arg = names == NULL ? LLM_ARGS : llm_argument_find(names[i]);

		if (arg == LLM_ARGS || types[i] != llm_argument_type_oid(arg))
			elog(ERROR, "argument %d of function %s is not known", i + 1,
				 NameStr(((Form_pg_proc) GETSTRUCT(function))->proname));
		roles[i] = LLM_ROLE_ARG(arg);
	}
	return roles;
}

/* Turn a call into issue(), in its place. */
static void
rewrite_call(LlmFoundCall *found, int number, Oid issue)
{
	FuncExpr *call = found->call;
	HeapTuple tuple;
	LlmDeferSite site;

	if (call->funcid == issue)
		return; /* a node that stands in two places of the tree */
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", call->funcid);
	call->args = expand_function_arguments(call->args, false, call->funcresulttype, tuple);
	site.number = number;
	site.direct = found->direct;
	site.function = call->funcid;
	site.name = NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname);
	site.args = arg_roles(tuple);
	if (list_length(call->args) != strlen(site.args))
		elog(ERROR, "function %s was called with %d arguments", site.name, list_length(call->args));
	call->args = list_concat(llm_rewrite_fixed_args(llm_defer_write_site(&site)), call->args);
	call->funcid = issue;
	call->funcresulttype = JSONBOID; /* a marker, whatever the answer will be */
	call->funccollid = InvalidOid;
	call->funcformat = COERCE_EXPLICIT_CALL;
	ReleaseSysCache(tuple);
}

/* Add a column of the key, and those that it is made from if it is generated; as pull_varattnos() has them. */
static Bitmapset *
add_key_column(Bitmapset *columns, Relation rel, AttrNumber attno)
{
	if (TupleDescAttr(RelationGetDescr(rel), attno - 1)->attgenerated)
		pull_varattnos(build_column_default(rel, attno), 1, &columns);
	return bms_add_member(columns, attno - FirstLowInvalidHeapAttributeNumber);
}

/* Does the same target list assign what the key is, or is made from? */
static bool
moves_key(LlmFoundTarget *target, Relation rel, List *entries)
{
	Bitmapset *columns = NULL;

	for (int i = 0; i < target->spec->nkeys; i++)
		columns = add_key_column(columns, rel, target->key_attnos[i]);
	foreach_ptr(TargetEntry, entry, entries)
	{
		if (!entry->resjunk && bms_is_member(entry->resno - FirstLowInvalidHeapAttributeNumber, columns))
			return true;
	}
	return false;
}

/*
 * Where keep() goes in an assigned expression: inside the column's own coercions, so
 * that a domain's CHECK sees what will be stored.
 */
static Expr **
inside_coercions(Expr **spot)
{
	while (IsA(*spot, CoerceToDomain))
		spot = &((CoerceToDomain *) *spot)->arg;
	return spot;
}

/* Wrap an assigned expression in keep(). */
static void
rewrite_value(LlmFoundTarget *target, Relation rel, LlmFoundValue *value, Oid keep)
{
	Expr **spot = inside_coercions(&value->entry->expr);
	Oid type = exprType((Node *) *spot);
	Oid collation = exprCollation((Node *) *spot);
	LlmDeferCell cell = {target->spec, 0, llm_marker_cell_type(type), value->is_update, false};
	Node *old;
	List *row;
	List *args;

	while (target->column_attnos[cell.column] != value->entry->resno)
		cell.column++;
	cell.moves_key = value->is_update && moves_key(target, rel, value->beside);
	if (value->is_update)
		old = llm_rewrite_column(target, rel, value->entry->resno);
	else
		old = (Node *) makeNullConst(type, -1, collation);
	if (exprType(old) != type)
		old = (Node *) makeRelabelType((Expr *) old, type, -1, collation, COERCE_IMPLICIT_CAST);
	row = value->is_update ? llm_rewrite_row(target, rel) : list_make1(makeBoolConst(false, true));
	args = list_concat(llm_rewrite_fixed_args(llm_defer_write_cell(&cell)), list_make2(old, *spot));
	*spot = (Expr *) makeFuncExpr(keep, type, list_concat(args, row), collation, collation, COERCE_EXPLICIT_CALL);
}

/* Append the checks that bind stored rows. */
static void
add_check(LlmFoundTarget *target, Relation rel, const LlmPlannerCalls *functions)
{
	WithCheckOption *check = makeNode(WithCheckOption);
	List *quals = llm_planner_seen_calls(target, rel, functions->seen);
	ListCell *cell;
	int first;

	for (first = 0; first < target->spec->nshowing; first += COLUMNS_PER_CHECK)
	{
		LlmDeferCheck part = {target->spec, first, Min(COLUMNS_PER_CHECK, target->spec->nshowing - first)};
		List *args = llm_rewrite_fixed_args(llm_defer_write_check(&part));

		args = list_concat(args, llm_rewrite_row(target, rel));
		for (int i = first; i < first + part.count; i++)
			args = lappend(args, llm_rewrite_column(target, rel, target->column_attnos[i]));
		quals = lappend(quals, makeFuncExpr(functions->bind, BOOLOID, args, InvalidOid, InvalidOid,
											COERCE_EXPLICIT_CALL));
	}
	foreach(cell, target->quiet)
		quals = lappend(quals, llm_quiet_check(target, rel, lfirst(cell), functions->bind_quiet));
	check->kind = WCO_VIEW_CHECK;
	check->relname = pstrdup(RelationGetRelationName(rel));
	check->qual = (Node *) make_ands_explicit(quals);
	target->query->withCheckOptions = lappend(target->query->withCheckOptions, check);
}

/* Change the statement in place. */
void
llm_planner_rewrite(LlmFound *found)
{
	const LlmPlannerCalls *functions = llm_planner_calls();
	LlmPlannerCalls helpers;
	ListCell *cell;
	ListCell *value;

	if (functions == NULL)
		elog(ERROR, "functions of extension \"%s\" are gone", LLM_LIBRARY);
	helpers = *functions; /* what follows may look into catalogs, and so forget them */
	foreach_ptr(LlmFoundTarget, target, found->targets)
	{
		Relation rel = table_open(rt_fetch(target->query->resultRelation, target->query->rtable)->relid, NoLock);

		foreach(value, target->values)
		{
			if (((LlmFoundValue *) lfirst(value))->quiet != NULL)
				llm_quiet_rewrite(target, rel, lfirst(value), &helpers);
			else
				rewrite_value(target, rel, lfirst(value), helpers.keep);
		}
		llm_quiet_clear_others(target, helpers.keep_quiet);
		add_check(target, rel, &helpers);
		table_close(rel, NoLock);
	}
	foreach_node(FuncExpr, call, found->asked)
		call->location = LLM_CALL_IN_WHERE;
	foreach(cell, found->calls)
		rewrite_call(lfirst(cell), foreach_current_index(cell), helpers.issue);
}
