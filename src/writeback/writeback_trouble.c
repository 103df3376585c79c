/*-------------------------------------------------------------------------
 *
 * writeback_trouble.c
 *	  What becomes of jobs and rows whose write-back was undone.
 *
 * A job whose transaction was undone is left alone for a while, longer each time; then
 * its rows go alone.  The one that fails alone waits longer each time, apart from the
 * others, and fails for good when it has failed so often that no accident explains it.
 *
 * Where every row fails, that would take minutes for each.  So when a job has failed as
 * often without a success in between, it is the job that no accident explains: what
 * fails alone from then on fails for good at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "writeback/writeback_trouble.h"

/* The longest that a job waits for its table's lock, from LLM_LOCK_DELAY_MS on doubled each time. */
#define LOCK_DELAY_MAX_MS 10000

/* The same after a time-out or a failed commit, which have cost others their turn. */
#define FAILURE_DELAY_MS 1000
#define FAILURE_DELAY_MAX_MS 30000

/* The culprit alone waits longer than its job, so that the others go first. */
#define STRIKE_DELAY_MS 4000
#define SOON_DELAY_MS 200

void
llm_trouble_init(LlmTrouble *trouble)
{
	trouble->count = 0;
	trouble->failures = 0;
	trouble->singles = 0;
	trouble->until = 0;
}

/* Count one more and say how long to wait, doubled each time. */
static int
next_delay(LlmTrouble *trouble, int first_ms, int last_ms)
{
	int doubled = Min(trouble->count, 16);

	trouble->count++;
	return (int) Min((int64) last_ms, (int64) first_ms << doubled);
}

int
llm_trouble_locked(LlmTrouble *job)
{
	return next_delay(job, LLM_LOCK_DELAY_MS, LOCK_DELAY_MAX_MS);
}

int
llm_trouble_no_room(LlmTrouble *job)
{
	return next_delay(job, FAILURE_DELAY_MS, FAILURE_DELAY_MAX_MS);
}

void
llm_trouble_failed(LlmTrouble *job, LlmTrouble *row, int nrows, bool soon, LlmTroubleVerdict *verdict)
{
	bool hopeless = row != NULL && job->failures >= LLM_MAX_STRIKES;

	job->failures++;
	job->singles = nrows > 1 ? nrows : Max(job->singles - 1, 1);
	verdict->job_ms = next_delay(job, soon ? LLM_LOCK_DELAY_MS : FAILURE_DELAY_MS, FAILURE_DELAY_MAX_MS);
	if (hopeless)
		verdict->job_ms = FAILURE_DELAY_MS;
	verdict->row_ms = row == NULL ? verdict->job_ms
								  : next_delay(row, soon ? SOON_DELAY_MS : STRIKE_DELAY_MS, FAILURE_DELAY_MAX_MS);
	verdict->final = hopeless || (row != NULL && row->count >= LLM_MAX_STRIKES);
}

bool
llm_trouble_committed(LlmTrouble *job, int nrows, bool success)
{
	job->count = 0;
	if (success)
		job->failures = 0;
	job->singles -= Max(nrows, 1);
	return job->singles <= 0;
}
