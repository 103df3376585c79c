/*-------------------------------------------------------------------------
 *
 * slice_test.c
 *	  What a slow table may take of the writer's time.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "writeback/writeback_slice.h"

#define MS INT64CONST(1000)
#define SECOND INT64CONST(1000000)
#define TIMEOUT_MS 10000

/* A table, and the writer's time as it goes. */
static LlmSliceClock clock_;
static LlmSlice slice;
static LlmSliceTerms terms;
static int64 now;

static void
begin(void)
{
	memset(&clock_, 0, sizeof(clock_));
	memset(&slice, 0, sizeof(slice));
	llm_slice_init(&slice);
	now = 1000 * SECOND;
}

static bool
admit(bool others)
{
	return llm_slice_admit(&clock_, &slice, others, now, TIMEOUT_MS, &terms);
}

static void
stopped(int rows, int64 elapsed, bool called_off)
{
	now += elapsed;
	llm_slice_stopped(&slice, &clock_, rows, elapsed, TIMEOUT_MS, called_off);
}

static bool
fitted(int rows, int limit, int64 elapsed)
{
	now += elapsed;
	return llm_slice_fitted(&slice, &clock_, rows, limit, elapsed);
}

/* Others write for so long, some milliseconds at a time. */
static void
others_write(int64 us)
{
	for (int64 end = now + us; now < end; now += 10 * MS)
		llm_slice_served(&clock_, now, now + 10 * MS);
	llm_slice_look(&clock_, true);
}

static void
test_ordinary(void)
{
	begin();
	ok(llm_slice_admit(&clock_, NULL, true, now, TIMEOUT_MS, &terms), "an ordinary table is always served");
	is(terms.rows, LLM_SET_SIZE, "in full sets");
	is(terms.most_ms, LLM_SLICE_MS, "for a slice");
	(void) llm_slice_admit(&clock_, NULL, true, now, 100, &terms);
	is(terms.most_ms, 100, "or the time-out, if that is shorter");
}

/* A row that takes longer than anybody waits. */
static void
test_sleeping(void)
{
	int64 taken = 0;
	int64 start;

	begin();
	others_write(SECOND);
	stopped(LLM_SET_SIZE, 250 * MS, false);
	ok(!admit(true), "what did not fit its slice has to wait for others");
	others_write(2400 * MS);
	ok(!admit(true), "for ten times as long");
	others_write(200 * MS);
	ok(admit(true), "and no longer");
	is(terms.rows, 1, "then a row is tried alone");
	is(terms.most_ms, 250, "for a slice");
	start = now;
	while (now < start + 600 * SECOND)
	{
		if (admit(true))
		{
			taken += terms.most_ms * MS;
			stopped(1, terms.most_ms * MS, false);
		}
		others_write(100 * MS);
	}
	ok(taken <= 60 * SECOND, "a row that sleeps for ever takes no more than a tenth");
	is(slice.slice_ms, TIMEOUT_MS, "and may take all of the time-out in the end");
}

static void
test_quiet(void)
{
	begin();
	others_write(SECOND);
	stopped(1, 250 * MS, false);
	ok(!admit(false), "a pause of others is not quiet yet");
	now = llm_slice_quiet_at(&clock_);
	ok(admit(false), "half a second is");
	is(terms.most_ms, TIMEOUT_MS, "then a row may take its time");
	is(terms.sure_ms, 0, "until others' answers come");
	stopped(1, 3 * SECOND, true);
	is(slice.slice_ms, 6000, "called off, it will need more");
	llm_slice_look(&clock_, false);
	ok(admit(false) && terms.sure_ms == 250, "called off for nobody, it goes on for a while the next time");
	stopped(1, 300 * MS, true);
	llm_slice_look(&clock_, false);
	ok(admit(false) && terms.sure_ms == 500, "and for longer the time after");
	others_write(10 * MS);
	now = llm_slice_quiet_at(&clock_);
	ok(admit(false) && terms.sure_ms == 0, "but not when there is somebody");
}

/* Quiet often, but never long enough: what others had is not forgotten. */
static void
test_called_off_again_and_again(void)
{
	int64 start;
	bool sure = false;

	begin();
	start = now;
	stopped(1, 250 * MS, false);
	while (!sure && now < start + 3600 * SECOND)
	{
		others_write(SECOND);
		sure = admit(true) && terms.sure_ms >= 2000;
		if (sure)
			break;
		now = llm_slice_quiet_at(&clock_);
		if (admit(false))
			stopped(1, 1500 * MS, true);
	}
	ok(sure, "a row that is called off again and again gets the time that it needs");
}

static void
test_steady(void)
{
	int64 rows = 0;
	int64 start;

	begin();
	stopped(LLM_SET_SIZE, 250 * MS, false);
	ok(fitted(1, 1, 22 * MS), "a row of 20 ms is written alone at first");
	is(slice.rows, 4, "then some together");
	ok(fitted(4, 4, 82 * MS) && slice.rows == 4, "as many as take a tenth of a second");
	ok(admit(false), "whenever others have no work");
	ok(!admit(true), "or else after them");
	start = now;
	while (now < start + 60 * SECOND)
	{
		if (admit(true))
		{
			rows += slice.rows;
			(void) fitted(slice.rows, slice.rows, slice.rows * 20 * MS);
		}
		others_write(10 * MS);
	}
	ok(rows >= 200 && rows <= 300, "in a busy minute it gets about a tenth");
}

static void
test_ordinary_again(void)
{
	begin();
	stopped(LLM_SET_SIZE, 250 * MS, false);
	ok(fitted(1, 1, 3 * MS), "one fast row proves nothing");
	ok(fitted(4, 4, 3 * MS), "nor do four");
	ok(!fitted(16, 16, 4 * MS), "a fast set does: the table is ordinary again");
	begin();
	stopped(1, 250 * MS, false);
	(void) fitted(1, 1, 3 * MS);
	ok(!fitted(2, 4, 5 * MS), "and so do all rows that there are");
	begin();
	stopped(1, 250 * MS, false);
	ok(fitted(1, 1, 900 * MS), "a row that takes long is written after all");
	is(slice.slice_ms, 1800, "and the next may take twice as long");
	ok(!slice.small, "as a long one");
}

/* A set takes long whatever its size: then it is not made small. */
static void
test_fixed_cost(void)
{
	int sets = 0;

	begin();
	stopped(LLM_SET_SIZE, 250 * MS, false);
	ok(fitted(1, 1, 400 * MS) && slice.rows == 2, "a row that takes long is tried together with another one");
	while (slice.rows < LLM_SET_SIZE && sets++ < 20)
		(void) fitted(slice.rows, slice.rows, 400 * MS + slice.rows * 100);
	ok(sets < 8, "where that costs nothing more, sets grow to what they may be");
	ok(slice.need_us >= 400 * MS && !slice.small, "and are known to take long");
	begin();
	stopped(LLM_SET_SIZE, 250 * MS, false);
	(void) fitted(1, 1, 400 * MS);
	ok(fitted(2, 2, 800 * MS) && slice.rows == 1, "where the second row takes as long, rows go alone");
	ok(fitted(1, 1, 400 * MS) && slice.rows == 1, "and no second one is tried again");
	ok(fitted(1, 1, 150 * MS) && slice.rows == 2, "until they have become faster");
}

/* P6: the jobs of a table take turns. */
static void
test_jobs(void)
{
	begin();
	ok(llm_slice_before(&slice, 3, 5) && !llm_slice_before(&slice, 5, 3), "the lowest job begins");
	slice.turn_job = 3;
	ok(llm_slice_before(&slice, 5, 3) && llm_slice_before(&slice, 5, 9), "then the next one");
	slice.turn_job = 9;
	ok(llm_slice_before(&slice, 3, 5) && llm_slice_before(&slice, 5, 9), "and after the last one the first");
	ok(!llm_slice_before(&slice, 9, 3), "which is not the one that was served");
	slice.turn_job = 4;
	ok(llm_slice_before(&slice, 5, 3), "whether or not that one has work still");
}

int
main(void)
{
	test_ordinary();
	test_sleeping();
	test_quiet();
	test_called_off_again_and_again();
	test_steady();
	test_ordinary_again();
	test_fixed_cost();
	test_jobs();
	return finish();
}
