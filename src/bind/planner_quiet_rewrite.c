/*-------------------------------------------------------------------------
 *
 * planner_quiet_rewrite.c
 *	  Put what planner_quiet.c has made of assignments to quiet cells into the statement.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "bind/defer_spec.h"
#include "bind/planner.h"

/* keep_quiet() without a carrier. */
static FuncExpr *
make_clear(void)
{
	return makeFuncExpr(InvalidOid, BOOLOID, list_make1(makeNullConst(JSONBOID, -1, InvalidOid)), InvalidOid,
						InvalidOid, COERCE_EXPLICIT_CALL);
}

/* The quiet column of that number. */
static LlmFoundQuietColumn *
column_of(LlmFoundTarget *target, AttrNumber attno)
{
	foreach_ptr(LlmFoundQuietColumn, column, target->quiet)
	{
		if (column->attno == attno)
			return column;
	}
	elog(ERROR, "column %d is not quiet", attno);
	return NULL;
}

/* Which of the column's reads an expression reads, as bits. */
static uint64
read_bits(const LlmFoundQuietColumn *column, const Bitmapset *reads)
{
	uint64 bits = 0;
	ListCell *cell;

	foreach(cell, column->reads)
	{
		if (bms_is_member(lfirst_int(cell), reads))
			bits |= UINT64CONST(1) << foreach_current_index(cell);
	}
	return bits;
}

/* What the cell holds until the answer is there; in a new row its default, if that is not itself a question. */
static Expr *
meanwhile(LlmFoundTarget *target, Relation rel, LlmFoundValue *value)
{
	AttrNumber attno = value->entry->resno;
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	Node *preset;

	if (value->is_update)
		return (Expr *) llm_rewrite_column(target, rel, attno);
	preset = build_column_default(rel, attno);
	if (preset == NULL || llm_planner_any_call(preset) != NULL)
	{
		preset = (Node *) makeNullConst(getBaseType(att->atttypid), -1, att->attcollation);
		if (getBaseType(att->atttypid) != att->atttypid)
			preset = coerce_to_domain(preset, getBaseType(att->atttypid), -1, att->atttypid, COERCION_IMPLICIT,
									  COERCE_IMPLICIT_CAST, -1, false);
	}
	return (Expr *) preset;
}

static FuncExpr *
finish_call(FuncExpr *call, Oid function, LlmDeferQuiet *spec)
{
	call->funcid = function;
	call->args = list_concat(llm_rewrite_fixed_args(llm_defer_write_quiet(spec)), call->args);
	return call;
}

/* CASE WHEN clear() THEN NULL ELSE expr END: clear() is evaluated first, and false. */
static Expr *
clear_before(FuncExpr *clear, Expr *expr)
{
	CaseExpr *choice = makeNode(CaseExpr);
	CaseWhen *when = makeNode(CaseWhen);

	choice->casetype = exprType((Node *) expr);
	choice->casecollid = exprCollation((Node *) expr);
	when->expr = (Expr *) clear;
	when->result = expr;
	when->location = -1;
	choice->args = list_make1(when);
	choice->defresult = expr;
	choice->location = -1;
	/* the branch that is never taken must not have a second copy of the calls */
	when->result = (Expr *) makeNullConst(choice->casetype, exprTypmod((Node *) expr), choice->casecollid);
	return (Expr *) choice;
}

void
llm_quiet_rewrite(LlmFoundTarget *target, Relation rel, LlmFoundValue *value, const LlmPlannerCalls *functions)
{
	LlmFoundQuiet *quiet = value->quiet;
	LlmFoundQuietColumn *column = column_of(target, value->entry->resno);
	LlmDeferQuiet spec = {target->spec, column->column, value->is_update, false, -1,
						  read_bits(column, quiet->reads), ""};

	foreach_ptr(LlmFoundBranch, branch, quiet->branches)
	{
		spec.offered = branch->offered == 0 ? -1 : column_of(target, branch->offered)->column;
		spec.kept = llm_kept_describe(target, column, quiet, branch);
		branch->when->result = meanwhile(target, rel, value);
		finish_call(branch->keep, functions->keep_quiet, &spec);
		if (branch->carried != NULL)
			finish_call(branch->carried, functions->carried, &spec);
	}
	value->entry->expr = quiet->expr;
	if (quiet->clear != NULL)
	{
		spec.clear = true;
		spec.offered = -1;
		spec.kept = "";
		value->entry->expr = clear_before(finish_call(quiet->clear, functions->keep_quiet, &spec), quiet->expr);
	}
}

/* Clear the columns that a list of assignments leaves alone, where it has any assignment at all. */
static void
clear_in_list(LlmFoundTarget *target, List *entries, Oid keep_quiet)
{
	TargetEntry *first = NULL;

	foreach_ptr(TargetEntry, entry, entries)
	{
		if (!entry->resjunk && !llm_planner_is_part(entry))
		{
			first = entry;
			break;
		}
	}
	foreach_ptr(LlmFoundQuietColumn, column, target->quiet)
	{
		LlmDeferQuiet spec = {target->spec, column->column, false, true, -1, 0, ""};
		bool is_assigned = false;

		foreach_ptr(LlmFoundValue, assigned, target->values)
		{
			is_assigned = is_assigned || (assigned->beside == entries && assigned->quiet != NULL &&
										  assigned->entry->resno == column->attno);
		}
		if (!is_assigned && first != NULL)
		{
			FuncExpr *clear = make_clear();

			first->expr = clear_before(finish_call(clear, keep_quiet, &spec), first->expr);
		}
	}
}

void
llm_quiet_clear_others(LlmFoundTarget *target, Oid keep_quiet)
{
	Query *query = target->query;

	if (query->commandType == CMD_INSERT || query->commandType == CMD_UPDATE)
		clear_in_list(target, query->targetList, keep_quiet);
	if (query->onConflict != NULL && query->onConflict->action == ONCONFLICT_UPDATE)
		clear_in_list(target, query->onConflict->onConflictSet, keep_quiet);
	foreach_node(MergeAction, action, query->mergeActionList)
		clear_in_list(target, action->targetList, keep_quiet);
}

FuncExpr *
llm_quiet_check(LlmFoundTarget *target, Relation rel, LlmFoundQuietColumn *column, Oid bind_quiet)
{
	LlmDeferQuiet spec = {target->spec, column->column, false, false, -1, 0, ""};
	List *args = llm_rewrite_fixed_args(llm_defer_write_quiet(&spec));
	ListCell *cell;

	args = list_concat(args, llm_rewrite_row(target, rel));
	args = lappend(args, llm_rewrite_column(target, rel, column->attno));
	foreach(cell, column->reads)
		args = lappend(args, llm_rewrite_column(target, rel, lfirst_int(cell)));
	return makeFuncExpr(bind_quiet, BOOLOID, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}
