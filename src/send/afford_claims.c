/*-------------------------------------------------------------------------
 *
 * afford_claims.c
 *	  What claims, flights and settlements reserve, give back and spend: of their jobs' money, or a letter's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"
#include "send/afford.h"
#include "send/joblist.h"
#include "tables/ledger.h"

/* Weight of a request in the mean of what is reserved for one. */
#define MEAN_WEIGHT 0.1

/* Why a task fails. */
static char *
dear_text(const LlmAfford *afford, const LlmClaim *claim)
{
	int which;
	int64 ever = llm_money_ever(&afford->account, &which);
	size_t bytes = claim->input_len + (claim->fault == NULL ? 0 : strlen(claim->fault)) +
				   (claim->last_answer == NULL ? 0 : strlen(claim->last_answer));

	return psprintf("a request for it may cost %s dollars, and budget " INT64_FORMAT " has %s in all",
					llm_reserve_text(llm_reserve_of(&afford->worst, (int64) bytes)),
					which < 0 ? 0 : llm_money_row(which)->id, llm_reserve_text(ever));
}

static void
fail_dear(List *dear)
{
	int64 *tasks = palloc(sizeof(int64) * Max(list_length(dear), 1));
	const char **messages = palloc(sizeof(char *) * Max(list_length(dear), 1));

	if (dear == NIL)
		return;
	foreach_ptr(const LlmClaim, claim, dear)
	{
		tasks[foreach_current_index(claim)] = claim->task;
		messages[foreach_current_index(claim)] = dear_text(&llm_joblist_find(claim->job)->afford, claim);
	}
	llm_queue_fail_dear(tasks, messages, list_length(dear));
}

static void
put_back(List *back)
{
	int64 *tasks = palloc(sizeof(int64) * Max(list_length(back), 1));

	foreach_ptr(LlmClaim, claim, back)
		tasks[foreach_current_index(claim)] = claim->task;
	if (back != NIL)
		llm_queue_unclaim(tasks, list_length(back));
}

/* The budgets that pay for a claim, where it goes. */
static LlmSpender
spender_of(const LlmJob *job, const LlmClaim *claim)
{
	return llm_afford_spender_at(&job->afford, llm_joblist_destination(job, claim));
}

List *
llm_afford_take(List *claims, List **dear, List **back)
{
	List *kept = NIL;
	int which;

	*dear = NIL;
	*back = NIL;
	foreach_ptr(LlmClaim, claim, claims)
	{
		LlmJob *job = llm_joblist_find(claim->job);
		LlmAfford *afford = job == NULL ? NULL : &job->afford;

		if (afford == NULL)
			kept = lappend(kept, claim);
		else if (claim->dear)
		{
			claim->follows = true; /* it is not sent */
			*dear = lappend(*dear, claim);
		}
		else if (claim->reserved > 0 && claim->reserved > llm_money_left(&afford->account, &which))
			*back = lappend(*back, claim);
		else
		{
			LlmSpender spender = spender_of(job, claim);

			claim->relation = spender.relation;
			claim->tags = spender.tags;
			kept = lappend(kept, claim);
			if (claim->reserved == 0)
				continue;
			claim->cap = llm_joblist_destination(job, claim) == afford->route ? afford->worst.cap : afford->other_cap;
			afford->mean += (int64) (MEAN_WEIGHT * (claim->reserved - afford->mean));
			llm_money_reserve(&spender, &afford->purse, claim->claimed_at, claim->reserved);
		}
	}
	fail_dear(*dear);
	put_back(*back);
	return kept;
}

/* The cap of the job or command that the request is of; NULL: it has none. */
static LlmPurse *
purse_of(const LlmSettlement *s)
{
	LlmJob *job = s->job == 0 ? NULL : llm_joblist_find(s->job);

	if (job == NULL)
		return s->purse;
	return job->afford.purse.open ? &job->afford.purse : NULL;
}

/* One that left before there was a budget is held to what it may cost as it is. */
void
llm_afford_hold(LlmFlight *flight)
{
	LlmSettlement *s = &flight->settlement;
	LlmPurse *purse = purse_of(s);
	LlmDearest price;
	char *tier = NULL;

	if (s->reserved == 0 && flight->recipe != NULL)
		tier = llm_dialect_tier_asked(&flight->recipe->recipe->params, &flight->route->endpoint.habits);
	if (s->reserved == 0 && llm_money_exists() && flight->recipe != NULL &&
		llm_ledger_dearest(s->price, tier, &price.input, &price.output, NULL))
	{
		const LlmRequest *request = flight->request;
		LlmWorst worst = llm_reserve_worst(&price, (int64) request->bytes / request->nflights, 1,
										   llm_flight_cap(flight->recipe, flight->route));

		s->reserved = worst.fixed;
	}
	llm_money_hold(&s->spender, s->sent_at, s->reserved);
	if (purse != NULL)
		purse->reserved += s->reserved;
}

void
llm_afford_release(const LlmFlight *flight)
{
	const LlmSettlement *s = &flight->settlement;

	llm_money_release(&s->spender, purse_of(s), s->sent_at, s->reserved);
}

void
llm_afford_release_unsent(List *claims)
{
	foreach_ptr(const LlmClaim, claim, claims)
	{
		LlmJob *job = llm_joblist_find(claim->job);
		LlmSpender spender;

		if ((!claim->follows && !claim->kept) || claim->reserved == 0 || job == NULL)
			continue;
		spender = spender_of(job, claim);
		llm_money_release(&spender, &job->afford.purse, claim->claimed_at, claim->reserved);
	}
}

void
llm_afford_settle(LlmSettlement **settlements, int n)
{
	for (int i = 0; i < n; i++)
	{
		const LlmSettlement *s = settlements[i];
		LlmPurse *purse = purse_of(s);

		if (!llm_money_exists() && purse == NULL)
			continue;
		llm_money_release(&s->spender, purse, s->sent_at, s->reserved);
		if (s->cost != (Datum) 0)
			llm_money_spend(&s->spender, purse, s->sent_at, s->cost);
	}
}
