/*-------------------------------------------------------------------------
 *
 * sql_cell.c
 *	  llm.cell_stands: is a quiet cell still the one that was asked about?
 *
 * Called by the write-back's statements, with the rights of the role that asked.  Tells
 * nothing but yes or no about values that are its arguments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "fmgr.h"

#include "cell/image.h"

/* Arguments. */
#define STANDS_FENCE 0
#define STANDS_CELL 1
#define STANDS_XMIN 2
#define STANDS_READS 3

/* One cell_stands() expression of one execution. */
typedef struct StandsState
{
	LlmImageType cell;
	int nreads;
	LlmImageType reads[FLEXIBLE_ARRAY_MEMBER];
} StandsState;

PG_FUNCTION_INFO_V1(llm_enrich_cell_stands);

static StandsState *
start_stands(FunctionCallInfo fcinfo)
{
	int nreads = Min(PG_NARGS() - STANDS_READS, LLM_FENCE_READS);
	MemoryContext context = fcinfo->flinfo->fn_mcxt;
	StandsState *state = MemoryContextAllocZero(context, offsetof(StandsState, reads) + nreads * sizeof(LlmImageType));

	llm_image_type(get_fn_expr_argtype(fcinfo->flinfo, STANDS_CELL), context, &state->cell);
	for (int i = 0; i < nreads; i++)
		llm_image_type(get_fn_expr_argtype(fcinfo->flinfo, STANDS_READS + i), context, &state->reads[i]);
	state->nreads = nreads;
	fcinfo->flinfo->fn_extra = state;
	return state;
}

static bool
is_same(const LlmSipHash *a, const LlmSipHash *b)
{
	return a->low == b->low && a->high == b->high;
}

/* Is the row as it was, in what was read of it?  Where nothing was, only its transaction can tell. */
static bool
row_stands(FunctionCallInfo fcinfo, const StandsState *state, const LlmCellFence *fence)
{
	LlmImage row = {{0, 0}};

	if (!PG_ARGISNULL(STANDS_XMIN) && TransactionIdEquals(PG_GETARG_TRANSACTIONID(STANDS_XMIN), fence->xmin))
		return true;
	if (fence->reads == 0)
		return false;
	for (int i = 0; i < state->nreads; i++)
	{
		NullableDatum value = fcinfo->args[STANDS_READS + i];

		if ((fence->reads & (UINT64CONST(1) << i)) != 0)
			llm_image_add(&row, &state->reads[i], value.value, value.isnull);
	}
	return is_same(&row.so_far, &fence->row);
}

/* SQL: llm.cell_stands(fence, cell, xmin, what was read …) → bool */
Datum
llm_enrich_cell_stands(PG_FUNCTION_ARGS)
{
	StandsState *state = fcinfo->flinfo->fn_extra;
	LlmImage cell = {{0, 0}};
	LlmCellFence fence;

	if (state == NULL)
		state = start_stands(fcinfo);
	if (PG_ARGISNULL(STANDS_FENCE))
		PG_RETURN_BOOL(false);
	llm_cell_fence_read(PG_GETARG_BYTEA_PP(STANDS_FENCE), &fence);
	if (fence.was_null != PG_ARGISNULL(STANDS_CELL))
		PG_RETURN_BOOL(false);
	if (!fence.was_null)
	{
		llm_image_add(&cell, &state->cell, PG_GETARG_DATUM(STANDS_CELL), false);
		if (!is_same(&cell.so_far, &fence.cell))
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(row_stands(fcinfo, state, &fence));
}
