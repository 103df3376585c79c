/*-------------------------------------------------------------------------
 *
 * ask_plan.c
 *	  Put nodes that read ahead into finished plans.
 *
 * Into the finished plan, since a custom path comes before the final target list is known.
 * A node goes above one whose target list or conditions have calls.  What stands below is
 * given the columns that the expressions need, and the expressions go up: for each condition
 * with a call a node of its own, in the order of the conditions, and one for the target
 * list, so that those that a condition has dropped ask no more.  Columns keep their numbers,
 * so nothing above has to change.
 *
 * Left to the plain call: a Result without a child, which PL/pgSQL takes for a simple
 * expression; the inner sides of joins, which are scanned again and again; sub-plans;
 * whatever stands below LockRows, ModifyTable or Gather.
 *
 * Which statements have calls is known from the functions that a plan depends on: where
 * none of another's functions is used, this costs one comparison.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/plannodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "ask/ask_node.h"
#include "base/compat.h"

#define CALL_SYMBOL "llm_enrich_call"

static planner_hook_type previous_planner = NULL;

/* What is needed in one plan. */
typedef struct Inserter
{
	int next_id; /* plan_node_id */
} Inserter;

/* Is this function one of ours that ask? */
static bool
is_call_oid(Oid function, void *unused)
{
	HeapTuple tuple;
	bool is_call = false;
	bool is_null;
	Datum symbol;

	if (function < FirstUnpinnedObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return false;
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
	{
		symbol = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);
		is_call = !is_null && strcmp(TextDatumGetCString(symbol), CALL_SYMBOL) == 0;
	}
	ReleaseSysCache(tuple);
	return is_call;
}

static bool
is_call(Node *node)
{
	return node != NULL && IsA(node, FuncExpr) && is_call_oid(((FuncExpr *) node)->funcid, NULL);
}

/* What is evaluated in another node, or has no value of its own here. */
static bool
is_leaf(Node *node)
{
	return IsA(node, Var) || IsA(node, Aggref) || IsA(node, WindowFunc) || IsA(node, GroupingFunc);
}

static bool
has_call(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (is_call(node))
		return true;
	if (is_leaf(node) || IsA(node, SubPlan))
		return false;
	return expression_tree_walker(node, has_call, NULL);
}

static bool
is_volatile_other(Oid function, void *unused)
{
	return func_volatile(function) == PROVOLATILE_VOLATILE && !is_call_oid(function, NULL);
}

/* Is there a volatile function that is none of ours? */
static bool
has_volatile(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_volatile_other, NULL) || IsA(node, NextValueExpr))
		return true;
	return expression_tree_walker(node, has_volatile, NULL);
}

/* The plans directly below. */
static List *
children_of(Plan *plan)
{
	List *children = NIL;

	if (IsA(plan, Append))
		children = list_copy(((Append *) plan)->appendplans);
	else if (IsA(plan, MergeAppend))
		children = list_copy(((MergeAppend *) plan)->mergeplans);
	else if (IsA(plan, SubqueryScan))
		children = list_make1(((SubqueryScan *) plan)->subplan);
	else if (IsA(plan, BitmapAnd))
		children = list_copy(((BitmapAnd *) plan)->bitmapplans);
	else if (IsA(plan, BitmapOr))
		children = list_copy(((BitmapOr *) plan)->bitmapplans);
	else if (IsA(plan, CustomScan))
		children = list_copy(((CustomScan *) plan)->custom_plans);
	if (plan->lefttree != NULL)
		children = lappend(children, plan->lefttree);
	if (plan->righttree != NULL)
		children = lappend(children, plan->righttree);
	return children;
}

/* May the rows of this plan be read before they are wanted?  Not where that could be noticed. */
static bool
may_read_ahead(Plan *plan)
{
	ListCell *cell;

	check_stack_depth();
	if (has_volatile((Node *) plan->targetlist, NULL) || has_volatile((Node *) plan->qual, NULL) ||
		IsA(plan, ForeignScan) || IsA(plan, CteScan) || IsA(plan, LockRows) || IsA(plan, ModifyTable))
		return false;
	if ((IsA(plan, NestLoop) || IsA(plan, MergeJoin) || IsA(plan, HashJoin)) &&
		has_volatile((Node *) ((Join *) plan)->joinqual, NULL))
		return false;
	if (IsA(plan, ValuesScan) && has_volatile((Node *) ((ValuesScan *) plan)->values_lists, NULL))
		return false;
	foreach(cell, children_of(plan))
	{
		if (!may_read_ahead(lfirst(cell)))
			return false;
	}
	return true;
}

static int
highest_id(Plan *plan)
{
	int highest = plan->plan_node_id;
	ListCell *cell;

	check_stack_depth();
	foreach(cell, children_of(plan))
		highest = Max(highest, highest_id(lfirst(cell)));
	return highest;
}

/*
 * Sites
 */

static void collect_sites(Node *node, List *guards, List **sites);

/* In a list of which each is evaluated only if what went before allows it. */
static void
collect_in_order(List *args, List *guards, List **sites, Expr *(*goes_on)(Node *arg))
{
	ListCell *cell;

	foreach(cell, args)
	{
		collect_sites(lfirst(cell), guards, sites);
		if (has_call(lfirst(cell), NULL) || has_volatile(lfirst(cell), NULL))
			return; /* what follows depends on an answer */
		guards = lappend(list_copy(guards), goes_on(lfirst(cell)));
	}
}

static Expr *
make_null_test(Node *arg)
{
	NullTest *test = makeNode(NullTest);

	test->arg = (Expr *) arg;
	test->nulltesttype = IS_NULL;
	test->argisrow = false;
	test->location = -1;
	return (Expr *) test;
}

static Expr *
make_boolean_test(Node *arg, BoolTestType type)
{
	BooleanTest *test = makeNode(BooleanTest);

	test->arg = (Expr *) arg;
	test->booltesttype = type;
	test->location = -1;
	return (Expr *) test;
}

static Expr *
is_not_false(Node *arg)
{
	return make_boolean_test(arg, IS_NOT_FALSE);
}

static Expr *
is_not_true(Node *arg)
{
	return make_boolean_test(arg, IS_NOT_TRUE);
}

/* CASE WHEN: each arm under its condition, and under none of those before. */
static void
collect_in_case(CaseExpr *expr, List *guards, List **sites)
{
	ListCell *cell;

	if (expr->arg != NULL)
	{
		collect_sites((Node *) expr->arg, guards, sites);
		return; /* conditions that compare with it cannot be evaluated by themselves */
	}
	foreach(cell, expr->args)
	{
		CaseWhen *when = lfirst_node(CaseWhen, cell);

		collect_sites((Node *) when->expr, guards, sites);
		if (has_call((Node *) when->expr, NULL) || has_volatile((Node *) when->expr, NULL))
			return;
		collect_sites((Node *) when->result, lappend(list_copy(guards), when->expr), sites);
		guards = lappend(list_copy(guards), is_not_true((Node *) when->expr));
	}
	collect_sites((Node *) expr->defresult, guards, sites);
}

typedef struct Collector
{
	List *guards;
	List **sites;
} Collector;

static bool
collect_walker(Node *node, Collector *collector)
{
	collect_sites(node, collector->guards, collector->sites);
	return false;
}

static void
add_site(FuncExpr *call, List *guards, List **sites)
{
	LlmAskSite *site;

	if (has_call((Node *) call->args, NULL))
	{
		Collector collector = {guards, sites};

		(void) expression_tree_walker((Node *) call, collect_walker, &collector);
		return; /* it is asked about their answers */
	}
	if (has_volatile((Node *) call->args, NULL))
		return;
	site = palloc(sizeof(LlmAskSite));
	site->call = call;
	site->guards = guards;
	*sites = lappend(*sites, site);
}

/* Find the calls that are evaluated for certain where the guards hold. */
static void
collect_sites(Node *node, List *guards, List **sites)
{
	Collector collector = {guards, sites};

	if (node == NULL || is_leaf(node) || IsA(node, SubPlan) || !has_call(node, NULL))
		return;
	if (is_call(node))
		add_site((FuncExpr *) node, guards, sites);
	else if (IsA(node, CaseExpr))
		collect_in_case((CaseExpr *) node, guards, sites);
	else if (IsA(node, CoalesceExpr))
		collect_in_order(((CoalesceExpr *) node)->args, guards, sites, make_null_test);
	else if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop == AND_EXPR)
		collect_in_order(((BoolExpr *) node)->args, guards, sites, is_not_false);
	else if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop == OR_EXPR)
		collect_in_order(((BoolExpr *) node)->args, guards, sites, is_not_true);
	else if (!IsA(node, ArrayCoerceExpr))
		(void) expression_tree_walker(node, collect_walker, &collector);
}

/*
 * Columns
 */

/* Add the leaves of an expression to a target list, each once. */
static bool
add_leaves(Node *node, List **columns)
{
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!is_leaf(node))
		return expression_tree_walker(node, add_leaves, columns);
	foreach(cell, *columns)
	{
		if (equal(lfirst_node(TargetEntry, cell)->expr, node))
			return false;
	}
	*columns = lappend(*columns, makeTargetEntry((Expr *) copyObject(node), list_length(*columns) + 1, NULL, false));
	return false;
}

/* The expression over the columns of the plan below. */
static Node *
map_leaves(Node *node, List *columns)
{
	ListCell *cell;

	if (node == NULL)
		return NULL;
	if (!is_leaf(node))
		return expression_tree_mutator(node, map_leaves, columns);
	foreach(cell, columns)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (equal(entry->expr, node))
			return (Node *) makeVar(INDEX_VAR, entry->resno, exprType(node), exprTypmod(node), exprCollation(node), 0);
	}
	elog(ERROR, "a column that a call needs is not there");
	return NULL;
}

/* Columns of a plan as a node above sees them; their numbers stay. */
static List *
columns_as(List *targetlist, int varno)
{
	List *columns = NIL;
	ListCell *cell;

	foreach(cell, targetlist)
	{
		const TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Node *expr = (Node *) entry->expr;
		Var *var = makeVar(varno, entry->resno, exprType(expr), exprTypmod(expr), exprCollation(expr), 0);

		columns = lappend(columns, makeTargetEntry((Expr *) var, entry->resno, NULL, false));
	}
	return columns;
}

/*
 * Nodes
 */

/* May a node go above one of this kind? */
static bool
may_wrap(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_SubqueryScan:
		case T_ValuesScan:
		case T_CteScan:
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
			return !plan->parallel_aware;
		case T_Agg:
			return ((Agg *) plan)->aggsplit == AGGSPLIT_SIMPLE;
		case T_WindowAgg:
			return ((WindowAgg *) plan)->runCondition == NIL;
		case T_Result:
			return plan->lefttree != NULL;
		default:
			return false;
	}
}

static CustomScan *
put_above(Plan *below, LlmAskSpec *spec, Inserter *inserter)
{
	CustomScan *node = llm_ask_node_make(below, spec);

	node->scan.plan.plan_node_id = inserter->next_id++;
	node->scan.plan.initPlan = below->initPlan;
	below->initPlan = NIL;
	return node;
}

/* Sites of conditions of which the first alone is evaluated for every row. */
static List *
sites_of_qual(List *qual)
{
	List *sites = NIL;

	collect_in_order(qual, NIL, &sites, is_not_false);
	return sites;
}

/* A node for each condition with a call, and those without that follow it. */
static Plan *
put_conditions(Plan *below, List *conditions, Inserter *inserter)
{
	while (conditions != NIL)
	{
		LlmAskSpec spec = {0};
		int n = 1;

		while (n < list_length(conditions) && !has_call(list_nth(conditions, n), NULL))
			n++;
		spec.rows = columns_as(below->targetlist, OUTER_VAR);
		spec.targetlist = columns_as(below->targetlist, INDEX_VAR);
		spec.qual = list_truncate(list_copy(conditions), n);
		spec.sites = sites_of_qual(spec.qual);
		spec.may_read_ahead = may_read_ahead(below);
		conditions = list_copy_tail(conditions, n);
		below = (Plan *) put_above(below, &spec, inserter);
	}
	return below;
}

/* The plan with nodes for its conditions and its target list above it. */
static Plan *
wrap(Plan *plan, Limit *limit, Inserter *inserter)
{
	LlmAskSpec spec = {0};
	List *original = plan->targetlist;
	List *conditions = NIL;
	List *columns = NIL;
	List *kept = NIL;
	ListCell *cell;
	Plan *below;

	foreach(cell, plan->qual)
	{
		/* what follows one that goes up follows it there, too: it may be a barrier */
		if (conditions != NIL || has_call(lfirst(cell), NULL))
			conditions = lappend(conditions, lfirst(cell));
		else
			kept = lappend(kept, lfirst(cell));
	}
	(void) add_leaves((Node *) original, &columns);
	(void) add_leaves((Node *) conditions, &columns);
	plan->targetlist = columns;
	plan->qual = kept;
	below = put_conditions(plan, (List *) map_leaves((Node *) conditions, columns), inserter);
	spec.rows = columns_as(columns, OUTER_VAR);
	spec.targetlist = (List *) map_leaves((Node *) original, columns);
	foreach(cell, spec.targetlist)
		collect_sites((Node *) lfirst_node(TargetEntry, cell)->expr, NIL, &spec.sites);
	spec.limit = limit;
	spec.may_read_ahead = may_read_ahead(below);
	return (Plan *) put_above(below, &spec, inserter);
}

/* The LIMIT, if it bounds the rows that are read below it. */
static Limit *
usable_limit(Limit *limit)
{
	if (limit->limitOption != LIMIT_OPTION_COUNT || has_volatile(limit->limitCount, NULL) ||
		has_volatile(limit->limitOffset, NULL) || has_call(limit->limitCount, NULL) ||
		has_call(limit->limitOffset, NULL))
		return NULL;
	return limit;
}

static Plan *insert_nodes(Plan *plan, Limit *limit, Inserter *inserter);

static void
insert_below(Plan *plan, Inserter *inserter)
{
	ListCell *cell;

	switch (nodeTag(plan))
	{
		case T_Gather:
		case T_GatherMerge:
		case T_LockRows:
		case T_ModifyTable:
		case T_RecursiveUnion:
		case T_BitmapHeapScan:
			return;
		case T_Append:
			foreach(cell, ((Append *) plan)->appendplans)
				lfirst(cell) = insert_nodes(lfirst(cell), NULL, inserter);
			return;
		case T_MergeAppend:
			foreach(cell, ((MergeAppend *) plan)->mergeplans)
				lfirst(cell) = insert_nodes(lfirst(cell), NULL, inserter);
			return;
		case T_SubqueryScan:
			((SubqueryScan *) plan)->subplan = insert_nodes(((SubqueryScan *) plan)->subplan, NULL, inserter);
			return;
		case T_Limit:
			plan->lefttree = insert_nodes(plan->lefttree, usable_limit((Limit *) plan), inserter);
			return;
		case T_HashJoin:
			plan->lefttree = insert_nodes(plan->lefttree, NULL, inserter);
			insert_below(plan->righttree, inserter);
			return;
		default:
			break;
	}
	/* of joins the outer side alone: the inner one is scanned again, or marked and restored */
	if (plan->lefttree != NULL)
		plan->lefttree = insert_nodes(plan->lefttree, NULL, inserter);
}

static Plan *
insert_nodes(Plan *plan, Limit *limit, Inserter *inserter)
{
	check_stack_depth();
	insert_below(plan, inserter);
	if (!may_wrap(plan) || !(has_call((Node *) plan->targetlist, NULL) || has_call((Node *) plan->qual, NULL)))
		return plan;
	return wrap(plan, limit, inserter);
}

/* The sub-plans that are read as WITH queries. */
static void
find_ctes(Plan *plan, Bitmapset **ctes)
{
	ListCell *cell;

	check_stack_depth();
	if (IsA(plan, CteScan))
		*ctes = bms_add_member(*ctes, ((CteScan *) plan)->ctePlanId);
	foreach(cell, children_of(plan))
		find_ctes(lfirst(cell), ctes);
}

/* WITH queries are read row by row, as they are wanted; other sub-plans again and again. */
static void
insert_into_ctes(PlannedStmt *stmt, Inserter *inserter)
{
	Bitmapset *ctes = NULL;
	ListCell *cell;

	find_ctes(stmt->planTree, &ctes);
	foreach(cell, stmt->subplans)
	{
		if (lfirst(cell) != NULL)
			find_ctes(lfirst(cell), &ctes);
	}
	foreach(cell, stmt->subplans)
	{
		if (lfirst(cell) != NULL && bms_is_member(foreach_current_index(cell) + 1, ctes))
			lfirst(cell) = insert_nodes(lfirst(cell), NULL, inserter);
	}
}

/* Does the plan depend on a function of ours? */
static bool
depends_on_call(const PlannedStmt *stmt)
{
	ListCell *cell;

	foreach(cell, stmt->invalItems)
	{
		if (lfirst_node(PlanInvalItem, cell)->cacheId == PROCOID)
			return true;
	}
	return false;
}

/* The same columns from below, as the client sees them. */
static List *
columns_with_names(List *targetlist)
{
	List *columns = columns_as(targetlist, OUTER_VAR);
	ListCell *from,
		*to;

	forboth(from, targetlist, to, columns)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, to);
		Expr *var = entry->expr;

		*entry = *lfirst_node(TargetEntry, from);
		entry->expr = var;
	}
	return columns;
}

static void
insert_into(PlannedStmt *stmt, int cursor_options)
{
	Inserter inserter = {highest_id(stmt->planTree) + 1};
	Plan *top;
	ListCell *cell;
	int first_id;

	foreach(cell, stmt->subplans)
	{
		if (lfirst(cell) != NULL)
			inserter.next_id = Max(inserter.next_id, highest_id(lfirst(cell)) + 1);
	}
	first_id = inserter.next_id;
	insert_into_ctes(stmt, &inserter);
	top = insert_nodes(stmt->planTree, NULL, &inserter);
	if ((cursor_options & CURSOR_OPT_SCROLL) && inserter.next_id > first_id)
	{
		/* the planner has looked whether it goes backwards before */
		Material *rows = makeNode(Material);

		rows->plan = *top;
		rows->plan.type = T_Material;
		rows->plan.targetlist = columns_with_names(top->targetlist);
		rows->plan.qual = NIL;
		rows->plan.lefttree = top;
		rows->plan.initPlan = top->initPlan;
		top->initPlan = NIL;
		rows->plan.plan_node_id = inserter.next_id++;
		top = (Plan *) rows;
	}
	stmt->planTree = top;
}

/* planner_hook */
static PlannedStmt *
plan_statement(Query *query, const char *query_string, int options, ParamListInfo params)
{
	PlannedStmt *stmt = previous_planner != NULL ? previous_planner(query, query_string, options, params)
												 : standard_planner(query, query_string, options, params);

	if (stmt->commandType == CMD_SELECT && !stmt->hasModifyingCTE && stmt->planTree != NULL && depends_on_call(stmt))
		insert_into(stmt, options);
	return stmt;
}

void
llm_ask_plan_init(void)
{
	llm_ask_node_init();
	previous_planner = planner_hook;
	planner_hook = plan_statement;
}
