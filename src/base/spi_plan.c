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
 * So while the settings below are in force, our tables look to the planner like long ones
 * that were never analyzed (ADR 30), and so do those that answers are written to for the
 * statement that writes.  Nobody else's statements are planned otherwise than ever.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/spi_plan.h"

const LlmSetting llm_spi_by_index[LLM_SPI_BY_INDEX] = {
	{"enable_bitmapscan", "off"}, /* only a plain index scan clears dead entries out of its way */
	{"enable_hashjoin", "off"},
	{"enable_indexscan", "on"}, /* a database may have been given others */
	{"enable_mergejoin", "off"},
	{"enable_nestloop", "on"},
	{"enable_seqscan", "off"},
	{"enable_tidscan", "on"},
	{"plan_cache_mode", "force_generic_plan"}};

/* What each of these tables looks like.  A partial index holds a tenth of it. */
#define ROWS 1000000.0
#define ROWS_PER_PAGE 10
#define ENTRIES_PER_PAGE 200
#define TREE_HEIGHT 2
#define PARTIAL 0.1

/* The statement being planned writes answers: any table looks long. */
static bool all_look_long = false;

static get_relation_info_hook_type next_info_hook = NULL;
static get_relation_stats_hook_type next_stats_hook = NULL;

int
llm_spi_by_index_begin(void)
{
	int nest = NewGUCNestLevel();

	for (int i = 0; i < LLM_SPI_BY_INDEX; i++)
		(void) set_config_option(llm_spi_by_index[i].name, llm_spi_by_index[i].value, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

void
llm_spi_by_index_end(int nest)
{
	AtEOXact_GUC(false, nest);
}

void
llm_spi_own_begin_by_index(LlmOwnScope *scope)
{
	llm_spi_own_begin(scope);
	(void) llm_spi_by_index_begin();
}

/*
 * Is the statement being planned one of ours, over a table of ours?  The settings tell: they
 * are back after an error, too.  Who sets all of these himself gets such plans for our tables.
 */
static bool
is_long(Oid relation)
{
	if (all_look_long)
		return true;
	return !enable_seqscan && !enable_hashjoin && !enable_mergejoin && !enable_bitmapscan &&
		   llm_spi_owns(relation);
}

bool
llm_spi_look_long(bool statement_is_ours)
{
	bool before = all_look_long;

	all_look_long = statement_is_ours;
	return before;
}

/* get_relation_info_hook */
static void
show_long(PlannerInfo *root, Oid relation, bool inhparent, RelOptInfo *rel)
{
	ListCell *cell;

	if (next_info_hook)
		next_info_hook(root, relation, inhparent, rel);
	if (!is_long(relation))
		return;
	rel->tuples = ROWS;
	rel->pages = (BlockNumber) (ROWS / ROWS_PER_PAGE);
	rel->allvisfrac = 0;
	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(cell);

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
	next_info_hook = get_relation_info_hook;
	get_relation_info_hook = show_long;
	next_stats_hook = get_relation_stats_hook;
	get_relation_stats_hook = hide_statistics;
}
