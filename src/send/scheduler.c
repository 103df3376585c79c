/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *	  One turn of the sender: land, store, claim, send.
 *
 * A pass has at most one transaction, which is a list of steps (step.h).  It stores what
 * has come and claims what fits into the freed slots; requests leave after it has
 * committed, so that a crash shows as "claimed, no answer".  Between two steps answers
 * land and make room for what was claimed ahead: only the loop that walks the list lets
 * them, so that within a step nothing moves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/fence.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "base/spi.h"
#include "send/afford.h"
#include "send/ahead.h"
#include "send/air.h"
#include "send/budgets.h"
#include "send/claim.h"
#include "send/flight.h"
#include "send/joblist.h"
#include "send/kept.h"
#include "send/learn.h"
#include "send/letters.h"
#include "send/load.h"
#include "send/refused.h"
#include "send/scheduler.h"
#include "send/scheduler_repeat.h"
#include "send/share.h"
#include "send/step.h"
#include "send/store_trouble.h"
#include "send/sums.h"
#include "tables/job.h"
#include "tables/ledger.h"

/* Full look at all jobs: commits that nobody told us of (COMMIT PREPARED), late ones, days that are over. */
#define SWEEP_MS 60000

/*
 * No transaction waits longer for a lock: its holder may be waiting for the answer to an
 * immediate call, and hears of it.
 */
#define LOCK_WAIT_MS 1000

/* After a store that failed. */
#define STORE_RETRY_MS 1000

/* Jobs learn why they wait at most so often. */
#define REASONS_MS 1000

/*
 * Waiting tasks made ready in one pass, and the least time between two such passes: a
 * task that is due may be locked by somebody's open transaction.
 */
#define WAKE_ROWS 1000
#define WAKE_MS 50

/* No back-off is so long: what waits for longer does so by a clock that was set back. */
#define LONGEST_WAIT_S 1200

/* A task that only its model's fallback may answer is claimed again after so long, if that had no place for it. */
#define ELSEWHERE_MS 1000

/* Tasks of a dropped table that fail in one pass. */
#define GONE_ROWS 1000

/* All static: the sender's life. */
static MemoryContext pass_context; /* reset at the start of each pass */
static bool woken = true; /* something may have been queued */
static bool woken_all = true; /* look at all jobs, old ones too */
static bool steered = false; /* somebody has paused, resumed or altered something */
static bool orphaned = false; /* the extension is gone */
static bool going_on = false; /* in go_on() */
static bool draining = false; /* nothing is to be claimed any more */
static bool set_back = true; /* the wall clock was, perhaps: waiting tasks may be due in an hour that is over */
static Oid pause_table = InvalidOid; /* as of the last look */
static TimestampTz due_at = DT_NOBEGIN; /* the next waiting task */
static TimestampTz sweep_at = DT_NOBEGIN;
static TimestampTz reasons_at = DT_NOBEGIN;
static TimestampTz retry_at = DT_NOBEGIN;
static bool failed = false; /* the last transaction did: what is in memory may not be what is on disk */
static const char *step_name = NULL; /* the step that runs */

/* Callback: llm.pause changes only when a person pauses or resumes something. */
static void
note_steering(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == pause_table || !OidIsValid(pause_table))
		steered = true;
}

void
llm_scheduler_init(void)
{
	CacheRegisterRelcacheCallback(note_steering, (Datum) 0);
	pass_context = AllocSetContextCreate(TopMemoryContext, "llm_enrich pass", ALLOCSET_DEFAULT_SIZES);
	llm_air_start();
	llm_letters_init();
}

/*
 * Not before a look at what has just come: a letter, or a job of another route, is to find a
 * slot that has become free.  And not while answers cannot be stored.
 */
static bool
may_launch_ahead(void)
{
	return !woken && !llm_letters_are_waiting() && llm_guc_enabled && !draining && !orphaned && !woken_all;
}

/*
 * Between two steps.  Not while there are grants for claims that have not left: those have
 * the places.  What fails here is no failure of the transaction, and ends the sender.
 */
static void
go_on(const LlmPass *pass)
{
	if (pass->letters != NIL || llm_joblist_has_grants())
		return;
	going_on = true;
	llm_air_go_on(may_launch_ahead());
	going_on = false;
}

/* ----------------------------------------------------------------
 * Steps: what has landed
 * ----------------------------------------------------------------
 */

static TimestampTz
store_due(const LlmPass *pass)
{
	if (llm_air_landed() > 0 && llm_letters_are_waiting())
		return DT_NOBEGIN;
	return llm_air_store_at();
}

static void
store_bills(LlmPass *pass)
{
	pass->settlements = llm_air_gather(&pass->stored);
	if (pass->stored == 0)
		return;
	llm_ledger_record(pass->settlements, pass->stored);
	llm_afford_settle(pass->settlements, pass->stored);
}

static void
store_shares(LlmPass *pass)
{
	if (pass->stored > 0)
		llm_share_settle(pass->settlements, pass->stored);
}

static void
store_answers(LlmPass *pass)
{
	if (pass->stored > 0 && llm_queue_settle(pass->settlements, pass->stored))
		pass->writer_has_work = true;
}

/* What was stored is memory's no more, and the writer's. */
static void
forget_stored(LlmPass *pass)
{
	bool several = pass->writer_has_work;
	int64 written = 0; /* the job that the writer has work of, or one of them */

	for (int i = 0; i < pass->stored; i++)
	{
		LlmFlight *flight = llm_air_next_stored();
		LlmJob *job = flight->letter != NULL ? NULL : llm_joblist_find(flight->job);
		LlmTaskState state = flight->settlement.state;

		if (job != NULL)
			llm_load_flown(job, flight);
		if (job != NULL && flight->settlement.held_back != NULL)
			llm_joblist_hold_back(job, flight->settlement.held_back);
		if (job != NULL && flight->class == LLM_ERR_WRONG_KIND && !flight->hopped)
			job->wrong_model = pass->now;
		if (flight->letter != NULL)
			llm_letters_deliver(flight, pass->now);
		else if (state == LLM_TASK_READY && job != NULL)
		{
			if (!llm_refused_stored(flight->task))
				llm_joblist_put_back(job, flight->task);
		}
		else if (state == LLM_TASK_WAITING)
			due_at = Min(due_at, llm_clock_from_wall(flight->settlement.not_before));
		else
		{
			several = several || (written != 0 && written != flight->job);
			written = flight->job;
		}
		llm_flight_free(flight);
	}
	if (several || written != 0)
		llm_shmem_wake_writer(several ? 0 : written);
}

static TimestampTz
followers_due(const LlmPass *pass)
{
	return llm_scheduler_repeat_due();
}

/* Followers get the same answers, or ask. */
static void
serve_followers(LlmPass *pass)
{
	LlmRepeatResult result = {0};

	llm_scheduler_repeat_store(llm_air_landed_list(), pass->stored, &result);
	llm_scheduler_repeat_tend(pass->sweep, pass->now, &result);
	if (result.promoted > 0)
		due_at = DT_NOBEGIN;
	if (result.served > 0)
		pass->writer_has_work = true;
}

static void
undo_followers(LlmPass *pass)
{
	llm_scheduler_repeat_undo(llm_air_landed_list());
}

/* ----------------------------------------------------------------
 * Steps: what there is to do
 * ----------------------------------------------------------------
 */

static TimestampTz
gone_due(const LlmPass *pass)
{
	return llm_queue_gone_due();
}

static void
fail_gone(LlmPass *pass)
{
	pass->gone = llm_queue_fail_gone(pass->sweep, GONE_ROWS, pass->now) > 0;
	if (pass->gone)
		pass->writer_has_work = true;
}

/* Tasks whose time has come are ready.  True: some are of jobs that have to be found first. */
static bool
wake_due(void)
{
	bool unknown = false;

	foreach_ptr(LlmWoken, task, llm_queue_wake(WAKE_ROWS))
	{
		LlmJob *job = llm_joblist_find(task->job);

		if (job != NULL)
			llm_joblist_put_back(job, task->task);
		else
			unknown = true;
	}
	return unknown;
}

static TimestampTz
steering_due(const LlmPass *pass)
{
	return steered ? DT_NOBEGIN : DT_NOEND;
}

/* Jobs as they are now, old ones too: one that was paused long ago may go on. */
static void
take_steering(LlmPass *pass)
{
	AcceptInvalidationMessages();
	pass->steered = steered;
	steered = false;
	if (!pass->steered)
		return;
	pause_table = llm_spi_relation("pause");
	llm_joblist_reread();
	woken_all = true;
}

static void
undo_steering(LlmPass *pass)
{
	steered = steered || pass->steered;
}

static TimestampTz
look_due(const LlmPass *pass)
{
	if (woken || woken_all || set_back || llm_joblist_wants_more())
		return DT_NOBEGIN;
	return Min(Min(due_at, sweep_at), llm_joblist_wide_due());
}

/* Tasks that are due, and jobs that have some. */
static void
look_around(LlmPass *pass)
{
	bool all = woken_all || pass->sweep;
	bool look = woken || due_at <= pass->now; /* the writer promotes tasks, too */

	pass->writer_has_work |= pass->sweep && llm_job_close_days(); /* it announces that they are over */
	if (llm_joblist_wants_more())
		all = true;
	if (look)
		all = wake_due() || all;
	if (set_back || pass->sweep)
	{
		uint64 woken_rows = llm_queue_wake_ahead(WAKE_ROWS, set_back ? 0 : LONGEST_WAIT_S);

		set_back = (woken_rows == WAKE_ROWS);
		all = woken_rows > 0 || all;
	}
	if (all || woken || llm_joblist_wide_due() <= pass->now)
		llm_joblist_discover(all || llm_joblist_is_empty(), pass->now);
	if (all || look)
		due_at = Max(llm_clock_from_wall(llm_queue_next_due()), TimestampTzPlusMilliseconds(pass->now, WAKE_MS));
}

/* Whatever was looked at is as it was before, and routes may have gone from under their jobs. */
static void
undo_look(LlmPass *pass)
{
	woken_all = true;
	set_back = true;
	due_at = DT_NOBEGIN;
}

static TimestampTz
routes_due(const LlmPass *pass)
{
	return llm_route_refresh_due();
}

static void
find_routes(LlmPass *pass)
{
	llm_route_refresh(pass->now);
	llm_route_try_unfit(pass->now);
	llm_joblist_route(pass->now);
}

/* ----------------------------------------------------------------
 * Steps: what to send
 * ----------------------------------------------------------------
 */

static TimestampTz
letters_due(const LlmPass *pass)
{
	return draining ? DT_NOEND : llm_letters_wake_at();
}

/* Bills of calls that statements wait for, and new ones; before the tasks, for which no statement waits. */
static void
take_letters(LlmPass *pass)
{
	if (pass->stored > 0)
		llm_letters_settle(pass->settlements, pass->stored);
	if (!draining)
		pass->letters = llm_letters_take(llm_air_slots(), llm_http_in_flight(), llm_clock_steady());
}

static void
undo_letters(LlmPass *pass)
{
	llm_letters_undo(llm_air_landed_list(), pass->failure);
}

static TimestampTz
ahead_due(const LlmPass *pass)
{
	return llm_ahead_is_empty() || pass->may_claim ? llm_ahead_due() : DT_NOBEGIN;
}

static void
call_back(LlmPass *pass)
{
	if (llm_ahead_call_back(!pass->may_claim || pass->gone || pass->steered, pass->now) > 0)
		due_at = DT_NOBEGIN;
}

/*
 * What was claimed ahead and has not left is ready again.  The writer may have to look, for
 * one that was cancelled, or is too late.
 */
static void
forget_called_back(LlmPass *pass)
{
	LlmRequest *request;

	while ((request = llm_ahead_next_called_back()) != NULL)
	{
		for (int i = 0; i < request->nflights; i++)
		{
			const LlmFlight *flight = &request->flights[i];
			LlmJob *job = llm_joblist_find(flight->job);

			if (job == NULL)
				continue;
			llm_load_flown(job, flight);
			if (flight->elsewhere && flight->hopped)
				llm_refused_wait(flight->task, flight->job, TimestampTzPlusMilliseconds(pass->now, ELSEWHERE_MS));
			else
				llm_joblist_put_back(job, flight->task);
		}
		llm_request_free(request);
		pass->writer_has_work = true;
	}
}

static void
undo_call_back(LlmPass *pass)
{
	llm_ahead_undo();
}

static TimestampTz
reasons_due(const LlmPass *pass)
{
	return llm_joblist_reasons_changed() || llm_money_waiting_changed() ? reasons_at : DT_NOEND;
}

static void
store_reasons(LlmPass *pass)
{
	if (reasons_due(pass) > pass->now)
		return;
	pass->writer_has_work |= llm_joblist_store_reasons(); /* it announces budgets that are met */
	llm_money_store_waiting();
	reasons_at = TimestampTzPlusMilliseconds(pass->now, REASONS_MS);
}

/* ----------------------------------------------------------------
 * The pass
 * ----------------------------------------------------------------
 */

/* In this order.  An answer and its bill first: it is paid, and nothing else is worth more. */
static const LlmStep steps[] = {
	{"budgets", llm_budgets_due, llm_budgets_take, llm_budgets_keep, llm_budgets_undo},
	{"bills", store_due, store_bills, forget_stored, NULL},
	{"shares of retries", NULL, store_shares, NULL, NULL},
	{"answers", NULL, store_answers, NULL, NULL},
	{"kept answers", NULL, llm_kept_store, llm_kept_keep, llm_kept_undo},
	{"habits", NULL, llm_learn_habits, NULL, NULL},
	{"lessons", llm_learn_due, llm_learn_run, llm_learn_keep, llm_learn_undo},
	{"followers", followers_due, serve_followers, NULL, undo_followers},
	{"tables that are gone", gone_due, fail_gone, NULL, NULL},
	{"steering", steering_due, take_steering, NULL, undo_steering},
	{"look around", look_due, look_around, NULL, undo_look},
	{"routes", routes_due, find_routes, NULL, NULL},
	{"letters", letters_due, take_letters, llm_letters_keep, undo_letters},
	{"claimed ahead", ahead_due, call_back, forget_called_back, undo_call_back},
	{"claim", llm_claim_due, llm_claim_run, llm_claim_keep, llm_claim_undo},
	{"money", NULL, llm_budgets_store, NULL, NULL},
	{"reasons", reasons_due, store_reasons, NULL, NULL},
	{"sums", llm_sums_due, llm_sums_run, NULL, NULL},
	{"old kept answers", llm_kept_tidy_due, llm_kept_tidy, NULL, NULL},
};

/* When the first step is due that is not yet, or "now" when one is. */
static TimestampTz
next_step_at(const LlmPass *pass)
{
	TimestampTz at = DT_NOEND;

	for (int i = 0; i < lengthof(steps) && at > pass->now; i++)
	{
		if (steps[i].due != NULL)
			at = Min(at, steps[i].due(pass));
	}
	return at;
}

/* Context of errors. */
static void
tell_step(void *arg)
{
	if (step_name != NULL)
		errcontext("step \"%s\" of the sender", step_name);
}

/* Inside the transaction. */
static void
run_steps(LlmPass *pass)
{
	ErrorContextCallback context = {.previous = error_context_stack, .callback = tell_step};

	error_context_stack = &context;
	for (int i = 0; i < lengthof(steps); i++)
	{
		step_name = steps[i].name;
		steps[i].run(pass);
		step_name = NULL;
		go_on(pass);
	}
	error_context_stack = context.previous;
}

/* The transaction of a pass; false when it failed and has to be tried again. */
static bool
transact(LlmPass *pass)
{
	volatile bool ok = true;

	PG_TRY();
	{
		llm_spi_begin("store and claim");
		llm_spi_limit_lock_waits(LOCK_WAIT_MS);
		MemoryContextSwitchTo(pass_context);
		if (llm_fence_check())
			run_steps(pass);
		else
			orphaned = true;
		llm_spi_commit_silently();
	}
	PG_CATCH();
	{
		if (going_on)
			PG_RE_THROW();
		ok = false;
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(pass_context);
		pass->failure = CopyErrorData()->message;
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	step_name = NULL;
	if (ok)
		go_on(pass); /* claims take the places that are left */
	for (int i = lengthof(steps) - 1; i >= 0; i--)
	{
		void (*after)(LlmPass * pass) = ok ? steps[i].keep : steps[i].undo;

		if (after != NULL)
			after(pass);
	}
	if (ok)
		llm_spi_report_commit();
	return ok;
}

static void
launch_claims(const LlmPass *pass, TimestampTz now)
{
	ListCell *lc;

	foreach_ptr(const LlmLoad, load, pass->loads)
	{
		LlmRequest *request = llm_request_make(load->claims, load->n, load->route, llm_flight_recipe(load->recipe));

		for (int i = 0; i < load->n; i++)
		{
			LlmFlight *flight = &request->flights[i];

			flight->question = load->questions[i];
			flight->hopped = (load->route != llm_joblist_find(flight->job)->home);
		}
		if (load->ahead)
			llm_ahead_add(request, now);
		else
			llm_air_launch(request, now);
	}
	llm_ahead_filled();
	llm_letters_launched(pass->letters);
	foreach(lc, pass->letters)
		llm_air_launch(lfirst(lc), now);
	llm_air_land(may_launch_ahead());
}

/* When to run next: for a step, or for what was claimed ahead. */
static TimestampTz
next_pass_at(LlmPass *pass)
{
	TimestampTz at;

	if (retry_at > pass->now)
		return retry_at;
	at = next_step_at(pass);
	if (may_launch_ahead() && !llm_air_is_behind())
		at = Min(at, llm_ahead_wake_at(llm_air_slots(), llm_http_in_flight()));
	at = Min(at, llm_refused_wake_at());
	return at;
}

TimestampTz
llm_scheduler_pass(void)
{
	LlmPass pass = {0};

	MemoryContextReset(pass_context);
	llm_air_land(may_launch_ahead());
	pass.now = llm_clock_steady();
	pass.sweep = sweep_at <= pass.now;
	pass.may_claim = llm_guc_enabled && !draining;
	if (llm_clock_was_set_back())
		set_back = true;
	if (!failed)
		llm_refused_tend(pass.now);
	if (retry_at > pass.now || next_step_at(&pass) > pass.now)
		return next_pass_at(&pass);
	failed = !transact(&pass);
	if (failed)
	{
		llm_store_trouble_note(pass.failure);
		retry_at = TimestampTzPlusMilliseconds(pass.now, STORE_RETRY_MS);
		return retry_at;
	}
	llm_store_trouble_note(NULL);
	woken = false;
	woken_all = false;
	if (pass.sweep)
		sweep_at = TimestampTzPlusMilliseconds(pass.now, SWEEP_MS);
	pass.now = llm_clock_steady();
	launch_claims(&pass, pass.now);
	llm_joblist_trim();
	llm_flight_trim_recipes();
	return next_pass_at(&pass);
}

void
llm_scheduler_wake(void)
{
	woken = true;
}

bool
llm_scheduler_is_idle(void)
{
	return !llm_air_is_flying() && llm_ahead_is_empty() && llm_air_landed() == 0 && llm_joblist_is_empty() &&
		   llm_letters_is_empty() && Min(due_at, llm_scheduler_repeat_due()) == DT_NOEND && !woken &&
		   !llm_sums_are_behind();
}

bool
llm_scheduler_drain(void)
{
	draining = true;
	llm_letters_put_back();
	return !llm_air_is_flying() && llm_ahead_is_empty() && llm_air_landed() == 0;
}

bool
llm_scheduler_is_orphaned(void)
{
	return orphaned;
}

int
llm_scheduler_slots(void)
{
	return llm_air_slots();
}
