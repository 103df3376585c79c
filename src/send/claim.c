/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  The step of a pass that claims tasks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "base/clock.h"
#include "base/compat.h"
#include "send/afford.h"
#include "send/air.h"
#include "send/claim.h"
#include "send/joblist.h"
#include "send/kept.h"
#include "send/load.h"
#include "send/refused.h"
#include "send/scheduler_repeat.h"
#include "tables/repeat.h"

/* Claims of one pass that a change of the catalog may undo; then what has landed is stored first. */
#define CLAIM_TRIES 3

/*
 * Claim what the routes allow.  The commit that queued a task may have changed where it goes,
 * or whether it may: a claim that shows the task shows this, too, and routes that were
 * resolved before do not hold for it.  Then the claim is undone; *outdated.
 */
static List *
claim_by_routes(LlmPass *pass, int taken, TimestampTz now, bool *outdated)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	LlmPortion *portions;
	int nportions = llm_joblist_plan(llm_air_slots(), llm_http_in_flight() + taken, now, &portions);
	List *claims;
	int64 *aside;
	LlmClaimBounds bounds = {.bytes = llm_route_claim_bytes()};

	*outdated = false;
	pass->portions = portions;
	pass->nportions = nportions;
	if (nportions == 0)
		return NIL;
	llm_queue_windows(portions, nportions);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	bounds.naside = llm_refused_aside(&aside);
	bounds.aside = aside;
	claims = llm_queue_claim(portions, nportions, &bounds);
	*outdated = !llm_route_are_current();
	if (*outdated)
	{
		RollbackAndReleaseCurrentSubTransaction();
		llm_joblist_undo();
		claims = NIL;
	}
	else
		ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return claims;
}

/* Followers of a task that is too dear ask themselves: they may have other budgets. */
static void
fail_followed(LlmPass *pass)
{
	LlmRepeatLead *leads = palloc(sizeof(LlmRepeatLead) * Max(list_length(pass->dear), 1));
	int n = 0;

	foreach_ptr(const LlmClaim, claim, pass->dear)
	{
		if (claim->followed)
			leads[n++] = (LlmRepeatLead){.task = claim->task, .job = claim->job, .same_as = claim->same_as};
	}
	if (n > 0)
		pass->promoted = llm_repeat_promote(leads, n) > 0 || pass->promoted;
}

static bool
is_memory_full(void)
{
	return llm_route_claim_bytes() == 0;
}

TimestampTz
llm_claim_due(const LlmPass *pass)
{
	if (!pass->may_claim || llm_air_landed() > 0 || llm_http_in_flight() >= llm_air_slots() || is_memory_full())
		return DT_NOEND;
	return llm_joblist_wake_at(llm_air_slots(), llm_http_in_flight());
}

/* For the free slots, except for those that letters take.  Recipes are loaded here, since that needs a transaction. */
void
llm_claim_run(LlmPass *pass)
{
	TimestampTz now = llm_clock_steady();
	int taken = list_length(pass->letters);
	bool outdated;
	LlmRepeatResult served = {0};

	if (!pass->may_claim || llm_air_landed() - pass->stored >= llm_air_slots() || is_memory_full())
		return;
	pass->claims = claim_by_routes(pass, taken, now, &outdated);
	for (int i = 1; outdated && i < CLAIM_TRIES; i++)
	{
		llm_route_refresh(now);
		llm_joblist_route(now);
		pass->claims = claim_by_routes(pass, taken, now, &outdated);
	}
	pass->claims = llm_afford_take(pass->claims, &pass->dear, &pass->put_back);
	fail_followed(pass);
	foreach_ptr(LlmClaim, claim, pass->claims)
	{
		llm_flight_recipe(claim->recipe);
		claim->fresh = llm_joblist_find(claim->job)->fresh;
	}
	if (llm_kept_serve(pass, &served))
		pass->writer_has_work = true;
	llm_scheduler_repeat_note(&served);
	pass->questions = llm_scheduler_repeat_ask(pass->claims);
	llm_afford_release_unsent(pass->claims);
	pass->loads = llm_load_make(pass->claims, pass->questions);
}

void
llm_claim_keep(LlmPass *pass)
{
	List *claims = list_concat_copy(pass->claims, pass->dear);

	llm_question_keep();
	llm_joblist_claimed(claims, pass->loads, pass->portions, pass->nportions);
	foreach_ptr(const LlmClaim, claim, pass->put_back)
		llm_joblist_put_back(llm_joblist_find(claim->job), claim->task);
	if (pass->dear != NIL)
		pass->writer_has_work = true;
}

void
llm_claim_undo(LlmPass *pass)
{
	llm_joblist_undo();
	llm_question_undo();
}
