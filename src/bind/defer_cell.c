/*-------------------------------------------------------------------------
 *
 * defer_cell.c
 *	  A marker is given to a row, over what its cell held.
 *
 * keep() runs when the executor makes the row that it is about to store, bind()
 * (defer_bind.c) right after it is stored.  In between nothing else is stored by
 * this statement in this table, so that one slot per column is all to remember.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "bind/defer.h"
#include "cell/marker.h"

/* Arguments of keep(). */
#define KEEP_OLD LLM_DEFER_FIXED_ARGS
#define KEEP_NEW (LLM_DEFER_FIXED_ARGS + 1)
#define KEEP_LEAF (LLM_DEFER_FIXED_ARGS + 2)
#define KEEP_KEY (LLM_DEFER_FIXED_ARGS + 3)

/* One keep() expression of one execution. */
typedef struct KeepState
{
	LlmRun *run;
	LlmTargetState *target;
	LlmDeferCell *spec;
	LlmSlotState *slot;
} KeepState;

PG_FUNCTION_INFO_V1(llm_enrich_keep);

static void
know_cell(LlmKnownCell *known, Datum cell)
{
	const struct varlena *value = (const struct varlena *) DatumGetPointer(cell);

	known->len = 0;
	if (VARATT_IS_COMPRESSED(value) || VARATT_IS_EXTERNAL(value) || VARSIZE_ANY_EXHDR(value) > LLM_KNOWN_CELL)
		return;
	known->len = VARSIZE_ANY_EXHDR(value);
	memcpy(known->data, VARDATA_ANY(value), known->len);
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

/* A marker goes to the row; one that another row has already is to get an id of its own. */
static void
give(LlmIssued *issued, bool input_stays, LlmGiven *given)
{
	given->id = issued->given ? 0 : issued->id;
	given->asked = issued->asked;
	given->input = issued->input;
	given->input_stays = input_stays;
	issued->given = true;
}

/*
 * A table from elsewhere may hold markers with ids that are drawn only now: when "is_old",
 * the cell already holds this one.
 */
bool
llm_defer_find_issued(LlmRun *run, LlmTargetState *target, int column, int64 id, bool is_old, LlmGiven *given)
{
	LlmIssued *issued;

	for (int i = 0; i < run->nsites; i++)
	{
		if (run->sites[i] != NULL && run->sites[i]->last.id == id)
		{
			issued = &run->sites[i]->last;
			if (is_old && issued->given)
				return false;
			give(issued, false, given);
			return true;
		}
	}
	issued = run->issued == NULL ? NULL : hash_search(run->issued, &id, HASH_FIND, NULL);
	if (is_old && (issued == NULL || issued->given))
		return false;
	if (issued != NULL)
	{
		give(issued, true, given);
		return true;
	}
	/* EXCLUDED.column: the row that was in conflict had it under an id of its own */
	for (int i = 0; i < target->spec->ncolumns; i++)
	{
		if (target->slots[i].offered.id == id)
		{
			*given = target->slots[i].offered;
			given->id = 0;
			return true;
		}
	}
	if (llm_defer_is_own_id(run, id))
		llm_defer_refuse_stray(target->spec, column);
	return false;
}

int64
llm_defer_fresh_task(LlmRun *run, LlmCellType type, Datum fresh)
{
	const char *status;
	bool nested;
	int64 id;

	if (type == LLM_CELL_JSONB)
	{
		for (int i = 0; i < run->nsites; i++)
		{
			if (run->sites[i] != NULL && llm_defer_is_known(&run->sites[i]->known, fresh))
				return run->sites[i]->last.id;
		}
	}
	if (!llm_defer_may_hold_marker(fresh, false))
		return -1;
	status = llm_marker_status(type, fresh);
	if (status == NULL)
		return -1;
	id = llm_marker_task(type, fresh, &nested);
	return (strcmp(status, "pending") == 0) == (id > 0) ? id : -1;
}

/* The task whose pending marker the cell holds now, 0 when none. */
static int64
pending_task(LlmCellType type, Datum cell)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(cell);
	const char *status;
	bool nested;

	if (!VARATT_IS_EXTENDED(value) && !llm_defer_may_hold_marker(cell, false))
		return 0;
	status = llm_marker_status(type, cell);
	if (status == NULL || strcmp(status, "pending") != 0)
		return 0;
	return llm_marker_task(type, cell, &nested);
}

/* Does the pending task of the row ask just what is asked now? */
static bool
asks_the_same(KeepState *state, const LlmOldCell *old, const LlmGiven *given)
{
	LlmNewJob *job = llm_defer_job(state->run, given->asked, state->target->spec, state->spec->column, NULL);
	int nest = llm_defer_key_begin(state->run);
	Jsonb *key = llm_defer_key_object(state->run, state->target, old->key);

	llm_defer_key_end(nest);
	return llm_enqueue_is_same(old->task, job, key, given->input);
}

/* Note the pending task whose marker the cell holds, and the row that it is in. */
static void
note_old_cell(FunctionCallInfo fcinfo, KeepState *state, LlmOldCell *old)
{
	MemoryContext caller;
	Size bytes;

	memset(old, 0, sizeof(*old));
	if (PG_ARGISNULL(KEEP_OLD) || !state->spec->is_update)
		return;
	old->task = pending_task(state->spec->type, PG_GETARG_DATUM(KEEP_OLD));
	if (old->task == 0)
		return;
	caller = MemoryContextSwitchTo(state->run->context);
	old->leaf = PG_GETARG_OID(KEEP_LEAF);
	old->key = llm_defer_take_key(state->run, state->target, fcinfo, KEEP_KEY, &bytes);
	MemoryContextSwitchTo(caller);
	if (old->key == NULL)
		old->task = 0;
}

/* The slot is for another row now. */
static void
fill_slot(KeepState *state, const LlmGiven *given, const LlmOldCell *old)
{
	LlmSlotState *slot = state->slot;

	if (slot->old.key != NULL)
		pfree(slot->old.key);
	slot->given = *given;
	slot->quiet.given.id = 0;
	slot->bound_id = 0;
	slot->old = *old;
	slot->keeps_old = false;
	slot->known.len = 0;
	if (!state->spec->is_update)
		slot->offered = *given;
}

/*
 * SQL: llm.keep(magic, spec, old value, new value, tableoid, key …) → the value to store:
 * a fresh marker laid over what the cell held; any other new value as it is.
 */
Datum
llm_enrich_keep(PG_FUNCTION_ARGS)
{
	KeepState *state = fcinfo->flinfo->fn_extra;
	LlmGiven given = {0};
	LlmOldCell old;
	Datum cell;
	int64 id = -1;

	if (state == NULL)
		state = start_keep(fcinfo);
	if (!PG_ARGISNULL(KEEP_NEW))
		id = llm_defer_fresh_task(state->run, state->spec->type, PG_GETARG_DATUM(KEEP_NEW));
	note_old_cell(fcinfo, state, &old);
	if (id > 0 && !llm_defer_find_issued(state->run, state->target, state->spec->column, id, id == old.task, &given))
		id = -1;

	if (id > 0 && old.task != 0 && !state->spec->moves_key && asks_the_same(state, &old, &given))
	{
		memset(&given, 0, sizeof(given));
		fill_slot(state, &given, &old);
		state->slot->keeps_old = true;
		PG_RETURN_DATUM(PG_GETARG_DATUM(KEEP_OLD));
	}
	if (id > 0 && given.id == 0)
	{
		given.id = llm_defer_new_id(state->run);
		cell = llm_marker_cell(state->spec->type, llm_marker_pending(given.id));
	}
	else
		cell = PG_GETARG_DATUM(KEEP_NEW);
	fill_slot(state, &given, &old);
	if (PG_ARGISNULL(KEEP_NEW))
		PG_RETURN_NULL();
	if (id >= 0)
		cell = llm_marker_keep(state->spec->type, PG_GETARG_DATUM(KEEP_OLD), PG_ARGISNULL(KEEP_OLD), cell);
	if (id > 0)
		know_cell(&state->slot->known, cell);
	else if (id == 0)
		state->run->blank_rows++;
	PG_RETURN_DATUM(cell);
}
