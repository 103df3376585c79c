/*-------------------------------------------------------------------------
 *
 * route_fallback.c
 *	  Which model is asked while the one that was named cannot be.
 *
 * A target that is out (limiter.h) does not answer, or refuses everybody until somebody has
 * fixed something.  What is for it goes to its model's fallback meanwhile, but for one
 * request each time that a cool-down or pause of its own is over: that one tells when it is well
 * again, and then all that is not sent yet goes there.  A limit, a budget and a pause of an
 * administrator's are no reason to ask somebody else.
 *
 * One hop: a fallback's own fallback does not count here, so that two models may be each other's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "send/route.h"

/* What has refused a request as a fallback is left out so long: ms. */
#define UNFIT_MS (10 * 60 * 1000)

/* A target that is out, and whose gate is open, is offered a request so often: ms. */
#define PROBE_MS 2000

LlmRoute *
llm_route_fallback(const LlmRoute *route)
{
	LlmRoute *other;

	if (route->problem != NULL)
		return NULL;
	other = llm_route_of_fallback(route);
	if (other == NULL || other->problem != NULL || other->unfit != NULL || other->target->gives_vectors ||
		llm_route_shares_limiter(route, other))
		return NULL;
	return other;
}

static bool
is_out(LlmRoute *route, TimestampTz now)
{
	TimestampTz gate;

	/* one with a problem (an unknown model) may have no host, and so no limiter */
	return route->problem == NULL && llm_route_is_shut(route, now, &gate) && route->out;
}

LlmRoute *
llm_route_fallback_now(const LlmRoute *route, TimestampTz now)
{
	LlmRoute *other = llm_route_fallback(route);

	return other == NULL || is_out(other, now) ? NULL : other;
}

/* The route has to do without its fallback, and why. */
static void
tell_left_out(LlmRoute *route, const LlmRoute *other, const char *why)
{
	char *fallback = quote_literal_cstr(other->target->alias);
	char *problem = psprintf("model \"%s\" at server \"%s\" is left out: %s", other->target->alias,
							 other->target->server, why);
	char *hint = psprintf("SELECT * FROM llm.check(%s); takes it in again when it answers. Another one: SELECT llm.alter_model(%s, fallback => '...');",
						  fallback, quote_literal_cstr(route->target->alias));

	llm_route_report_fallback(route, problem, hint);
	route->replaced = false;
	route->bereft = true;
	pfree(fallback);
	pfree(problem);
	pfree(hint);
}

/* Is one left out, as far as this process knows?  Else nobody has to look for it. */
static bool any_unfit = false;

void
llm_route_leave_out(LlmRoute *fallback, const char *why, TimestampTz now)
{
	dlist_iter iter;

	if (fallback->unfit != NULL)
		return;
	fallback->unfit = MemoryContextStrdup(fallback->context, why);
	fallback->unfit_at = now;
	any_unfit = true;
	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (llm_route_of_fallback(route) == fallback)
			tell_left_out(route, fallback, fallback->unfit);
	}
}

/* It is left out no more, and llm.health says so of no route. */
static void
take_back(LlmRoute *fallback)
{
	dlist_iter iter;

	pfree(fallback->unfit);
	fallback->unfit = NULL;
	if (fallback->reported)
		llm_route_report(fallback, NULL, NULL);
	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (route->bereft && llm_route_of_fallback(route) == fallback)
			llm_route_report_fallback(route, NULL, NULL);
	}
}

void
llm_route_note_fit(const LlmRoute *route)
{
	dlist_iter iter;

	if (!any_unfit)
		return;
	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *other = dlist_container(LlmRoute, node, iter.cur);

		if (other->unfit != NULL && llm_route_shares_limiter(route, other))
			take_back(other);
	}
}

void
llm_route_try_unfit(TimestampTz now)
{
	dlist_iter iter;

	if (!any_unfit)
		return;
	any_unfit = false;
	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (route->unfit == NULL)
			continue;
		if (now >= TimestampTzPlusMilliseconds(route->unfit_at, UNFIT_MS))
			take_back(route);
		else
			any_unfit = true;
	}
}

/* One that is known to give no text is not even tried. */
static void
look_at_fallback(LlmRoute *route)
{
	const LlmRoute *other = route->bereft ? NULL : llm_route_of_fallback(route);

	if (other == NULL)
		return;
	if (other->target->gives_vectors)
		tell_left_out(route, other, "it gives vectors and no text");
	else if (other->unfit != NULL)
		tell_left_out(route, other, other->unfit);
}

static void
log_fallback(const LlmRoute *route, const LlmRoute *other, const char *why)
{
	ereport(LOG,
			(errmsg("model \"%s\" at server \"%s\" cannot be asked; its fallback \"%s\" at server \"%s\" is",
					route->target->alias, route->target->server, other->target->alias, other->target->server),
			 errdetail_internal("%s", why)));
}

/* Told once, and again when it is for another reason. */
static void
begin_fallback(LlmRoute *route, const LlmRoute *other)
{
	const char *reason = llm_route_reason(route);
	const char *why = reason != NULL ? reason : "no answer";
	char *problem = psprintf("model \"%s\" at server \"%s\" is asked instead: %s", other->target->alias,
							 other->target->server, why);
	char *hint;

	if (route->replaced && route->instead != NULL && strcmp(route->instead, problem) == 0)
	{
		pfree(problem);
		return;
	}
	if (!route->replaced)
		log_fallback(route, other, why);
	hint = psprintf("\"%s\" is tried from time to time, and asked again as soon as it answers. At once: SELECT * FROM llm.check(%s);",
					route->target->alias, quote_literal_cstr(route->target->alias));
	llm_route_report_fallback(route, problem, hint);
	if (route->instead != NULL)
		pfree(route->instead);
	route->instead = MemoryContextStrdup(route->context, problem);
	pfree(problem);
	pfree(hint);
}

LlmRoute *
llm_route_now(LlmRoute *route, bool may_probe, TimestampTz now, bool *probe)
{
	bool out = is_out(route, now);
	LlmRoute *other = out ? llm_route_fallback(route) : NULL;
	bool both = other != NULL && is_out(other, now);

	/* nobody else may ask it: when its time has come it gets its request to try from here */
	if (both && (other->shut_until > now || other->probing))
		other = NULL;
	*probe = false;
	if (other == NULL)
	{
		if (route->replaced)
			llm_route_report_fallback(route, NULL, NULL);
		if (out)
			look_at_fallback(route);
		return route;
	}
	if (!both)
		begin_fallback(route, other);
	if (!may_probe || route->shut_until > now || route->probe_at > now)
		return other;
	/* it need not come to anything: another database's may be out, or no place is free */
	route->probe_at = TimestampTzPlusMilliseconds(now, PROBE_MS);
	*probe = !route->probing;
	return *probe ? route : other;
}

TimestampTz
llm_route_look_at(const LlmRoute *route)
{
	return Max(route->shut_until, route->probe_at);
}
