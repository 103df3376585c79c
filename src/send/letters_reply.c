/*-------------------------------------------------------------------------
 *
 * letters_reply.c
 *	  What has come for letters: booked, and told to the waiting caller, or asked again.
 *
 * What a failure means is decided as for tasks (retry.h), but that nobody waits for what
 * a person has to fix: a refused key, a spent quota, an unknown model.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"

#include "base/clock.h"
#include "base/error.h"
#include "send/letter_state.h"
#include "send/letters.h"
#include "send/route_hint.h"
#include "tables/ledger.h"
#include "tables/letter_row.h"
#include "tables/sum.h"

void
llm_letters_settle(LlmSettlement **settlements, int n)
{
	int64 *requests = palloc(sizeof(int64) * Max(n, 1));
	int nrequests = 0;

	for (int i = 0; i < n; i++)
	{
		LlmFlight *flight;
		MemoryContext saved;

		if (settlements[i]->letter == NULL)
			continue;
		flight = (LlmFlight *) ((char *) settlements[i] - offsetof(LlmFlight, settlement));
		requests[nrequests++] = settlements[i]->request;
		saved = MemoryContextSwitchTo(flight->context);
		flight->letter->last_cost = llm_ledger_cost(settlements[i], &flight->letter->last_cost_unknown);
		MemoryContextSwitchTo(saved);
		/* nobody waits for the answer, and nobody else can use it */
		if (flight->class == LLM_OK && flight->answer_key == NULL && settlements[i]->cost != (Datum) 0 &&
			(flight->letter->told || !llm_mailbox_is_wanted(&flight->letter->taken)))
			llm_sum_wasted(&flight->letter->facts,
						   DatumGetCString(DirectFunctionCall1(numeric_out, settlements[i]->cost)));
	}
	llm_letter_row_remove(requests, nrequests);
}

/* One more request is paid. */
static void
add_bill(LlmLetter *letter, const LlmSettlement *s)
{
	MemoryContext saved = MemoryContextSwitchTo(letter->context);

	letter->usage.known = letter->usage.known || s->usage.known;
	letter->usage.input += s->usage.input;
	letter->usage.cached += s->usage.cached;
	letter->usage.cache_write += s->usage.cache_write;
	letter->usage.output += s->usage.output;
	letter->usage.reasoning += s->usage.reasoning;
	letter->estimated = letter->estimated || s->estimated;
	letter->cost_unknown = letter->cost_unknown || letter->last_cost_unknown;
	if (!letter->cost_unknown)
		letter->cost = DirectFunctionCall2(numeric_add, letter->cost, letter->last_cost);
	MemoryContextSwitchTo(saved);
}

/* Only a person can fix it. */
static bool
is_unusable(LlmErrorClass class)
{
	return class == LLM_ERR_AUTH || class == LLM_ERR_QUOTA || class == LLM_ERR_UNKNOWN_MODEL ||
		   class == LLM_ERR_WRONG_KIND || class == LLM_ERR_CONFIG;
}

static bool
is_again(const LlmFlight *flight, TimestampTz now)
{
	if (llm_letters_is_trial(flight->letter) || !llm_task_is_open(flight->settlement.state))
		return false;
	return !is_unusable(flight->class) || flight->settlement.elsewhere || flight->route->unfit != NULL ||
		   llm_flight_may_hop(flight, now);
}

/* Back to those that wait. */
static void
wait_again(const LlmFlight *flight, TimestampTz now)
{
	LlmLetter *letter = flight->letter;
	const LlmSettlement *s = &flight->settlement;
	MemoryContext saved = MemoryContextSwitchTo(letter->context);

	llm_mailbox_set_sent(&letter->taken, false);
	letter->tries += s->charged ? 1 : 0;
	letter->outages += s->outage ? 1 : 0;
	letter->elsewhere = letter->elsewhere || s->elsewhere;
	if (flight->class == LLM_ERR_INVALID)
	{
		letter->fault = s->message == NULL ? NULL : pstrdup(s->message);
		letter->last_answer = s->last_answer == NULL ? NULL : pstrdup(s->last_answer);
	}
	if (s->charged || !letter->troubled)
		letter->waits_since = now;
	letter->troubled = !s->charged && !flight->request->is_split;
	letter->not_before = s->not_before == 0 ? 0 : llm_clock_from_wall(s->not_before);
	letter->wake_at = letter->not_before == 0 ? DT_NOBEGIN : letter->not_before;
	MemoryContextSwitchTo(saved);
	llm_letters_wait_again(letter);
}

/* What the flight brought, as its last. */
static void
reply(const LlmFlight *flight)
{
	const LlmSettlement *s = &flight->settlement;
	LlmLetterReply answer = {.outcome = LLM_LETTER_FAILED};
	const char *failure = s->failure;

	if (flight->class == LLM_OK)
	{
		answer.outcome = LLM_LETTER_ANSWERED;
		if (!flight->letter->last_cost_unknown)
			answer.answer_cost = DatumGetCString(DirectFunctionCall1(numeric_out, flight->letter->last_cost));
	}
	else if (is_unusable(flight->class))
	{
		answer.outcome = LLM_LETTER_UNUSABLE;
		answer.hint = llm_route_hint(flight->route->target, flight->class, flight->route->cause);
	}
	if (llm_letters_is_trial(flight->letter))
	{
		answer.hint = llm_route_trial_hint(flight->route->target, flight->class, flight->route->cause,
										   s->http_status != 0);
		failure = llm_error_name(flight->class);
	}
	answer.answer = s->answer;
	answer.latency_ms = s->latency_ms;
	answer.http_status = s->http_status;
	answer.booked = s->outcome;
	answer.reason = failure;
	answer.message = s->error;
	answer.server = s->server;
	answer.model = s->model;
	llm_letters_tell(flight->letter, &answer);
}

int
llm_letters_count_trials(const LlmRoute *route)
{
	int trials = 0;
	dlist_iter iter;

	dlist_foreach(iter, llm_route_all())
	{
		const LlmRoute *other = dlist_container(LlmRoute, node, iter.cur);

		if (other->trials > 0 && other->role == route->role && llm_route_shares_limiter(route, other))
			trials += other->trials;
	}
	return trials;
}

void
llm_letters_leave(LlmRequest *request)
{
	request->route->letters--;
	if (llm_letters_is_trial(request->flights[0].letter))
		request->route->trials--;
}

void
llm_letters_deliver(LlmFlight *flight, TimestampTz now)
{
	LlmLetter *letter = flight->letter;
	MemoryContext saved = MemoryContextSwitchTo(flight->context);

	if (llm_flight_is_first(flight))
		llm_letters_leave(flight->request);
	else
		letter->carried++;
	add_bill(letter, &flight->settlement);
	if (!letter->told && llm_mailbox_is_wanted(&letter->taken) && is_again(flight, now))
		wait_again(flight, now);
	else
	{
		reply(flight);
		llm_letters_free(letter);
	}
	MemoryContextSwitchTo(saved);
}
