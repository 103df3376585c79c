/*-------------------------------------------------------------------------
 *
 * defer_quiet.c
 *	  A call is given to a row whose cell shows nothing of it, and bound.
 *
 * keep_quiet() runs when the executor makes the row, bind_quiet() right after the row is
 * stored.  Nothing in the row tells that there is a question: so the slot between the two
 * is emptied for each row, by a keep_quiet() of some kind in each list of assignments, and
 * by bind_quiet() itself.
 *
 * What bind_quiet() sees is the row as stored, after triggers: the fence is made of that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "bind/defer.h"
#include "cell/image.h"
#include "cell/marker.h"

/* Arguments of keep_quiet(). */
#define QUIET_CARRIER LLM_DEFER_FIXED_ARGS
#define QUIET_LEAVES (LLM_DEFER_FIXED_ARGS + 1)

/* One keep_quiet() or carried() expression of one execution. */
typedef struct QuietState
{
	LlmRun *run;
	LlmTargetState *target;
	LlmDeferQuiet *spec;
	LlmSlotState *slot;
	int nleaves;
	LlmLeafType *types;
} QuietState;

/* One bind_quiet() expression of one execution; a partition has its own. */
typedef struct BindQuietState
{
	LlmRun *run;
	LlmTargetState *target;
	LlmDeferQuiet *spec;
	LlmSlotState *slot;
	int cell; /* the argument that is the cell; what is read follows */
	int nreads;
	LlmImageType cell_type;
	LlmImageType *read_types;
	bool *is_text; /* by reads: may be the input */
} BindQuietState;

PG_FUNCTION_INFO_V1(llm_enrich_keep_quiet);
PG_FUNCTION_INFO_V1(llm_enrich_carried);
PG_FUNCTION_INFO_V1(llm_enrich_bind_quiet);

static LlmDeferQuiet *
read_spec(FunctionCallInfo fcinfo, LlmRun *run)
{
	MemoryContext caller = MemoryContextSwitchTo(run->context);
	LlmDeferQuiet *spec = llm_defer_read_quiet(PG_GETARG_BYTEA_P_COPY(1));

	MemoryContextSwitchTo(caller);
	return spec;
}

static void
note_leaf_types(FunctionCallInfo fcinfo, QuietState *state)
{
	int n = Max(0, PG_NARGS() - QUIET_LEAVES);

	state->nleaves = n;
	state->types = MemoryContextAllocZero(state->run->context, Max(n, 1) * sizeof(LlmLeafType));
	for (int i = 0; i < n; i++)
	{
		Oid type = get_fn_expr_argtype(fcinfo->flinfo, QUIET_LEAVES + i);
		Oid output;
		bool is_varlena;

		get_typlenbyval(type, &state->types[i].length, &state->types[i].by_value);
		getTypeOutputInfo(type, &output, &is_varlena);
		fmgr_info_cxt(output, &state->types[i].output, state->run->context);
		state->run->pins_settings = true;
	}
}

static QuietState *
start_quiet(FunctionCallInfo fcinfo, const char *name)
{
	QuietState *state;

	llm_defer_check_magic(fcinfo, name);
	state = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(QuietState));
	state->run = llm_defer_current_run();
	state->spec = read_spec(fcinfo, state->run);
	state->target = llm_defer_target(state->run, state->spec->target);
	state->slot = &state->target->slots[state->spec->column];
	note_leaf_types(fcinfo, state);
	fcinfo->flinfo->fn_extra = state;
	return state;
}

/* Copy the leaves: the row's memory is gone when it is bound. */
static void
take_leaves(FunctionCallInfo fcinfo, QuietState *state, LlmQuietGiven *quiet)
{
	MemoryContext caller;

	quiet->nleaves = state->nleaves;
	quiet->types = state->types;
	if (state->nleaves == 0)
		return;
	if (quiet->context == NULL)
		quiet->context = AllocSetContextCreate(state->run->context, "llm_enrich leaves", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(quiet->context);
	caller = MemoryContextSwitchTo(quiet->context);
	quiet->leaves = palloc(state->nleaves * sizeof(NullableDatum));
	for (int i = 0; i < state->nleaves; i++)
	{
		NullableDatum leaf = fcinfo->args[QUIET_LEAVES + i];

		if (!leaf.isnull && state->types[i].length == -1)
			leaf.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(leaf.value));
		else if (!leaf.isnull)
			leaf.value = datumCopy(leaf.value, state->types[i].by_value, state->types[i].length);
		quiet->leaves[i] = leaf;
	}
	MemoryContextSwitchTo(caller);
}

/* A copy of what another slot has, with memory of its own for the leaves. */
static void
copy_given(LlmRun *run, LlmQuietGiven *to, const LlmQuietGiven *from)
{
	MemoryContext context = to->context;
	MemoryContext caller;

	*to = *from;
	to->context = context;
	if (from->nleaves == 0)
		return;
	if (to->context == NULL)
		to->context = AllocSetContextCreate(run->context, "llm_enrich leaves", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(to->context);
	caller = MemoryContextSwitchTo(to->context);
	to->leaves = palloc(from->nleaves * sizeof(NullableDatum));
	for (int i = 0; i < from->nleaves; i++)
	{
		to->leaves[i] = from->leaves[i];
		if (!to->leaves[i].isnull)
			to->leaves[i].value = datumCopy(from->leaves[i].value, from->types[i].by_value, from->types[i].length);
	}
	MemoryContextSwitchTo(caller);
}

/* EXCLUDED.column: the row takes the call that the INSERT had for it. */
static bool
take_offered(QuietState *state)
{
	LlmSlotState *from = &state->target->slots[state->spec->offered];
	LlmQuietGiven *quiet = &state->slot->quiet;

	if (from->quiet_offered.given.id == 0)
	{
		quiet->given.id = 0;
		return false;
	}
	copy_given(state->run, quiet, &from->quiet_offered);
	from->quiet_offered.given.id = 0;
	return true;
}

/* The call that the carrier holds; false when that is none of the statement's. */
static bool
take_call(FunctionCallInfo fcinfo, QuietState *state)
{
	LlmQuietGiven *quiet = &state->slot->quiet;
	int64 id;

	if (PG_ARGISNULL(QUIET_CARRIER))
		return false;
	id = llm_defer_fresh_task(state->run, LLM_CELL_JSONB, PG_GETARG_DATUM(QUIET_CARRIER));
	quiet->is_blank = id == 0 && state->run->blank.asked != NULL;
	if (quiet->is_blank)
	{
		quiet->given.id = 0;
		quiet->given.asked = state->run->blank.asked;
		quiet->given.input = state->run->blank.input;
		quiet->given.input_stays = true;
	}
	else if (id <= 0 ||
			 !llm_defer_find_issued(state->run, state->target, state->spec->column, id, false, &quiet->given))
		return false;
	if (quiet->given.id == 0)
		quiet->given.id = llm_defer_new_id(state->run);
	quiet->spec = state->spec;
	take_leaves(fcinfo, state, quiet);
	return true;
}

/*
 * SQL: llm.keep_quiet(magic, spec, carrier, leaf …) → is there a question for this row's
 * cell?  Then the cell keeps its value.
 */
Datum
llm_enrich_keep_quiet(PG_FUNCTION_ARGS)
{
	QuietState *state = fcinfo->flinfo->fn_extra;
	LlmSlotState *slot;
	bool taken;

	if (state == NULL)
		state = start_quiet(fcinfo, "keep_quiet");
	slot = state->slot;
	slot->quiet.given.id = 0;
	if (state->spec->clear)
		PG_RETURN_BOOL(false);
	if (state->spec->offered >= 0)
		PG_RETURN_BOOL(take_offered(state));
	slot->passed = PG_GETARG_DATUM(QUIET_CARRIER);
	slot->passed_is_null = PG_ARGISNULL(QUIET_CARRIER);
	taken = take_call(fcinfo, state);
	if (!state->spec->is_update)
	{
		slot->quiet_offered.given.id = 0;
		if (taken)
			copy_given(state->run, &slot->quiet_offered, &slot->quiet);
	}
	PG_RETURN_BOOL(taken);
}

/* SQL: llm.carried(magic, spec) → the value that came instead of a marker */
Datum
llm_enrich_carried(PG_FUNCTION_ARGS)
{
	QuietState *state = fcinfo->flinfo->fn_extra;

	if (state == NULL)
		state = start_quiet(fcinfo, "carried");
	if (state->slot->passed_is_null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state->slot->passed);
}

static BindQuietState *
start_bind(FunctionCallInfo fcinfo)
{
	BindQuietState *state;
	LlmRun *run;

	llm_defer_check_magic(fcinfo, "bind_quiet");
	run = llm_defer_current_run();
	state = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(BindQuietState));
	state->run = run;
	state->spec = read_spec(fcinfo, run);
	state->target = llm_defer_target(run, state->spec->target);
	state->slot = &state->target->slots[state->spec->column];
	state->cell = LLM_BIND_KEY + state->spec->target->nkeys;
	state->nreads = PG_NARGS() - state->cell - 1;
	llm_image_type(get_fn_expr_argtype(fcinfo->flinfo, state->cell), run->context, &state->cell_type);
	state->read_types = MemoryContextAllocZero(run->context, Max(state->nreads, 1) * sizeof(LlmImageType));
	state->is_text = MemoryContextAllocZero(run->context, Max(state->nreads, 1) * sizeof(bool));
	for (int i = 0; i < state->nreads; i++)
	{
		Oid type = get_fn_expr_argtype(fcinfo->flinfo, state->cell + 1 + i);

		llm_image_type(type, run->context, &state->read_types[i]);
		state->is_text[i] = llm_marker_cell_type(type) == LLM_CELL_TEXT;
	}
	fcinfo->flinfo->fn_extra = state;
	return state;
}

/* The columns whose value is the input itself, as bits: what was asked about where nothing of the row was read. */
static uint64
find_input(FunctionCallInfo fcinfo, const BindQuietState *state, text *input)
{
	text *plain = (text *) PG_DETOAST_DATUM_PACKED(PointerGetDatum(input));
	uint64 found = 0;

	for (int i = 0; i < state->nreads; i++)
	{
		NullableDatum value = fcinfo->args[state->cell + 1 + i];
		text *words;

		if (value.isnull || !state->is_text[i])
			continue;
		words = DatumGetTextPP(value.value);
		if (VARSIZE_ANY_EXHDR(words) == VARSIZE_ANY_EXHDR(plain) &&
			memcmp(VARDATA_ANY(words), VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain)) == 0)
			found |= UINT64CONST(1) << i;
	}
	return found;
}

static void
make_fence(FunctionCallInfo fcinfo, const BindQuietState *state, const LlmQuietGiven *quiet, LlmCellFence *fence)
{
	NullableDatum cell = fcinfo->args[state->cell];
	LlmImage image = {{0, 0}};
	LlmImage row = {{0, 0}};

	fence->type = state->cell_type.type;
	fence->was_null = cell.isnull;
	fence->xmin = GetCurrentTransactionId();
	llm_image_add(&image, &state->cell_type, cell.value, cell.isnull);
	fence->cell = image.so_far;
	fence->reads = quiet->spec->reads;
	if (fence->reads == 0)
		fence->reads = find_input(fcinfo, state, quiet->given.input);
	for (int i = 0; i < state->nreads; i++)
	{
		NullableDatum value = fcinfo->args[state->cell + 1 + i];

		if ((fence->reads & (UINT64CONST(1) << i)) != 0)
			llm_image_add(&row, &state->read_types[i], value.value, value.isnull);
	}
	fence->row = row.so_far;
}

/* The leaves, for as long as the cell is bound and not written. */
static void
move_leaves(LlmBound *bound, const LlmQuietGiven *quiet)
{
	bound->nleaves = quiet->nleaves;
	bound->leaf_types = quiet->types;
	if (quiet->nleaves == 0)
		return;
	bound->leaves = palloc(quiet->nleaves * sizeof(NullableDatum));
	for (int i = 0; i < quiet->nleaves; i++)
	{
		bound->leaves[i] = quiet->leaves[i];
		if (!quiet->leaves[i].isnull)
			bound->leaves[i].value =
				datumCopy(quiet->leaves[i].value, quiet->types[i].by_value, quiet->types[i].length);
	}
}

/*
 * SQL: llm.bind_quiet(magic, spec, tableoid, key …, cell, what was read …) → true, always.
 * Called on each row as stored.
 */
Datum
llm_enrich_bind_quiet(PG_FUNCTION_ARGS)
{
	BindQuietState *state = fcinfo->flinfo->fn_extra;
	LlmQuietGiven *quiet;
	LlmBound *bound;
	MemoryContext caller;

	if (state == NULL)
		state = start_bind(fcinfo);
	quiet = &state->slot->quiet;
	if (quiet->given.id == 0)
		PG_RETURN_BOOL(true);
	caller = MemoryContextSwitchTo(state->run->batch);
	bound = llm_defer_bind(state->run, state->target, state->spec->column, &quiet->given, quiet->spec->kept, fcinfo);
	bound->is_quiet = true;
	bound->is_blank = quiet->is_blank;
	move_leaves(bound, quiet);
	make_fence(fcinfo, state, quiet, &bound->fence);
	MemoryContextSwitchTo(caller);
	quiet->given.id = 0;
	llm_defer_flush_if_full(state->run);
	PG_RETURN_BOOL(true);
}
