/*-------------------------------------------------------------------------
 *
 * route_grant.c
 *	  How many requests may go by a route now: what the limiter of its target grants, and what it waits for else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/error.h"
#include "limiter/limiter_shared.h"
#include "send/route.h"

/* A limiter that waits for somebody else's answer (another database's) is asked again so soon. */
#define REASK_MS 100

/*
 * One that knows its time is asked then; once in a while before, since another database
 * may have ended what it was paused for, and llm.health shows what is waited for.
 */
#define REASK_SHUT_MS 2000

/* A host refuses a way to ask within that time, or does not: ms. */
#define TRY_MS 500

/* A sender that was turned away asks again in that time, and more than once. */
#define TURNED_AWAY_MS (5 * REASK_MS)

bool
llm_route_shares_limiter(const LlmRoute *a, const LlmRoute *b)
{
	return a->problem == NULL && b->problem == NULL && a->fingerprint == b->fingerprint &&
		   strcmp(a->host, b->host) == 0 && strcmp(a->limited, b->limited) == 0;
}

/*
 * Count what routes of a list have in flight at the route's target, as tight as the route
 * is or tighter; *loosest becomes the loosest limit of those that have something there.
 */
static int
count_taken(dlist_head *list, const LlmRoute *route, int *loosest)
{
	int taken = 0;
	dlist_iter iter;

	dlist_foreach(iter, list)
	{
		const LlmRoute *other = dlist_container(LlmRoute, node, iter.cur);

		if (other->taken == 0 || !llm_route_shares_limiter(route, other))
			continue;
		if (other->limits.max_concurrency <= route->limits.max_concurrency)
			taken += other->taken;
		*loosest = Max(*loosest, other->limits.max_concurrency);
	}
	return taken;
}

/* When to ask a limiter again that waits, whatever it said itself. */
static TimestampTz
reask_at(const LlmRoute *route, TimestampTz now)
{
	bool others = (route->wait_reason == LLM_WAIT_CONCURRENCY || route->wake_at == DT_NOEND);

	return TimestampTzPlusMilliseconds(now, others ? REASK_MS : REASK_SHUT_MS);
}

/*
 * Has the route its target for itself?  Not while others have requests in flight there, and
 * not shortly after a sender that had none was turned away: it is to find a slot when it asks again.
 */
static bool
is_alone(const LlmRoute *route, LlmLimiter *limiter, bool turned_away, TimestampTz now)
{
	if (turned_away && route->taken == 0)
		limiter->turned_away_at = now;
	return limiter->in_flight == route->taken &&
		   limiter->turned_away_at <= TimestampTzPlusMilliseconds(now, -TURNED_AWAY_MS);
}

/* There is no limiter for it now: it waits for what it waited for, or for room. */
static int
wait_for_room(LlmRoute *route, TimestampTz now)
{
	if (route->shut_until <= now)
		route->wait_reason = LLM_WAIT_ROOM;
	route->wake_at = TimestampTzPlusMilliseconds(now, REASK_SHUT_MS);
	if (route->shut_until > now)
		route->wake_at = Min(route->wake_at, route->shut_until);
	return 0;
}

/* What the limiter says of itself, for the time until it is asked again. */
static void
note_limiter(LlmRoute *route, const LlmLimiter *limiter)
{
	bool paused = (limiter->pause_class != LLM_OK);

	route->shut = limiter->half_open;
	route->out = limiter->half_open && limiter->out;
	route->probing = limiter->half_open && limiter->probing;
	route->shut_until = !limiter->half_open ? 0 : paused ? limiter->paused_until
														 : limiter->not_before;
	route->pause_class = limiter->pause_class;
	route->repairs = limiter->repairs;
}

/*
 * How many requests may be granted for a way to ask that is not proven: one at a time at the target, which a host
 * that does not take it refuses at once.  One that is silent for a while is at work.
 */
static int
room_to_try(LlmRoute *route, int taken, TimestampTz now)
{
	if (route->refused)
		return 0;
	if (route->tried_at == 0)
		route->tried_at = now;
	if (route->proven || now >= TimestampTzPlusMilliseconds(route->tried_at, TRY_MS))
		return PG_INT32_MAX;
	return Max(1 - taken, 0);
}

void
llm_route_note_way(LlmRoute *route, LlmErrorClass class, bool refused)
{
	if (refused)
		route->refused = true;
	else if (llm_route_is_answer(class))
		route->proven = true;
}

static int
grant(LlmRoute *route, int want, bool check, TimestampTz now, uint32 *generation, int64 *tokens)
{
	int loosest = route->limits.max_concurrency;
	int loosest_of_old = 0; /* nobody tells it any more */
	int taken;
	int room;
	LlmLimiter *limiter;
	int granted;

	if (!llm_route_is_current(route))
		return 0; /* it will have a successor */
	taken = count_taken(llm_route_all(), route, &loosest) + count_taken(llm_route_retired(), route, &loosest_of_old);
	/* who checks is not kept waiting by others that wait for a silent host */
	room = Min(Max(route->limits.max_concurrency - taken, 0), room_to_try(route, check ? 0 : taken, now));
	limiter = llm_route_try_limiter(route, check || route->shut_until <= now);
	if (limiter == NULL)
		return wait_for_room(route, now);
	llm_limiter_tell_concurrency(limiter, loosest, now);
	*tokens = (int64) (route->input_tokens + route->output_tokens + 0.5);
	if (check && room > 0)
		granted = llm_limiter_grant_check(limiter, &route->limits, *tokens, now, &route->wait_reason, &route->wake_at);
	else
		granted = llm_limiter_grant(limiter, &route->limits, Min(want, room), *tokens, now,
									&route->wait_reason, &route->wake_at);
	*generation = limiter->generation;
	note_limiter(route, limiter);
	route->taken += granted;
	route->alone = is_alone(route, limiter, granted < want, now);
	llm_limiter_unlock();
	if (route->wait_reason == LLM_WAIT_NONE && room < want)
		route->wait_reason = LLM_WAIT_CONCURRENCY;
	if (route->wait_reason == LLM_WAIT_NONE)
		route->wake_at = DT_NOBEGIN;
	else
		route->wake_at = Min(route->wake_at, reask_at(route, now));
	return granted;
}

int
llm_route_grant_apart(LlmRoute *route, int want, TimestampTz now, uint32 *generation, int64 *tokens)
{
	return grant(route, want, false, now, generation, tokens);
}

void
llm_route_grant_check(LlmRoute *route, TimestampTz now)
{
	route->granted = grant(route, 1, true, now, &route->generation_granted, &route->tokens_each);
}

bool
llm_route_is_shut(LlmRoute *route, TimestampTz now, TimestampTz *gate)
{
	LlmLimiter *limiter;

	/* one that waits has asked for nothing meanwhile, and nothing of it has landed */
	if (llm_route_is_waiting(route, now) ? route->looked_at <= TimestampTzPlusMilliseconds(now, -REASK_MS)
										 : route->looked_at != now)
	{
		limiter = llm_route_try_limiter(route, false);
		if (limiter != NULL)
		{
			note_limiter(route, limiter);
			llm_limiter_unlock();
		}
		else if (route->shut_until <= now)
			route->shut = route->out = route->probing = false;
		if (route->shut)
			route->wait_reason = route->pause_class != LLM_OK ? LLM_WAIT_PAUSED : LLM_WAIT_COOLDOWN;
		else if (route->wait_reason == LLM_WAIT_PAUSED || route->wait_reason == LLM_WAIT_COOLDOWN)
			route->wait_reason = LLM_WAIT_NONE;
		route->looked_at = now;
	}
	*gate = route->shut_until;
	return route->shut;
}

void
llm_route_grant(LlmRoute *route, int want, TimestampTz now)
{
	route->granted = llm_route_grant_apart(route, want, now, &route->generation_granted, &route->tokens_each);
}

bool
llm_route_is_left_out(const LlmRoute *route)
{
	bool shut = route->wait_reason == LLM_WAIT_PAUSED || route->wait_reason == LLM_WAIT_COOLDOWN ||
				route->wait_reason == LLM_WAIT_ROOM;

	return shut && route->taken == 0;
}

bool
llm_route_is_waiting(const LlmRoute *route, TimestampTz now)
{
	return llm_route_is_left_out(route) && route->wake_at > now;
}

int
llm_route_room(const LlmRoute *route, int slots, int in_flight)
{
	int left = slots - (in_flight - route->taken);
	int kept = (left > 1) ? Max(left / 4, 1) : 0;

	return Min(slots - in_flight, left - kept - route->taken);
}

void
llm_route_note_settled(LlmRoute *route)
{
	route->taken--;
}

void
llm_route_give_back(LlmRoute *route, uint32 generation, int n, int64 tokens_each)
{
	LlmLimiter *limiter = llm_route_lock_limiter(route);

	llm_limiter_give_back(limiter, &route->limits, generation, n, tokens_each, llm_clock_steady());
	llm_limiter_unlock();
	route->taken -= n;
}
