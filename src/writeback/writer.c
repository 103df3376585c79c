/*-------------------------------------------------------------------------
 *
 * writer.c
 *	  The writer: takes settled tasks from the queue and puts them into their cells.
 *
 * The launcher starts it on the first commit that queued something, the sender
 * wakes it by its latch whenever answers are stored.  It owns no sockets; all
 * that a user's trigger can do to it is cost it a slice of its time, and
 * llm_enrich.writeback_timeout while nobody else has work (ADR 26).
 * It may die at any moment: cell and queue change in one transaction.
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
#include "base/shmem.h"
#include "base/worker.h"
#include "writeback/writeback.h"
#include "writeback/writer.h"

/* A wait is never longer than that, whatever is due: ms. */
#define LONGEST_WAIT_MS 60000

/*
 * While answers keep coming, passes begin no closer to each other than that: ms.  A pass costs
 * as much as thirty of the rows it writes.  The first answer after a while does not wait.
 */
#define GATHER_MS 20

/* Where another database has no process, a writer that waits for answers leaves after so long: ms. */
#define SPARED_MS 1000

/* Sleep until the latch is set or the time has come. */
static void
wait_until(TimestampTz wake_at)
{
	long timeout_ms = Min(LONGEST_WAIT_MS, TimestampDifferenceMilliseconds(llm_clock_steady(), wake_at));

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* After a round that wrote: let more answers come. */
static void
gather(TimestampTz began)
{
	TimestampTz until = TimestampTzPlusMilliseconds(began, GATHER_MS);

	while (llm_clock_steady() < until)
	{
		wait_until(until);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Has it been idle for so long? */
static bool
idle_for(TimestampTz idle_since, int ms)
{
	return idle_since != 0 && TimestampTzPlusMilliseconds(idle_since, ms) <= llm_clock_steady();
}

/* Is it to be asked whether anything is to come?  At once, where another database has no process. */
static bool
may_be_over(TimestampTz idle_since)
{
	return idle_for(idle_since, llm_guc_idle_timeout_ms) || (idle_since != 0 && llm_shmem_is_starving());
}

/* When an idle writer is to look again, at the latest. */
static TimestampTz
look_again_at(TimestampTz idle_since)
{
	if (llm_shmem_is_starving())
		return TimestampTzPlusMilliseconds(llm_clock_steady(), SPARED_MS);
	return TimestampTzPlusMilliseconds(idle_since, llm_guc_idle_timeout_ms);
}

/*
 * Jobs are open, and nothing of them is to be written: the sender calls, or the minute's sweep looks
 * again.  May it leave its process to another database meanwhile?
 */
static bool
can_be_spared(TimestampTz idle_since, TimestampTz wake_at)
{
	return llm_shmem_is_starving() && idle_for(idle_since, SPARED_MS) &&
		   wake_at > TimestampTzPlusMilliseconds(llm_clock_steady(), LONGEST_WAIT_MS);
}

void
llm_writer_main(Datum arg)
{
	TimestampTz idle_since = 0;
	bool worked = false;

	if (!llm_worker_start(LLM_WORKER_WRITER, arg))
		return;
	llm_writeback_init();
	for (;;)
	{
		uint32 heard = llm_shmem_woken();
		TimestampTz began = llm_clock_steady();
		TimestampTz wake_at;
		LlmPassResult result = llm_writeback_pass(!worked || may_be_over(idle_since), &wake_at);

		if (result == LLM_PASS_NO_EXTENSION)
			return;
		if (result == LLM_PASS_WORKED || result == LLM_PASS_GO_ON)
		{
			worked = true;
			idle_since = 0;
			if (!llm_shmem_report_worker(LLM_WORKER_WRITER, "writing", 0, 0))
				return;
			if (result == LLM_PASS_WORKED)
				gather(began);
		}
		else
		{
			/* asked whether it could leave, and it could not: not before another while */
			if (idle_since == 0 || (result == LLM_PASS_NOTHING && idle_for(idle_since, llm_guc_idle_timeout_ms)))
				idle_since = llm_clock_steady();
			if (!llm_shmem_report_worker(LLM_WORKER_WRITER, "idle", 0, 0))
				return;
			if ((result == LLM_PASS_EMPTY || can_be_spared(idle_since, wake_at)) &&
				llm_worker_may_leave(LLM_WORKER_WRITER, worked, idle_since))
				return;
			if (llm_worker_was_woken(heard))
				SetLatch(MyLatch);
			wait_until(Min(wake_at, look_again_at(idle_since)));
		}
		CHECK_FOR_INTERRUPTS();
		(void) llm_worker_reload_settings_if_asked();
	}
}
