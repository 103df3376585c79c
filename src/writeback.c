/*-------------------------------------------------------------------------
 *
 * writeback.c
 *	  Put settled tasks into their cells, with the rights of the roles that asked.
 *
 * One transaction serves one job, so one role, relation and column.  It claims a
 * set of the job's settled tasks, writes their cells as the role, and settles the
 * queue as the owner of our tables: cell and queue change together or not at all.
 * The role is left only after the commit, when nothing that a user wrote can run
 * any more; then the session is made as new.
 *
 * What fails one row costs only that row (writeback_cells.c).  What undoes the whole
 * transaction (a time-out, a trigger that fails at commit) suspends the job for a
 * while; its rows then go alone, one transaction each, until the culprit is found.
 * That one waits longer each time, apart from the others, and fails for good when
 * it has failed so often that no accident explains it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "fence.h"
#include "shmem.h"
#include "spi.h"
#include "writeback.h"
#include "writeback_cells.h"
#include "writeback_queue.h"
#include "writeback_session.h"
#include "writeback_sql.h"

/* Rows of one transaction: enough to make its fixed cost small, few enough to commit within some 10 ms. */
#define SET_SIZE 500

/* Jobs that one look at the queue finds; the next look goes on behind them. */
#define JOBS_PER_PASS 64

/* Sets of one job before the next job has its turn: a look at the queue costs more than a set's share. */
#define SETS_PER_TURN 8

/* Rows that come back from waiting in one go. */
#define WAKE_SIZE 1000

/* A row waits so long for a lock at least, a job for its table's: doubled each time, up to the last. */
#define LOCK_DELAY_MS 50
#define LOCK_DELAY_MAX_MS 10000

/* The same after a time-out or a failed commit, which have cost others their turn. */
#define FAILURE_DELAY_MS 1000
#define FAILURE_DELAY_MAX_MS 30000

/* The culprit alone waits longer than its job, so that the others go first. */
#define STRIKE_DELAY_MS 4000

/* So many time-outs or failed commits of one row alone are no accident. */
#define MAX_STRIKES 20

/* A set should not take longer: ms.  A job that does gives as much time to the others. */
#define SLOW_MS 1000

/* A cancelled task whose row somebody has locked is looked at again after so long. */
#define CANCEL_DELAY_MS 500

/* Dropped roles are looked for at least so often. */
#define ROLE_CHECK_MS 60000

/* Settled rows that were passed over, since somebody held them, are found again after so long. */
#define ANEW_MS 60000

/* Jobs and rows whose troubles are remembered; when full, all is forgotten, which only costs a few tries. */
#define MAX_TROUBLES 4096

/* Trouble with a job (its id) or a row (minus its task's id). */
typedef struct Trouble
{
	int64 key;
	int count; /* in a row, without a success */
	int set_size; /* of a job */
	int singles; /* of a job: rows yet to go alone, to find the one that is at fault */
	TimestampTz until; /* of a job: leave it alone */
} Trouble;

/* All live as long as the process and are written here only. */
static MemoryContext pass_context = NULL; /* reset in each pass */
static MemoryContext job_context = NULL; /* reset for each job */
static HTAB *troubles = NULL;
static int64 last_job = 0; /* the next look at the queue starts behind it */
static bool roles_changed = true; /* perhaps one was dropped */
static TimestampTz roles_checked_at = 0;
static TimestampTz begun_anew_at = 0;
static bool clock_suspect = true; /* it may have been set back while no writer ran */

static Trouble *
find_trouble(int64 key, bool enter)
{
	Trouble *trouble;
	bool found;

	if (troubles != NULL && enter && hash_get_num_entries(troubles) >= MAX_TROUBLES)
	{
		hash_destroy(troubles);
		troubles = NULL;
	}
	if (troubles == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(Trouble)};

		troubles = hash_create("llm_enrich write-back troubles", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	trouble = hash_search(troubles, &key, enter ? HASH_ENTER : HASH_FIND, &found);
	if (enter && !found)
	{
		trouble->count = 0;
		trouble->set_size = SET_SIZE;
		trouble->singles = 0;
		trouble->until = 0;
	}
	return trouble;
}

static void
forget_trouble(int64 key)
{
	if (troubles != NULL)
		(void) hash_search(troubles, &key, HASH_REMOVE, NULL);
}

/* Count one more and say how long to wait, doubled each time. */
static int
next_delay(Trouble *trouble, int first_ms, int last_ms)
{
	int doubled = Min(trouble->count, 16);

	trouble->count++;
	return (int) Min((int64) last_ms, (int64) first_ms << doubled);
}

/* Leave the job alone for so long. */
static void
suspend_job(Trouble *trouble, int delay_ms)
{
	trouble->until = TimestampTzPlusMilliseconds(llm_clock_steady(), delay_ms);
}

/* A row that made a transaction fail goes alone, after the others, so that it fails no other again. */
static void
separate_struck(LlmWriteJob *job)
{
	int kept = 0;

	for (int i = 0; i < job->nrows; i++)
		if (find_trouble(-job->rows[i].task, false) == NULL)
			job->rows[kept++] = job->rows[i];
	if (job->nrows > 0)
		job->nrows = Max(kept, 1);
}

/*
 * Claim that many rows, and so many more as may be struck, lest those that come again
 * and again keep others waiting.
 */
static void
claim_rows(LlmWriteJob *job, int limit)
{
	LlmOwnScope scope;
	int64 struck = troubles != NULL ? hash_get_num_entries(troubles) : 0;

	llm_spi_own_begin(&scope);
	llm_writeback_claim(job, (int) Min(SET_SIZE, limit + struck));
	llm_spi_own_end(&scope);
	separate_struck(job);
	job->nrows = Min(job->nrows, limit);
}

static void
settle_rows(LlmWriteJob *job)
{
	LlmOwnScope scope;

	llm_spi_own_begin(&scope);
	llm_writeback_settle(job);
	llm_spi_own_end(&scope);
}

/* One transaction for one set of the job's rows; raises. */
static void
serve_job(LlmWriteJob *job, int limit)
{
	bool role_exists;

	llm_writeback_begin(psprintf("writing back to %s", job->relation_name));
	(void) llm_fence_check();
	role_exists = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(job->role));
	llm_writeback_carry(job->settings);
	if (role_exists)
		llm_writeback_enter_role(job->role);
	llm_writeback_start_timer();
	llm_writeback_connect();
	claim_rows(job, limit);
	if (role_exists)
		llm_writeback_cells(job);
	else
		llm_writeback_decide(job, LLM_FATE_FAILED, "role_gone", "the role that asked was dropped");
	if (job->blocked)
		job->delay_ms = next_delay(find_trouble(job->id, true), LOCK_DELAY_MS, LOCK_DELAY_MAX_MS);
	settle_rows(job);
	llm_writeback_commit();
	llm_writeback_stop_timer();
	llm_writeback_leave_role();
	llm_writeback_reset_session();
}

/*
 * The transaction was undone.  Put its rows aside where everybody can see it.  A row
 * that was alone is the culprit: it waits longer each time, apart from the others; when
 * it has struck out, it fails, and its answer goes to llm.dead_letter.
 */
static void
put_aside(LlmWriteJob *job, ErrorData *error)
{
	bool struck_out = false;

	if (job->nrows == 1 && !llm_writeback_is_lock_error(error->sqlerrcode))
	{
		Trouble *strikes = find_trouble(-job->rows[0].task, true);

		job->delay_ms = next_delay(strikes, STRIKE_DELAY_MS, FAILURE_DELAY_MAX_MS);
		struck_out = strikes->count >= MAX_STRIKES;
	}
	for (int i = 0; i < job->nrows; i++)
	{
		job->rows[i].fate = LLM_FATE_WAITING;
		if (struck_out)
			llm_writeback_fail_by_error(&job->rows[i], error);
	}
	llm_writeback_begin("putting off a write-back");
	(void) llm_fence_check();
	llm_writeback_connect();
	settle_rows(job);
	llm_writeback_commit();
	if (struck_out)
		forget_trouble(-job->rows[0].task);
}

static void
recover_from(LlmWriteJob *job, ErrorData *error)
{
	Trouble *trouble = find_trouble(job->id, true);

	if (llm_writeback_is_lock_error(error->sqlerrcode))
		job->delay_ms = next_delay(trouble, LOCK_DELAY_MS, LOCK_DELAY_MAX_MS);
	else
	{
		job->delay_ms = next_delay(trouble, FAILURE_DELAY_MS, FAILURE_DELAY_MAX_MS);
		trouble->set_size = 1;
		trouble->singles = job->nrows > 1 ? job->nrows : Max(trouble->singles - 1, 1);
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("write-back to %s was put off: %s", job->relation_name, error->message)));
	}
	suspend_job(trouble, job->delay_ms);
	put_aside(job, error);
}

/*
 * The transaction is committed: what does it tell about the job?  A job that takes long
 * gets smaller sets, and gives as much time to the others as it took.
 */
static void
note_success(LlmWriteJob *job, int64 elapsed_ms)
{
	Trouble *trouble = find_trouble(job->id, job->blocked || elapsed_ms > SLOW_MS);
	int fitting = (int) Max(1, Min(SET_SIZE, job->nrows * SLOW_MS / Max(elapsed_ms, 1)));

	llm_shmem_announce_progress();
	llm_writeback_pass_over(job);
	if (job->promoted)
		llm_shmem_wake(MyDatabaseId, LLM_WORKER_SENDER);
	if (job->nrows == 1)
		forget_trouble(-job->rows[0].task);
	if (trouble == NULL)
		return;
	if (job->blocked)
	{
		suspend_job(trouble, job->delay_ms);
		return;
	}
	trouble->count = 0;
	if (elapsed_ms > SLOW_MS)
		suspend_job(trouble, (int) elapsed_ms);
	if (trouble->singles > 0)
	{
		trouble->singles -= Max(job->nrows, 1);
		if (trouble->singles <= 0)
			trouble->set_size = fitting;
	}
	else if (elapsed_ms > SLOW_MS)
		trouble->set_size = fitting;
	else if (trouble->set_size < SET_SIZE)
		trouble->set_size = Min(SET_SIZE, trouble->set_size * 2);
	else
		forget_trouble(job->id);
}

/* Serve one set of a job's rows and bear what comes of it.  False when no row was free. */
static bool
try_set(LlmWriteJob *job, int limit)
{
	int64 start_us = llm_clock_monotonic_us();
	ErrorData *volatile error = NULL;

	MemoryContextReset(job_context);
	MemoryContextSwitchTo(job_context);
	job->nrows = 0;
	job->promoted = false;
	job->blocked = false;
	job->delay_ms = LOCK_DELAY_MS;
	PG_TRY();
	{
		serve_job(job, limit);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(job_context);
		error = CopyErrorData();
		FlushErrorState();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && llm_writeback_time_is_over())
			error->message = "it took longer than \"llm_enrich.writeback_timeout\"";
		llm_writeback_stop_timer();
		AbortOutOfAnyTransaction();
		llm_writeback_leave_role();
		MemoryContextSwitchTo(job_context);
		llm_writeback_reset_session();
	}
	PG_END_TRY();
	if (error != NULL)
		recover_from(job, error);
	else
		note_success(job, (llm_clock_monotonic_us() - start_us) / 1000);
	MemoryContextSwitchTo(pass_context);
	return job->nrows > 0;
}

/*
 * Serve a job until nothing is left, it gets into trouble or its turn is over.  False
 * when it had to be left alone or no row was free.
 */
static bool
give_turn(LlmWriteJob *job, TimestampTz *wake_at)
{
	bool worked = false;

	for (int i = 0; i < SETS_PER_TURN; i++)
	{
		Trouble *trouble = find_trouble(job->id, false);
		int limit = trouble != NULL ? trouble->set_size : SET_SIZE;

		CHECK_FOR_INTERRUPTS();
		if (trouble != NULL && trouble->until > llm_clock_steady())
		{
			*wake_at = Min(*wake_at, trouble->until);
			break;
		}
		if (try_set(job, limit))
			worked = true;
		if (job->nrows < limit)
			break;
	}
	return worked;
}

/* A role was made, changed or dropped. */
static void
note_role_change(Datum arg, int cache, uint32 hash)
{
	roles_changed = true;
}

/*
 * Nobody sends the tasks of a dropped role: they come to us as failed.  Looked for now
 * and then without a change, too, since a role can be dropped while it queues.
 */
static void
fail_roleless(void)
{
	TimestampTz now = llm_clock_steady();

	if (!roles_changed && now < TimestampTzPlusMilliseconds(roles_checked_at, ROLE_CHECK_MS))
		return;
	roles_changed = false;
	roles_checked_at = now;
	if (llm_writeback_fail_roleless(WAKE_SIZE) > 0)
		roles_changed = true;
}

/* The jobs that have something, and when the next waiting row is due. */
static List *
look_at_queue(bool ask_empty, TimestampTz *wake_at, bool *empty)
{
	TimestampTz now = llm_clock_steady();
	List *jobs;
	bool held;

	llm_writeback_connect();
	(void) llm_writeback_wake(WAKE_SIZE);
	held = llm_writeback_stop_cancelled(WAKE_SIZE);
	if (clock_suspect || llm_clock_was_set_back())
		(void) llm_writeback_wake_ahead();
	clock_suspect = false;
	fail_roleless();
	(void) llm_writeback_fail_late(WAKE_SIZE);
	if (now >= TimestampTzPlusMilliseconds(begun_anew_at, ANEW_MS))
	{
		llm_writeback_begin_anew();
		begun_anew_at = now;
	}
	jobs = llm_writeback_find_jobs(last_job, JOBS_PER_PASS);
	if (jobs == NIL && last_job != 0)
		jobs = llm_writeback_find_jobs(0, JOBS_PER_PASS);
	/* A row that is due and locked must not make us spin. */
	*wake_at = Max(llm_clock_from_wall(llm_writeback_next_due()),
				   TimestampTzPlusMilliseconds(llm_clock_steady(), LOCK_DELAY_MS));
	if (held)
		*wake_at = Min(*wake_at, TimestampTzPlusMilliseconds(llm_clock_steady(), CANCEL_DELAY_MS));
	*empty = ask_empty && jobs == NIL && llm_writeback_is_empty();
	return jobs;
}

void
llm_writeback_init(void)
{
	pass_context = AllocSetContextCreate(TopMemoryContext, "llm_enrich write-back pass",
										 ALLOCSET_DEFAULT_SIZES);
	job_context = AllocSetContextCreate(TopMemoryContext, "llm_enrich write-back job",
										ALLOCSET_DEFAULT_SIZES);
	llm_writeback_sql_init();
	llm_writeback_session_init();
	CacheRegisterSyscacheCallback(AUTHOID, note_role_change, (Datum) 0);
}

LlmPassResult
llm_writeback_pass(bool ask_empty, TimestampTz *wake_at)
{
	List *jobs;
	ListCell *lc;
	bool worked = false;
	bool empty;

	MemoryContextReset(pass_context);
	MemoryContextSwitchTo(pass_context);
	llm_writeback_begin("looking for answers to write back");
	if (!llm_fence_check())
	{
		CommitTransactionCommand();
		return LLM_PASS_NO_EXTENSION;
	}
	jobs = look_at_queue(ask_empty, wake_at, &empty);
	llm_writeback_commit();

	foreach(lc, jobs)
	{
		LlmWriteJob *job = lfirst(lc);

		last_job = job->id;
		if (give_turn(job, wake_at))
			worked = true;
	}
	if (worked)
		return LLM_PASS_WORKED;
	return empty ? LLM_PASS_EMPTY : LLM_PASS_NOTHING;
}
