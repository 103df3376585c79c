/*-------------------------------------------------------------------------
 *
 * planner_seen.c
 *	  Would the role still see a row that holds a marker?
 *
 * An answer is written as an UPDATE of the relation that the statement named, with
 * the rights of the role that asked.  A view WHERE label IS NULL, or a policy that says
 * so, loses the row in the moment its marker is stored: the answer would be paid and
 * then find no row.  So the conditions of the views between the statement and its table,
 * and of row security for an UPDATE, are evaluated once more on the row as stored, and
 * a row that fails one raises before anything is queued.  One that shows pending rows,
 * too, is satisfied.
 *
 *	  target()     collects the conditions (planner_target.c knows the views)
 *	  rewrite()    puts them into seen(), beside bind()
 *	  seen()       when the statement runs, for each stored row
 *
 * A cell that shows nothing of its question keeps its value, so its conditions say what they said
 * before; but a role may store rows that it does not see.
 *
 * A condition with a sub-select is not evaluated; it is refused at once where it
 * reads the column that gets the marker, and trusted where it does not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/attnum.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rowsecurity.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "bind/defer.h"
#include "bind/planner.h"
#include "cell/marker.h"

/* Arguments of seen(). */
#define SEEN_HIDER 1
#define SEEN_COLUMN 2
#define SEEN_VISIBLE 3
#define SEEN_CELL 4

/* How the columns of one relation look from the target's table. */
typedef struct Level
{
	int varno; /* of the relation in the conditions that read it */
	int target; /* of the table in the statement */
	Node **exprs; /* by attribute number less one; NULL: not known.  No array: it is the table */
	int nexprs;
	Bitmapset *marked; /* attribute numbers that depend on a column which gets a marker */
} Level;

/* For to_table_mutator(). */
typedef struct Walk
{
	const Level *level;
	bool unknown;
} Walk;

PG_FUNCTION_INFO_V1(llm_enrich_seen);

/* Does the expression read a column that depends on a marker?  Sub-selects are looked into. */
static bool
mentions_marked(Node *node, const Level *level)
{
	foreach_node(Var, var, pull_vars_of_level(node, 0))
	{
		if (var->varno == level->varno && (var->varattno == InvalidAttrNumber ||
										   (var->varattno > 0 && bms_is_member(var->varattno, level->marked))))
			return true;
	}
	return false;
}

/* Columns of a view become what they are in the table. */
static Node *
to_table_mutator(Node *node, Walk *walk)
{
	const Level *level = walk->level;

	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
	{
		walk->unknown = true;
		return node;
	}
	if (IsA(node, Var) && level->exprs == NULL)
	{
		Var *var = copyObject((Var *) node);

		if (var->varno != level->varno)
			walk->unknown = true;
		var->varno = level->target;
		return (Node *) var;
	}
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if (var->varno != level->varno || var->varattno <= 0 || var->varattno > level->nexprs ||
			level->exprs[var->varattno - 1] == NULL)
		{
			walk->unknown = true;
			return node;
		}
		return copyObject(level->exprs[var->varattno - 1]);
	}
	return expression_tree_mutator(node, to_table_mutator, walk);
}

/* The expression over the table's columns; NULL when it cannot be told, or has a sub-select. */
static Node *
to_table(Node *node, const Level *level)
{
	Walk walk = {level, false};
	Node *mapped = to_table_mutator(node, &walk);

	return walk.unknown ? NULL : mapped;
}

/* Add what can be evaluated of one condition; refuse it where nobody could tell. */
static void
add_condition(const LlmFound *found, LlmFoundTarget *target, const Level *level, const char *hider, Node *condition)
{
	LlmFoundCondition *known = palloc0(sizeof(LlmFoundCondition));
	List *quals = NIL;
	ListCell *cell;

	foreach(cell, make_ands_implicit((Expr *) condition))
	{
		Node *qual = to_table(lfirst(cell), level);

		if (qual != NULL)
			quals = lappend(quals, qual);
		else if (mentions_marked(lfirst(cell), level))
		{
			LlmRefusal refusal = {target->call, get_rel_name(target->spec->relation), NULL, NULL, NULL};

			refusal.detail = psprintf("The condition of %s reads the assigned column in a sub-select or through a whole row, so that nobody can tell whether the row would still be found when the answer is there.",
									  hider);
			refusal.hint = "Write to a relation without such a condition.";
			llm_planner_refuse(found, &refusal);
		}
	}
	if (quals == NIL)
		return;
	known->hider = hider;
	known->qual = (Node *) make_ands_explicit(quals);
	target->conditions = lappend(target->conditions, known);
}

/* One view up: its columns by what they are in the table, and which of them a marker changes. */
static void
climb(Level *level, const LlmFoundView *view)
{
	int n = list_length(view->query->targetList);
	Node **exprs = palloc0(n * sizeof(Node *));
	Bitmapset *marked = NULL;
	int shown = 0;

	foreach_ptr(TargetEntry, entry, view->query->targetList)
	{
		if (entry->resjunk)
			continue;
		exprs[entry->resno - 1] = to_table((Node *) entry->expr, level);
		if (mentions_marked((Node *) entry->expr, level))
			marked = bms_add_member(marked, entry->resno);
		shown = Max(shown, entry->resno);
	}
	level->exprs = exprs;
	level->nexprs = shown;
	level->marked = marked;
}

/*
 * What row security demands of a row that this role updates.  Asked as for an UPDATE that
 * reads, which the write-back is, whatever the statement is.
 */
static void
add_policies(const LlmFound *found, LlmFoundTarget *target, Relation rel, const Level *level)
{
	Query *query = target->query;
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);
	LlmPermission *permission = llm_target_permission(query, rte);
	AclMode required = permission->requiredPerms;
	Query update = *query;
	List *quals = NIL;
	List *checks = NIL;
	bool has_security = false;
	bool has_sublinks = false;
	char *hider = psprintf("row security of table \"%s\"", RelationGetRelationName(rel));
	ListCell *cell;

	update.commandType = CMD_UPDATE;
	update.onConflict = NULL;
	permission->requiredPerms |= ACL_SELECT | ACL_UPDATE;
	get_row_security_policies(&update, rte, query->resultRelation, &quals, &checks, &has_security, &has_sublinks);
	permission->requiredPerms = required;
	foreach(cell, quals)
		add_condition(found, target, level, hider, lfirst(cell));
}

void
llm_planner_conditions(const LlmFound *found, LlmFoundTarget *target, Relation rel)
{
	Level level = {target->query->resultRelation, target->query->resultRelation};

	foreach_ptr(LlmFoundValue, value, target->values)
	{
		if (value->quiet == NULL) /* else the cell keeps its value */
			level.marked = bms_add_member(level.marked, value->entry->resno);
	}
	add_policies(found, target, rel, &level);
	foreach_ptr(LlmFoundView, view, target->views)
	{
		level.varno = view->varno;
		if (view->query->jointree->quals != NULL)
			add_condition(found, target, &level, psprintf("view \"%s\"", get_rel_name(view->view)),
						  view->query->jointree->quals);
		climb(&level, view);
	}
}

/* Add a call of seen() for each condition: of a column, whose cell says whether there is a question. */
static void
add_calls(List **calls, const LlmFoundTarget *target, Oid seen, Form_pg_attribute att, Node *column)
{
	foreach_ptr(LlmFoundCondition, condition, target->conditions)
	{
		List *args = llm_rewrite_fixed_args(cstring_to_text(condition->hider));

		args = lappend(args, makeConst(TEXTOID, -1, InvalidOid, -1, CStringGetTextDatum(NameStr(att->attname)), false,
									   false));
		args = lappend(args, copyObject(condition->qual));
		args = lappend(args, copyObject(column));
		*calls = lappend(*calls, makeFuncExpr(seen, BOOLOID, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL));
	}
}

/*
 * One call of seen() for each condition and each column that may get a marker, or a question that it
 * does not show: in the place of its cell that has what bind_quiet() finds the question by.
 */
List *
llm_planner_seen_calls(const LlmFoundTarget *target, Relation rel, Oid seen)
{
	Bitmapset *columns = NULL;
	List *calls = NIL;
	int attno = -1;

	foreach_ptr(LlmFoundValue, value, target->values)
	{
		if (value->quiet == NULL)
			columns = bms_add_member(columns, value->entry->resno);
	}
	while ((attno = bms_next_member(columns, attno)) > 0)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);

		add_calls(&calls, target, seen, att,
				  (Node *) makeVar(target->query->resultRelation, attno, att->atttypid, att->atttypmod,
								   att->attcollation, 0));
	}
	foreach_ptr(const LlmFoundQuietColumn, column, target->quiet)
	{
		LlmDeferQuiet spec = {target->spec, column->column, false, false, -1, 0, ""};

		add_calls(&calls, target, seen, TupleDescAttr(RelationGetDescr(rel), column->attno - 1),
				  lsecond(llm_rewrite_fixed_args(llm_defer_write_quiet(&spec))));
	}
	return calls;
}

/* Has the row a question that its cell does not show? */
static bool
has_quiet_question(FunctionCallInfo fcinfo)
{
	const LlmSlotState *slot = fcinfo->flinfo->fn_extra;

	if (slot == NULL)
	{
		LlmRun *run = llm_defer_current_run();
		MemoryContext caller = MemoryContextSwitchTo(run->context);
		const LlmDeferQuiet *spec = llm_defer_read_quiet(PG_GETARG_TEXT_P_COPY(SEEN_CELL));

		MemoryContextSwitchTo(caller);
		fcinfo->flinfo->fn_extra = &llm_defer_target(run, spec->target)->slots[spec->column];
		slot = fcinfo->flinfo->fn_extra;
	}
	return slot->quiet.given.id != 0;
}

/* Has it one that its cell shows? */
static bool
has_pending_marker(FunctionCallInfo fcinfo, Oid type)
{
	const char *status = llm_marker_status(llm_marker_cell_type(type), PG_GETARG_DATUM(SEEN_CELL));

	return status != NULL && strcmp(status, "pending") == 0;
}

/* SQL: llm.seen(magic, hider, column, visible, cell) → true, or an error when a row with a question would be hidden */
Datum
llm_enrich_seen(PG_FUNCTION_ARGS)
{
	Oid type;
	bool is_quiet;
	char *column;

	llm_defer_check_magic(fcinfo, "seen");
	if (PG_ARGISNULL(SEEN_CELL) || (!PG_ARGISNULL(SEEN_VISIBLE) && PG_GETARG_BOOL(SEEN_VISIBLE)))
		PG_RETURN_BOOL(true);
	type = get_fn_expr_argtype(fcinfo->flinfo, SEEN_CELL);
	is_quiet = type == TEXTOID; /* a marker is in jsonb or json */
	if (!(is_quiet ? has_quiet_question(fcinfo) : has_pending_marker(fcinfo, type)))
		PG_RETURN_BOOL(true);
	column = text_to_cstring(PG_GETARG_TEXT_PP(SEEN_COLUMN));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a row whose column \"%s\" waits for an answer would be hidden by %s", column,
					text_to_cstring(PG_GETARG_TEXT_PP(SEEN_HIDER))),
			 errdetail("The answer is written through the same relation and with the rights of the same role, and would not find the row."),
			 is_quiet ? errhint("Let it show such rows, too, or write to the table where nothing hides them.")
					  : errhint("Let it show such rows, too (... OR llm_is_pending(%s)), or write to the table where nothing hides them.",
								quote_identifier(column))));
}
