/*-------------------------------------------------------------------------
 *
 * defer_bind.c
 *	  A marker is found in the row as stored: now it is a task.
 *
 * A trigger may have changed the row since keep() gave it its marker (defer_cell.c):
 * what counts is what bind() finds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "bind/defer.h"
#include "cell/marker.h"

/* Bound cells are written when there are so many, or so many bytes of them. */
#define BATCH_ROWS 5000
#define BATCH_BYTES (16 * 1024 * 1024)

/* Jobs that are looked at for the same question: the columns of a row come one after the other. */
#define QUESTIONS_BACK 64

/* One bind() expression of one execution; a partition has its own. */
typedef struct BindState
{
	LlmRun *run;
	LlmTargetState *target;
	LlmDeferCheck *spec;
	int columns; /* first argument that is a column */
} BindState;

PG_FUNCTION_INFO_V1(llm_enrich_bind);

bool
llm_defer_is_known(const LlmKnownCell *known, Datum cell)
{
	const struct varlena *value = (const struct varlena *) DatumGetPointer(cell);

	return known->len > 0 && !VARATT_IS_COMPRESSED(value) && !VARATT_IS_EXTERNAL(value) &&
		   VARSIZE_ANY_EXHDR(value) == known->len && memcmp(known->data, VARDATA_ANY(value), known->len) == 0;
}

bool
llm_defer_may_hold_marker(Datum cell, bool look_inside)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(cell);

	if (VARATT_IS_EXTERNAL_ONDISK(value) || VARATT_IS_COMPRESSED(value))
		return look_inside;
	if (VARATT_IS_EXTERNAL(value))
		return true;
	return memmem(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), LLM_MARKER_KEY, strlen(LLM_MARKER_KEY)) != NULL;
}

/* The number of the first job that asks what this one asks: its answer will do for both. */
static int
find_question(const LlmRun *run, const LlmNewJob *job)
{
	int last = list_length(run->jobs) - 1;

	for (int i = last; i >= 0 && i > last - QUESTIONS_BACK; i--)
	{
		const LlmNewJob *other = list_nth(run->jobs, i);

		if (other->op == job->op && other->role == job->role && other->priority == job->priority &&
			other->deadline == job->deadline &&
			strcmp(other->model == NULL ? "" : other->model, job->model == NULL ? "" : job->model) == 0 &&
			VARSIZE(other->spec) == VARSIZE(job->spec) && memcmp(other->spec, job->spec, VARSIZE(job->spec)) == 0)
			return other->question;
	}
	return job->number;
}

LlmNewJob *
llm_defer_job(LlmRun *run, LlmAsked *asked, const LlmDeferTarget *target, int column, const char *kept)
{
	const char *name = target->columns[column].name;
	Oid role = GetUserId();
	MemoryContext caller;
	LlmNewJob *job;
	ListCell *cell;

	foreach(cell, asked->jobs)
	{
		job = lfirst(cell);
		if (job->relation == target->relation && job->role == role && strcmp(job->column_name, name) == 0 &&
			(job->kept == NULL) == (kept == NULL) && (kept == NULL || strcmp(job->kept, kept) == 0))
			return job;
	}
	caller = MemoryContextSwitchTo(run->context);
	job = palloc0(sizeof(LlmNewJob));
	job->op = asked->op;
	job->spec = asked->spec;
	job->model = asked->model;
	job->priority = asked->priority;
	job->tags = asked->tags;
	job->deadline = asked->deadline;
	job->role = role;
	job->relation = target->relation;
	job->column_name = name;
	job->kept = kept;
	for (int i = 0; i < target->nkeys; i++)
		job->key_columns = lappend(job->key_columns, unconstify(char *, target->keys[i]));
	asked->jobs = lappend(asked->jobs, job);
	job->number = list_length(run->jobs) + 1;
	job->question = find_question(run, job);
	run->jobs = lappend(run->jobs, job);
	if (kept != NULL)
		job->cell = llm_enqueue_cell_description(job);
	MemoryContextSwitchTo(caller);
	return job;
}

void
llm_defer_refuse_stray(const LlmDeferTarget *target, int column)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the marker of a deferred call did not arrive whole in a cell of its own"),
			 errdetail("Column \"%s\" of relation \"%s\" holds it inside another value, or as a copy from another row.",
					   target->columns[column].name, get_rel_name(target->relation)),
			 errhint("A trigger may have changed the value: let it leave alone the column that the call is assigned to.")));
}

static BindState *
start_bind(FunctionCallInfo fcinfo)
{
	BindState *state;
	LlmRun *run;
	MemoryContext caller;

	llm_defer_check_magic(fcinfo, "bind");
	run = llm_defer_current_run();
	state = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(BindState));
	state->run = run;
	caller = MemoryContextSwitchTo(run->context);
	state->spec = llm_defer_read_check(PG_GETARG_BYTEA_P_COPY(1));
	MemoryContextSwitchTo(caller);
	state->target = llm_defer_target(run, state->spec->target);
	state->columns = LLM_BIND_KEY + state->spec->target->nkeys;
	if (PG_NARGS() != state->columns + state->spec->count)
		elog(ERROR, "check of deferred calls has %d arguments, not %d", PG_NARGS(),
			 state->columns + state->spec->count);
	fcinfo->flinfo->fn_extra = state;
	return state;
}

/* Some partitions and children cannot be written to later, which is known only when a row arrives. */
static void
check_leaf(LlmTargetState *target, Oid leaf)
{
	const char *detail = NULL;

	if (leaf == target->last_leaf)
		return;
	if (get_rel_relkind(leaf) == RELKIND_FOREIGN_TABLE)
		detail = "It is a foreign table, and its rows are stored elsewhere.";
	else if (get_rel_persistence(leaf) == RELPERSISTENCE_TEMP)
		detail = "It is a temporary table, which only this session can see.";
	if (detail != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot defer a call for a row of table \"%s\"", get_rel_name(leaf)),
				 errdetail("%s", detail),
				 errhint("Leave its rows out, or store them in an ordinary table.")));
	target->last_leaf = leaf;
}

LlmBound *
llm_defer_bind(LlmRun *run, LlmTargetState *target, int column, LlmGiven *given, const char *kept,
			   FunctionCallInfo fcinfo)
{
	LlmBound *bound;
	Size bytes;

	llm_defer_check_right(target, column);
	run->bound = llm_defer_grow(run, run->bound, run->nbound, &run->bound_size, sizeof(LlmBound));
	bound = &run->bound[run->nbound];
	memset(bound, 0, sizeof(LlmBound));
	bound->id = given->id;
	bound->job = llm_defer_job(run, given->asked, target->spec, column, kept);
	bound->target = target;
	bound->column = column;
	bound->leaf = PG_GETARG_OID(LLM_BIND_LEAF);
	bound->key = llm_defer_take_key(run, target, fcinfo, LLM_BIND_KEY, &bytes);
	if (bound->key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("cannot defer a call for a row whose key is NULL")));
	check_leaf(target, bound->leaf);
	bound->input = given->input;
	if (!given->input_stays)
	{
		Size size = VARSIZE_ANY(given->input);

		bytes += size;
		bound->input = palloc(size);
		memcpy(bound->input, given->input, size);
	}
	bound->shares = given->asked->shares;
	run->bound_bytes += bytes;
	run->nbound++;
	return bound;
}

/* The row's column holds the marker that its slot was given: it is a task now. */
static void
bind_cell(FunctionCallInfo fcinfo, BindState *state, LlmSlotState *slot, int column)
{
	LlmRun *run = state->run;
	MemoryContext caller = MemoryContextSwitchTo(run->batch);

	if (state->target->spec->columns[column].name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a trigger moved the marker of a deferred call to a column that \"%s\" does not show",
						get_rel_name(state->target->spec->relation))));
	(void) llm_defer_bind(run, state->target, column, &slot->given, NULL, fcinfo);
	slot->bound_id = slot->given.id;
	slot->given.id = 0;
	MemoryContextSwitchTo(caller);
}

void
llm_defer_flush_if_full(LlmRun *run)
{
	if (run->nbound + run->noverwritten >= BATCH_ROWS || run->bound_bytes >= BATCH_BYTES)
		llm_defer_flush(run, false);
}

/* The slot that a marker was given for, unless that is bound already; -1: none.  "is_bound": it is. */
static int
slot_of_marker(const LlmTargetState *target, int64 id, bool *is_bound)
{
	*is_bound = false;
	for (int i = 0; id > 0 && i < target->spec->ncolumns; i++)
	{
		if (target->slots[i].given.id == id)
			return i;
		*is_bound = *is_bound || target->slots[i].bound_id == id;
	}
	return -1;
}

/* Does the value name a marker of the row anywhere inside?  Then it is not whole. */
static bool
names_own_marker(const LlmTargetState *target, LlmCellType type, Datum cell)
{
	char *content;
	char *place;

	if (type == LLM_CELL_JSONB)
	{
		Jsonb *object = DatumGetJsonbP(cell);

		content = JsonbToCString(NULL, &object->root, VARSIZE(object));
	}
	else
		content = TextDatumGetCString(cell);
	for (place = strstr(content, "\"task"); place != NULL; place = strstr(place + 1, "\"task"))
	{
		char *digits = place + strcspn(place, "0123456789");
		bool is_bound;

		if (slot_of_marker(target, strtoll(digits, NULL, 10), &is_bound) >= 0 || is_bound)
			return true;
	}
	return false;
}

/*
 * Index of the slot whose marker the column of the stored row holds, -1 for none: also
 * when it is a copy of what the row has in another column, or another row.  Raises when
 * the row's marker is inside another value, where it will never get an answer.
 */
static int
find_given(BindState *state, int column, Datum cell)
{
	LlmTargetState *target = state->target;
	LlmCellType type = target->spec->columns[column].type;
	bool nested = false;
	bool is_bound;
	int64 id;

	if (llm_defer_is_known(&target->slots[column].known, cell))
		return target->slots[column].given.id == 0 ? -1 : column;
	if (!llm_defer_may_hold_marker(cell, target->slots[column].given.id != 0))
		return -1;
	id = llm_marker_task(type, cell, &nested);
	if (nested && names_own_marker(target, type, cell))
		llm_defer_refuse_stray(target->spec, column);
	return slot_of_marker(target, id, &is_bound);
}

/*
 * The cell was to keep the marker of a task that asks the same.  That task finds the row
 * by the key that it was bound with: a trigger must not have changed it since.
 */
static void
check_kept(FunctionCallInfo fcinfo, BindState *state, int column)
{
	LlmOldCell *old = &state->target->slots[column].old;
	NullableDatum cell = fcinfo->args[state->columns + column - state->spec->first];
	bool nested;

	if (!cell.isnull && !llm_defer_is_same_key(state->target, old->key, fcinfo, LLM_BIND_KEY) &&
		llm_marker_task(state->target->spec->columns[column].type, cell.value, &nested) == old->task)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a trigger changed the key of a row of \"%s\" that waits for an answer to the same question",
						get_rel_name(state->target->spec->relation)),
				 errdetail("Column \"%s\" keeps its pending task, which would not find the row under its new key.",
						   state->target->spec->columns[column].name),
				 errhint("Change the key in a statement of its own, and ask then.")));
	old->task = 0;
}

/*
 * The row held the marker of a pending task here, if it is that row: the slot may be of
 * one that was not stored.  When that marker is gone, so is the task's cell.
 */
static void
note_overwritten(FunctionCallInfo fcinfo, BindState *state, int column)
{
	LlmRun *run = state->run;
	LlmSlotState *slot = &state->target->slots[column];
	NullableDatum cell = fcinfo->args[state->columns + column - state->spec->first];
	LlmOverwritten *old;
	MemoryContext caller;
	bool nested;

	if (slot->bound_id == 0 && !llm_defer_is_same_key(state->target, slot->old.key, fcinfo, LLM_BIND_KEY))
		return;
	if (cell.isnull ||
		llm_marker_task(state->target->spec->columns[column].type, cell.value, &nested) != slot->old.task)
	{
		run->overwritten = llm_defer_grow(run, run->overwritten, run->noverwritten, &run->overwritten_size,
										  sizeof(LlmOverwritten));
		old = &run->overwritten[run->noverwritten++];
		old->task = slot->old.task;
		old->target = state->target;
		old->column = column;
		old->leaf = slot->old.leaf;
		caller = MemoryContextSwitchTo(run->batch);
		old->key = llm_defer_copy_key(state->target, slot->old.key);
		MemoryContextSwitchTo(caller);
	}
	slot->old.task = 0;
}

/*
 * SQL: llm.bind(magic, spec, tableoid, key …, columns …) → true, always.  Called on each
 * row as stored.  The column that a marker was given for comes before others that a
 * trigger may have put it into.
 */
Datum
llm_enrich_bind(PG_FUNCTION_ARGS)
{
	BindState *state = fcinfo->flinfo->fn_extra;
	Bitmapset *moved = NULL;

	if (state == NULL)
		state = start_bind(fcinfo);
	for (int i = 0; i < state->spec->count; i++)
	{
		int column = state->spec->first + i;
		NullableDatum *cell = &fcinfo->args[state->columns + i];
		int given = cell->isnull ? -1 : find_given(state, column, cell->value);

		if (given == column)
			bind_cell(fcinfo, state, &state->target->slots[column], column);
		else if (given >= 0)
			moved = bms_add_member(moved, i);
	}
	for (int i = -1; (i = bms_next_member(moved, i)) >= 0;)
	{
		int column = state->spec->first + i;
		int given = find_given(state, column, fcinfo->args[state->columns + i].value);

		if (given >= 0)
			bind_cell(fcinfo, state, &state->target->slots[given], column);
	}
	for (int i = state->spec->first; i < state->spec->first + state->spec->count; i++)
	{
		if (state->target->slots[i].old.task != 0 && state->target->slots[i].keeps_old)
			check_kept(fcinfo, state, i);
		else if (state->target->slots[i].old.task != 0)
			note_overwritten(fcinfo, state, i);
	}
	llm_defer_flush_if_full(state->run);
	PG_RETURN_BOOL(true);
}
