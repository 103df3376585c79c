/*-------------------------------------------------------------------------
 *
 * planner_lift.c
 *	  Calls in sub-selects, WITH, VALUES and UNION ALL whose marker cannot travel where they stand.
 *
 * A marker is jsonb, and so it travels as the whole value of a jsonb column.  Where a column of
 * a sub-select has another type, or an expression around the call, the call is given a column
 * of its own:
 *
 *	  SELECT id, upper(llm_classify(body)->>'label') || id AS kind FROM ...    becomes
 *	  SELECT id, upper(NULL->>'label') || id AS kind, llm_classify(body), id FROM ...
 *
 * and what was around it is remembered, over that column and the columns that it reads.  The
 * assignment that uses "kind" then keeps its expression with that in the place of the column
 * (planner_quiet.c): as if all of it had been written there.  The column itself holds what the
 * expression is without an answer, which counts where there is no question: the input was
 * NULL, CASE went another way, an outer join found no row.
 *
 * CASE and COALESCE decide whether there is a question, so they stand around the call in its
 * own column, too.  What was found about a column is in LlmFound.lifts, and that it carries a
 * call is told to planner_carry.c, so that any other use of it is refused.
 *
 * Called by planner_find.c before it looks.  What cannot be lifted stays as it is, and is
 * refused there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "bind/planner_apart.h"
#include "bind/planner_lift.h"
#include "bind/planner_lifted.h"

static bool lift_node(Node *node, bool force, LlmTaking *taking);

/* ---- columns are added ---- */

static void
note_column(LlmFound *found, Query *query, int varno, int column, Oid type)
{
	LlmLiftColumn *noted = palloc0(sizeof(LlmLiftColumn));

	noted->query = query;
	noted->varno = varno;
	noted->column = column;
	noted->type = type;
	found->lifted = lappend(found->lifted, noted);
}

/* How many columns the query's result has. */
static int
width(Query *query)
{
	int n = 0;

	foreach_node(TargetEntry, entry, query->targetList)
	{
		if (!entry->resjunk)
			n++;
	}
	return n;
}

/* Add a column to a query's result, before those that only sort. */
static void
add_result(Query *query, Node *expr)
{
	int number = width(query) + 1;
	ListCell *cell;
	TargetEntry *entry = makeTargetEntry((Expr *) expr, number, psprintf("call%d", number), false);

	foreach(cell, query->targetList)
	{
		if (lfirst_node(TargetEntry, cell)->resjunk)
			lfirst_node(TargetEntry, cell)->resno++;
	}
	query->targetList = list_insert_nth(query->targetList, number - 1, entry);
}

/* Tell the names and types of new columns to what refers to them. */
static void
widen(const LlmLiftSource *source, int first, int last)
{
	for (int number = first; number <= last; number++)
	{
		Node *name = (Node *) makeString(psprintf("call%d", number));
		Node *expr = (Node *) get_tle_by_resno(source->query->targetList, number)->expr;
		/* a typed call is jsonb when it is evaluated */
		bool is_call = llm_planner_is_call(expr);

		if (source->cte != NULL)
		{
			source->cte->ctecolnames = lappend(source->cte->ctecolnames, name);
			source->cte->ctecoltypes = lappend_oid(source->cte->ctecoltypes, is_call ? JSONBOID : exprType(expr));
			source->cte->ctecoltypmods = lappend_int(source->cte->ctecoltypmods, exprTypmod(expr));
			source->cte->ctecolcollations =
				lappend_oid(source->cte->ctecolcollations, is_call ? InvalidOid : exprCollation(expr));
		}
		else if (source->rte != NULL)
			source->rte->eref->colnames = lappend(source->rte->eref->colnames, name);
	}
}

static void
add_lift_question(LlmFoundLift *lift, const LlmQuestion *question, int carrier, SubLink *sublink)
{
	LlmLiftQuestion *added = palloc0(sizeof(LlmLiftQuestion));

	added->call = question->call;
	added->carrier = carrier;
	added->sublink = sublink;
	added->around = question->around;
	lift->questions = lappend(lift->questions, added);
}

static TargetEntry *
liftable_entry(Query *query, int column)
{
	TargetEntry *entry;

	if (query->commandType != CMD_SELECT || query->hasTargetSRFs || query->setOperations != NULL)
		return NULL;
	entry = get_tle_by_resno(query->targetList, column);
	return entry == NULL || entry->resjunk || entry->ressortgroupref != 0 ? NULL : entry;
}

static void
lift_select(const LlmLiftSource *source, bool force, LlmFoundLift *lift, LlmFound *found)
{
	Query *query = source->query;
	LlmQueryLevel level = {query, source->outer};
	LlmTaking taking = {found, &level, lift_node};
	TargetEntry *entry = liftable_entry(query, source->column);
	int first = width(query) + 1;
	ListCell *cell;

	if (entry == NULL || !llm_take_apart((Node *) entry->expr, &taking, force, first))
		return;
	foreach_ptr(LlmQuestion, question, taking.questions)
	{
		int number = width(query) + 1;

		add_lift_question(lift, question, number, NULL);
		note_column(found, query, 0, number, question->call->funcresulttype);
		add_result(query, llm_take_marker((Node *) entry->expr, question->carrier, question->marker));
	}
	foreach(cell, taking.leaves)
		add_result(query, copyObject(lfirst(cell)));
	entry->expr = (Expr *) llm_take_calls_out((Node *) entry->expr);
	note_column(found, query, 0, source->column, InvalidOid);
	widen(source, first, width(query));
}

/* A sub-select that is a value. */
static void
lift_sublink(const LlmLiftSource *source, LlmFoundLift *lift, LlmFound *found)
{
	LlmQueryLevel level = {source->query, source->outer};
	LlmTaking taking = {found, &level, lift_node, .in_sublink = true};
	TargetEntry *entry = liftable_entry(source->query, source->column);
	SubLink *carrier;
	Node *own;
	Node *expr;
	LlmQuestion *question;

	if (entry == NULL)
		return;
	expr = (Node *) entry->expr;
	if (!llm_take_apart(expr, &taking, false, 2) || list_length(taking.questions) > 1)
		return;
	question = linitial(taking.questions);
	if (!llm_planner_is_call(question->carrier))
		return;
	/* what it is without an answer is a sub-select of its own, unless that is NULL anyway */
	own = llm_take_calls_out(expr);
	entry->expr = (Expr *) own;
	if (llm_planner_any_call((Node *) source->query) != NULL)
	{
		entry->expr = (Expr *) expr;
		return;
	}
	if (llm_take_choice(expr, question->carrier) == NULL && !contain_nonstrict_functions(question->around))
		lift->own = (Node *) makeNullConst(exprType(own), exprTypmod(own), exprCollation(own));
	carrier = copyObject(source->sublink);
	note_column(found, source->query, 0, 1, InvalidOid);
	entry = get_tle_by_resno(castNode(Query, carrier->subselect)->targetList, 1);
	entry->expr = (Expr *) llm_take_marker(expr, question->carrier, question->marker);
	note_column(found, castNode(Query, carrier->subselect), 0, 1, question->call->funcresulttype);
	IncrementVarSublevelsUp(question->around, -1, 1);
	add_lift_question(lift, question, 0, carrier);
}

/* ---- lists of rows: a column for each expression that is around calls ---- */

/* Far more than anybody writes: each row has a value for each. */
#define MOST_KINDS 64

/* Does the column for the one do for the other? */
static bool
is_of_kind(const LlmQuestion *question, const LlmQuestion *kind)
{
	return question->call->funcresulttype == kind->call->funcresulttype && equal(question->around, kind->around);
}

/* One more row; the kinds are questions, one of each.  False: it does not go with those before. */
static bool
add_row(Node *expr, LlmTaking *taking, List **kinds, bool force)
{
	LlmQuestion *question;
	ListCell *cell;

	if (!llm_take_apart(expr, taking, force, 1))
		return !taking->failed && taking->carriers == NIL;
	question = linitial(taking->questions);
	if (list_length(taking->questions) > 1 || taking->leaves != NIL)
		return false;
	foreach(cell, *kinds)
	{
		if (is_of_kind(question, lfirst(cell)))
			return true;
	}
	*kinds = lappend(*kinds, question);
	return list_length(*kinds) <= MOST_KINDS;
}

/* Does any row need it?  Then all rows with calls are lifted. */
static bool
any_row_stays(List *exprs, LlmQueryLevel *level, LlmFound *found)
{
	ListCell *cell;

	foreach(cell, exprs)
	{
		LlmTaking taking = {found, level, lift_node};

		if (llm_take_apart(lfirst(cell), &taking, false, 1))
			return true;
	}
	return false;
}

/* What the column that was added for a kind has in that row. */
static Node *
marker_of(Node *expr, const LlmTaking *taking, const LlmQuestion *kind)
{
	LlmQuestion *question = taking->questions == NIL ? NULL : linitial(taking->questions);

	if (question == NULL || !is_of_kind(question, kind))
		return llm_take_no_marker();
	return llm_take_marker(expr, question->carrier, question->marker);
}

/* The column of a kind, to which the rows have their markers. */
static void
add_values_column(const LlmLiftSource *source, const LlmQuestion *kind, RangeTblEntry *rte, LlmFoundLift *lift,
				  LlmFound *found)
{
	int number = list_length(rte->coltypes) + 1;

	rte->coltypes = lappend_oid(rte->coltypes, JSONBOID);
	rte->coltypmods = lappend_int(rte->coltypmods, -1);
	rte->colcollations = lappend_oid(rte->colcollations, InvalidOid);
	rte->eref->colnames = lappend(rte->eref->colnames, makeString(psprintf("call%d", number)));
	add_lift_question(lift, kind, number, NULL);
	note_column(found, source->query, source->varno, number, kind->call->funcresulttype);
}

static void
lift_values(const LlmLiftSource *source, LlmFoundLift *lift, LlmFound *found)
{
	RangeTblEntry *rte = rt_fetch(source->varno, source->query->rtable);
	LlmQueryLevel level = {source->query, source->outer};
	int nrows = list_length(rte->values_lists);
	LlmTaking *takings = palloc0(nrows * sizeof(LlmTaking));
	List *exprs = NIL;
	List *kinds = NIL;
	ListCell *cell;
	ListCell *each;

	foreach(cell, rte->values_lists)
		exprs = lappend(exprs, list_nth(lfirst(cell), source->column - 1));
	if (!any_row_stays(exprs, &level, found))
		return;
	foreach(cell, exprs)
	{
		LlmTaking *taking = &takings[foreach_current_index(cell)];

		taking->found = found;
		taking->level = &level;
		taking->lift = lift_node;
		if (!add_row(lfirst(cell), taking, &kinds, true))
			return;
	}
	if (kinds == NIL)
		return;
	foreach(cell, rte->values_lists)
	{
		LlmTaking *taking = &takings[foreach_current_index(cell)];
		ListCell *value = list_nth_cell(lfirst(cell), source->column - 1);
		Node *expr = lfirst(value);

		lfirst(value) = llm_take_calls_out(expr);
		foreach(each, kinds)
			lfirst(cell) = lappend(lfirst(cell), marker_of(expr, taking, lfirst(each)));
	}
	foreach(each, kinds)
		add_values_column(source, lfirst(each), rte, lift, found);
}

/* Add a column of markers to a tree of UNION ALL. */
static void
widen_union(Node *node)
{
	SetOperationStmt *operation = (SetOperationStmt *) node;

	if (!IsA(node, SetOperationStmt))
		return;
	operation->colTypes = lappend_oid(operation->colTypes, JSONBOID);
	operation->colTypmods = lappend_int(operation->colTypmods, -1);
	operation->colCollations = lappend_oid(operation->colCollations, InvalidOid);
	widen_union(operation->larg);
	widen_union(operation->rarg);
}

static void
lift_union(const LlmLiftSource *source, bool force, LlmFoundLift *lift, LlmFound *found)
{
	Query *query = source->query;
	LlmQueryLevel level = {query, source->outer};
	TargetEntry *result = get_tle_by_resno(query->targetList, source->column);
	int narms = list_length(query->rtable);
	LlmQueryLevel *levels = palloc0(narms * sizeof(LlmQueryLevel));
	LlmTaking *takings = palloc0(narms * sizeof(LlmTaking));
	List *kinds = NIL;
	bool stays = force;
	int number = width(query) + 1;
	ListCell *each;

	if (result == NULL || result->resjunk || result->ressortgroupref != 0 || !IsA(result->expr, Var) ||
		query->commandType != CMD_SELECT || !llm_planner_is_union_all(query->setOperations))
		return;
	for (int pass = 0; pass < 2; pass++)
	{
		foreach_ptr(RangeTblEntry, rte, query->rtable)
		{
			int arm = foreach_current_index(rte);
			TargetEntry *entry;

			levels[arm].query = rte->subquery;
			levels[arm].outer = &level;
			memset(&takings[arm], 0, sizeof(LlmTaking));
			takings[arm].found = found;
			takings[arm].level = &levels[arm];
			takings[arm].lift = lift_node;
			if (rte->rtekind != RTE_SUBQUERY || width(rte->subquery) != number - 1 ||
				(entry = liftable_entry(rte->subquery, source->column)) == NULL)
				return;
			if (pass == 0)
				stays = stays || any_row_stays(list_make1(entry->expr), &levels[arm], found);
			else if (!add_row((Node *) entry->expr, &takings[arm], &kinds, true) ||
					 (takings[arm].questions != NIL &&
					  exprType((Node *) entry->expr) != exprType((Node *) result->expr)))
				return;
		}
		if (!stays)
			return;
	}
	if (kinds == NIL)
		return;
	foreach_ptr(RangeTblEntry, rte, query->rtable)
	{
		LlmTaking *taking = &takings[foreach_current_index(rte)];
		TargetEntry *entry = get_tle_by_resno(rte->subquery->targetList, source->column);

		foreach_ptr(const LlmQuestion, kind, kinds)
		{
			int added = width(rte->subquery) + 1;

			add_result(rte->subquery, marker_of((Node *) entry->expr, taking, kind));
			rte->eref->colnames = lappend(rte->eref->colnames, makeString(psprintf("call%d", added)));
			note_column(found, rte->subquery, 0, added, kind->call->funcresulttype);
		}
		entry->expr = (Expr *) llm_take_calls_out((Node *) entry->expr);
		note_column(found, rte->subquery, 0, source->column, InvalidOid);
	}
	foreach(each, kinds)
	{
		int added = width(query) + 1;

		widen_union(query->setOperations);
		add_result(query, (Node *) makeVar(((Var *) result->expr)->varno, added, JSONBOID, -1, InvalidOid, 0));
		add_lift_question(lift, lfirst(each), added, NULL);
	}
	widen(source, number, width(query));
}

/* What became of a column; its questions are NIL where it stays as it is. */
static LlmFoundLift *
lift_source(const LlmLiftSource *source, bool force, LlmFound *found)
{
	LlmFoundLift *lift = llm_lift_find(found, source);

	if (lift != NULL && (lift->questions != NIL || lift->forced || !force))
		return lift;
	if (lift == NULL)
	{
		lift = palloc0(sizeof(LlmFoundLift));
		lift->query = source->query;
		lift->varno = source->varno;
		lift->column = source->column;
		found->lifts = lappend(found->lifts, lift);
	}
	lift->forced = force;
	if (source->varno != 0)
		lift_values(source, lift, found);
	else if (source->sublink != NULL)
		lift_sublink(source, lift, found);
	else if (source->query->setOperations != NULL)
		lift_union(source, force, lift, found);
	else
		lift_select(source, force, lift, found);
	if (lift->questions != NIL)
		llm_planner_carries(source->query, source->varno, source->column,
							((LlmLiftQuestion *) linitial(lift->questions))->call);
	return lift;
}

/* LlmTaking.lift */
static bool
lift_node(Node *node, bool force, LlmTaking *taking)
{
	LlmLiftSource source;

	return llm_lift_find_source(node, taking->level, &source) &&
		   lift_source(&source, force, taking->found)->questions != NIL;
}

/* ---- a statement ---- */

static bool
assigned_walker(Node *node, LlmTaking *taking)
{
	if (node == NULL || IsA(node, Query) || llm_planner_is_call(node))
		return false;
	if (lift_node(node, false, taking) || IsA(node, SubLink))
		return false;
	return expression_tree_walker(node, assigned_walker, taking);
}

static void
lift_assigned(List *entries, LlmTaking *taking)
{
	foreach_ptr(TargetEntry, entry, entries)
	{
		if (!entry->resjunk && !llm_planner_is_part(entry))
			(void) assigned_walker((Node *) entry->expr, taking);
	}
}

static void
lift_in_query(Query *query, LlmQueryLevel *outer, LlmFound *found)
{
	LlmQueryLevel level = {query, outer};
	LlmTaking taking = {found, &level, lift_node};

	if (query->commandType == CMD_INSERT || query->commandType == CMD_UPDATE)
		lift_assigned(query->targetList, &taking);
	foreach_node(MergeAction, action, query->mergeActionList)
		lift_assigned(action->targetList, &taking);
	if (query->onConflict != NULL)
		lift_assigned(query->onConflict->onConflictSet, &taking);
	foreach_node(CommonTableExpr, cte, query->cteList)
		lift_in_query(castNode(Query, cte->ctequery), &level, found);
}

void
llm_planner_lift(Query *query, LlmFound *found)
{
	lift_in_query(query, NULL, found);
}
