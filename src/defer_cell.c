/*-------------------------------------------------------------------------
 *
 * defer_cell.c
 *	  A marker is given to a row, and found again in the row as stored.
 *
 * keep() runs when the executor makes the row that it is about to store, bind()
 * right after it is stored.  In between nothing else is stored by this
 * statement in this table, so that one slot per column is all to remember.  A
 * trigger may change the row in between: what counts is what bind() finds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "defer.h"
#include "marker.h"

/* Bound cells are written when there are so many, or so many bytes of them. */
#define BATCH_ROWS 5000
#define BATCH_BYTES (16 * 1024 * 1024)

/* Arguments of keep() and bind(). */
#define KEEP_OLD LLM_DEFER_FIXED_ARGS
#define KEEP_NEW (LLM_DEFER_FIXED_ARGS + 1)
#define KEEP_KEY (LLM_DEFER_FIXED_ARGS + 2)
#define BIND_LEAF LLM_DEFER_FIXED_ARGS
#define BIND_KEY (LLM_DEFER_FIXED_ARGS + 1)

/* One keep() expression of one execution. */
typedef struct KeepState
{
	LlmRun *run;
	LlmTargetState *target;
	LlmDeferCell *spec;
	LlmSlotState *slot;
} KeepState;

/* One bind() expression of one execution; a partition has its own. */
typedef struct BindState
{
	LlmRun *run;
	LlmTargetState *target;
	LlmDeferCheck *spec;
	int columns; /* first argument that is a column */
} BindState;

PG_FUNCTION_INFO_V1(llm_enrich_keep);
PG_FUNCTION_INFO_V1(llm_enrich_bind);

static void
know_cell(LlmKnownCell *known, Datum cell)
{
	Size size = VARSIZE_ANY(DatumGetPointer(cell));

	known->len = 0;
	if (size > LLM_KNOWN_CELL || VARATT_IS_EXTERNAL(DatumGetPointer(cell)))
		return;
	known->len = size;
	memcpy(known->data, DatumGetPointer(cell), size);
}

static bool
is_known_cell(const LlmKnownCell *known, Datum cell)
{
	return known->len > 0 && VARSIZE_ANY(DatumGetPointer(cell)) == known->len &&
		   memcmp(known->data, DatumGetPointer(cell), known->len) == 0;
}

/*
 * Could there be a marker of the running statement in the value?  Not in one that comes
 * from a stored row as it is, compressed or out of line.
 */
static bool
may_hold_marker(Datum cell)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(cell);

	if (VARATT_IS_EXTERNAL_ONDISK(value) || VARATT_IS_COMPRESSED(value))
		return false;
	if (VARATT_IS_EXTERNAL(value))
		return true;
	return memmem(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), LLM_MARKER_KEY, strlen(LLM_MARKER_KEY)) != NULL;
}

static KeepState *
start_keep(FunctionCallInfo fcinfo)
{
	KeepState *state;
	LlmRun *run;
	MemoryContext caller;

	llm_defer_check_magic(fcinfo, "keep");
	run = llm_defer_current_run();
	state = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(KeepState));
	state->run = run;
	caller = MemoryContextSwitchTo(run->context);
	state->spec = llm_defer_read_cell(PG_GETARG_BYTEA_P_COPY(1));
	MemoryContextSwitchTo(caller);
	state->target = llm_defer_target(run, state->spec->target);
	state->slot = &state->target->slots[state->spec->column];
	fcinfo->flinfo->fn_extra = state;
	return state;
}

/* A marker of the running statement by its id, also one that a row has already; NULL: none of ours. */
static bool
find_issued(KeepState *state, int64 id, LlmSlotState *found)
{
	LlmRun *run = state->run;
	LlmIssued *issued;
	int i;

	memset(found, 0, offsetof(LlmSlotState, known));
	for (i = 0; i < run->nsites; i++)
	{
		issued = run->sites[i] == NULL ? NULL : &run->sites[i]->last;
		if (issued != NULL && issued->id == id)
		{
			found->asked = issued->asked;
			found->input = issued->input;
			found->id = issued->given ? 0 : id;
			issued->given = true;
			return true;
		}
	}
	issued = run->issued == NULL ? NULL : hash_search(run->issued, &id, HASH_FIND, NULL);
	if (issued != NULL)
	{
		found->asked = issued->asked;
		found->input = issued->input;
		found->input_stays = true;
		found->id = issued->given ? 0 : id;
		issued->given = true;
		return true;
	}
	/* EXCLUDED.column: given to the row that was in conflict, under an id of its own */
	for (i = 0; i < state->target->spec->ncolumns; i++)
	{
		if (state->target->slots[i].id == id)
		{
			memcpy(found, &state->target->slots[i], offsetof(LlmSlotState, known));
			found->id = 0;
			return true;
		}
	}
	if (llm_defer_is_own_id(run, id))
		elog(ERROR, "marker %lld of this statement is not known any more", (long long) id);
	return false;
}

/* The marker that the new value is, if it is one of ours: its task's id, 0 for a failed one, -1 for none. */
static int64
fresh_task(KeepState *state, Datum fresh)
{
	LlmRun *run = state->run;
	bool nested;
	int64 id;
	int i;

	if (state->spec->type == LLM_CELL_JSONB)
	{
		for (i = 0; i < run->nsites; i++)
		{
			if (run->sites[i] != NULL && is_known_cell(&run->sites[i]->known, fresh))
				return run->sites[i]->last.id;
		}
	}
	if (!may_hold_marker(fresh))
		return -1;
	id = llm_marker_task(state->spec->type, fresh, &nested);
	if (id == 0 && llm_marker_status(state->spec->type, fresh) == NULL)
		return -1;
	return id;
}

/* The task whose pending marker the cell holds now, 0 when none. */
static int64
pending_task(LlmCellType type, Datum cell)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(cell);
	const char *status;
	bool nested;

	if (!VARATT_IS_EXTENDED(value) && !may_hold_marker(cell))
		return 0;
	status = llm_marker_status(type, cell);
	if (status == NULL || strcmp(status, "pending") != 0)
		return 0;
	return llm_marker_task(type, cell, &nested);
}

/* The job that a cell's task will belong to, made when it is the first. */
static LlmNewJob *
find_job(LlmRun *run, LlmAsked *asked, const LlmDeferTarget *target, int column)
{
	const char *name = target->columns[column].name;
	Oid role = GetUserId();
	MemoryContext caller;
	LlmNewJob *job;
	ListCell *cell;
	int i;

	foreach(cell, asked->jobs)
	{
		job = lfirst(cell);
		if (job->relation == target->relation && job->role == role && strcmp(job->column_name, name) == 0)
			return job;
	}
	caller = MemoryContextSwitchTo(run->context);
	job = palloc0(sizeof(LlmNewJob));
	job->op = asked->op;
	job->spec = asked->spec;
	job->model = asked->model;
	job->priority = asked->priority;
	job->tags = asked->tags;
	job->role = role;
	job->relation = target->relation;
	job->column_name = name;
	for (i = 0; i < target->nkeys; i++)
		job->key_columns = lappend(job->key_columns, unconstify(char *, target->keys[i]));
	asked->jobs = lappend(asked->jobs, job);
	run->jobs = lappend(run->jobs, job);
	MemoryContextSwitchTo(caller);
	return job;
}

/* Does the pending task of the row, which has this key, ask just what is asked now? */
static bool
asks_the_same(KeepState *state, int64 old_task, const Datum *key, const LlmSlotState *found)
{
	LlmNewJob *job = find_job(state->run, found->asked, state->target->spec, state->spec->column);
	int nest = llm_defer_key_begin(state->run);
	Jsonb *object = llm_defer_key_object(state->run, state->target, key);

	llm_defer_key_end(nest);
	return llm_enqueue_is_same(old_task, job, object, found->input);
}

/* Note the pending task whose marker the cell holds, and the row that it is in. */
static void
note_old_task(FunctionCallInfo fcinfo, KeepState *state, LlmSlotState *found)
{
	MemoryContext caller;
	Size bytes;

	if (PG_ARGISNULL(KEEP_OLD) || !state->spec->is_update)
		return;
	found->old_task = pending_task(state->spec->type, PG_GETARG_DATUM(KEEP_OLD));
	if (found->old_task == 0)
		return;
	caller = MemoryContextSwitchTo(state->run->context);
	found->old_key = llm_defer_take_key(state->run, state->target, fcinfo, KEEP_KEY, &bytes);
	MemoryContextSwitchTo(caller);
	if (found->old_key == NULL)
		found->old_task = 0;
}

/* Replace what the slot says, all but the known cell. */
static void
fill_slot(LlmSlotState *slot, const LlmSlotState *found)
{
	if (slot->old_key != NULL)
		pfree(slot->old_key);
	memcpy(slot, found, offsetof(LlmSlotState, known));
	slot->known.len = 0;
}

/*
 * SQL: llm.keep(magic, spec, old value, new value, key …) → the value to store: a fresh
 * marker laid over what the cell held; any other new value as it is.
 */
Datum
llm_enrich_keep(PG_FUNCTION_ARGS)
{
	KeepState *state = fcinfo->flinfo->fn_extra;
	LlmSlotState found;
	Datum cell;
	int64 id = -1;

	if (state == NULL)
		state = start_keep(fcinfo);
	memset(&found, 0, offsetof(LlmSlotState, known));
	if (!PG_ARGISNULL(KEEP_NEW))
		id = fresh_task(state, PG_GETARG_DATUM(KEEP_NEW));
	if (id > 0 && !find_issued(state, id, &found))
		id = -1;
	note_old_task(fcinfo, state, &found);

	if (id > 0 && found.old_task != 0 && !state->spec->moves_key &&
		asks_the_same(state, found.old_task, found.old_key, &found))
	{
		pfree(found.old_key);
		memset(&found, 0, offsetof(LlmSlotState, known));
		fill_slot(state->slot, &found);
		PG_RETURN_DATUM(PG_GETARG_DATUM(KEEP_OLD));
	}
	if (id > 0 && found.id == 0)
	{
		found.id = llm_defer_new_id(state->run);
		cell = llm_marker_cell(state->spec->type, llm_marker_pending(found.id));
	}
	else
		cell = PG_GETARG_DATUM(KEEP_NEW);
	fill_slot(state->slot, &found);
	if (PG_ARGISNULL(KEEP_NEW))
		PG_RETURN_NULL();
	if (id >= 0)
		cell = llm_marker_keep(state->spec->type, PG_GETARG_DATUM(KEEP_OLD), PG_ARGISNULL(KEEP_OLD), cell);
	if (id > 0)
		know_cell(&state->slot->known, cell);
	PG_RETURN_DATUM(cell);
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
	state->columns = BIND_KEY + state->spec->target->nkeys;
	if (PG_NARGS() != state->columns + state->spec->count)
		elog(ERROR, "check of deferred calls has %d arguments, not %d", PG_NARGS(),
			 state->columns + state->spec->count);
	fcinfo->flinfo->fn_extra = state;
	return state;
}

/* Some partitions cannot be written to later, which is known only when a row arrives. */
static void
check_leaf(LlmTargetState *target, Oid leaf)
{
	if (leaf == target->last_leaf)
		return;
	if (get_rel_relkind(leaf) == RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot defer a call for a row of partition \"%s\"", get_rel_name(leaf)),
				 errdetail("It is a foreign table, and its rows are stored elsewhere.")));
	target->last_leaf = leaf;
}

/* The row's column holds the marker that its slot was given: it is a task now. */
static void
bind_cell(FunctionCallInfo fcinfo, BindState *state, LlmSlotState *slot, int column)
{
	LlmRun *run = state->run;
	MemoryContext caller = MemoryContextSwitchTo(run->batch);
	LlmBound *bound;
	Size bytes;

	if (state->target->spec->columns[column].name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a trigger moved the marker of a deferred call to a column that \"%s\" does not show",
						get_rel_name(state->target->spec->relation))));
	run->bound = llm_defer_grow(run, run->bound, run->nbound, &run->bound_size, sizeof(LlmBound));
	bound = &run->bound[run->nbound];
	bound->id = slot->id;
	bound->job = find_job(run, slot->asked, state->target->spec, column);
	bound->target = state->target;
	bound->leaf = PG_GETARG_OID(BIND_LEAF);
	bound->key = llm_defer_take_key(run, state->target, fcinfo, BIND_KEY, &bytes);
	if (bound->key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("cannot defer a call for a row whose key is NULL")));
	check_leaf(state->target, bound->leaf);
	bound->input = slot->input;
	if (!slot->input_stays)
	{
		bytes += VARSIZE(slot->input);
		bound->input = palloc(VARSIZE(slot->input));
		memcpy(bound->input, slot->input, VARSIZE(slot->input));
	}
	run->bound_bytes += bytes;
	run->nbound++;
	slot->bound_id = slot->id;
	slot->id = 0;
	MemoryContextSwitchTo(caller);
}

/* Does the value name a marker of this statement anywhere inside?  Then it is not whole. */
static bool
names_own_marker(LlmRun *run, LlmCellType type, Datum cell)
{
	char *content;
	char *place;

	if (type == LLM_CELL_JSONB)
		content = JsonbToCString(NULL, &DatumGetJsonbP(cell)->root, VARSIZE(DatumGetPointer(cell)));
	else
		content = TextDatumGetCString(cell);
	for (place = strstr(content, "\"task"); place != NULL; place = strstr(place + 1, "\"task"))
	{
		char *digits = place + strcspn(place, "0123456789");

		if (llm_defer_is_own_id(run, strtoll(digits, NULL, 10)))
			return true;
	}
	return false;
}

static void
refuse_stray_marker(BindState *state, int column)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the marker of a deferred call did not arrive whole in a cell of its own"),
			 errdetail("Column \"%s\" of relation \"%s\" holds it inside another value, or as a copy from another row.",
					   state->target->spec->columns[column].name, get_rel_name(state->target->spec->relation)),
			 errhint("A trigger may have changed the value: let it leave alone the column that the call is assigned to.")));
}

/*
 * Index of the slot whose marker the column of the stored row holds, -1 for none.
 * Raises for a marker of this statement that will never get an answer there.
 */
static int
find_given(BindState *state, int column, Datum cell)
{
	LlmTargetState *target = state->target;
	LlmCellType type = target->spec->columns[column].type;
	bool is_copy = false; /* of what the same row has in another column */
	bool nested = false;
	int64 id;
	int i;

	if (is_known_cell(&target->slots[column].known, cell))
		return target->slots[column].id == 0 ? -1 : column;
	if (!may_hold_marker(cell))
		return -1;
	id = llm_marker_task(type, cell, &nested);
	for (i = 0; id > 0 && i < target->spec->ncolumns; i++)
	{
		if (target->slots[i].id == id)
			return i;
		is_copy = is_copy || target->slots[i].bound_id == id;
	}
	if (nested ? names_own_marker(state->run, type, cell) : id > 0 && !is_copy && llm_defer_is_own_id(state->run, id))
		refuse_stray_marker(state, column);
	return -1;
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

	if (slot->bound_id == 0 && !llm_defer_is_same_key(state->target, slot->old_key, fcinfo, BIND_KEY))
		return;
	if (cell.isnull ||
		llm_marker_task(state->target->spec->columns[column].type, cell.value, &nested) != slot->old_task)
	{
		run->overwritten = llm_defer_grow(run, run->overwritten, run->noverwritten, &run->overwritten_size,
										  sizeof(LlmOverwritten));
		old = &run->overwritten[run->noverwritten++];
		old->task = slot->old_task;
		old->target = state->target;
		old->column = column;
		old->leaf = PG_GETARG_OID(BIND_LEAF);
		caller = MemoryContextSwitchTo(run->batch);
		old->key = llm_defer_copy_key(state->target, slot->old_key);
		MemoryContextSwitchTo(caller);
	}
	slot->old_task = 0;
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
	int i;

	if (state == NULL)
		state = start_bind(fcinfo);
	for (i = 0; i < state->spec->count; i++)
	{
		int column = state->spec->first + i;
		NullableDatum *cell = &fcinfo->args[state->columns + i];
		int given = cell->isnull ? -1 : find_given(state, column, cell->value);

		if (given == column)
			bind_cell(fcinfo, state, &state->target->slots[column], column);
		else if (given >= 0)
			moved = bms_add_member(moved, i);
	}
	for (i = -1; (i = bms_next_member(moved, i)) >= 0;)
	{
		int column = state->spec->first + i;
		int given = find_given(state, column, fcinfo->args[state->columns + i].value);

		if (given >= 0)
			bind_cell(fcinfo, state, &state->target->slots[given], column);
	}
	for (i = state->spec->first; i < state->spec->first + state->spec->count; i++)
	{
		if (state->target->slots[i].old_task != 0)
			note_overwritten(fcinfo, state, i);
	}
	if (state->run->nbound + state->run->noverwritten >= BATCH_ROWS || state->run->bound_bytes >= BATCH_BYTES)
		llm_defer_flush(state->run, false);
	PG_RETURN_BOOL(true);
}
