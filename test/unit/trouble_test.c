/*-------------------------------------------------------------------------
 *
 * trouble_test.c
 *	  When a row fails for good whose write-back is undone again and again.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "writeback/writeback_trouble.h"

static LlmTrouble job;
static LlmTroubleVerdict verdict;

/* One row alone. */
static bool
fails(LlmTrouble *row)
{
	llm_trouble_failed(&job, row, 1, false, &verdict);
	return verdict.final;
}

static void
test_culprit(void)
{
	LlmTrouble row;
	int strikes = 0;

	llm_trouble_init(&job);
	llm_trouble_init(&row);
	llm_trouble_failed(&job, NULL, 500, false, &verdict);
	ok(!verdict.final && verdict.job_ms == 1000 && verdict.row_ms == 1000, "a set that fails is put off");
	is(job.singles, 500, "and its rows go alone");
	do
	{
		(void) llm_trouble_committed(&job, 1, true);
		strikes++;
	} while (!fails(&row) && strikes < 1000);
	is(strikes, LLM_MAX_STRIKES, "one row that fails among others has all its tries");
	is(verdict.row_ms, 30000, "farther and farther apart");
	is(verdict.job_ms, 1000, "while its job goes on");
}

/* P4: nobody's fault, however long it lasts: what fails otherwise has all its tries still. */
static void
test_no_room(void)
{
	LlmTrouble row;

	llm_trouble_init(&job);
	llm_trouble_init(&row);
	is(llm_trouble_no_room(&job), 1000, "where there is no room a job waits");
	for (int i = 0; i < 100; i++)
		(void) llm_trouble_no_room(&job);
	is(llm_trouble_no_room(&job), 30000, "longer each time, with a bound");
	ok(!fails(&row), "and nothing of it counts against a row");
}

/* P2: all rows of a job become final, and soon. */
static void
test_hopeless(void)
{
	int64 took_ms = 0;
	int final = 0;

	llm_trouble_init(&job);
	llm_trouble_failed(&job, NULL, 100, false, &verdict);
	for (int i = 0; i < 2000 && final < 100; i++)
	{
		LlmTrouble row;

		llm_trouble_init(&row);
		took_ms += verdict.job_ms;
		if (fails(&row))
			final++;
	}
	is(final, 100, "P2: where every row fails, all fail for good");
	ok(took_ms <= 20 * 30 * 1000 + 100 * 1000, "within minutes and a second for each row");
	is(verdict.job_ms, 1000, "which is how long the job is left alone by then");
}

static void
test_success(void)
{
	LlmTrouble row;

	llm_trouble_init(&job);
	for (int i = 0; i < LLM_MAX_STRIKES; i++)
	{
		llm_trouble_init(&row);
		ok(!fails(&row), "a failure");
	}
	(void) llm_trouble_committed(&job, 1, false);
	llm_trouble_init(&row);
	ok(fails(&row), "a commit in which no row was written proves nothing");
	(void) llm_trouble_committed(&job, 1, true);
	llm_trouble_init(&row);
	ok(!fails(&row), "a success begins the count again");
}

static void
test_locks(void)
{
	LlmTrouble row;
	int delay_ms = 0;

	llm_trouble_init(&job);
	llm_trouble_init(&row);
	for (int i = 0; i < 10 * LLM_MAX_STRIKES; i++)
		delay_ms = llm_trouble_locked(&job);
	is(delay_ms, 10000, "for a lock a job waits up to ten seconds");
	ok(!fails(&row), "and waiting for it is no strike");
	llm_trouble_init(&job);
	llm_trouble_failed(&job, NULL, 3, false, &verdict);
	ok(!llm_trouble_committed(&job, 1, true) && !llm_trouble_committed(&job, 0, false), "some rows still go alone");
	ok(llm_trouble_committed(&job, 1, true), "until all have gone: then all is well");
}

/* P2: what a function calls a lock is tried again soon, and not for ever. */
static void
test_said_lock(void)
{
	LlmTrouble row;
	int strikes = 1;
	int64 waited_ms = 0;

	llm_trouble_init(&job);
	llm_trouble_init(&row);
	llm_trouble_failed(&job, &row, 1, true, &verdict);
	ok(!verdict.final && verdict.job_ms == 50 && verdict.row_ms == 200, "what is called a lock is tried again soon");
	for (; !verdict.final && strikes < 1000; strikes++)
	{
		waited_ms += verdict.row_ms;
		(void) llm_trouble_committed(&job, 1, true);
		llm_trouble_failed(&job, &row, 1, true, &verdict);
	}
	is(strikes, LLM_MAX_STRIKES, "and fails for good after as many tries as others");
	ok(waited_ms > 60000 && waited_ms < 3600000, "which take some minutes");
}

int
main(void)
{
	test_said_lock();
	test_culprit();
	test_no_room();
	test_hopeless();
	test_success();
	test_locks();
	return finish();
}
