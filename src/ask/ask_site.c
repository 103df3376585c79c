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
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "ask/ask_aggregate.h"
#include "ask/ask_node.h"
#include "ask/ask_site.h"
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

/* The function by which an aggregate of ours answers; InvalidOid: it is another's. */
Oid
llm_site_aggregate(Node *node)
{
	HeapTuple tuple;
	Oid function;

	if (!IsA(node, Aggref) || ((Aggref *) node)->aggfnoid < FirstUnpinnedObjectId)
		return InvalidOid;
	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(((Aggref *) node)->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	function = ((Form_pg_aggregate) GETSTRUCT(tuple))->aggfinalfn;
	ReleaseSysCache(tuple);
	return is_call_oid(function, NULL) ? function : InvalidOid;
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

static bool
is_volatile_other(Oid function, void *unused)
{
	return func_volatile(function) == PROVOLATILE_VOLATILE && !is_call_oid(function, NULL);
}

/* Is there a volatile function that is none of ours? */
bool
llm_site_has_volatile(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_volatile_other, NULL) || IsA(node, NextValueExpr))
		return true;
	return expression_tree_walker(node, llm_site_has_volatile, NULL);
}

/* In a list of which each is evaluated only if what went before allows it. */
static void
collect_in_order(List *args, List *guards, List **sites, Expr *(*goes_on)(Node *arg))
{
	ListCell *cell;

	foreach(cell, args)
	{
		llm_site_collect(lfirst(cell), guards, sites);
		if (llm_site_has_call(lfirst(cell), NULL) || llm_site_has_volatile(lfirst(cell), NULL))
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
		llm_site_collect((Node *) expr->arg, guards, sites);
		return; /* conditions that compare with it cannot be evaluated by themselves */
	}
	foreach(cell, expr->args)
	{
		CaseWhen *when = lfirst_node(CaseWhen, cell);

		llm_site_collect((Node *) when->expr, guards, sites);
		if (llm_site_has_call((Node *) when->expr, NULL) || llm_site_has_volatile((Node *) when->expr, NULL))
			return;
		llm_site_collect((Node *) when->result, lappend(list_copy(guards), when->expr), sites);
		guards = lappend(list_copy(guards), is_not_true((Node *) when->expr));
	}
	llm_site_collect((Node *) expr->defresult, guards, sites);
}

typedef struct Collector
{
	List *guards;
	List **sites;
} Collector;

static bool
collect_walker(Node *node, Collector *collector)
{
	llm_site_collect(node, collector->guards, collector->sites);
	return false;
}

static void
add_site(FuncExpr *call, List *guards, List **sites)
{
	LlmAskSite *site;

	if (llm_site_has_call((Node *) call->args, NULL))
	{
		Collector collector = {guards, sites};

		(void) expression_tree_walker((Node *) call, collect_walker, &collector);
		return; /* it is asked about their answers */
	}
	if (llm_site_has_volatile((Node *) call->args, NULL))
		return;
	site = palloc(sizeof(LlmAskSite));
	site->call = call;
	site->guards = guards;
	*sites = lappend(*sites, site);
}

/* Find the calls that are evaluated for certain where the guards hold. */
void
llm_site_collect(Node *node, List *guards, List **sites)
{
	Collector collector = {guards, sites};

	if (node == NULL || llm_site_is_leaf(node) || IsA(node, SubPlan) || !llm_site_has_call(node, NULL))
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

/* Sites of conditions of which the first alone is evaluated for every row. */
List *
llm_site_of_quals(List *qual)
{
	List *sites = NIL;

	collect_in_order(qual, NIL, &sites, is_not_false);
	return sites;
}
