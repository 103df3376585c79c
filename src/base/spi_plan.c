/*-------------------------------------------------------------------------
 *
 * spi_plan.c
 *	  How statements of ours are planned: by index, whatever statistics say.
 *
 * Each statement of ours has one right plan: from the few rows that it is asked about, by
 * index, however many others there are.  It is prepared once and kept, and may be prepared
 * at any moment: when autovacuum has just found the queue empty, or all of it claimed.  A
 * planner that believes such figures reads an index from end to end for each task, since
 * there is nothing in it, and goes on to do so when there are millions.
 *
 * So a statement of ours bears a mark among its cursor options, by which the planner hook
 * knows it.  While it is planned, nothing but nested loops and plain index scans are to be
 * had, and our tables look like long ones that were never analyzed (ADR 30); for the
 * statement that writes answers, so do all tables.  No setting is touched and nobody else's
 * statement is planned otherwise than ever, that of a trigger neither.
 *
 * A statement over a whole job or table may have whatever plan suits many rows, and sees the
 * same long tables: the queue that autovacuum found empty has a job of all it can hold a
 * moment later (ADR 111).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "jit/jit.h"

#include "base/compat.h"
#include "base/spi.h"
#include "base/spi_plan.h"

/* What each of these tables looks like.  A partial index holds a tenth of it. */
#define ROWS 1000000.0
#define ROWS_PER_PAGE 10
#define ENTRIES_PER_PAGE 200
#define TREE_HEIGHT 2
#define PARTIAL 0.1

/*
 * Settings of the planner, and what they are for us, by index and over a whole table; a
 * database may have been given others.  Only a plain index scan clears dead entries out of its
 * way.  Costs tell nothing here, so they shall not have anything compiled.
 */
static const struct
{
	bool *setting;
	bool by_index;
	bool whole;
} settings[] = {
	{&enable_bitmapscan, false, true},
	{&enable_hashjoin, false, true},
	{&enable_indexscan, true, true},
	{&enable_mergejoin, false, true},
	{&enable_nestloop, true, true},
	{&enable_seqscan, false, true},
	{&enable_tidscan, true, true},
	{&jit_enabled, false, false}};

/* The mark of the statement that is being planned, or 0. */
static int mark = 0;

static planner_hook_type next_planner_hook = NULL;
static llm_relation_info_hook_type next_info_hook = NULL;
static get_relation_stats_hook_type next_stats_hook = NULL;

static PlannedStmt *
plan_next(LLM_PLANNER_PARAMS)
{
	if (next_planner_hook)
		return next_planner_hook(LLM_PLANNER_ARGS);
	return standard_planner(LLM_PLANNER_ARGS);
}

/* planner_hook */
static PlannedStmt *
plan_ours(LLM_PLANNER_PARAMS)
{
	bool saved[lengthof(settings)];
	int outer = mark;
	PlannedStmt *volatile plan = NULL;

	mark = options & (LLM_PLAN_OURS | LLM_PLAN_ANY | LLM_PLAN_WHOLE);
	options &= ~(LLM_PLAN_OURS | LLM_PLAN_ANY | LLM_PLAN_WHOLE);
	if (mark == outer)
		return plan_next(LLM_PLANNER_ARGS);
	for (int i = 0; i < lengthof(settings); i++)
	{
		saved[i] = *settings[i].setting;
		if (mark != 0)
			*settings[i].setting = mark == LLM_PLAN_WHOLE ? settings[i].whole : settings[i].by_index;
	}
	PG_TRY();
	{
		plan = plan_next(LLM_PLANNER_ARGS);
	}
	PG_FINALLY();
	{
		for (int i = 0; i < lengthof(settings); i++)
			*settings[i].setting = saved[i];
		mark = outer;
	}
	PG_END_TRY();
	return plan;
}

static bool
is_long(Oid relation)
{
	return mark == LLM_PLAN_ANY || (mark != 0 && llm_spi_owns(relation));
}

/* llm_relation_info_hook */
static void
show_long(LLM_RELATION_INFO_PARAMS)
{
	if (next_info_hook)
		next_info_hook(LLM_RELATION_INFO_ARGS);
	if (!OidIsValid(LLM_RELATION_INFO_OID) || !is_long(LLM_RELATION_INFO_OID))
		return;
	rel->tuples = ROWS;
	rel->pages = (BlockNumber) (ROWS / ROWS_PER_PAGE);
	rel->allvisfrac = 0;
	foreach_ptr(IndexOptInfo, index, rel->indexlist)
	{
		index->tuples = index->indpred == NIL ? ROWS : ROWS * PARTIAL;
		index->pages = (BlockNumber) (index->tuples / ENTRIES_PER_PAGE);
		index->tree_height = TREE_HEIGHT;
	}
}

/* get_relation_stats_hook: there are none. */
static bool
hide_statistics(PlannerInfo *root, RangeTblEntry *rte, AttrNumber attnum, VariableStatData *variable)
{
	if (rte->rtekind == RTE_RELATION && is_long(rte->relid))
	{
		variable->statsTuple = NULL;
		return true;
	}
	return next_stats_hook && next_stats_hook(root, rte, attnum, variable);
}

void
llm_spi_plan_init(void)
{
	next_planner_hook = planner_hook;
	planner_hook = plan_ours;
	next_info_hook = llm_relation_info_hook;
	llm_relation_info_hook = show_long;
	next_stats_hook = get_relation_stats_hook;
	get_relation_stats_hook = hide_statistics;
}
