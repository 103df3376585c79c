/*-------------------------------------------------------------------------
 *
 * joblist_reasons.c
 *	  Why the jobs in mind wait, and what is stored of that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "send/joblist.h"
#include "tables/job.h"

static int
count_jobs(void)
{
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, llm_joblist_all())
		n++;
	return n;
}

/* Why the job waits, as it should be shown now. */
static const char *
current_reason(const LlmJob *job)
{
	const char *reason;

	if ((job->exhausted && job->aside == 0) || job->route == NULL)
		return NULL;
	reason = llm_route_reason(job->route);
	if (reason == NULL)
		reason = job->afford.reason;
	if (reason == NULL && job->exhausted)
		return "refused by the provider; asked again";
	return reason != NULL ? reason : job->held_back;
}

static bool
reason_differs(const LlmJob *job)
{
	const char *now = current_reason(job);

	if (now == NULL || job->reason == NULL)
		return now != job->reason;
	return strcmp(now, job->reason) != 0;
}

bool
llm_joblist_reasons_changed(void)
{
	dlist_iter iter;

	dlist_foreach(iter, llm_joblist_all())
	{
		if (reason_differs(dlist_container(LlmJob, node, iter.cur)))
			return true;
	}
	return false;
}

/* The reason as it is now stored. */
static void
keep_reason(LlmJob *job)
{
	const char *reason = current_reason(job);

	if (job->reason != NULL)
		pfree(job->reason);
	job->reason = reason == NULL ? NULL : MemoryContextStrdup(job->context, reason);
}

bool
llm_joblist_store_reasons(void)
{
	bool budget = false;
	int njobs = count_jobs();
	int64 *ids = palloc(sizeof(int64) * Max(njobs, 1));
	const char **reasons = palloc(sizeof(char *) * Max(njobs, 1));
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, llm_joblist_all())
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (!reason_differs(job))
			continue;
		ids[n] = job->id;
		reasons[n] = current_reason(job);
		budget = budget || (reasons[n] != NULL && strncmp(reasons[n], "budget", strlen("budget")) == 0);
		n++;
	}
	if (n > 0)
		n = llm_job_set_reasons(ids, reasons, n);
	for (int i = 0; i < n; i++)
	{
		LlmJob *job = llm_joblist_find(ids[i]);

		if (job != NULL)
			keep_reason(job);
	}
	return budget;
}
