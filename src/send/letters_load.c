/*-------------------------------------------------------------------------
 *
 * letters_load.c
 *	  Which letters go in one request.
 *
 * One each, but for vectors: of those a request carries as many as tasks of rows would have
 * (load.h), of whichever sessions of the role they are.  Each has its own row of llm.letter and
 * of the ledger, and what is refused as a whole goes again in parts, as tasks do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "send/afford.h"
#include "send/letter_state.h"
#include "send/load.h"

List *
llm_letters_load(dlist_head *waiting, LlmRoute *route, bool trials, TimestampTz now)
{
	List *loads = NIL;
	dlist_iter iter;

	dlist_foreach(iter, waiting)
	{
		LlmLetter *letter = dlist_container(LlmLetter, node, iter.cur);
		LlmLoad *load;
		int room;

		if (letter->route != route || letter->not_before > now || llm_letters_is_trial(letter) != trials)
			continue;
		room = trials ? 1 : llm_load_width(route, letter->kind);
		load = llm_load_join(&loads, route, letter->recipe, letter->task, room, letter->question.input_len);
		if (load->n == 1)
			load->letters = palloc(sizeof(LlmLetter *) * room);
		load->letters[load->n - 1] = letter;
	}
	return loads;
}

/* The letter as a task that was claimed. */
static void
fill_claim(const LlmLetter *letter, LlmClaim *claim)
{
	claim->task = letter->task;
	claim->recipe = letter->recipe;
	claim->tries = letter->tries;
	claim->attempt = letter->attempt + 1;
	claim->outages = letter->outages;
	claim->elsewhere = letter->elsewhere;
	claim->input = unconstify(char *, letter->question.input);
	claim->input_len = letter->question.input_len;
	claim->fresh = !letter->question.reuse;
	claim->fault = unconstify(char *, letter->fault);
	claim->last_answer = unconstify(char *, letter->last_answer);
	claim->claimed_at = llm_clock_now();
	claim->tags = letter->facts.tags;
}

/* Is there money for it?  If not, it waits, or has its reply. */
static bool
take_money(LlmLetter *letter, LlmClaim *claim, const LlmRoute *route, TimestampTz now)
{
	LlmSpender spender = {.role = letter->question.role, .tags = letter->facts.tags};
	char *why;
	bool wait;

	spender.server = route->target->server;
	spender.server_oid = route->target->server_oid;
	spender.model = route->target->model;
	if (llm_afford_letter(claim, route, &spender, letter->purse, &why, &wait))
		return true;
	llm_letters_want_money(letter, why, wait, now);
	return false;
}

LlmRequest *
llm_letters_make_request(LlmLoad *load, const LlmLetterGrant *from, TimestampTz now)
{
	LlmRequest *request;
	int n = 0;

	for (int i = 0; i < load->n; i++)
	{
		LlmClaim *claim = palloc0(sizeof(LlmClaim));
		LlmLetter *letter = load->letters[i];

		fill_claim(letter, claim);
		if (!take_money(letter, claim, from->route, now))
			continue;
		load->letters[n] = letter;
		load->claims[n++] = claim;
	}
	if (n == 0)
		return NULL;
	request = llm_request_make(load->claims, n, from->route, llm_flight_recipe(load->recipe));
	request->lane = LLM_LANE_IMMEDIATE;
	request->generation = from->generation;
	request->granted_tokens = from->tokens;
	request->route->letters++;
	if (llm_letters_is_trial(load->letters[0]))
		request->route->trials++;
	for (int i = 0; i < n; i++)
	{
		LlmFlight *flight = &request->flights[i];
		LlmLetter *letter = load->letters[i];

		flight->letter = letter;
		flight->hopped = (from->route != letter->home);
		flight->settlement.letter = &letter->facts;
		flight->settlement.purse = letter->purse;
		flight->settlement.lane = request->lane;
		letter->attempt++;
		dlist_delete(&letter->node);
	}
	return request;
}
