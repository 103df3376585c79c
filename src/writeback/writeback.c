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
 * while; its rows then go alone, one transaction each, until the culprit is found
 * (writeback_trouble.c).
 *
 * A set may take all of llm_enrich.writeback_timeout only when it is a single row and
 * nobody else has work: a table whose sets do not fit a short slice is slow, and has its
 * turn when the others have had theirs (writeback_slice.c).  What is stopped before
 * its time is over has not failed: nothing was changed, and it is tried again.
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

#include "base/clock.h"
#include "base/compat.h"
#include "base/fence.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "base/spi.h"
#include "writeback/writeback.h"
#include "writeback/writeback_announce.h"
#include "writeback/writeback_cells.h"
#include "writeback/writeback_error.h"
#include "writeback/writeback_progress.h"
#include "writeback/writeback_queue.h"
#include "writeback/writeback_session.h"
#include "writeback/writeback_slice.h"
#include "writeback/writeback_sql.h"
#include "writeback/writeback_trouble.h"

/* Jobs that one look at the queue finds; the next look goes on behind them. */
#define JOBS_PER_PASS 64

/* Sets of one job before the next job has its turn: a look at the queue costs more than a set's share. */
#define SETS_PER_TURN 8

/* Slow tables that are remembered; when full, all are forgotten and found out again. */
#define MAX_SLICES 1024

/* Rows that come back from waiting in one go. */
#define WAKE_SIZE 1000

/* A cancelled task whose row somebody has locked is looked at again after so long. */
#define CANCEL_DELAY_MS 500

/* Dropped roles are looked for at least so often. */
#define ROLE_CHECK_MS 60000

/* Settled rows that were passed over, since somebody held them, are found again after so long. */
#define ANEW_MS 60000

/* A job that could not be announced is looked for again after so long. */
#define UNTOLD_MS 1000

/* Jobs, and rows, whose troubles are remembered; when full, all is forgotten, which only costs a few tries. */
#define MAX_TROUBLES 4096

/* The job that is to have the turn that slow tables get after each round through all jobs. */
typedef struct SlowTurn
{
	int64 job; /* 0: nobody so far */
	Oid relation;
	int64 turn_at; /* of its table: the one that waited longest goes first */
} SlowTurn;

/* All live as long as the process and are written here only. */
static MemoryContext pass_context = NULL; /* reset in each pass */
static MemoryContext job_context = NULL; /* reset for each job */
static HTAB *troubles = NULL; /* of jobs */
static HTAB *strikes = NULL; /* of rows: however many there are, no job is forgotten for them */
static HTAB *slices = NULL; /* of slow tables */
static LlmSliceClock slice_clock = {0};
static int64 last_job = 0; /* the next look at the queue starts behind it; 0: a new round */
static SlowTurn slow_turn = {0}; /* of this round */
static bool round_worked = false; /* rows moved in it */
static int64 round_busy_us = 0; /* slice_clock.busy_us when it began */
static TimestampTz round_wake_at = DT_NOEND; /* what the looks before the last one found */
static bool roles_changed = true; /* perhaps one was dropped */
static TimestampTz roles_checked_at = 0;
static TimestampTz begun_anew_at = 0;
static uint32 asked = 0; /* how often the writer had been asked when the round began */
static bool clock_suspect = true; /* it may have been set back while no writer ran */

/* Of a job by its id, of a row by its task's id. */
static LlmTrouble *
find_trouble(HTAB **table, int64 key, bool enter)
{
	LlmTrouble *trouble;
	bool found;

	if (*table != NULL && enter && hash_get_num_entries(*table) >= MAX_TROUBLES)
	{
		hash_destroy(*table);
		*table = NULL;
	}
	if (*table == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(LlmTrouble)};

		*table = hash_create("llm_enrich write-back troubles", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	trouble = hash_search(*table, &key, enter ? HASH_ENTER : HASH_FIND, &found);
	if (enter && !found)
		llm_trouble_init(trouble);
	return trouble;
}

static void
forget_trouble(HTAB *table, int64 key)
{
	if (table != NULL)
		(void) hash_search(table, &key, HASH_REMOVE, NULL);
}

/* What is known of a slow table, NULL of an ordinary one; "enter" makes it slow. */
static LlmSlice *
find_slice(Oid relation, bool enter)
{
	LlmSlice *slice;
	bool found;

	if (slices != NULL && enter && hash_get_num_entries(slices) >= MAX_SLICES)
	{
		hash_destroy(slices);
		slices = NULL;
	}
	if (slices == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(LlmSlice)};

		slices = hash_create("llm_enrich slow tables", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	slice = hash_search(slices, &relation, enter ? HASH_ENTER : HASH_FIND, &found);
	if (enter && !found)
		llm_slice_init(slice);
	return slice;
}

/* Leave the job alone for so long. */
static void
suspend_job(LlmTrouble *trouble, int delay_ms)
{
	trouble->until = TimestampTzPlusMilliseconds(llm_clock_steady(), delay_ms);
}

/* A row that made a transaction fail goes alone, after the others, so that it fails no other again. */
static void
separate_struck(LlmWriteJob *job)
{
	int kept = 0;

	for (int i = 0; i < job->nrows; i++)
		if (find_trouble(&strikes, job->rows[i].task, false) == NULL)
			job->rows[kept++] = job->rows[i];
	if (job->nrows > 0)
		job->nrows = Max(kept, 1);
}

/*
 * Claim that many rows, and as many more as may be struck, so that those that come again
 * and again do not keep others waiting.
 */
static void
claim_rows(LlmWriteJob *job, int limit)
{
	LlmOwnScope scope;
	int64 struck = strikes != NULL ? hash_get_num_entries(strikes) : 0;

	llm_spi_own_begin(&scope);
	llm_writeback_claim(job, (int) Min(LLM_SET_SIZE, limit + struck));
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
serve_job(LlmWriteJob *job, const LlmSliceTerms *terms)
{
	bool role_exists;

	llm_writeback_require_clean();
	llm_writeback_begin(psprintf("writing back to %s", job->relation_name));
	(void) llm_fence_check();
	role_exists = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(job->role));
	if (role_exists)
		llm_writeback_enter_role(job->role);
	llm_writeback_carry(job->settings);
	llm_writeback_start_timer(terms->sure_ms, terms->most_ms, asked);
	llm_writeback_connect();
	claim_rows(job, terms->rows);
	if (role_exists)
		llm_writeback_cells(job);
	else
		llm_writeback_decide(job, LLM_FATE_FAILED, "role_gone", "the role that asked was dropped");
	if (job->blocked)
		job->delay_ms = llm_trouble_locked(find_trouble(&troubles, job->id, true));
	llm_writeback_end_users_code();
	settle_rows(job);
	llm_writeback_commit();
	llm_writeback_stop_timer();
	llm_writeback_leave_role();
	llm_writeback_reset_session();
}

/*
 * The transaction was undone.  Put its rows aside where everybody can see it; one that
 * fails for good goes to llm.dead_letter with its answer.
 */
static void
put_aside(LlmWriteJob *job, ErrorData *error, bool final)
{
	llm_writeback_begin("putting off a write-back");
	(void) llm_fence_check();
	llm_writeback_connect();
	/* A session that resumed the job and has not committed holds its row: it is not waited for, the row comes again. */
	final = final && llm_writeback_take_job(job);
	for (int i = 0; i < job->nrows; i++)
	{
		job->rows[i].fate = LLM_FATE_WAITING;
		if (final)
			llm_writeback_fail_by_error(&job->rows[i], error);
	}
	settle_rows(job);
	llm_writeback_commit();
	if (final)
		forget_trouble(strikes, job->rows[0].task);
}

static void
recover_from(LlmWriteJob *job, ErrorData *error)
{
	LlmTrouble *trouble = find_trouble(&troubles, job->id, true);
	LlmTroubleVerdict verdict = {0};
	bool is_said = llm_writeback_is_said_lock(error);

	if (llm_writeback_is_lock_error(error->sqlerrcode) && !is_said)
		verdict.job_ms = verdict.row_ms = llm_trouble_locked(trouble);
	else
	{
		/* a row that was alone is the culprit, but of no full disk */
		if (llm_writeback_is_full_disk(error))
			verdict.job_ms = verdict.row_ms = llm_trouble_no_room(trouble);
		else
			llm_trouble_failed(trouble, job->nrows == 1 ? find_trouble(&strikes, job->rows[0].task, true) : NULL,
							   job->nrows, is_said, &verdict);
		job->put_off = llm_writeback_why_put_off(error);
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("write-back to %s was put off: %s", job->relation_name, error->message)));
	}
	suspend_job(trouble, verdict.job_ms);
	job->delay_ms = verdict.row_ms;
	put_aside(job, error, verdict.final);
}

/* Did the transaction that committed run users' code for any row, as far as one can tell? */
static bool
has_succeeded(const LlmWriteJob *job)
{
	for (int i = 0; i < job->nrows; i++)
	{
		LlmFate fate = job->rows[i].fate;

		if (fate == LLM_FATE_DONE || fate == LLM_FATE_FAILED || fate == LLM_FATE_CANCELLED)
			return true;
	}
	return false;
}

/* The transaction is committed: what does it tell about the job's troubles? */
static void
end_troubles(LlmWriteJob *job)
{
	LlmTrouble *trouble = find_trouble(&troubles, job->id, job->blocked);

	if (job->nrows == 1)
		forget_trouble(strikes, job->rows[0].task);
	if (trouble == NULL)
		return;
	if (job->blocked)
		suspend_job(trouble, job->delay_ms);
	else if (llm_trouble_committed(trouble, job->nrows, has_succeeded(job)))
		forget_trouble(troubles, job->id);
}

/* The transaction is committed: what does it tell about the table's pace? */
static void
note_success(LlmWriteJob *job, const LlmSliceTerms *terms, int64 start_us)
{
	int64 now = llm_clock_monotonic_us();
	LlmSlice *slice;

	llm_shmem_announce_progress();
	llm_writeback_pass_over(job);
	if (job->promoted)
		llm_shmem_wake(MyDatabaseId, LLM_WORKER_SENDER);
	end_troubles(job);
	if (job->blocked || job->nrows == 0)
		return;
	slice = find_slice(job->relation, now - start_us > 2 * LLM_SLICE_MS * INT64CONST(1000));
	if (slice == NULL)
		llm_slice_served(&slice_clock, start_us, now);
	else if (!llm_slice_fitted(slice, &slice_clock, job->nrows, terms->rows, now - start_us))
		(void) hash_search(slices, &job->relation, HASH_REMOVE, NULL);
}

/*
 * The transaction was stopped before its time: nothing has changed.  A single row that
 * has used its slice lets the job's other rows go first, which may be faster.
 */
static void
note_stop(LlmWriteJob *job, bool called_off, int64 start_us)
{
	LlmSlice *slice = find_slice(job->relation, true);

	if (job->nrows == 1 && !called_off)
		(void) find_trouble(&strikes, job->rows[0].task, true);
	llm_slice_stopped(slice, &slice_clock, job->nrows, llm_clock_monotonic_us() - start_us,
					  llm_guc_writeback_timeout_ms, called_off);
	ereport(DEBUG1, (errmsg_internal("write-back to %s was stopped for others after %d ms", job->relation_name,
									 (int) ((llm_clock_monotonic_us() - start_us) / 1000))));
}

/* The transaction failed: a table that is slow, or is now, has had its turn for that. */
static void
pay_for_failure(LlmWriteJob *job, bool timed_out, int64 start_us)
{
	LlmSlice *slice = find_slice(job->relation, timed_out);

	if (slice != NULL)
		llm_slice_stopped(slice, &slice_clock, job->nrows, llm_clock_monotonic_us() - start_us,
						  llm_guc_writeback_timeout_ms, false);
}

/*
 * Serve one set of a job's rows and bear what comes of it.  False when no row was free.
 */
static bool
try_set(LlmWriteJob *job, const LlmSliceTerms *terms)
{
	int64 start_us = llm_clock_monotonic_us();
	ErrorData *volatile error = NULL;
	volatile bool called_off = false;
	volatile bool timed_out = false;
	volatile bool stopped = false;

	MemoryContextReset(job_context);
	MemoryContextSwitchTo(job_context);
	job->nrows = 0;
	job->finished = false;
	job->promoted = false;
	job->blocked = false;
	job->put_off = NULL;
	job->delay_ms = LLM_LOCK_DELAY_MS;
	PG_TRY();
	{
		serve_job(job, terms);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(job_context);
		error = CopyErrorData();
		FlushErrorState();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		{
			called_off = llm_writeback_was_called_off();
			timed_out = llm_writeback_time_is_over();
			stopped = called_off || (timed_out && terms->most_ms < llm_guc_writeback_timeout_ms);
			if (timed_out)
				error->message = "it took longer than \"llm_enrich.writeback_timeout\"";
		}
		llm_writeback_stop_timer();
		AbortOutOfAnyTransaction();
		llm_writeback_leave_role();
		MemoryContextSwitchTo(job_context);
		llm_writeback_reset_session();
	}
	PG_END_TRY();
	if (stopped)
		note_stop(job, called_off, start_us);
	else if (error != NULL)
	{
		if (!llm_writeback_is_lock_error(error->sqlerrcode))
			pay_for_failure(job, timed_out, start_us);
		recover_from(job, error);
	}
	else
		note_success(job, terms, start_us);
	MemoryContextSwitchTo(pass_context);
	return stopped || job->nrows > 0;
}

/* May the job be tried at all, for its troubles?  They may want its rows to go alone. */
static bool
is_free(LlmWriteJob *job, int *rows, TimestampTz *wake_at)
{
	LlmTrouble *trouble = find_trouble(&troubles, job->id, false);

	if (trouble == NULL)
		return true;
	if (trouble->singles > 0)
		*rows = 1;
	if (trouble->until <= llm_clock_steady())
		return true;
	*wake_at = Min(*wake_at, trouble->until);
	return false;
}

/*
 * Serve a job of an ordinary table until nothing is left, it gets into trouble or its turn
 * is over.  False when it had to be left alone or no row was free.
 */
static bool
give_turn(LlmWriteJob *job, TimestampTz *wake_at)
{
	int64 end = llm_clock_monotonic_us() + LLM_SLICE_MS * INT64CONST(1000);
	LlmSliceTerms terms;
	bool worked = false;

	for (int i = 0; i < SETS_PER_TURN && (i == 0 || llm_clock_monotonic_us() < end); i++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) llm_slice_admit(&slice_clock, NULL, false, 0, llm_guc_writeback_timeout_ms, &terms);
		if (!is_free(job, &terms.rows, wake_at))
			break;
		if (try_set(job, &terms))
			worked = true;
		if (job->nrows < terms.rows || find_slice(job->relation, false) != NULL)
			break;
	}
	return worked;
}

/* Was anything of an ordinary table written in this round? */
static bool
others_have_work(void)
{
	return slice_clock.busy_us != round_busy_us;
}

/* May the job of a slow table be tried now, and on what terms? */
static bool
may_try(LlmWriteJob *job, const LlmSlice *slice, LlmSliceTerms *terms, TimestampTz *wake_at)
{
	int64 now = llm_clock_monotonic_us();

	if (llm_slice_admit(&slice_clock, slice, others_have_work(), now, llm_guc_writeback_timeout_ms, terms))
		return is_free(job, &terms->rows, wake_at);
	*wake_at = Min(*wake_at, llm_clock_steady() + Max(llm_slice_quiet_at(&slice_clock) - now, 0));
	return false;
}

/* Does a job of a slow table come before the one that is to have the turn so far? */
static bool
comes_first(const LlmWriteJob *job, const LlmSlice *slice)
{
	if (slow_turn.job == 0)
		return true;
	if (slow_turn.relation == job->relation && slice != NULL)
		return llm_slice_before(slice, job->id, slow_turn.job);
	return (slice == NULL ? 0 : slice->turn_at) < slow_turn.turn_at;
}

/* A job of a slow table wants a turn at the end of the round. */
static void
note_slow(LlmWriteJob *job, TimestampTz *wake_at)
{
	LlmSlice *slice = find_slice(job->relation, false);
	LlmSliceTerms terms;

	if (!comes_first(job, slice) || !may_try(job, slice, &terms, wake_at))
		return;
	slow_turn.job = job->id;
	slow_turn.relation = job->relation;
	slow_turn.turn_at = slice == NULL ? 0 : slice->turn_at;
}

/* The job that is to have the turn: found in this look or, when there are many, again. */
static LlmWriteJob *
find_slow(List *jobs)
{
	ListCell *lc;

	foreach(lc, jobs)
	{
		if (((LlmWriteJob *) lfirst(lc))->id == slow_turn.job)
			return lfirst(lc);
	}
	llm_writeback_begin("looking for answers to write back");
	llm_writeback_connect();
	jobs = llm_writeback_find_jobs(slow_turn.job - 1, 1);
	llm_writeback_commit();
	return jobs == NIL ? NULL : linitial(jobs);
}

/*
 * Serve one set of the slow table that has waited longest, if it may have its turn now.
 * False when it has to wait or no row was free.
 */
static bool
give_slow_turn(List *jobs, TimestampTz *wake_at)
{
	LlmWriteJob *job = find_slow(jobs);
	LlmSlice *slice;
	LlmSliceTerms terms;

	if (job == NULL)
		return false;
	slice = find_slice(job->relation, false);
	if (!may_try(job, slice, &terms, wake_at))
		return false;
	if (slice != NULL)
	{
		slice->turn_at = llm_clock_monotonic_us();
		slice->turn_job = job->id;
	}
	CHECK_FOR_INTERRUPTS();
	llm_shmem_report_serving(job->id);
	return try_set(job, &terms);
}

/* What a look has found: ordinary tables at once, slow ones when the round is over. */
static LlmPassResult
serve_jobs(List *jobs, TimestampTz *wake_at)
{
	if (last_job == 0)
	{
		slow_turn.job = 0;
		round_worked = false;
		round_busy_us = slice_clock.busy_us;
		round_wake_at = DT_NOEND;
	}
	foreach_ptr(LlmWriteJob, job, jobs)
	{
		if (find_slice(job->relation, false) != NULL)
			note_slow(job, wake_at);
		else if (give_turn(job, wake_at))
			round_worked = true;
	}
	if (list_length(jobs) == JOBS_PER_PASS)
	{
		last_job = ((LlmWriteJob *) llast(jobs))->id;
		round_wake_at = Min(round_wake_at, *wake_at);
		return LLM_PASS_GO_ON;
	}
	last_job = 0;
	*wake_at = Min(*wake_at, round_wake_at);
	llm_slice_look(&slice_clock, others_have_work());
	if (slow_turn.job != 0 && give_slow_turn(jobs, wake_at))
		round_worked = true;
	return round_worked ? LLM_PASS_WORKED : LLM_PASS_NOTHING;
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

/* The jobs that have something, and when the next waiting row is due.  "untold": jobs have to be announced. */
static List *
look_at_queue(bool ask_empty, TimestampTz *wake_at, bool *empty, bool *untold)
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
		llm_writeback_begin_again();
		begun_anew_at = now;
	}
	jobs = llm_writeback_find_jobs(last_job, JOBS_PER_PASS);
	/* A row that is due and locked must not make us spin. */
	*wake_at = Max(llm_clock_from_wall(llm_writeback_next_due()),
				   TimestampTzPlusMilliseconds(llm_clock_steady(), LLM_LOCK_DELAY_MS));
	if (held)
		*wake_at = Min(*wake_at, TimestampTzPlusMilliseconds(llm_clock_steady(), CANCEL_DELAY_MS));
	*untold = llm_writeback_announce_wanted();
	*empty = ask_empty && jobs == NIL && last_job == 0 && llm_writeback_is_empty();
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
	LlmPassResult result;
	List *jobs;
	bool empty;
	bool untold;

	MemoryContextReset(pass_context);
	MemoryContextSwitchTo(pass_context);
	if (last_job == 0)
		asked = llm_shmem_asked();
	llm_writeback_begin("looking for answers to write back");
	if (!llm_fence_check())
	{
		CommitTransactionCommand();
		return LLM_PASS_NO_EXTENSION;
	}
	jobs = look_at_queue(ask_empty, wake_at, &empty, &untold);
	llm_writeback_commit();

	if (untold && !llm_writeback_announce())
		*wake_at = Min(*wake_at, TimestampTzPlusMilliseconds(llm_clock_steady(), UNTOLD_MS));
	result = serve_jobs(jobs, wake_at);
	return result == LLM_PASS_NOTHING && empty ? LLM_PASS_EMPTY : result;
}
