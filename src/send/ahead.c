/*-------------------------------------------------------------------------
 *
 * ahead.c
 *	  Tasks that were claimed before there is room for their requests.
 *
 * A claim is a transaction, and one for many tasks costs little more than one for few.
 * Where a provider answers thousands of times a second, a slot that waited for the next
 * claim would stand empty for a good part of its time, and claims would be small.  There
 * some tasks are claimed ahead: their bodies are made, and one leaves when an answer has
 * made room, whatever the sender is at.
 *
 * A claim ahead takes nothing from the limiter: each task asks for its grant when it
 * leaves, so that limits, cool-downs and pauses hold it as they hold all others.  A task that
 * has waited for too long is ready again, and at once when the catalog has changed its route.
 *
 * As many are claimed as the route had answers lately in a few times what a claim takes,
 * and never more than half as many again as it has in flight.  A route that answers seldom
 * has none ahead, and sends what it has claimed at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "send/afford.h"
#include "send/ahead.h"
#include "tables/repeat.h"

/* Answers are counted over so long; enough for what a claim takes: ms. */
#define COUNT_MS 100
#define ENOUGH_MS 65

/* Fewer are not worth it. */
#define FEWEST 40

/* Then it does not leave any more, and somebody else may have it, or cancel it: ms. */
#define LONGEST_MS 250

/* All static: the sender's life.  In the order of the claims. */
static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static dlist_head called_back = DLIST_STATIC_INIT(called_back); /* by the transaction that runs */
static int nwaiting = 0;
static int nfull = 0; /* were there after the last claim */

void
llm_ahead_note_answer(LlmRoute *route, TimestampTz now)
{
	int64 counted_us = now - route->counted_at;

	route->answers++;
	if (counted_us < COUNT_MS * INT64CONST(1000))
		return;
	route->enough = (int) (route->answers * ENOUGH_MS * INT64CONST(1000) / counted_us);
	route->answers = 0;
	route->counted_at = now;
}

int
llm_ahead_wanted(const LlmRoute *route)
{
	int enough = Min(route->enough, route->taken + route->taken / 2);

	if (enough < FEWEST || !route->alone ||
		(route->wait_reason != LLM_WAIT_NONE && route->wait_reason != LLM_WAIT_CONCURRENCY))
		return 0;
	return Max(0, enough - route->ahead);
}

static bool
is_overdue(const LlmRequest *request, TimestampTz now)
{
	return request->ahead_since <= TimestampTzPlusMilliseconds(now, -LONGEST_MS);
}

static void
count_in(LlmRequest *request)
{
	request->route->ahead++;
	nwaiting++;
}

static void
take_out(LlmRequest *request)
{
	dlist_delete(&request->node);
	dlist_delete(&request->ahead_node);
	request->route->ahead--;
	nwaiting--;
}

void
llm_ahead_add(LlmRequest *request, TimestampTz now)
{
	request->ahead_since = now;
	dlist_push_tail(&waiting, &request->node);
	dlist_push_tail(&request->route->ahead_list, &request->ahead_node);
	count_in(request);
}

void
llm_ahead_filled(void)
{
	nfull = nwaiting;
}

/* May one more of the route leave?  As many as there is room for are asked for at once. */
static bool
may_leave(LlmRoute *route, int slots, int in_flight, TimestampTz now)
{
	int want;

	if (route->leaving > 0)
		return true;
	if (route->stale || route->wake_at > now)
		return false;
	want = Min(route->ahead, llm_route_room(route, slots, in_flight));
	if (want <= 0)
		return false;
	route->leaving = llm_route_grant_apart(route, want, now, &route->leaving_generation, &route->leaving_tokens);
	return route->leaving > 0;
}

LlmRequest *
llm_ahead_next(int slots, int in_flight, TimestampTz now)
{
	dlist_iter iter;

	if (nwaiting == 0)
		return NULL;
	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);
		LlmRequest *request;

		if (route->ahead == 0)
			continue;
		request = dlist_container(LlmRequest, ahead_node, dlist_head_node(&route->ahead_list));
		/* a process that was stopped does not know what has become of its claims */
		if (is_overdue(request, now) || !may_leave(route, slots, in_flight, now))
			continue;
		route->leaving--;
		request->generation = route->leaving_generation;
		request->granted_tokens = route->leaving_tokens;
		take_out(request);
		return request;
	}
	return NULL;
}

/* Its questions are not being asked now: other tasks that ask the same may go first, or these again. */
static void
take_back(LlmRequest *request)
{
	for (int i = 0; i < request->nflights; i++)
	{
		if (request->flights[i].question != NULL)
			llm_question_close(request->flights[i].question);
		llm_afford_release(&request->flights[i]);
	}
	request->route->enough = 0; /* until answers tell again */
	take_out(request);
	dlist_push_tail(&called_back, &request->node);
}

/* What routes were granted for requests that are not theirs to send any more. */
static void
give_back_grants(void)
{
	dlist_iter iter;

	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (route->leaving <= route->ahead)
			continue;
		llm_route_give_back(route, route->leaving_generation, route->leaving - route->ahead, route->leaving_tokens);
		route->leaving = route->ahead;
	}
}

/* May it not leave any more? */
static bool
is_to_be_called_back(const LlmRequest *request, bool all, TimestampTz now)
{
	return all || request->route->stale || is_overdue(request, now);
}

/* Tasks of all requests of which that is said; at most. */
static int
count_tasks(void)
{
	int tasks = 0;
	dlist_iter iter;

	dlist_foreach(iter, &waiting)
		tasks += dlist_container(LlmRequest, node, iter.cur)->nflights;
	return tasks;
}

uint64
llm_ahead_call_back(bool all, TimestampTz now)
{
	int most = Max(count_tasks(), 1);
	int64 *tasks = palloc(sizeof(int64) * most);
	LlmRepeatLead *leads = palloc(sizeof(LlmRepeatLead) * most);
	int n = 0;
	int nleads = 0;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &waiting)
	{
		LlmRequest *request = dlist_container(LlmRequest, node, iter.cur);

		if (!is_to_be_called_back(request, all, now))
			continue;
		for (int i = 0; i < request->nflights; i++)
		{
			const LlmFlight *flight = &request->flights[i];

			tasks[n++] = flight->task;
			if (!flight->followed && (flight->question == NULL || !flight->question->followed))
				continue;
			leads[nleads].task = flight->task;
			leads[nleads].job = flight->job;
			leads[nleads++].same_as = flight->same_as;
		}
		take_back(request);
	}
	give_back_grants();
	if (n > 0)
		llm_queue_unclaim(tasks, n);
	return llm_repeat_promote(leads, nleads);
}

LlmRequest *
llm_ahead_next_called_back(void)
{
	if (dlist_is_empty(&called_back))
		return NULL;
	return dlist_container(LlmRequest, node, dlist_pop_head_node(&called_back));
}

void
llm_ahead_undo(void)
{
	while (!dlist_is_empty(&called_back))
	{
		LlmRequest *request = dlist_container(LlmRequest, node, dlist_tail_node(&called_back));

		dlist_delete(&request->node);
		for (int i = 0; i < request->nflights; i++)
		{
			if (request->flights[i].question != NULL)
				llm_question_reopen(request->flights[i].question);
		}
		dlist_push_head(&waiting, &request->node);
		dlist_push_head(&request->route->ahead_list, &request->ahead_node);
		count_in(request);
	}
}

TimestampTz
llm_ahead_due(void)
{
	if (nwaiting == 0)
		return DT_NOEND;
	return TimestampTzPlusMilliseconds(dlist_container(LlmRequest, node, dlist_head_node(&waiting))->ahead_since,
									   LONGEST_MS);
}

TimestampTz
llm_ahead_wake_at(int slots, int in_flight)
{
	TimestampTz wake_at = DT_NOEND;
	dlist_iter iter;

	dlist_foreach(iter, llm_route_all())
	{
		const LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (route->ahead > 0 && llm_route_room(route, slots, in_flight) > 0)
			wake_at = Min(wake_at, route->wake_at);
	}
	return wake_at;
}

bool
llm_ahead_is_empty(void)
{
	return nwaiting == 0;
}

bool
llm_ahead_suffices(void)
{
	return nwaiting > nfull / 3;
}
