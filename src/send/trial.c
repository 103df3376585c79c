/*-------------------------------------------------------------------------
 *
 * trial.c
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
#include "utils/timestamp.h"

#include "send/mailbox.h"
#include "send/trial.h"
#include "tables/job.h"
#include "tables/ledger.h"

/* What the model is asked: it can only answer with the one label there is. */
#define TRIAL_INPUT "Everything is ok."

/* Where all slots are taken, one that becomes free within that time is the trial's. */
#define PUT_OFF_MS 200

/* What a backend asks for. */
typedef struct Letter
{
	char model[LLM_MAILBOX_MODEL_BYTES];
	Oid role;
	uint64 ticket; /* 0: none */
	TimestampTz until; /* it may be put off */
} Letter;

/* Taken, and neither answered nor in flight yet; 0: none.  Written by take() and abandon(). */
static uint64 open_ticket = 0;

/* Taken, and put off until an answer makes room.  Written by take(). */
static Letter put_off = {.ticket = 0};

/* The one that was put off, or else the next one. */
static bool
take_letter(Letter *letter, TimestampTz now)
{
	if (put_off.ticket == 0)
	{
		letter->until = TimestampTzPlusMilliseconds(now, PUT_OFF_MS);
		return llm_mailbox_take(letter->model, &letter->role, &letter->ticket);
	}
	*letter = put_off;
	put_off.ticket = 0;
	return true;
}

/*
 * Ask the limiter for one request of the route; why not, or NULL when it is granted.
 * It stays in route->granted, so that it is handed back if the transaction fails.
 */
static const char *
grant_one(LlmRoute *route, TimestampTz now)
{
	const char *reason;

	if (route->problem != NULL)
		return psprintf("%s%s%s", route->problem, route->target->hint != NULL ? ". " : "",
						route->target->hint != NULL ? route->target->hint : "");
	llm_route_grant_check(route, now);
	if (route->granted == 1)
		return NULL;
	reason = llm_route_reason(route);
	return psprintf("model \"%s\" at server \"%s\" waits (%s); see llm.health",
					route->target->model, route->target->server,
					reason != NULL ? reason : llm_limiter_reason_name(route->wait_reason));
}

/* Make the task and its flight. */
static LlmFlight *
make_trial(LlmRoute *route, const char *role_name, uint64 ticket)
{
	int64 recipe;
	int64 job = llm_job_add_trial(route->role, role_name, route->alias, &recipe);
	LlmClaim *claim = llm_queue_add_claimed(job, recipe, route->role, TRIAL_INPUT);
	LlmFlight *flight = llm_flight_make(claim, route, llm_flight_recipe(recipe));

	flight->trial = true;
	flight->ticket = ticket;
	route->granted = 0; /* the flight's from here on */
	return flight;
}

LlmFlight *
llm_trial_take(TimestampTz now)
{
	Letter letter;

	while (take_letter(&letter, now))
	{
		LlmRoute *route;
		char *role_name;
		const char *obstacle;
		LlmFlight *flight;

		open_ticket = letter.ticket; /* whatever fails from here on, the asker is told */
		route = llm_route_find(letter.model[0] == '\0' ? NULL : letter.model, letter.role, now);
		role_name = GetUserNameFromId(letter.role, true);
		obstacle = role_name == NULL ? "the role is gone" : grant_one(route, now);
		if (obstacle != NULL && role_name != NULL && route->problem == NULL &&
			route->wait_reason == LLM_WAIT_CONCURRENCY && now < letter.until)
		{
			put_off = letter;
			open_ticket = 0;
			return NULL;
		}
		flight = obstacle == NULL ? make_trial(route, role_name, letter.ticket) : NULL;

		if (flight == NULL)
			llm_mailbox_answer(letter.ticket, psprintf("not sent: %s", obstacle));
		open_ticket = 0;
		if (flight != NULL)
			return flight;
	}
	return NULL;
}

TimestampTz
llm_trial_put_off_until(void)
{
	return put_off.ticket != 0 ? put_off.until : DT_NOEND;
}

void
llm_trial_refuse_put_off(void)
{
	if (put_off.ticket != 0)
		llm_mailbox_answer(put_off.ticket, "not sent: the sender is ending");
	put_off.ticket = 0;
}

void
llm_trial_prepare_answer(LlmFlight *flight)
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
llm_trial_deliver_answer(LlmFlight *flight)
{
	llm_mailbox_answer(flight->ticket, flight->verdict);
}

void
llm_trial_abandon(LlmFlight *flight)
{
	uint64 ticket = flight != NULL ? flight->ticket : open_ticket;

	open_ticket = 0;
	if (ticket != 0)
		llm_mailbox_answer(ticket, "not sent: the sender could not store the request; see the server's log");
	if (flight == NULL)
		return;
	llm_flight_give_back(flight);
	llm_flight_free(flight);
}
