/*-------------------------------------------------------------------------
 *
 * joblist.c
 *	  Which jobs get the free slots.
 *
 * Slots go to routes first, then within a route to the jobs of its highest
 * priority in turn, so that a job of a million rows does not hold up the
 * ten-row job that comes after it.  A route that hangs can never take all slots:
 * whatever it is allowed, a quarter of what the others leave stays free.
 *
 * Claiming goes upwards by task id, and each job remembers how far it came
 * ("after"): no claim walks over entries of tasks that are gone, which a long
 * open snapshot would keep in the index.  A task that becomes ready again below
 * that mark lowers it.  The sweep starts all jobs from the bottom.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "job.h"
#include "joblist.h"

/*
 * Transactions commit out of order of their job's ids: look again at so many
 * ids below the newest that was seen.  What is older still is found by the sweep.
 */
#define LATE_COMMIT_WINDOW 1000

static dlist_head jobs = DLIST_STATIC_INIT(jobs); /* sender's life; in the order of service */
static int njobs = 0;
static int64 newest_seen = 0; /* highest job id ever found ready */

LlmJob *
llm_joblist_find(int64 id)
{
	dlist_iter iter;

	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (job->id == id)
			return job;
	}
	return NULL;
}

static void
add_job(const LlmJobRow *row)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llm_enrich job", ALLOCSET_SMALL_SIZES);
	LlmJob *job = MemoryContextAllocZero(context, sizeof(LlmJob));

	job->context = context;
	job->id = row->id;
	job->role = row->role;
	job->model = row->model == NULL ? NULL : MemoryContextStrdup(context, row->model);
	job->priority = row->priority;
	job->shared = row->shared;
	job->reason = row->reason == NULL ? NULL : MemoryContextStrdup(context, row->reason);
	dlist_push_tail(&jobs, &job->node);
	njobs++;
}

void
llm_joblist_discover(bool all, TimestampTz now)
{
	int64 from = all ? 0 : Max(0, newest_seen - LATE_COMMIT_WINDOW);
	dlist_iter iter;
	List *found;
	ListCell *lc;

	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		job->exhausted = false;
		if (all || job->shared)
			job->after = 0;
	}
	if (njobs >= LLM_JOBS_PER_PASS)
		return;
	found = llm_job_find_ready(from, LLM_JOBS_PER_PASS + njobs);
	foreach(lc, found)
	{
		LlmJobRow *row = lfirst(lc);

		newest_seen = Max(newest_seen, row->id);
		if (njobs < LLM_JOBS_PER_PASS && llm_joblist_find(row->id) == NULL)
			add_job(row);
	}
}

void
llm_joblist_route(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		job->route = llm_route_find(job->model, job->role, now);
	}
}

/* Highest priority among the route's jobs that have something to send, and how many have it. */
static int
count_front(const LlmRoute *route, int *priority)
{
	dlist_iter iter;
	int n = 0;

	*priority = PG_INT32_MIN;
	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (job->route != route || job->exhausted)
			continue;
		if (job->priority > *priority)
		{
			*priority = job->priority;
			n = 0;
		}
		if (job->priority == *priority)
			n++;
	}
	return n;
}

/* Spread what a route was granted over its jobs of the highest priority. */
static int
spread(LlmRoute *route, int front, int priority, LlmShare *shares, int nshares)
{
	dlist_mutable_iter iter;
	int left = route->granted;
	int seen = 0;

	dlist_foreach_modify(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (seen == front || left == 0)
			break;
		if (job->route != route || job->exhausted || job->priority != priority)
			continue;
		seen++;
		job->share = Max(1, left / (front - seen + 1));
		left -= job->share;
		shares[nshares].job = job->id;
		shares[nshares].after = job->after;
		shares[nshares].want = job->share;
		nshares++;
		dlist_delete(&job->node); /* next time the others go first */
		dlist_push_tail(&jobs, &job->node);
	}
	return nshares;
}

int
llm_joblist_plan(int slots, int in_flight, TimestampTz now, LlmShare *shares)
{
	dlist_iter iter;
	int nshares = 0;

	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);
		int priority;
		int front = count_front(route, &priority);
		int others = in_flight - route->in_flight;
		int cap = (slots - others) - (slots - others) / 4;
		int want = Min(slots - in_flight, Max(cap, 1) - route->in_flight);

		route->granted = 0;
		if (front == 0 || route->problem != NULL || want <= 0)
			continue;
		llm_route_grant(route, want, now);
		in_flight += route->granted;
		nshares = spread(route, front, priority, shares, nshares);
	}
	return nshares;
}

/* Book what the claim brought, and hand back what it did not. */
void
llm_joblist_claimed(List *claims)
{
	ListCell *lc;
	dlist_iter iter;

	foreach(lc, claims)
	{
		LlmClaim *claim = lfirst(lc);
		LlmJob *job = llm_joblist_find(claim->job);

		if (job == NULL)
			elog(ERROR, "a task of job " INT64_FORMAT " was claimed without a share", claim->job);
		job->share--;
		job->flights++;
		job->after = Max(job->after, claim->task);
		job->route->granted--;
	}
	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (job->share > 0)
			job->exhausted = true;
		job->share = 0;
	}
	llm_joblist_undo();
}

void
llm_joblist_undo(void)
{
	dlist_iter iter;

	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (route->granted > 0)
			llm_route_give_back(route, route->generation_granted, route->granted, route->tokens_each);
		route->granted = 0;
	}
	dlist_foreach(iter, &jobs)
		dlist_container(LlmJob, node, iter.cur)->share = 0;
}

void
llm_joblist_put_back(LlmJob *job, int64 task)
{
	job->after = Min(job->after, task - 1);
	job->exhausted = false;
}

bool
llm_joblist_is_pending(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (job->exhausted)
			continue;
		if (job->route == NULL)
			return true;
		if (job->route->problem == NULL ? job->route->wake_at <= now : job->route->expires_at <= now)
			return true;
	}
	return false;
}

TimestampTz
llm_joblist_wake_at(void)
{
	TimestampTz wake_at = DT_NOEND;
	dlist_iter iter;

	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (job->exhausted || job->route == NULL)
			continue;
		wake_at = Min(wake_at, job->route->problem == NULL ? job->route->wake_at : job->route->expires_at);
	}
	return wake_at;
}

/* Why the job waits, as it should be shown now. */
static const char *
current_reason(const LlmJob *job)
{
	return job->exhausted || job->route == NULL ? NULL : llm_route_reason(job->route);
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

	dlist_foreach(iter, &jobs)
	{
		if (reason_differs(dlist_container(LlmJob, node, iter.cur)))
			return true;
	}
	return false;
}

void
llm_joblist_store_reasons(void)
{
	int64 *ids = palloc(sizeof(int64) * Max(njobs, 1));
	const char **reasons = palloc(sizeof(char *) * Max(njobs, 1));
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);
		const char *reason = current_reason(job);

		if (!reason_differs(job))
			continue;
		if (job->reason != NULL)
			pfree(job->reason);
		job->reason = reason == NULL ? NULL : MemoryContextStrdup(job->context, reason);
		ids[n] = job->id;
		reasons[n] = reason;
		n++;
	}
	if (n > 0)
		llm_job_set_reasons(ids, reasons, n);
}

void
llm_joblist_trim(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (!job->exhausted || job->flights > 0 || job->reason != NULL)
			continue;
		dlist_delete(&job->node);
		njobs--;
		MemoryContextDelete(job->context);
	}
}

bool
llm_joblist_is_empty(void)
{
	return dlist_is_empty(&jobs);
}
