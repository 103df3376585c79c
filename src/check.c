/*-------------------------------------------------------------------------
 *
 * check.c
 *	  The sender's half of llm.check(): one real call outside of any table.
 *
 * The call is a task like any other, claimed as it is made: it meets the limits,
 * a crash leaves it "unknown" on the ledger, and its cost is booked.  Its answer
 * goes to the backend that asked, through the mailbox.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "check.h"
#include "job.h"
#include "ledger.h"
#include "mailbox.h"

/* What the model is asked: it can only answer with the one label there is. */
#define CHECK_INPUT "Everything is ok."

/* Ask the limiter for one request; else the answer is why not. */
static bool
grant_one(LlmRoute *route, uint64 ticket, TimestampTz now)
{
	llm_route_grant(route, 1, now);
	if (route->granted == 1)
	{
		route->granted = 0; /* the flight's from here on */
		return true;
	}
	llm_mailbox_answer(ticket, psprintf("not sent: model \"%s\" at server \"%s\" waits (%s); see llm.health",
										route->target->model, route->target->server,
										llm_limiter_reason_name(route->wait_reason)));
	return false;
}

LlmFlight *
llm_check_take(TimestampTz now)
{
	char model[LLM_MAILBOX_MODEL_BYTES];
	const char *alias;
	Oid role;
	uint64 ticket;
	LlmRoute *route;
	LlmClaim *claim;
	LlmFlight *flight;
	int64 job,
		recipe;

	if (!llm_mailbox_take(model, &role, &ticket))
		return NULL;
	alias = model[0] == '\0' ? NULL : model;
	route = llm_route_find(alias, role, now);
	if (route->problem != NULL)
	{
		llm_mailbox_answer(ticket, psprintf("not sent: %s%s%s", route->problem,
											route->target->hint != NULL ? ". " : "",
											route->target->hint != NULL ? route->target->hint : ""));
		return NULL;
	}
	if (!grant_one(route, ticket, now))
		return NULL;
	job = llm_job_add_check(role, GetUserNameFromId(role, true), alias, &recipe);
	claim = llm_queue_add_claimed(job, recipe, role, CHECK_INPUT);
	flight = llm_flight_make(claim, route, llm_flight_recipe(recipe));
	flight->check = true;
	flight->ticket = ticket;
	return flight;
}

void
llm_check_prepare_answer(LlmFlight *flight)
{
	MemoryContext saved = MemoryContextSwitchTo(flight->context);
	const LlmSettlement *s = &flight->settlement;
	char *cost;

	if (strcmp(s->outcome, "ok") == 0)
	{
		cost = llm_ledger_cost(s->task);
		flight->verdict = psprintf("ok: \"%s\" at server \"%s\" answered in %d ms; " INT64_FORMAT " input and " INT64_FORMAT " output tokens; %s%s",
								   s->model, s->server, s->latency_ms,
								   s->usage.input + s->usage.cached + s->usage.cache_write, s->usage.output,
								   cost != NULL ? "US dollars: " : "price not known, see llm.set_price()",
								   cost != NULL ? cost : "");
	}
	else
		flight->verdict = psprintf("%s: \"%s\" at server \"%s\": %s%s", s->outcome, s->model, s->server,
								   s->error != NULL ? s->error : "no answer",
								   s->http_status == 0 ? "" : psprintf(" (HTTP status %d)", s->http_status));
	MemoryContextSwitchTo(saved);
}

void
llm_check_deliver_answer(LlmFlight *flight)
{
	llm_mailbox_answer(flight->ticket, flight->verdict);
}

void
llm_check_abandon(LlmFlight *flight)
{
	llm_flight_give_back(flight);
	llm_mailbox_answer(flight->ticket, "not sent: the sender could not store the request; see the server's log");
	llm_flight_free(flight);
}
