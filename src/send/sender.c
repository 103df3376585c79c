/*-------------------------------------------------------------------------
 *
 * sender.c
 *	  The process that owns the sockets: one per database that has work.
 *
 * One event loop.  Latch, sockets, timers and the postmaster's death end the
 * same wait (http.c); what to do next is the scheduler's affair.  It never
 * touches a user's table or type, and holds no transaction, snapshot or lock
 * while it waits: a provider that hangs holds up nothing but its own requests.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/worker.h"
#include "http/http.h"
#include "send/recover.h"
#include "send/route.h"
#include "send/scheduler.h"
#include "send/sender.h"

/* A wait is never longer than that, whatever is asked for: ms. */
#define LONGEST_WAIT_MS 60000

/* Where another database has no process, a sender that has work lets go after so long: ms. */
#define SHARE_MS 10000

/* Milliseconds from now until "at", rounded up. */
static long
wait_ms(TimestampTz at)
{
	TimestampTz now = llm_clock_steady();

	if (at <= now)
		return 0;
	if (at >= TimestampTzPlusMilliseconds(now, LONGEST_WAIT_MS))
		return LONGEST_WAIT_MS;
	return (long) ((at - now + 999) / 1000);
}

/* Keys may have changed with the configuration: files are read again. */
static void
reload_if_asked(void)
{
	if (!llm_worker_reload_settings_if_asked())
		return;
	llm_route_forget_all();
	llm_scheduler_wake();
}

/*
 * Is its place to be another database's, which has none?  Then it sends nothing more, stores what comes, and
 * is started again in its turn.
 */
static bool
has_had_its_share(TimestampTz began)
{
	static bool over = false; /* it has been, and it ends */

	if (!over && llm_clock_steady() >= TimestampTzPlusMilliseconds(began, SHARE_MS) && llm_shmem_is_starving())
	{
		over = true;
		llm_shmem_come_again(LLM_WORKER_SENDER);
	}
	return over;
}

void
llm_sender_main(Datum arg)
{
	TimestampTz began = llm_clock_steady();
	TimestampTz idle_since = 0;
	bool worked = false;
	uint32 heard;

	if (!llm_worker_start(LLM_WORKER_SENDER, arg))
		return;
	heard = llm_shmem_woken();
	llm_scheduler_init();
	if (!llm_recover())
		return;
	for (;;)
	{
		TimestampTz wake_at = llm_scheduler_pass();

		if (llm_scheduler_is_orphaned())
			return;
		if (!llm_scheduler_is_idle())
		{
			idle_since = 0;
			worked = true;
		}
		else
		{
			if (idle_since == 0)
				idle_since = llm_clock_steady();
			if (llm_worker_may_leave(LLM_WORKER_SENDER, worked, idle_since))
				return;
			wake_at = Min(wake_at, TimestampTzPlusMilliseconds(idle_since, llm_guc_idle_timeout_ms));
		}
		if ((!llm_shmem_report_worker(LLM_WORKER_SENDER, llm_scheduler_is_idle() ? "idle" : "working",
									  llm_http_in_flight(), llm_scheduler_slots()) ||
			 has_had_its_share(began)) &&
			llm_scheduler_drain())
			return;
		if (llm_worker_was_woken(heard))
			SetLatch(MyLatch);
		if (llm_http_wait(wait_ms(wake_at), PG_WAIT_EXTENSION))
		{
			heard = llm_shmem_woken();
			llm_scheduler_wake();
		}
		CHECK_FOR_INTERRUPTS();
		reload_if_asked();
	}
}
