/*-------------------------------------------------------------------------
 *
 * letters_room.c
 *	  How many letters may be in flight beside rows that wait for the same target.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "limiter/limiter_shared.h"
#include "send/letter_state.h"

/* Do rows wait for the route's target, as of the last plan? */
bool
llm_letters_do_rows_wait(const LlmRoute *route)
{
	dlist_iter iter;

	dlist_foreach(iter, llm_route_all())
	{
		const LlmRoute *other = dlist_container(LlmRoute, node, iter.cur);

		if (other->front > 0 && llm_route_shares_limiter(route, other))
			return true;
	}
	return false;
}

/* Requests for letters that are in flight at the route's target. */
static int
count_letters(const LlmRoute *route)
{
	int letters = 0;
	dlist_iter iter;

	dlist_foreach(iter, llm_route_all())
	{
		const LlmRoute *other = dlist_container(LlmRoute, node, iter.cur);

		if (other->letters > 0 && llm_route_shares_limiter(route, other))
			letters += other->letters;
	}
	return letters;
}

/* While rows wait for the same target, letters get three quarters of what it takes at a time, of all routes. */
int
llm_letters_room_beside_rows(const LlmRoute *route)
{
	LlmLimiter *limiter;
	int places = route->limits.max_concurrency;

	if (!llm_letters_do_rows_wait(route))
		return INT_MAX;
	limiter = llm_limiter_lock(route->host, route->fingerprint, route->limited, route->role, false);
	if (limiter != NULL)
	{
		places = Min(places, Max((int) limiter->window, 1));
		llm_limiter_unlock();
	}
	return Max(places * 3 / 4, 1) - count_letters(route);
}
