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

/* A target that is out, and whose gate is open, is offered a request so often: ms. */
#define PROBE_MS 2000

LlmRoute *
llm_route_fallback(const LlmRoute *route)
{
	LlmRoute *other;

	if (route->problem != NULL)
		return NULL;
	other = llm_route_of_fallback(route);
	if (other == NULL || other->problem != NULL || other->unfit || other->target->gives_vectors ||
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
	char *problem = psprintf("model \"%s\" at server \"%s\" is left out: %s", other->target->alias,
							 other->target->server, why);
	char *hint = psprintf("SELECT llm.alter_model(%s, fallback => '...'); or correct that model.",
						  quote_literal_cstr(route->target->alias));

	llm_route_report_fallback(route, problem, hint);
	route->replaced = false;
	route->bereft = true;
	pfree(problem);
	pfree(hint);
}

void
llm_route_leave_out(LlmRoute *fallback, const char *why)
{
	dlist_iter iter;

	if (fallback->unfit)
		return;
	fallback->unfit = true;
	dlist_foreach(iter, llm_route_all())
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (llm_route_of_fallback(route) == fallback)
			tell_left_out(route, fallback, why);
	}
}

/* One that is known to give no text is not even tried. */
static void
look_at_kind(LlmRoute *route)
{
	const LlmRoute *other = route->bereft ? NULL : llm_route_of_fallback(route);

	if (other != NULL && other->target->gives_vectors)
		tell_left_out(route, other, "it gives vectors and no text");
}

static void
begin_fallback(LlmRoute *route, const LlmRoute *other)
{
	const char *reason = llm_route_reason(route);
	char *problem;
	char *hint;

	if (route->replaced)
		return;
	problem = psprintf("model \"%s\" at server \"%s\" is asked instead: %s", other->target->alias, other->target->server,
					   reason != NULL ? reason : "no answer");
	hint = psprintf("\"%s\" is tried from time to time, and asked again as soon as it answers. At once: SELECT * FROM llm.check(%s);",
					route->target->alias, quote_literal_cstr(route->target->alias));
	ereport(LOG,
			(errmsg("model \"%s\" at server \"%s\" cannot be asked; its fallback \"%s\" at server \"%s\" is",
					route->target->alias, route->target->server, other->target->alias, other->target->server),
			 errdetail_internal("%s", reason != NULL ? reason : "no answer")));
	llm_route_report_fallback(route, problem, hint);
	pfree(problem);
	pfree(hint);
}

LlmRoute *
llm_route_now(LlmRoute *route, bool may_probe, TimestampTz now, bool *probe)
{
	bool out = is_out(route, now);
	LlmRoute *other = out ? llm_route_fallback_now(route, now) : NULL;

	*probe = false;
	if (other == NULL)
	{
		if (route->replaced)
			llm_route_report_fallback(route, NULL, NULL);
		if (out)
			look_at_kind(route);
		return route;
	}
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
