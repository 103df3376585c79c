/*-------------------------------------------------------------------------
 *
 * reading.c
 *	  A statement as one that reads the same rows, evaluates the same calls, and
 *	  writes nothing.
 *
 * An UPDATE, INSERT or DELETE as rewritten becomes a SELECT of what it would store: the same
 * conditions, rights and row security, and no table that is written.  Its calls give NULL
 * and are counted (ask_measure.h).  It takes no row locks, and runs as read only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ask/ask_collect.h"
#include "ask/ask_frame.h"
#include "ask/ask_site.h"
#include "base/compat.h"
#include "bind/planner.h"
#include "estimate/reading.h"

/* Of a larger table so many pages are read; and of more rows than that so many, about. */
#define SAMPLE_PAGES 4096
#define SAMPLE_ROWS 100000

/* A sample that is not much less than all is not worth it. */
#define MOST_SHARE 0.7

/* Calls
 */

static bool
calls_walker(Node *node, List **calls)
{
	if (node == NULL)
		return false;
	if (llm_planner_is_call(node))
		*calls = lappend(*calls, node);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, calls_walker, calls, 0);
	return expression_tree_walker(node, calls_walker, calls);
}

static int
compare_places(const ListCell *a, const ListCell *b)
{
	int left = ((const FuncExpr *) lfirst(a))->location;
	int right = ((const FuncExpr *) lfirst(b))->location;

	return (left > right) - (left < right);
}

List *
llm_reading_calls(Query *query)
{
	List *calls = NIL;

	(void) calls_walker((Node *) query, &calls);
	list_sort(calls, compare_places);
	return calls;
}

static bool
aggregates_walker(Node *node, List **aggregates)
{
	if (node == NULL)
		return false;
	if (OidIsValid(llm_site_aggregate(node)))
		*aggregates = lappend(*aggregates, node);
	if (llm_site_is_window(node))
		llm_collect_refuse_window();
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, aggregates_walker, aggregates, 0);
	return expression_tree_walker(node, aggregates_walker, aggregates);
}

List *
llm_reading_aggregates(Query *query)
{
	List *aggregates = NIL;

	(void) aggregates_walker((Node *) query, &aggregates);
	if (aggregates != NIL && (query->commandType != CMD_SELECT || query->hasModifyingCTE))
		llm_ask_frame_refuse_aggregate(get_func_name(linitial_node(Aggref, aggregates)->aggfnoid));
	return aggregates;
}

static bool
has_call(Node *node)
{
	return node != NULL && llm_planner_any_call(node) != NULL;
}

/* Has it a call, or an aggregate of ours? */
static bool
asks(Node *node)
{
	List *aggregates = NIL;

	(void) aggregates_walker(node, &aggregates);
	return aggregates != NIL || has_call(node);
}

static bool
conditions_walker(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, FromExpr) && has_call(((FromExpr *) node)->quals))
		return true;
	if (IsA(node, JoinExpr) && has_call(((JoinExpr *) node)->quals))
		return true;
	if (IsA(node, Query))
		return asks(((Query *) node)->havingQual) ||
			   query_tree_walker((Query *) node, conditions_walker, NULL, 0);
	return expression_tree_walker(node, conditions_walker, NULL);
}

bool
llm_reading_has_conditions(Query *query)
{
	return conditions_walker((Node *) query, NULL);
}

/* Has it a call, or a column of a sub-query that has one? */
static bool
answers_walker(Node *node, const Query *query)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0 && ((Var *) node)->varattno > 0)
	{
		const Var *var = (const Var *) node;
		const RangeTblEntry *rte = list_nth_node(RangeTblEntry, query->rtable, var->varno - 1);

		return rte->rtekind == RTE_SUBQUERY && var->varattno <= list_length(rte->subquery->targetList) &&
			   asks((Node *) list_nth_node(TargetEntry, rte->subquery->targetList, var->varattno - 1)->expr);
	}
	if (IsA(node, Query))
		return asks(node);
	if (llm_planner_is_call(node) || OidIsValid(llm_site_aggregate(node)))
		return true;
	return expression_tree_walker(node, answers_walker, (void *) query);
}

/* Calls in conditions of CASE, before the end of COALESCE, or as arguments of calls and aggregates of ours. */
static bool
dependent_walker(Node *node, const Query *query)
{
	ListCell *cell;

	if (node == NULL)
		return false;
	if (IsA(node, CaseExpr))
	{
		if (has_call((Node *) ((CaseExpr *) node)->arg))
			return true;
		foreach_node(CaseWhen, when, ((CaseExpr *) node)->args)
		{
			if (has_call((Node *) when->expr))
				return true;
		}
	}
	else if (IsA(node, CoalesceExpr))
	{
		int last = list_length(((CoalesceExpr *) node)->args) - 1;

		foreach(cell, ((CoalesceExpr *) node)->args)
		{
			if (foreach_current_index(cell) < last && has_call(lfirst(cell)))
				return true;
		}
	}
	else if (llm_planner_is_call(node) && answers_walker((Node *) ((FuncExpr *) node)->args, query))
		return true;
	else if (OidIsValid(llm_site_aggregate(node)) && answers_walker((Node *) ((Aggref *) node)->args, query))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, dependent_walker, node, 0);
	return expression_tree_walker(node, dependent_walker, (void *) query);
}

bool
llm_reading_has_dependent(Query *query)
{
	return dependent_walker((Node *) query, query);
}

/* What stands in the way
 */

static bool
is_volatile_other(Oid function, void *unused)
{
	return func_volatile(function) == PROVOLATILE_VOLATILE &&
		   !list_member_oid(llm_planner_calls()->calls, function);
}

/* Something that changes with each evaluation, or may change something. */
static bool
has_volatile(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_volatile_other, NULL) || IsA(node, NextValueExpr))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, has_volatile, NULL, 0);
	return expression_tree_walker(node, has_volatile, NULL);
}

/* SET (a, b) = (SELECT ...): columns that only an UPDATE can take apart. */
static bool
has_multiexpr(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink) && ((SubLink *) node)->subLinkType == MULTIEXPR_SUBLINK)
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, has_multiexpr, NULL, 0);
	return expression_tree_walker(node, has_multiexpr, NULL);
}

/* For hides_walker(). */
typedef struct Hiding
{
	bool in_view; /* of a view, or in one */
} Hiding;

/* Is it a view's query, or one into which a view's conditions have been merged? */
static bool
is_of_view(const Query *query)
{
	foreach_node(RangeTblEntry, rte, query->rtable)
	{
		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW)
			return true;
	}
	return false;
}

static bool
hides_walker(Node *node, Hiding *hiding)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;
		Hiding inside = {hiding->in_view || (rte->rtekind == RTE_SUBQUERY && OidIsValid(rte->relid))};

		if (asks((Node *) rte->securityQuals))
			return true;
		/* the caller's walk goes on with it, and would take it for one outside */
		return inside.in_view && !hiding->in_view && hides_walker((Node *) rte->subquery, &inside);
	}
	if (hiding->in_view && IsA(node, FromExpr) && asks(((FromExpr *) node)->quals))
		return true;
	if (hiding->in_view && IsA(node, JoinExpr) && asks(((JoinExpr *) node)->quals))
		return true;
	if (IsA(node, Query))
	{
		Query *query = (Query *) node;
		Hiding inside = {hiding->in_view || is_of_view(query)};

		if (inside.in_view && asks(query->havingQual))
			return true;
		return query_tree_walker(query, hides_walker, &inside, QTW_EXAMINE_RTES_BEFORE);
	}
	return expression_tree_walker(node, hides_walker, hiding);
}

/* May a view or row security hide a row by an answer?  It would be shown to conditions and casts of the statement's. */
static bool
hides_by_answer(Query *query)
{
	Hiding hiding = {false};

	return hides_walker((Node *) query, &hiding);
}

/* Making it
 */

/* The condition is evaluated, and the row passes whatever it says. */
static Node *
pass_all(Node *condition)
{
	CaseExpr *choice = makeNode(CaseExpr);
	CaseWhen *when = makeNode(CaseWhen);
	NullTest *test = makeNode(NullTest);

	test->arg = (Expr *) condition;
	test->nulltesttype = IS_NULL;
	test->location = -1;
	when->expr = (Expr *) test;
	when->result = (Expr *) makeBoolConst(true, false);
	when->location = -1;
	choice->casetype = BOOLOID;
	choice->args = list_make1(when);
	choice->defresult = (Expr *) makeBoolConst(true, false);
	choice->location = -1;
	return (Node *) choice;
}

static Node *
loosen(Node *condition)
{
	ListCell *cell;

	if (!asks(condition))
		return condition;
	if (!IsA(condition, BoolExpr) || ((BoolExpr *) condition)->boolop != AND_EXPR)
		return pass_all(condition);
	foreach(cell, ((BoolExpr *) condition)->args)
		lfirst(cell) = loosen(lfirst(cell));
	return condition;
}

/* Change all queries of a copy. */
static bool
change_walker(Node *node, LlmReadingConditions *conditions)
{
	if (node == NULL)
		return false;
	if (*conditions == LLM_CONDITIONS_HOLD && IsA(node, FromExpr))
		((FromExpr *) node)->quals = loosen(((FromExpr *) node)->quals);
	if (*conditions == LLM_CONDITIONS_HOLD && IsA(node, JoinExpr))
		((JoinExpr *) node)->quals = loosen(((JoinExpr *) node)->quals);
	if (IsA(node, Query))
	{
		Query *query = (Query *) node;

		query->rowMarks = NIL;
		query->hasForUpdate = false;
		if (*conditions == LLM_CONDITIONS_HOLD)
			query->havingQual = loosen(query->havingQual);
		return query_tree_walker(query, change_walker, conditions, 0);
	}
	return expression_tree_walker(node, change_walker, conditions);
}

/* What is stored, as a column to be read: a domain's checks are not for NULL in the place of an answer. */
static TargetEntry *
make_column(TargetEntry *entry, int number)
{
	Expr *expr = entry->expr;

	while (IsA(expr, CoerceToDomain) && has_call((Node *) expr))
		expr = ((CoerceToDomain *) expr)->arg;
	return makeTargetEntry(expr, (AttrNumber) number, NULL, false);
}

/* A statement that writes as a SELECT of what it would store. */
static void
make_select(Query *query)
{
	List *columns = NIL;

	foreach_node(TargetEntry, entry, query->targetList)
	{
		/* defaults, and other columns that need not be known */
		if (!has_call((Node *) entry->expr) && has_volatile((Node *) entry->expr, NULL))
			continue;
		columns = lappend(columns, make_column(entry, list_length(columns) + 1));
	}
	query->commandType = CMD_SELECT;
	query->resultRelation = 0;
	query->targetList = columns;
	query->returningList = NIL;
	query->onConflict = NULL;
	query->withCheckOptions = NIL;
	query->override = OVERRIDING_NOT_SET;
}

Query *
llm_reading_make(Query *query, LlmReadingConditions conditions, const char **why)
{
	Query *reading = copyObject(query);

	*why = NULL;
	if (hides_by_answer(query))
		*why = "a call decides which rows a view or row security shows";
	else if (query->commandType == CMD_MERGE)
		*why = "it is a MERGE";
	else if (query->hasModifyingCTE)
		*why = "a query in WITH writes";
	else if (query->onConflict != NULL && has_call((Node *) query->onConflict))
		*why = "a call stands in ON CONFLICT DO UPDATE";
	else if (query->commandType == CMD_UPDATE && has_multiexpr((Node *) query->targetList, NULL))
		*why = "several columns are set by one sub-select";
	else
	{
		if (query->commandType != CMD_SELECT)
			make_select(reading);
		if (has_volatile((Node *) reading, NULL))
			*why = "a volatile function stands in it";
	}
	if (*why != NULL)
		return NULL;
	(void) change_walker((Node *) reading, &conditions);
	return reading;
}

/* Sampling
 */

/* Does each row that is read make rows of the result by itself? */
static bool
makes_row_by_row(const Query *query)
{
	if (query->commandType != CMD_SELECT || query->setOperations != NULL || query->hasRecursive)
		return false;
	if (query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL || query->hasWindowFuncs)
		return false;
	return query->distinctClause == NIL && query->limitCount == NULL && query->limitOffset == NULL;
}

/* The query that reads the tables: that of an INSERT ... SELECT is below. */
static Query *
reading_query(Query *query)
{
	while (list_length(query->jointree->fromlist) == 1 && IsA(linitial(query->jointree->fromlist), RangeTblRef) &&
		   query->jointree->quals == NULL && makes_row_by_row(query))
	{
		int index = ((RangeTblRef *) linitial(query->jointree->fromlist))->rtindex;
		RangeTblEntry *rte = list_nth_node(RangeTblEntry, query->rtable, index - 1);

		if (rte->rtekind != RTE_SUBQUERY)
			break;
		query = rte->subquery;
	}
	return query;
}

/* Tables whose rows each make a row of the result, so that a part of theirs makes that part of it. */
static void
add_sources(Node *from, List **indexes)
{
	ListCell *cell;

	if (IsA(from, RangeTblRef))
		*indexes = lappend_int(*indexes, ((RangeTblRef *) from)->rtindex);
	else if (IsA(from, JoinExpr) && ((JoinExpr *) from)->jointype == JOIN_INNER)
	{
		add_sources(((JoinExpr *) from)->larg, indexes);
		add_sources(((JoinExpr *) from)->rarg, indexes);
	}
	else if (IsA(from, FromExpr))
	{
		foreach(cell, ((FromExpr *) from)->fromlist)
			add_sources(lfirst(cell), indexes);
	}
}

/* Pages of a table with its partitions and children. */
static double
pages_of(Oid table)
{
	double pages = 0;
	ListCell *cell;

	foreach(cell, find_all_inheritors(table, AccessShareLock, NULL))
	{
		Relation rel = relation_open(lfirst_oid(cell), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_MATVIEW)
			pages += RelationGetNumberOfBlocks(rel);
		relation_close(rel, NoLock);
	}
	return pages;
}

static bool
can_be_sampled(const RangeTblEntry *rte)
{
	return rte->rtekind == RTE_RELATION && rte->tablesample == NULL &&
		   (rte->relkind == RELKIND_RELATION || rte->relkind == RELKIND_MATVIEW ||
			rte->relkind == RELKIND_PARTITIONED_TABLE);
}

/* TABLESAMPLE SYSTEM (percent) REPEATABLE (0) */
static TableSampleClause *
make_sample(double share)
{
	TableSampleClause *sample = makeNode(TableSampleClause);

	Datum percent = Float4GetDatum((float4) (share * 100));

	sample->tsmhandler = F_SYSTEM;
	sample->args = list_make1(makeConst(FLOAT4OID, -1, InvalidOid, sizeof(float4), percent, false, true));
	sample->repeatable = (Expr *) makeConst(FLOAT8OID, -1, InvalidOid, sizeof(float8), Float8GetDatum(0), false,
											FLOAT8PASSBYVAL);
	return sample;
}

bool
llm_reading_sample(Query *query, double rows, double *share, double *per_page)
{
	Query *reads = reading_query(query);
	RangeTblEntry *largest = NULL;
	List *indexes = NIL;
	double pages = 0;
	ListCell *cell;

	if (!makes_row_by_row(reads))
		return false;
	add_sources((Node *) reads->jointree, &indexes);
	foreach(cell, indexes)
	{
		RangeTblEntry *rte = list_nth_node(RangeTblEntry, reads->rtable, lfirst_int(cell) - 1);
		double found = can_be_sampled(rte) ? pages_of(rte->relid) : 0;

		if (found > pages)
		{
			pages = found;
			largest = rte;
		}
	}
	if (largest == NULL)
		return false;
	*share = Min(SAMPLE_PAGES / pages, SAMPLE_ROWS / Max(rows, 1));
	*share = Max(*share, Min(64 / pages, 1));
	*per_page = Max(rows / pages, 1);
	if (*share > MOST_SHARE)
		return false;
	largest->tablesample = make_sample(*share);
	return true;
}

/* Running it
 */

void
llm_reading_run(Query *query, const char *source)
{
	PlannedStmt *plan = llm_plan_query(query, source);
	QueryDesc *desc = CreateQueryDesc(plan, source, GetActiveSnapshot(), InvalidSnapshot, None_Receiver, NULL, NULL, 0);
	bool before = XactReadOnly;

	/*
	 * The rights that the statement needs are asked for by this, the right to write among them,
	 * in whatever transaction; after an error the subtransaction puts this right.
	 */
	XactReadOnly = false;
	ExecutorStart(desc, 0);
	XactReadOnly = true;
	llm_executor_run(desc);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	XactReadOnly = before;
	FreeQueryDesc(desc);
}
