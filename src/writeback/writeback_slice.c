/*-------------------------------------------------------------------------
 *
 * writeback_slice.c
 *	  How long a write-back may take, so that a slow table holds up no other.
 *
 * One writer serves all tables of a database, one after the other.  A table whose sets
 * do not fit a slice is slow.  Its sets get as small as its rows need them to be; they
 * are tried when no ordinary table has work, and are paid for otherwise: for each part
 * of the writer's time that a slow table takes from others, these have had ten before.
 *
 * What a set costs whatever its size (a statement over a thousand partitions) is no reason
 * to make it small: where one row alone takes longer than a set should, a second one shows
 * what a row costs, and that decides.
 *
 * The jobs of a slow table, which may be different roles', share its turns.
 *
 * A single row may be too long even for a slice.  In a quiet time it may take all of
 * llm_enrich.writeback_timeout, but is called off when others' answers come.  So that
 * it is not called off for ever, what it may take surely is doubled each time, and
 * takes as much longer to be earned.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "writeback/writeback_slice.h"

#define US_PER_MS INT64CONST(1000)

/* Parts of the writer's time that ordinary tables have for each one of a slow table. */
#define OTHERS_PARTS 10

/* A slow table's set is to take no longer: others may have to wait for all of it. */
#define SET_US (100 * US_PER_MS)

/* A set grows by no more each time, so that one bad row does not make it lose many others. */
#define GROWTH 4

/* No ordinary table had work for so long: a row that may take long may be tried. */
#define QUIET_US (500 * US_PER_MS)

/* Have others had their parts since it took from them? */
static bool
has_earned(const LlmSliceClock *clock, const LlmSlice *slice)
{
	return clock->busy_us - slice->paid_at >= OTHERS_PARTS * slice->need_us;
}

void
llm_slice_init(LlmSlice *slice)
{
	slice->rows = 1;
	slice->small = false;
	slice->slice_ms = LLM_SLICE_MS;
	slice->paid_at = 0;
	slice->need_us = 0;
	slice->turn_at = 0;
	slice->turn_job = 0;
	slice->one_us = 0;
	slice->dear = false;
}

/* The next higher id after the last one, and from the top to the lowest. */
bool
llm_slice_before(const LlmSlice *slice, int64 job, int64 other)
{
	bool above = job > slice->turn_job;

	return above == (other > slice->turn_job) ? job < other : above;
}

/* Called off, and nobody was there but slow tables: the next one may go on for a while. */
void
llm_slice_look(LlmSliceClock *clock, bool others)
{
	if (others)
		clock->deaf_ms = 0;
	else if (clock->called_off)
		clock->deaf_ms = Max(LLM_SLICE_MS, (int) Min((int64) clock->deaf_ms * 2, PG_INT32_MAX));
	clock->called_off = false;
}

int64
llm_slice_quiet_at(const LlmSliceClock *clock)
{
	return clock->served_at == 0 ? 0 : clock->served_at + QUIET_US;
}

bool
llm_slice_admit(const LlmSliceClock *clock, const LlmSlice *slice, bool others, int64 now, int timeout_ms,
				LlmSliceTerms *terms)
{
	bool earned;
	bool quiet;

	terms->rows = slice == NULL ? LLM_SET_SIZE : slice->rows;
	terms->sure_ms = terms->most_ms = Min(LLM_SLICE_MS, timeout_ms);
	if (slice == NULL)
		return true;
	earned = has_earned(clock, slice);
	if (slice->small)
		return earned || !others;
	quiet = !others && now >= llm_slice_quiet_at(clock);
	terms->sure_ms = earned ? Min(slice->slice_ms, timeout_ms) : 0;
	terms->most_ms = terms->sure_ms;
	if (quiet)
	{
		terms->sure_ms = Min(Max(terms->sure_ms, clock->deaf_ms), timeout_ms);
		terms->most_ms = timeout_ms;
	}
	return earned || quiet;
}

/* Between two answers that come soon after each other, others are busy as well. */
void
llm_slice_served(LlmSliceClock *clock, int64 from, int64 to)
{
	if (clock->served_at != 0)
		from = Max(clock->served_at, from - QUIET_US);
	clock->busy_us += to - from;
	clock->served_at = to;
}

/* What a slow table took is no time in which others kept the writer busy. */
static void
leave_out(LlmSliceClock *clock, int64 elapsed)
{
	if (clock->served_at != 0)
		clock->served_at += elapsed;
}

/* One row alone takes longer than a set should: its size is what a row costs beside that. */
static void
fit_dear_set(LlmSlice *slice, int rows, int grown, int64 elapsed)
{
	int64 each_us = rows > 1 ? Max(1, (elapsed - slice->one_us) / (rows - 1)) : slice->one_us;

	slice->small = false;
	slice->dear = rows > 1 && 2 * each_us > slice->one_us;
	if (slice->dear)
		slice->rows = 1;
	else if (rows <= 1)
		slice->rows = 2;
	else
		slice->rows = (int) Min(grown, 1 + slice->one_us / each_us);
	slice->need_us = slice->one_us + (slice->rows > 2 ? each_us * (slice->rows - 1) : 0);
	slice->slice_ms = (int) Max(LLM_SLICE_MS, Min(2 * slice->need_us / US_PER_MS, PG_INT32_MAX));
}

bool
llm_slice_fitted(LlmSlice *slice, LlmSliceClock *clock, int rows, int limit, int64 elapsed)
{
	int64 row_us = Max(1, elapsed / Max(rows, 1));
	int grown = (int) Min(LLM_SET_SIZE, (int64) Max(rows, slice->rows) * GROWTH);

	leave_out(clock, elapsed);
	if (row_us * LLM_SET_SIZE <= LLM_SLICE_MS * US_PER_MS / 2 || (rows < limit && elapsed <= SET_US / GROWTH))
		return false;
	slice->paid_at = clock->busy_us;
	if (rows <= 1)
	{
		slice->dear = slice->dear && 2 * elapsed > slice->one_us;
		slice->one_us = elapsed;
	}
	if (slice->one_us > SET_US && !slice->dear)
	{
		fit_dear_set(slice, rows, grown, elapsed);
		return true;
	}
	slice->small = row_us <= SET_US;
	slice->rows = (int) Max(1, Min(grown, SET_US / row_us));
	slice->slice_ms = (int) Max(LLM_SLICE_MS, Min(2 * row_us / US_PER_MS, PG_INT32_MAX));
	slice->need_us = Max(elapsed, row_us * slice->rows);
	return true;
}

void
llm_slice_stopped(LlmSlice *slice, LlmSliceClock *clock, int rows, int64 elapsed, int timeout_ms, bool called_off)
{
	leave_out(clock, elapsed);
	/* called off before it took anything from anybody: what it has earned is left */
	if (called_off)
		clock->called_off = true;
	if (!called_off || has_earned(clock, slice))
		slice->paid_at = clock->busy_us;
	if (rows > 1 && !called_off && slice->one_us > 0)
		slice->dear = true;
	if (rows <= 1)
		slice->slice_ms = (int) Min(timeout_ms, Max(slice->slice_ms, 2 * elapsed / US_PER_MS));
	slice->rows = 1;
	slice->small = false;
	slice->need_us = slice->slice_ms * US_PER_MS;
}
