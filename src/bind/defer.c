/*-------------------------------------------------------------------------
 *
 * defer.c
 *	  Statements with deferred calls: which one runs now, what it has bound, and
 *	  the write at its end.
 *
 * A stack of the modifying statements that run now is kept on the C stack by the
 * executor hooks, and so is right after any error.  What a statement remembers is
 * made when it issues its first marker, lives below its own memory, and is found
 * again when it is finished: when all its rows are stored, and in the same
 * (sub)transaction, so that whatever undoes the rows undoes the tasks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/json.h"
#include "bind/confirm.h"
#include "bind/defer.h"
#include "bind/notice.h"

/* A modifying statement inside ExecutorRun or ExecutorFinish. */
typedef struct Frame
{
	struct Frame *outer;
	QueryDesc *query_desc;
} Frame;

/* The innermost of them; every frame is on the C stack of its hook. */
static Frame *current_frame = NULL;

/* Statements that issued markers; each leaves by its memory context's reset callback. */
static LlmRun *runs = NULL;

/* The hooks that were there before ours; set once. */
static ExecutorRun_hook_type previous_run = NULL;
static ExecutorFinish_hook_type previous_finish = NULL;

static bool
is_modifying(QueryDesc *query_desc)
{
	return query_desc->operation != CMD_SELECT || query_desc->plannedstmt->hasModifyingCTE;
}

static LlmRun *
find_run(EState *estate)
{
	LlmRun *run = runs;

	while (run != NULL && run->estate != estate)
		run = run->next;
	return run;
}

/* Memory context callback: the statement's memory goes. */
static void
forget_run(void *arg)
{
	LlmRun **link = &runs;

	while (*link != NULL && *link != arg)
		link = &(*link)->next;
	if (*link != NULL)
		*link = (*link)->next;
}

static LlmRun *
make_run(EState *estate)
{
	MemoryContext context = AllocSetContextCreate(estate->es_query_cxt, "llm_enrich statement",
												  ALLOCSET_DEFAULT_SIZES);
	LlmRun *run = MemoryContextAllocZero(context, sizeof(LlmRun));

	run->context = context;
	run->batch = AllocSetContextCreate(context, "llm_enrich bound cells", ALLOCSET_DEFAULT_SIZES);
	run->estate = estate;
	run->on_reset.func = forget_run;
	run->on_reset.arg = run;
	MemoryContextRegisterResetCallback(context, &run->on_reset);
	run->next = runs;
	runs = run;
	return run;
}

LlmRun *
llm_defer_current_run(void)
{
	EState *estate;
	LlmRun *run;

	if (current_frame == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a deferred call was evaluated outside the statement that it was planned for")));
	estate = current_frame->query_desc->estate;
	run = find_run(estate);
	return run != NULL ? run : make_run(estate);
}

void
llm_defer_check_magic(FunctionCallInfo fcinfo, const char *name)
{
	if (PG_NARGS() <= LLM_DEFER_FIXED_ARGS || PG_ARGISNULL(0) || PG_ARGISNULL(1) ||
		PG_GETARG_INT64(0) != LLM_DEFER_MAGIC)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function %s.%s cannot be called from SQL", LLM_SCHEMA, name),
				 errdetail("The planner puts it into statements with deferred calls.")));
}

void *
llm_defer_grow(LlmRun *run, void *array, int n, int *size, Size width)
{
	if (n < *size)
		return array;
	*size = Max(64, *size * 2);
	if (array == NULL)
		return MemoryContextAlloc(run->context, *size * width);
	return repalloc_huge(array, *size * width);
}

int64
llm_defer_new_id(LlmRun *run)
{
	int64 id = llm_enqueue_next_id();

	if (run->nids > 0 && run->ids[run->nids - 1].last == id - 1)
	{
		run->ids[run->nids - 1].last = id;
		return id;
	}
	run->ids = llm_defer_grow(run, run->ids, run->nids, &run->ids_size, sizeof(LlmIdRange));
	run->ids[run->nids].first = id;
	run->ids[run->nids].last = id;
	run->nids++;
	return id;
}

bool
llm_defer_is_own_id(const LlmRun *run, int64 id)
{
	int low = 0;
	int high = run->nids;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (id < run->ids[middle].first)
			high = middle;
		else if (id > run->ids[middle].last)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

bool
llm_defer_is_being_asked(int64 id)
{
	for (LlmRun *run = runs; run != NULL; run = run->next)
	{
		if (llm_defer_is_own_id(run, id))
			return true;
	}
	return false;
}

/* Make room for number "index" in an array of pointers. */
static void *
grow_pointers(LlmRun *run, void *array, int *n, int index)
{
	int needed = index + 1;
	void **grown;

	if (needed <= *n)
		return array;
	grown = MemoryContextAllocZero(run->context, needed * sizeof(void *));
	if (array != NULL)
	{
		memcpy(grown, array, *n * sizeof(void *));
		pfree(array);
	}
	*n = needed;
	return grown;
}

LlmSiteState *
llm_defer_site(LlmRun *run, const LlmDeferSite *spec)
{
	LlmSiteState *site;

	run->sites = grow_pointers(run, run->sites, &run->nsites, spec->number);
	site = run->sites[spec->number];
	if (site == NULL)
	{
		site = MemoryContextAllocZero(run->context, sizeof(LlmSiteState));
		site->spec = MemoryContextAlloc(run->context, sizeof(LlmDeferSite));
		*site->spec = *spec;
		run->sites[spec->number] = site;
	}
	return site;
}

LlmTargetState *
llm_defer_target(LlmRun *run, const LlmDeferTarget *spec)
{
	LlmTargetState *target;

	run->targets = grow_pointers(run, run->targets, &run->ntargets, spec->number);
	target = run->targets[spec->number];
	if (target == NULL)
	{
		target = MemoryContextAllocZero(run->context, sizeof(LlmTargetState));
		target->spec = MemoryContextAlloc(run->context, sizeof(LlmDeferTarget));
		*target->spec = *spec;
		target->slots = MemoryContextAllocZero(run->context, spec->ncolumns * sizeof(LlmSlotState));
		run->targets[spec->number] = target;
	}
	return target;
}

/* The leaves of a quiet cell as a JSON array of texts, or NULL; between key_begin() and key_end(). */
static Jsonb *
list_leaves(const LlmBound *bound)
{
	JsonbValue *elems = palloc(Max(bound->nleaves, 1) * sizeof(JsonbValue));
	JsonbValue list;

	if (bound->nleaves == 0)
		return NULL;
	for (int i = 0; i < bound->nleaves; i++)
	{
		elems[i].type = jbvNull;
		if (!bound->leaves[i].isnull)
			elems[i] = llm_json_make_text(OutputFunctionCall(unconstify(FmgrInfo *, &bound->leaf_types[i].output),
															 bound->leaves[i].value));
	}
	list = llm_json_make_array(elems, bound->nleaves);
	return llm_json_store(&list);
}

/* What is bound, as tasks; in the current context. */
static LlmNewTask *
list_tasks(LlmRun *run)
{
	LlmNewTask *tasks = palloc0(Max(run->nbound, 1) * sizeof(LlmNewTask));

	for (int i = 0; i < run->nbound; i++)
	{
		LlmBound *bound = &run->bound[i];
		LlmNewTask *task = &tasks[i];

		task->id = bound->id;
		task->job = bound->job;
		task->leaf = bound->leaf;
		task->key = llm_defer_key_object(run, bound->target, bound->key);
		task->input = bound->input;
		if (!bound->is_quiet)
			continue;
		task->cell = llm_defer_cell_number(run, bound);
		task->fence = llm_cell_fence_write(&bound->fence);
		task->leaves = list_leaves(bound);
		task->is_blank = bound->is_blank;
	}
	return tasks;
}

/* What was overwritten; in the current context. */
static LlmOldTask *
list_old_tasks(LlmRun *run)
{
	LlmOldTask *tasks = palloc(Max(run->noverwritten, 1) * sizeof(LlmOldTask));

	for (int i = 0; i < run->noverwritten; i++)
	{
		LlmOverwritten *old = &run->overwritten[i];

		tasks[i].id = old->task;
		tasks[i].leaf = old->leaf;
		tasks[i].key = llm_defer_key_object(run, old->target, old->key);
		tasks[i].column_name = old->target->spec->columns[old->column].name;
	}
	return tasks;
}

/* Leave out what is asked already, or was in vain, of quiet cells. */
static void
drop_asked(LlmRun *run, LlmNewTask *tasks)
{
	bool *dropped = llm_enqueue_find_asked(tasks, run->nbound, run->jobs);
	int kept = 0;

	for (int i = 0; dropped != NULL && i < run->nbound; i++)
	{
		if (dropped[i])
			continue;
		run->bound[kept] = run->bound[i];
		tasks[kept++] = tasks[i];
	}
	if (dropped != NULL)
		run->nbound = kept;
}

void
llm_defer_flush(LlmRun *run, bool last)
{
	MemoryContext caller = MemoryContextSwitchTo(run->batch);
	LlmNewTask *tasks;
	LlmOldTask *old_tasks;
	int nest;

	nest = llm_defer_key_begin(run);
	tasks = list_tasks(run);
	old_tasks = list_old_tasks(run);
	llm_defer_key_end(nest);
	drop_asked(run, tasks);
	llm_defer_find_same(run);
	for (int i = 0; i < run->nbound; i++)
		tasks[i].same_as = run->bound[i].same_as;
	llm_confirm_look(tasks, run->nbound, run->jobs);
	if (last)
		llm_confirm_estimate(run->jobs);
	llm_enqueue_tasks(tasks, run->nbound, run->jobs, last);
	llm_enqueue_supersede(old_tasks, run->noverwritten);
	if (last)
	{
		llm_enqueue_tell_failed(run->jobs);
		llm_confirm_settle(run->jobs);
		llm_notice_tell(run->jobs, run->blank_rows);
		run->blank_rows = 0;
	}
	run->nbound = 0;
	run->bound_bytes = 0;
	run->noverwritten = 0;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(run->batch);
}

/* ExecutorRun_hook */
static void
run_statement(LLM_EXECUTOR_RUN_PARAMS)
{
	Frame frame = {current_frame, query_desc};

	if (!is_modifying(query_desc))
	{
		previous_run(LLM_EXECUTOR_RUN_ARGS);
		return;
	}
	current_frame = &frame;
	PG_TRY();
	{
		previous_run(LLM_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		current_frame = frame.outer;
	}
	PG_END_TRY();
}

/* All rows are stored: write what is bound. */
static void
write_run(EState *estate)
{
	LlmRun *run = find_run(estate);

	if (run != NULL && (run->nbound > 0 || run->noverwritten > 0 || run->jobs != NIL || run->blank_rows > 0))
		llm_defer_flush(run, true);
}

/*
 * ExecutorFinish_hook.  Here AFTER triggers fire, which may ask about the same cells again
 * and so must find the tasks; but before them, WITH queries store what they have not yet.
 */
static void
finish_statement(QueryDesc *query_desc)
{
	Frame frame = {current_frame, query_desc};
	bool has_more = query_desc->plannedstmt->hasModifyingCTE;

	if (!is_modifying(query_desc))
	{
		previous_finish(query_desc);
		return;
	}
	current_frame = &frame;
	PG_TRY();
	{
		if (!has_more)
			write_run(query_desc->estate);
		previous_finish(query_desc);
		if (has_more)
			write_run(query_desc->estate);
	}
	PG_FINALLY();
	{
		current_frame = frame.outer;
	}
	PG_END_TRY();
}

void
llm_defer_init(void)
{
	previous_run = ExecutorRun_hook != NULL ? ExecutorRun_hook : standard_ExecutorRun;
	ExecutorRun_hook = run_statement;
	previous_finish = ExecutorFinish_hook != NULL ? ExecutorFinish_hook : standard_ExecutorFinish;
	ExecutorFinish_hook = finish_statement;
}
