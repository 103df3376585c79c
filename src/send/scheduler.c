/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *	  One turn of the sender: land, store, claim, send.
 *
 * A pass has at most one transaction.  It stores what has come and claims what
 * fits into the freed slots; requests leave after it has committed, so that a
 * crash shows as "claimed, no answer".  What has landed stays in memory until
 * the transaction that stores it has committed: when that fails (disk full, out
 * of memory, cancelled) it is tried again, and nothing new is sent meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/fence.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "base/spi.h"
#include "send/ahead.h"
#include "send/check.h"
#include "send/flight.h"
#include "send/joblist.h"
#include "send/scheduler.h"
#include "send/scheduler_repeat.h"
#include "send/share.h"
#include "tables/job.h"
#include "tables/ledger.h"

/* Full look at all jobs: commits that nobody told us of (COMMIT PREPARED), late ones, days that are over. */
#define SWEEP_MS 60000

/* After a store that failed. */
#define STORE_RETRY_MS 1000

/* Jobs learn why they wait at most so often. */
#define REASONS_MS 1000

/* Rows of one transaction; more than that waits for the next pass. */
#define STORE_ROWS 1000

/* Answers of one transaction together; a single larger one still goes, alone. */
#define STORE_BYTES (64 * 1024 * 1024)

/* Few answers wait so long for company: a commit costs about as much as ten of them. */
#define STORE_DELAY_MS 1
#define STORE_AT_ONCE 16

/* While requests leave without a claim, more answers wait, and longer. */
#define STORE_DELAY_AHEAD_MS 40
#define STORE_AT_ONCE_AHEAD 256

/*
 * Waiting tasks made ready in one pass, and the least time between two such passes: a
 * task that is due may be locked by somebody's open transaction.
 */
#define WAKE_ROWS 1000
#define WAKE_MS 50

/* No back-off is so long: who waits for longer does so by a clock that was set back. */
#define LONGEST_WAIT_S 1200

/* Tasks of a dropped table that fail in one pass. */
#define GONE_ROWS 1000

/* Claims of one pass that a change of the catalog may undo; then what has landed is stored first. */
#define CLAIM_TRIES 3

/* Orphans settled in one transaction: so many, or inputs of so many bytes; a single larger one goes alone. */
#define ORPHAN_ROWS 500
#define ORPHAN_BYTES (16 * 1024 * 1024)

/* All static: the sender's life. */
static MemoryContext pass_context; /* reset at the start of each pass */
static dlist_head flying = DLIST_STATIC_INIT(flying);
static dlist_head landed = DLIST_STATIC_INIT(landed);
static int nlanded = 0;
static int slots;
static bool woken = true; /* something may have been queued */
static bool woken_all = true; /* look at all jobs, old ones too */
static bool orphaned = false; /* the extension is gone */
static bool going_on = false; /* in go_on() */
static bool draining = false; /* nothing is to be claimed any more */
static bool set_back = true; /* the wall clock was, perhaps: waiting tasks may be due in an hour that is over */
static TimestampTz due_at = DT_NOBEGIN; /* the next waiting task */
static TimestampTz sweep_at = DT_NOBEGIN;
static TimestampTz reasons_at = DT_NOBEGIN;
static TimestampTz retry_at = DT_NOBEGIN;

void
llm_scheduler_init(void)
{
	pass_context = AllocSetContextCreate(TopMemoryContext, "llm_enrich pass", ALLOCSET_DEFAULT_SIZES);

	/* AcquireExternalFD() leaves a third of the descriptors to the likes of us; some are libcurl's own. */
	slots = Max(1, Min(llm_guc_max_connections, max_safe_fds / 3 - 8));
	if (slots < llm_guc_max_connections)
		ereport(LOG,
				(errmsg("\"llm_enrich.max_connections\" is %d, but there are descriptors for %d connections only",
						llm_guc_max_connections, slots),
				 errhint("Raise \"max_files_per_process\" and the operating system's limit.")));
	llm_http_start(slots);
}

/* The flight is over; what it brought waits to be stored. */
static void
keep_landed(LlmFlight *flight, TimestampTz now)
{
	flight->landed_at = now;
	dlist_push_tail(&landed, &flight->node);
	nlanded++;
	flight->route->wake_at = Min(flight->route->wake_at, now);
}

/* Send; the transaction that claimed it has committed. */
static void
launch(LlmFlight *flight, TimestampTz now)
{
	if (flight->recipe != NULL && llm_http_submit(&flight->exchange))
	{
		dlist_push_tail(&flying, &flight->node);
		return;
	}
	llm_flight_land(flight, now);
	keep_landed(flight, now);
}

/*
 * Not before a look at who has just come: a check, or a job of another route, is to find a
 * place that has become free.  Nor while answers cannot be stored, or too many wait for that.
 */
static bool
may_launch_ahead(void)
{
	return !woken && llm_check_put_off_until() == DT_NOEND && llm_guc_enabled && !draining && !orphaned &&
		   !woken_all && nlanded < 2 * slots;
}

/* Send what was claimed ahead, as far as there is room. */
static void
launch_ahead(TimestampTz now)
{
	LlmFlight *flight;

	if (!may_launch_ahead())
		return;
	while ((flight = llm_ahead_next(slots, llm_http_in_flight(), now)) != NULL)
		launch(flight, now);
}

static void
land_finished(void)
{
	TimestampTz now = llm_clock_steady();
	LlmHttpExchange *exchange;

	while ((exchange = llm_http_next_finished()) != NULL)
	{
		LlmFlight *flight = exchange->owner;

		dlist_delete(&flight->node);
		if (llm_flight_land(flight, now) == LLM_OK)
			llm_ahead_note_answer(flight->route, now);
		llm_http_release(exchange);
		keep_landed(flight, now);
	}
	launch_ahead(now);
}

/*
 * Between two steps of a pass: answers that came make room for what was claimed ahead.
 * What fails here is no failure of the transaction, and ends the sender.
 */
static void
go_on(void)
{
	if (llm_ahead_is_empty())
		return;
	going_on = true;
	llm_http_drive();
	land_finished();
	going_on = false;
}

/* The settlements to store in this pass, in the order of landing. */
static LlmSettlement **
gather_settlements(int *n)
{
	LlmSettlement **settlements = palloc(sizeof(LlmSettlement *) * Min(nlanded, STORE_ROWS));
	Size bytes = 0;
	dlist_iter iter;

	*n = 0;
	dlist_foreach(iter, &landed)
	{
		LlmSettlement *settlement = &dlist_container(LlmFlight, node, iter.cur)->settlement;

		if (settlement->answer != NULL)
			bytes += VARSIZE_ANY(settlement->answer);
		if (*n == STORE_ROWS || (*n > 0 && bytes > STORE_BYTES))
			break;
		settlements[(*n)++] = settlement;
	}
	return settlements;
}

/*
 * Inside the transaction: answers and their bills; how many.  *cancelled: some that were
 * to be asked again are the writer's now.
 */
static int
store(volatile bool *cancelled, LlmRepeatResult *repeats)
{
	LlmSettlement **settlements;
	int n;
	dlist_iter iter;
	int seen = 0;

	*cancelled = false;
	if (nlanded == 0)
		return 0;
	settlements = gather_settlements(&n);
	llm_ledger_record(settlements, n);
	go_on();
	llm_share_settle(settlements, n);
	go_on();
	*cancelled = llm_queue_settle(settlements, n);
	go_on();
	llm_scheduler_repeat_store(&landed, n, repeats);
	dlist_foreach(iter, &landed)
	{
		LlmFlight *flight = dlist_container(LlmFlight, node, iter.cur);

		if (seen++ == n)
			break;
		if (flight->check)
			llm_check_prepare_answer(flight);
	}
	return n;
}

/* The transaction that stored the first "n" has committed. */
static void
forget_stored(int n, bool writer_has_work)
{
	bool several = writer_has_work;
	int64 written = 0; /* the job that the writer has work of, or one of them */
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &landed)
	{
		LlmFlight *flight = dlist_container(LlmFlight, node, iter.cur);
		LlmJob *job = llm_joblist_find(flight->job);
		const char *state = flight->settlement.state;

		if (n-- == 0)
			break;
		if (job != NULL)
			job->flights--;
		if (job != NULL && flight->settlement.held_back != NULL)
			llm_joblist_hold_back(job, flight->settlement.held_back);
		if (flight->check)
			llm_check_deliver_answer(flight);
		else if (strcmp(state, "ready") == 0 && job != NULL)
			llm_joblist_put_back(job, flight->task);
		else if (strcmp(state, "waiting") == 0)
			due_at = Min(due_at, llm_clock_from_wall(flight->settlement.not_before));
		else
		{
			several = several || (written != 0 && written != flight->job);
			written = flight->job;
		}
		dlist_delete(&flight->node);
		nlanded--;
		llm_flight_free(flight);
	}
	if (several || written != 0)
		llm_shmem_wake_writer(several ? 0 : written);
}

/* Tasks whose time has come are ready.  True: some are of jobs that have to be found first. */
static bool
wake_due(void)
{
	bool unknown = false;
	ListCell *lc;

	foreach(lc, llm_queue_wake(WAKE_ROWS))
	{
		LlmWoken *task = lfirst(lc);
		LlmJob *job = llm_joblist_find(task->job);

		if (job != NULL)
			llm_joblist_put_back(job, task->task);
		else
			unknown = true;
	}
	return unknown;
}

/* Inside the transaction: tasks that are due, and jobs that have some. */
static void
look_around(TimestampTz now)
{
	bool all = woken_all;
	bool look = woken || due_at <= now; /* the writer promotes tasks, too */

	if (sweep_at <= now)
	{
		llm_job_close_days();
		all = true;
	}
	if (llm_joblist_wants_more())
		all = true;
	if (look)
		all = wake_due() || all;
	if (set_back || sweep_at <= now)
	{
		uint64 woken_rows = llm_queue_wake_ahead(WAKE_ROWS, set_back ? 0 : LONGEST_WAIT_S);

		set_back = (woken_rows == WAKE_ROWS);
		all = woken_rows > 0 || all;
	}
	if (all || woken)
		llm_joblist_discover(all || llm_joblist_is_empty(), now);
	if (all || look)
		due_at = Max(llm_clock_from_wall(llm_queue_next_due()), TimestampTzPlusMilliseconds(now, WAKE_MS));
}

/*
 * Claim what the routes allow.  Who queued a task may have changed by the same commit where
 * it goes, or whether it may: when the claim shows a task, it shows that, too, and routes
 * that were resolved before do not hold for it.  Then the claim is undone; *outdated.
 */
static List *
claim_by_routes(int taken, TimestampTz now, bool *outdated)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	LlmShare *shares = palloc(sizeof(LlmShare) * 2 * slots);
	int nshares = llm_joblist_plan(slots, llm_http_in_flight() + taken, now, shares);
	List *claims;

	*outdated = false;
	if (nshares == 0)
		return NIL;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	claims = llm_queue_claim(shares, nshares);
	*outdated = !llm_route_are_current();
	if (*outdated)
	{
		RollbackAndReleaseCurrentSubTransaction();
		llm_joblist_undo();
		claims = NIL;
	}
	else
		ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return claims;
}

/*
 * Inside the transaction: claim for the free slots, of which some are "taken".  Recipes
 * are loaded here, since that needs one.  Beside each claim, in *questions, what it asks.
 */
static List *
claim(int taken, TimestampTz now, List **questions)
{
	List *claims;
	ListCell *lc;
	bool outdated;

	if (!llm_guc_enabled || draining)
		return NIL;
	claims = claim_by_routes(taken, now, &outdated);
	for (int i = 1; outdated && i < CLAIM_TRIES; i++)
	{
		llm_route_refresh(now);
		llm_joblist_route(now);
		claims = claim_by_routes(taken, now, &outdated);
	}
	foreach(lc, claims)
		llm_flight_recipe(((LlmClaim *) lfirst(lc))->recipe);
	*questions = llm_scheduler_repeat_ask(claims);
	return claims;
}

static void
launch_claims(List *claims, List *questions, TimestampTz now)
{
	ListCell *lc,
		*lq;

	forboth(lc, claims, lq, questions)
	{
		LlmClaim *claimed = lfirst(lc);
		LlmFlight *flight;

		if (claimed->follows)
			continue;
		flight = llm_flight_make(claimed, llm_joblist_find(claimed->job)->route, llm_flight_recipe(claimed->recipe));
		flight->question = lfirst(lq);
		if (claimed->ahead)
			llm_ahead_add(flight, now);
		else
			launch(flight, now);
	}
	llm_ahead_filled();
}

/*
 * What was claimed ahead and has not left is ready again; that has committed.  True when
 * there was any: the writer may have to look, for one that was cancelled, or is too late.
 */
static bool
forget_called_back(void)
{
	bool any = false;
	LlmFlight *flight;

	while ((flight = llm_ahead_next_called_back()) != NULL)
	{
		LlmJob *job = llm_joblist_find(flight->job);

		if (job != NULL)
		{
			job->flights--;
			llm_joblist_put_back(job, flight->task);
		}
		llm_flight_free(flight);
		any = true;
	}
	return any;
}

/*
 * The transaction of a pass.  On success what was claimed is in *claims, with its
 * *questions, and *check; false when it failed and has to be tried again.
 */
static bool
transact(TimestampTz now, List **claims, List **questions, LlmFlight **check)
{
	LlmRepeatResult repeats = {0};
	volatile bool ok = true;
	volatile int stored = 0;
	volatile bool cancelled = false;

	PG_TRY();
	{
		llm_spi_begin("store and claim");
		MemoryContextSwitchTo(pass_context);
		if (!llm_fence_check())
			orphaned = true;
		else
		{
			stored = store(&cancelled, &repeats);
			llm_scheduler_repeat_tend(sweep_at <= now, now, &repeats);
			if (repeats.promoted > 0)
				due_at = DT_NOBEGIN;
			repeats.served += llm_queue_fail_gone(sweep_at <= now, GONE_ROWS, now);
			look_around(now);
			llm_route_refresh(now);
			llm_joblist_route(now);
			*check = draining ? NULL : llm_check_take(llm_clock_steady());
			if (llm_ahead_call_back(draining || !llm_guc_enabled, now) > 0)
				due_at = DT_NOBEGIN;
			if (*check == NULL)
				go_on();
			if (nlanded - stored < slots)
				*claims = claim(*check != NULL ? 1 : 0, llm_clock_steady(), questions);
			if (*check == NULL && !llm_joblist_has_grants())
				go_on();
			if (reasons_at <= now && llm_joblist_reasons_changed())
			{
				llm_joblist_store_reasons();
				reasons_at = TimestampTzPlusMilliseconds(now, REASONS_MS);
			}
		}
		llm_spi_commit_silently();
	}
	PG_CATCH();
	{
		if (going_on)
			PG_RE_THROW();
		ok = false;
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(pass_context);
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	if (ok)
	{
		llm_question_keep();
		if (*check == NULL && !llm_joblist_has_grants())
			go_on(); /* claimed() uses the grants up */
		llm_joblist_claimed(*claims);
		forget_stored(stored, forget_called_back() || cancelled || repeats.served > 0);
		llm_spi_report_commit();
		return true;
	}
	/* whatever was looked at is as it was before, and routes may have gone from under their jobs */
	woken_all = true;
	set_back = true;
	due_at = DT_NOBEGIN;
	llm_joblist_undo();
	llm_scheduler_repeat_undo(&landed);
	llm_ahead_undo();
	llm_check_abandon(*check);
	return false;
}

/* When the answers that landed have waited long enough for company. */
static TimestampTz
store_at(void)
{
	bool ahead = llm_ahead_suffices();

	if (nlanded >= (ahead ? STORE_AT_ONCE_AHEAD : STORE_AT_ONCE) || dlist_is_empty(&flying))
		return DT_NOBEGIN;
	return TimestampTzPlusMilliseconds(dlist_container(LlmFlight, node, dlist_head_node(&landed))->landed_at,
									   ahead ? STORE_DELAY_AHEAD_MS : STORE_DELAY_MS);
}

/* Is a transaction called for? */
static bool
has_work(TimestampTz now)
{
	if (retry_at > now)
		return false;
	if (woken || woken_all || set_back || due_at <= now || sweep_at <= now || llm_joblist_wants_more())
		return true;
	if (nlanded > 0 && (store_at() <= now || llm_check_put_off_until() != DT_NOEND))
		return true;
	if (llm_ahead_due() <= now || (!llm_ahead_is_empty() && (draining || !llm_guc_enabled)))
		return true;
	if (llm_scheduler_repeat_due() <= now || llm_queue_gone_due() <= now || llm_check_put_off_until() <= now)
		return true;
	if (reasons_at <= now && llm_joblist_reasons_changed())
		return true;
	return llm_guc_enabled && !draining && llm_http_in_flight() < slots && nlanded == 0 &&
		   llm_joblist_is_pending(slots, llm_http_in_flight(), now);
}

static TimestampTz
next_pass_at(TimestampTz now)
{
	TimestampTz at = Min(Min(sweep_at, due_at), Min(llm_scheduler_repeat_due(), llm_queue_gone_due()));

	if (retry_at > now)
		return retry_at;
	if (woken || set_back || llm_joblist_wants_more())
		return DT_NOBEGIN;
	at = Min(at, Min(llm_ahead_due(), llm_check_put_off_until()));
	if (may_launch_ahead())
		at = Min(at, llm_ahead_wake_at(slots, llm_http_in_flight()));
	if (nlanded > 0)
		at = Min(at, store_at());
	else if (llm_guc_enabled && !draining && llm_http_in_flight() < slots)
		at = Min(at, llm_joblist_wake_at(slots, llm_http_in_flight()));
	if (llm_joblist_reasons_changed())
		at = Min(at, reasons_at);
	return at;
}

TimestampTz
llm_scheduler_pass(void)
{
	TimestampTz now;
	List *claims = NIL;
	List *questions = NIL;
	LlmFlight *check = NULL;

	MemoryContextReset(pass_context);
	land_finished();
	now = llm_clock_steady();
	if (llm_clock_was_set_back())
		set_back = true;
	if (!has_work(now))
		return next_pass_at(now);
	if (!transact(now, &claims, &questions, &check))
	{
		retry_at = TimestampTzPlusMilliseconds(now, STORE_RETRY_MS);
		return retry_at;
	}
	woken = (check != NULL); /* one check goes at a time, and there may be more */
	woken_all = false;
	if (sweep_at <= now)
		sweep_at = TimestampTzPlusMilliseconds(now, SWEEP_MS);
	now = llm_clock_steady();
	launch_claims(claims, questions, now);
	if (check != NULL)
		launch(check, now);
	launch_ahead(now);
	llm_joblist_trim();
	llm_flight_trim_recipes();
	return next_pass_at(now);
}

/* One transaction of recover(): how many it settled, or -1 when the extension is gone. */
static int
recover_some(TimestampTz now)
{
	LlmFlight **flights;
	LlmSettlement **settlements;
	List *orphans;
	ListCell *lc;
	bool cancelled = false;
	int n = 0;

	MemoryContextReset(pass_context);
	llm_spi_begin("recover");
	MemoryContextSwitchTo(pass_context);
	if (!llm_fence_check())
	{
		llm_spi_commit();
		return -1;
	}
	orphans = llm_queue_orphans(ORPHAN_ROWS, ORPHAN_BYTES);
	flights = palloc(sizeof(LlmFlight *) * Max(list_length(orphans), 1));
	settlements = palloc(sizeof(LlmSettlement *) * Max(list_length(orphans), 1));
	foreach(lc, orphans)
	{
		flights[n] = llm_flight_orphan(lfirst(lc), now);
		settlements[n] = &flights[n]->settlement;
		n++;
	}
	if (n > 0)
	{
		llm_ledger_record(settlements, n);
		llm_share_settle(settlements, n);
		cancelled = llm_queue_settle(settlements, n);
	}
	llm_spi_commit();
	if (cancelled)
		llm_shmem_wake(MyDatabaseId, LLM_WORKER_WRITER);
	for (int i = 0; i < n; i++)
		llm_flight_free(flights[i]);
	return n;
}

/*
 * Settle what a dead sender left claimed: such a request may have been sent, so
 * it is booked with an estimate, and the task is asked again.
 */
bool
llm_scheduler_recover(void)
{
	int n;

	do
		n = recover_some(llm_clock_steady());
	while (n > 0);
	return n >= 0;
}

void
llm_scheduler_wake(void)
{
	woken = true;
}

bool
llm_scheduler_is_idle(void)
{
	return dlist_is_empty(&flying) && llm_ahead_is_empty() && nlanded == 0 && llm_joblist_is_empty() &&
		   Min(Min(due_at, llm_check_put_off_until()), llm_scheduler_repeat_due()) == DT_NOEND && !woken;
}

bool
llm_scheduler_drain(void)
{
	draining = true;
	llm_check_refuse_put_off();
	return dlist_is_empty(&flying) && llm_ahead_is_empty() && nlanded == 0;
}

bool
llm_scheduler_is_orphaned(void)
{
	return orphaned;
}

int
llm_scheduler_slots(void)
{
	return slots;
}
