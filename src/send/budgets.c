/*-------------------------------------------------------------------------
 *
 * budgets.c
 *	  The steps of a pass that know what may be spent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "send/afford.h"
#include "send/budgets.h"
#include "send/command.h"
#include "send/joblist.h"

TimestampTz
llm_budgets_due(const LlmPass *pass)
{
	if (llm_money_is_changed())
		return DT_NOBEGIN;
	return llm_money_ends_at() == DT_NOEND ? DT_NOEND : llm_clock_from_wall(llm_money_ends_at());
}

/* The jobs' own caps as they are on disk, with nothing reserved. */
static void
open_purses(void)
{
	int64 *ids = NULL;
	int n = 0;
	int njobs = 0;
	dlist_iter iter;

	dlist_foreach(iter, llm_joblist_all())
		njobs++;
	ids = palloc(sizeof(int64) * Max(njobs, 1));
	dlist_foreach(iter, llm_joblist_all())
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		job->afford.purse.reserved = 0;
		if (job->afford.purse.open)
			ids[n++] = job->id;
	}
	foreach_ptr(const LlmJobRow, row, n == 0 ? NIL : llm_job_get_some(ids, n))
	{
		LlmJob *job = llm_joblist_find(row->id);

		if (job != NULL)
			job->afford.purse.spent = row->spent;
	}
}

void
llm_budgets_take(LlmPass *pass)
{
	dlist_iter iter;

	if (pass->sweep)
		llm_money_undo(); /* the clock may have been set */
	if (!llm_money_begin())
		return;
	open_purses();
	llm_command_open();
	dlist_foreach(iter, llm_flight_all())
		llm_afford_hold(dlist_container(LlmFlight, all_node, iter.cur));
	llm_money_opened();
}

void
llm_budgets_keep(LlmPass *pass)
{
	llm_money_keep();
}

void
llm_budgets_undo(LlmPass *pass)
{
	llm_money_undo();
}

void
llm_budgets_store(LlmPass *pass)
{
	dlist_iter iter;

	llm_money_flush();
	llm_money_forget_waiting();
	dlist_foreach(iter, llm_joblist_all())
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (job->afford.bounded || job->afford.reason != NULL)
			llm_afford_tell(&job->afford, !job->exhausted, job->context, pass->now);
	}
}
