/*-------------------------------------------------------------------------
 *
 * ask_site.c
 *	  Calls in the expressions of a plan, and which of them are asked for certain.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "ask/ask_aggregate.h"
#include "ask/ask_node.h"
#include "ask/ask_site.h"
#include "ask/ask_walk.h"
#include "base/compat.h"

#define CALL_SYMBOL "llm_enrich_call"

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
		is_call = !is_null && (strcmp(TextDatumGetCString(symbol), CALL_SYMBOL) == 0 ||
							   strcmp(TextDatumGetCString(symbol), LLM_AGGREGATE_SYMBOL) == 0);
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
bool
llm_site_is_leaf(Node *node)
{
	return IsA(node, Var) || IsA(node, Aggref) || IsA(node, WindowFunc) || IsA(node, GroupingFunc);
}

bool
llm_site_has_call(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (is_call(node))
		return true;
	if (llm_site_is_leaf(node) || IsA(node, SubPlan))
		return false;
	return expression_tree_walker(node, llm_site_has_call, NULL);
}

/* The function by which this one answers, if it is an aggregate of ours; else InvalidOid. */
static Oid
answers_by(Oid aggregate)
{
	HeapTuple tuple;
	Oid function;

	if (aggregate < FirstUnpinnedObjectId)
		return InvalidOid;
	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	function = ((Form_pg_aggregate) GETSTRUCT(tuple))->aggfinalfn;
	ReleaseSysCache(tuple);
	return is_call_oid(function, NULL) ? function : InvalidOid;
}

Oid
llm_site_aggregate(Node *node)
{
	return IsA(node, Aggref) ? answers_by(((Aggref *) node)->aggfnoid) : InvalidOid;
}

bool
llm_site_is_window(Node *node)
{
	return IsA(node, WindowFunc) && OidIsValid(answers_by(((WindowFunc *) node)->winfnoid));
}

/* Has an expression of an Agg an aggregate of ours? */
bool
llm_site_has_aggregate(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (llm_site_is_leaf(node))
		return OidIsValid(llm_site_aggregate(node));
	return expression_tree_walker(node, llm_site_has_aggregate, NULL);
}

/* What is looked for, and where. */
typedef struct Search
{
	List *subplans; /* of the statement */
	bool in_subplan;
} Search;

/* Would somebody notice that the function is called twice, or for a row that is not wanted? */
static bool
is_noticed_oid(Oid function, void *arg)
{
	const Search *search = arg;

	if (is_call_oid(function, NULL) || OidIsValid(answers_by(function)))
		return search->in_subplan; /* a call elsewhere finds the letter that was posted ahead */
	return func_volatile(function) == PROVOLATILE_VOLATILE;
}

static bool subplan_is_noticed(int plan_id, Search *search);

static bool
is_noticed(Node *node, Search *search)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_noticed_oid, search) || IsA(node, NextValueExpr))
		return true;
	if (IsA(node, SubPlan) && subplan_is_noticed(((SubPlan *) node)->plan_id, search))
		return true;
	return expression_tree_walker(node, is_noticed, search);
}

static bool
plan_is_noticed(Plan *plan, Search *search)
{
	ListCell *cell;

	check_stack_depth();
	if (is_noticed((Node *) llm_plan_row_expressions(plan), search) ||
		is_noticed((Node *) llm_plan_start_expressions(plan), search) ||
		(IsA(plan, CteScan) && subplan_is_noticed(((CteScan *) plan)->ctePlanId, search)))
		return true;
	foreach(cell, llm_plan_children(plan))
	{
		if (plan_is_noticed(lfirst(cell), search))
			return true;
	}
	return false;
}

/* A sub-select is evaluated as often as the expression that it stands in. */
static bool
subplan_is_noticed(int plan_id, Search *search)
{
	Search inside = {search->subplans, true};
	Plan *plan = list_nth(search->subplans, plan_id - 1);

	return plan != NULL && plan_is_noticed(plan, &inside);
}

bool
llm_site_has_volatile(Node *node, List *subplans)
{
	Search search = {subplans, false};

	return is_noticed(node, &search);
}

/* Where calls are collected. */
typedef struct Collector
{
	List *subplans; /* of the statement */
	List *guards;
	List **sites;
} Collector;

static void collect(Node *node, List *guards, const Collector *outer);

/* May a condition be evaluated for a row ahead, beside its own time? */
static bool
is_guard(Node *condition, const Collector *collector)
{
	return !llm_site_has_call(condition, NULL) && !llm_site_has_volatile(condition, collector->subplans);
}

/* In a list of which each is evaluated only if what went before allows it. */
static void
collect_in_order(List *args, const Collector *collector, Expr *(*goes_on)(Node *arg))
{
	List *guards = collector->guards;
	ListCell *cell;

	foreach(cell, args)
	{
		collect(lfirst(cell), guards, collector);
		if (!is_guard(lfirst(cell), collector))
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
collect_in_case(CaseExpr *expr, const Collector *collector)
{
	List *guards = collector->guards;

	if (expr->arg != NULL)
	{
		collect((Node *) expr->arg, guards, collector);
		return; /* conditions that compare with it cannot be evaluated by themselves */
	}
	foreach_node(CaseWhen, when, expr->args)
	{
		collect((Node *) when->expr, guards, collector);
		if (!is_guard((Node *) when->expr, collector))
			return;
		collect((Node *) when->result, lappend(list_copy(guards), when->expr), collector);
		guards = lappend(list_copy(guards), is_not_true((Node *) when->expr));
	}
	collect((Node *) expr->defresult, guards, collector);
}

static bool
collect_walker(Node *node, Collector *collector)
{
	collect(node, collector->guards, collector);
	return false;
}

static void
add_site(FuncExpr *call, Collector *collector)
{
	LlmAskSite *site;

	if (llm_site_has_call((Node *) call->args, NULL))
	{
		(void) expression_tree_walker((Node *) call, collect_walker, collector);
		return; /* it is asked about their answers */
	}
	if (llm_site_has_volatile((Node *) call->args, collector->subplans))
		return; /* the question is not evaluated twice */
	site = palloc(sizeof(LlmAskSite));
	site->call = call;
	site->guards = collector->guards;
	*collector->sites = lappend(*collector->sites, site);
}

/* The calls that are evaluated for certain where the guards hold. */
static void
collect(Node *node, List *guards, const Collector *outer)
{
	Collector collector = {outer->subplans, guards, outer->sites};

	if (node == NULL || llm_site_is_leaf(node) || IsA(node, SubPlan) || !llm_site_has_call(node, NULL))
		return;
	if (is_call(node))
		add_site((FuncExpr *) node, &collector);
	else if (IsA(node, CaseExpr))
		collect_in_case((CaseExpr *) node, &collector);
	else if (IsA(node, CoalesceExpr))
		collect_in_order(((CoalesceExpr *) node)->args, &collector, make_null_test);
	else if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop == AND_EXPR)
		collect_in_order(((BoolExpr *) node)->args, &collector, is_not_false);
	else if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop == OR_EXPR)
		collect_in_order(((BoolExpr *) node)->args, &collector, is_not_true);
	else if (!IsA(node, ArrayCoerceExpr))
		(void) expression_tree_walker(node, collect_walker, &collector);
}

void
llm_site_collect(Node *node, List *subplans, List **sites)
{
	Collector collector = {subplans, NIL, sites};

	collect(node, NIL, &collector);
}

/* Sites of conditions of which the first alone is evaluated for every row. */
List *
llm_site_of_quals(List *qual, List *subplans)
{
	List *sites = NIL;
	Collector collector = {subplans, NIL, &sites};

	collect_in_order(qual, &collector, is_not_false);
	return sites;
}
