/*-------------------------------------------------------------------------
 *
 * joblist_plan.c
 *	  Which jobs get the free slots.
 *
 * Slots go to routes first, then within a route to the jobs of its highest
 * priority in turn, so that a job of a million rows does not hold up the
 * ten-row job that comes after it.  A route that hangs can never take all slots:
 * whatever it is allowed, a quarter of what the others leave stays free.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/compat.h"
#include "send/ahead.h"
#include "send/joblist.h"
#include "send/load.h"

/* So long a job whose model is of the other kind is left to the writer, which pauses it. */
#define WRONG_MODEL_MS 10000

/* Claimed at a time beyond what is granted, where all that comes is kept. */
#define KEPT_RUN_MAX 500

static bool granted = false; /* by routes, for the claim that is being made; the sender's life */

/* A route that is out of date may mean another target, or none. */
static bool
is_outdated(const LlmRoute *route)
{
	return route != NULL && !llm_route_is_current(route);
}

/* May a task of the job be claimed now, as far as the limiter is not concerned? */
static bool
is_claimable(const LlmJob *job)
{
	return !job->exhausted && !is_outdated(job->home) && !is_outdated(job->route) && job->wrong_model == 0 &&
		   (job->max_concurrency == 0 || job->requests < job->max_concurrency) &&
		   !llm_afford_blocks(&job->afford);
}

void
llm_joblist_route(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach(iter, llm_joblist_all())
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		/* the writer pauses it, but where the rows of that request were gone */
		if (job->wrong_model != 0 && job->wrong_model <= TimestampTzPlusMilliseconds(now, -WRONG_MODEL_MS))
			job->wrong_model = 0;
		if (job->home == NULL || job->home->stale)
			job->home = llm_route_find(job->model, job->role, job->kind, now);
		llm_route_want(job->home);
		job->probes = false;
		job->route = job->kind == LLM_REQUEST_EMBED ? job->home /* vectors of two models do not compare */
													: llm_route_now(job->home, is_claimable(job), now, &job->probes);
		llm_afford_prepare(&job->afford, job->route, job->kind == LLM_REQUEST_EMBED ? NULL : job->home, job->recipe,
						   job->context, now);
	}
	llm_route_sweep();
}

/*
 * For each route the highest priority among its jobs that have something to send, and how
 * many have it.  How many routes have such jobs, and can be used.
 */
int
llm_joblist_count_fronts(void)
{
	int nfronts = 0;
	dlist_iter iter;

	dlist_foreach(iter, llm_route_all())
		dlist_container(LlmRoute, node, iter.cur)->front = 0;
	dlist_foreach(iter, llm_joblist_all())
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);
		LlmRoute *route = job->route;

		if (!is_claimable(job))
			continue;
		if (route->front == 0 && route->problem == NULL && !llm_route_is_left_out(route))
			nfronts++;
		if (route->front == 0 || job->priority > route->front_priority)
		{
			route->front_priority = job->priority;
			route->front = 0;
		}
		if (job->priority == route->front_priority)
			route->front++;
	}
	return nfronts;
}

/* Spread what a route may claim over its jobs of the highest priority. */
static int
spread(LlmRoute *route, int left, LlmPortion *portions, int nportions)
{
	dlist_mutable_iter iter;
	int seen = 0;

	dlist_foreach_modify(iter, llm_joblist_all())
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (seen == route->front || left == 0)
			break;
		if (job->route != route || !is_claimable(job) || job->priority != route->front_priority)
			continue;
		seen++;
		job->portion = Max(1, left / (route->front - seen + 1));
		if (job->max_concurrency > 0)
			job->portion = Min(job->portion, job->max_concurrency - job->requests);
		left -= job->portion;
		job->portion = llm_load_tasks(route, job->kind, job->carried, job->portion);
		job->carried = 0;
		portions[nportions].job = job->id;
		portions[nportions].after = job->after;
		portions[nportions].want = job->portion;
		if (llm_afford_portion(&job->afford, &portions[nportions]))
		{
			/* where a walk begins again it may have to stop in the midst of what was passed over */
			job->after = Min(job->after, portions[nportions].after);
			nportions++;
		}
		dlist_delete(&job->node); /* next time the others go first */
		dlist_push_tail(llm_joblist_all(), &job->node);
	}
	return nportions;
}

/* Jobs that may have a portion: those at the front of their route. */
static int
count_front_jobs(void)
{
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, llm_route_all())
		n += dlist_container(LlmRoute, node, iter.cur)->front;
	return n;
}

int
llm_joblist_plan(int slots, int in_flight, TimestampTz now, LlmPortion **portions)
{
	dlist_iter iter;
	int nportions = 0;
	int nfronts = llm_joblist_count_fronts();

	*portions = palloc(sizeof(LlmPortion) * Max(count_front_jobs(), 1));
	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);
		int want = llm_route_room(route, slots, in_flight);

		route->granted = 0;
		if (route->front == 0 || route->problem != NULL || !llm_route_has_memory(route))
			continue;
		if (want > 0 && !llm_route_is_waiting(route, now))
			llm_route_grant(route, want, now);
		granted = granted || route->granted > 0;
		in_flight += route->granted;
		nportions = spread(route, route->granted + Max(nfronts == 1 ? llm_ahead_wanted(route) : 0, route->kept_run),
						   *portions, nportions);
	}
	llm_route_end_turn();
	llm_money_forget_promises();
	return nportions;
}

bool
llm_joblist_has_grants(void)
{
	return granted;
}

/*
 * What is kept needs no grant.  So where claims bring only that, more is claimed each time, since a target of which
 * nothing is known would grant one after the other.  What is to be sent after all waits as what was claimed ahead.
 */
static void
count_kept(List *claims)
{
	dlist_iter iter;
	ListCell *lc;

	dlist_foreach(iter, llm_route_all())
		dlist_container(LlmRoute, node, iter.cur)->kept_now = 0;
	foreach(lc, claims)
	{
		const LlmClaim *claim = lfirst(lc);
		const LlmJob *job = llm_joblist_find(claim->job);

		if (job == NULL || job->route == NULL || claim->follows)
			continue;
		if (!claim->kept)
			job->route->kept_now = -1;
		else if (job->route->kept_now >= 0)
			job->route->kept_now++;
	}
	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		route->kept_run = route->kept_now <= 0 ? 0 : Min(2 * route->kept_now, KEPT_RUN_MAX);
	}
}

void
llm_joblist_claimed(List *claims, List *loads, const LlmPortion *portions, int nportions)
{
	bool cut = false;

	count_kept(claims);
	foreach_ptr(LlmClaim, claim, claims)
	{
		LlmJob *job = llm_joblist_find(claim->job);

		cut = cut || claim->cut;
		if (job == NULL)
			elog(ERROR, "a task of job " INT64_FORMAT " was claimed without a portion", claim->job);
		job->portion--;
		if (!claim->dear) /* one is taken from behind others that do not fit now */
			job->after = Max(job->after, claim->task);
		if (!claim->follows && !claim->kept)
			job->flights++;
	}
	/* what is not sent, since its tasks follow others or ride along, leaves its grant, which goes back */
	foreach_ptr(LlmLoad, load, loads)
	{
		LlmJob *job = llm_joblist_find(load->claims[0]->job);

		if (job == NULL)
			continue;
		job->requests++;
		if (load->is_full)
			job->carried = Max(job->carried, load->n);
		load->ahead = (job->route->granted == 0 || load->route != job->route);
		if (!load->ahead)
			job->route->granted--;
	}
	for (int i = 0; i < nportions; i++)
	{
		LlmJob *job = llm_joblist_find(portions[i].job);
		bool whole = job != NULL && job->portion > 0 && !cut;

		if (job != NULL && portions[i].bounded)
			whole = llm_afford_claimed(&job->afford, &portions[i], whole, &job->after);
		if (whole)
			job->exhausted = true;
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
	granted = false;
	dlist_foreach(iter, llm_joblist_all())
		dlist_container(LlmJob, node, iter.cur)->portion = 0;
}

/* When to claim for the job; DT_NOEND: when a request has come back. */
static TimestampTz
wake_of(const LlmJob *job, int slots, int in_flight)
{
	const LlmRoute *route = job->route;
	TimestampTz wake_at = DT_NOEND;

	if (!is_claimable(job))
		return job->wrong_model == 0 ? DT_NOEND : TimestampTzPlusMilliseconds(job->wrong_model, WRONG_MODEL_MS);
	if (route == NULL || job->home == NULL || job->probes)
		return DT_NOBEGIN;
	if (route->problem != NULL)
		return route->expires_at;
	if (llm_route_room(route, slots, in_flight) <= 0 || !llm_route_has_memory(route))
		return DT_NOEND;
	if (route->kept_run > 0)
		return DT_NOBEGIN;
	if (route != job->home)
		wake_at = llm_route_look_at(job->home);
	return Min(route->wake_at, wake_at);
}

TimestampTz
llm_joblist_wake_at(int slots, int in_flight)
{
	TimestampTz wake_at = DT_NOEND;
	dlist_iter iter;

	dlist_foreach(iter, llm_joblist_all())
		wake_at = Min(wake_at, wake_of(dlist_container(LlmJob, node, iter.cur), slots, in_flight));
	return wake_at;
}
