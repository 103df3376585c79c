/*-------------------------------------------------------------------------
 *
 * planner_find.c
 *	  Where calls stand in a statement, and whether each may stand there.
 *
 * A call is a question whose answer comes later; until then its value is a
 * marker, and that must arrive whole in a column.  So every expression is one of
 * two kinds.  A "value" is the target of an assignment, a column of a sub-select
 * or VALUES list, or an arm of CASE or COALESCE in one of these: here a call may
 * stand, and a column may be used that "carries" one from a sub-query.  Anything
 * else is a "use": here neither may occur.
 *
 * Called by planner.c for INSERT, UPDATE, DELETE and MERGE, and for SELECT with
 * such a statement in WITH.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "bind/planner_find.h"
#include "bind/planner_lift.h"
#include "bind/planner_lifted.h"

static void find_in_query(Query *query, Finder *finder, bool streams);

/* Refuse any call, or column that carries one, in an expression that uses its value. */
static bool
refuse_walker(Node *node, Finder *finder)
{
	FuncExpr *call = NULL;

	if (node == NULL)
		return false;
	if (llm_planner_is_call(node) && finder->place == PLACE_WHERE)
	{
		finder->found->asked = lappend(finder->found->asked, node);
		return expression_tree_walker(node, refuse_walker, finder);
	}
	if (llm_planner_is_call(node))
		call = (FuncExpr *) node;
	else if (llm_quiet_excluded(node, finder) != NULL)
		call = llm_quiet_call_of(llm_quiet_excluded(node, finder), finder);
	else if (IsA(node, Var) && ((Var *) node)->varattno == 0)
		call = llm_planner_carried_by_row((Var *) node, finder->level);
	else if (IsA(node, Var) || IsA(node, Param))
		call = llm_planner_carried(node, finder->level);
	else if (IsA(node, SubLink))
	{
		Query *query = castNode(Query, ((SubLink *) node)->subselect);

		find_in_query(query, finder, false);
		call = llm_planner_carried_by_query(query, finder->level);
		if (call == NULL)
			return refuse_walker(((SubLink *) node)->testexpr, finder);
	}
	if (call != NULL)
		llm_find_refuse(finder, call, finder->place);
	if (IsA(node, Query))
		return false;
	return expression_tree_walker(node, refuse_walker, finder);
}

static void
check_use(Node *node, Finder *finder, UsePlace place)
{
	UsePlace outer = finder->place;

	finder->place = place;
	(void) refuse_walker(node, finder);
	finder->place = outer;
}

/* Check a value and note the calls in it. */
static void
check_value(Node *node, Finder *finder, bool direct)
{
	ListCell *cell;

	if (node == NULL)
		return;
	if (llm_planner_is_call(node))
	{
		LlmFoundCall *found = palloc(sizeof(LlmFoundCall));

		Oid type = ((FuncExpr *) node)->funcresulttype;

		if (type != JSONBOID && type != finder->value_type)
			llm_find_refuse(finder, (FuncExpr *) node, PLACE_TYPED);
		found->call = (FuncExpr *) node;
		found->direct = direct;
		finder->found->calls = lappend(finder->found->calls, found);
		check_use((Node *) found->call->args, finder, PLACE_CALL);
	}
	else if (llm_planner_carried(node, finder->level) == NULL ||
			 llm_lift_of(finder->found, node, finder->level) != NULL)
		check_use(node, finder, finder->place); /* of a column whose calls were moved, too: it has no marker */
	else if (llm_planner_cast_argument(node) != NULL)
		check_value(llm_planner_cast_argument(node), finder, direct);
	else if (IsA(node, CaseExpr))
	{
		CaseExpr *expr = (CaseExpr *) node;

		check_use((Node *) expr->arg, finder, PLACE_CONDITION);
		foreach_node(CaseWhen, when, expr->args)
			check_use((Node *) when->expr, finder, PLACE_CONDITION);
		foreach(cell, llm_planner_case_values(expr))
			check_value(lfirst(cell), finder, direct);
	}
	else if (IsA(node, CoalesceExpr))
	{
		foreach(cell, ((CoalesceExpr *) node)->args)
			check_value(lfirst(cell), finder, direct);
	}
	else if (IsA(node, SubLink))
		find_in_query(castNode(Query, ((SubLink *) node)->subselect), finder, false);
	/* what remains, columns and parameters, is seen where it comes from */
}

/* The entry of the query in found->targets, made when it is the first value. */
static LlmFoundTarget *
found_target(LlmFound *found, Query *query)
{
	LlmFoundTarget *target;

	if (found->targets != NIL && ((LlmFoundTarget *) llast(found->targets))->query == query)
		return llast(found->targets);
	target = palloc0(sizeof(LlmFoundTarget));
	target->query = query;
	found->targets = lappend(found->targets, target);
	return target;
}

/* Refuse a value that would be a copy of a marker from another query's RETURNING. */
static void
refuse_copy(Node *node, Finder *finder)
{
	FuncExpr *call = llm_planner_returned(node, finder->level);

	if (call != NULL)
		llm_find_refuse(finder, call, PLACE_COPY);
}

/* One entry of a target list that stores a value. */
static void
check_assignment(TargetEntry *entry, List *beside, bool is_update, Finder *finder)
{
	Query *query = finder->level->query;
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);
	bool is_part = llm_planner_is_part(entry);
	FuncExpr *call;
	LlmFoundQuiet *quiet = NULL;
	LlmFoundTarget *target;
	LlmFoundValue *value;

	finder->relation = get_rel_name(rte->relid);
	finder->column = get_attname(rte->relid, entry->resno, true);
	call = llm_planner_carried((Node *) entry->expr, finder->level);
	refuse_copy((Node *) entry->expr, finder);
	if (call != NULL && !llm_quiet_shows(entry, finder))
		call = NULL;
	if (call != NULL)
		check_value((Node *) entry->expr, finder, true);
	else if (is_part || (quiet = llm_quiet_find(entry, is_update, finder)) == NULL)
		check_use((Node *) entry->expr, finder, is_part ? PLACE_SUBSCRIPT : PLACE_EXPRESSION);
	if (call != NULL || quiet != NULL)
	{
		target = found_target(finder->found, query);
		if (target->call == NULL)
			target->call = call != NULL ? call : quiet->call;
		value = palloc0(sizeof(LlmFoundValue));
		value->entry = entry;
		value->is_update = is_update;
		value->beside = beside;
		value->quiet = quiet;
		target->values = lappend(target->values, value);
	}
	finder->relation = finder->column = NULL;
}

static void
check_assignments(List *entries, bool is_update, Finder *finder)
{
	foreach_ptr(TargetEntry, entry, entries)
	{
		if (!entry->resjunk)
			check_assignment(entry, entries, is_update, finder);
		else if (IsA(entry->expr, SubLink) && ((SubLink *) entry->expr)->subLinkType == MULTIEXPR_SUBLINK)
			find_in_query(castNode(Query, ((SubLink *) entry->expr)->subselect), finder, false);
		else
			check_use((Node *) entry->expr, finder, PLACE_EXPRESSION);
	}
}

/* A column of a result or a VALUES list. */
static void
check_column(Node *expr, Query *query, int varno, int column, bool streams, Finder *finder)
{
	const LlmLiftColumn *lifted = llm_lift_column(finder->found, query, varno, column);

	if (lifted != NULL && !OidIsValid(lifted->type))
		return; /* its calls are in other columns now */
	finder->value_type = lifted == NULL ? InvalidOid : lifted->type;
	check_value(expr, finder, streams);
	finder->value_type = InvalidOid;
}

/* The result columns of a SELECT. */
static void
check_results(Query *query, Finder *finder, bool streams)
{
	foreach_ptr(TargetEntry, entry, query->targetList)
	{
		if (entry->resjunk || entry->ressortgroupref != 0)
			check_use((Node *) entry->expr, finder, PLACE_SORT);
		else
			check_column((Node *) entry->expr, query, 0, entry->resno, streams, finder);
	}
}

/*
 * Is each row of this sub-query or VALUES list stored before the next one is made?
 * It is when an INSERT reads nothing else, and it sorts or compares nothing after its
 * columns are computed (ORDER BY comes before volatile columns are).
 */
static bool
is_streamed(Query *query, int varno)
{
	RangeTblEntry *rte = rt_fetch(varno, query->rtable);
	Node *only;

	if (query->commandType != CMD_INSERT || list_length(query->jointree->fromlist) != 1)
		return false;
	only = linitial(query->jointree->fromlist);
	if (!IsA(only, RangeTblRef) || ((RangeTblRef *) only)->rtindex != varno)
		return false;
	return rte->rtekind != RTE_SUBQUERY ||
		   (rte->subquery->setOperations == NULL && rte->subquery->distinctClause == NIL);
}

/* The relations of a query. */
static void
check_relations(Query *query, Finder *finder)
{
	ListCell *row;
	ListCell *value;

	foreach_ptr(RangeTblEntry, rte, query->rtable)
	{
		int varno = foreach_current_index(rte) + 1;
		bool streams = is_streamed(query, varno);

		if (rte->rtekind == RTE_SUBQUERY)
			find_in_query(rte->subquery, finder, streams);
		foreach(row, rte->values_lists)
		{
			foreach(value, lfirst_node(List, row))
			{
				check_column(lfirst(value), query, varno, foreach_current_index(value) + 1, streams, finder);
			}
		}
		check_use((Node *) rte->functions, finder, PLACE_CLAUSE);
		check_use((Node *) rte->tablefunc, finder, PLACE_CLAUSE);
		check_use((Node *) rte->tablesample, finder, PLACE_CLAUSE);
		check_use((Node *) rte->securityQuals, finder, PLACE_WHERE);
		check_use((Node *) llm_rte_group_exprs(rte), finder, PLACE_SORT);
	}
}

/* Everything in a query that stores nothing and is no result. */
static void
check_clauses(Query *query, Finder *finder)
{
	OnConflictExpr *conflict = query->onConflict;

	check_use((Node *) query->jointree, finder, PLACE_WHERE);
	check_use(query->havingQual, finder, PLACE_WHERE);
	check_use(llm_query_merge_condition(query), finder, PLACE_WHERE);
	check_use((Node *) query->withCheckOptions, finder, PLACE_CONDITION);
	check_use((Node *) query->returningList, finder, PLACE_RETURNING);
	check_use((Node *) query->windowClause, finder, PLACE_SORT);
	check_use(query->limitOffset, finder, PLACE_CLAUSE);
	check_use(query->limitCount, finder, PLACE_CLAUSE);
	foreach_node(MergeAction, action, query->mergeActionList)
		check_use(action->qual, finder, PLACE_CONDITION);
	if (conflict != NULL)
	{
		check_use((Node *) conflict->arbiterElems, finder, PLACE_CLAUSE);
		check_use(conflict->arbiterWhere, finder, PLACE_CONDITION);
		check_use(conflict->onConflictWhere, finder, PLACE_CONDITION);
	}
	if (!llm_planner_is_union_all(query->setOperations))
	{
		FuncExpr *call = llm_planner_carried_by_query(query, finder->level->outer);

		if (call != NULL)
			llm_find_refuse(finder, call, PLACE_SET_OPERATION);
	}
}

/*
 * Check a query and all in it.  "streams" tells that what reads its result stores each
 * row before it asks for the next.
 */
static void
find_in_query(Query *query, Finder *finder, bool streams)
{
	LlmQueryLevel level = {query, finder->level};
	Finder inner = *finder;

	inner.level = &level;
	inner.place = PLACE_EXPRESSION;
	inner.value_type = InvalidOid;
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	foreach_node(CommonTableExpr, cte, query->cteList)
		find_in_query(castNode(Query, cte->ctequery), &inner, false);
	check_relations(query, &inner);
	check_clauses(query, &inner);
	inner.place = PLACE_EXPRESSION;
	if (query->commandType == CMD_SELECT)
		check_results(query, &inner, streams);
	else if (query->commandType == CMD_INSERT || query->commandType == CMD_UPDATE)
		check_assignments(query->targetList, query->commandType == CMD_UPDATE, &inner);
	foreach_ptr(MergeAction, action, query->mergeActionList)
		check_assignments(action->targetList, action->commandType == CMD_UPDATE, &inner);
	if (query->onConflict != NULL)
		check_assignments(query->onConflict->onConflictSet, true, &inner);
}

/*
 * Fill "found" with the calls and the queries that store their markers; raise 0A000
 * where a call may not stand.
 */
void
llm_planner_find(Query *query, LlmFound *found)
{
	Finder finder = {.found = found, .place = PLACE_RESULT, .use = check_use, .value = check_value};
	FuncExpr *call = NULL;

	llm_planner_forget_carried(); /* what an error left */
	llm_planner_lift(query, found);
	find_in_query(query, &finder, false);
	if (query->commandType == CMD_SELECT)
		call = llm_planner_carried_by_query(query, NULL);
	llm_planner_forget_carried();
	if (call != NULL)
		llm_find_refuse(&finder, call, PLACE_RESULT);
}
