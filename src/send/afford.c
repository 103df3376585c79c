/*-------------------------------------------------------------------------
 *
 * afford.c
 *	  Is there money for the next requests of a job, or for a letter?
 *
 * What a request may cost at most is reserved in the transaction that claims it, and given back
 * with its bill.  So what is spent and reserved together never exceeds a budget, whatever the
 * answers turn out to be, and whichever process dies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "dialect/dialect.h"
#include "send/afford.h"
#include "tables/ledger.h"
#include "tables/recipe_stat.h"

/* A row of so many bytes, until there was one. */
#define FIRST_BYTES 1000

/* A job's reason has figures in it, which change with each answer: told so often. */
#define TELL_MS 1000

/* What its requests take is looked at again after so long: more of them tell more. */
#define LEARN_MS 2000
#define LESS 0.95

static Jsonb *
copy_tags(const Jsonb *tags, MemoryContext context)
{
	Jsonb *copy;

	if (tags == NULL)
		return NULL;
	copy = MemoryContextAlloc(context, VARSIZE(tags));
	memcpy(copy, tags, VARSIZE(tags));
	return copy;
}

void
llm_afford_start(LlmAfford *afford, const LlmJobRow *row, MemoryContext context)
{
	afford->spender = (LlmSpender){.role = row->role, .relation = row->relation, .tags = copy_tags(row->tags, context)};
	afford->purse = (LlmPurse){.open = row->capped, .amount = row->max_cost, .spent = row->spent};
	afford->account.purse = &afford->purse;
	afford->cheapest = PG_INT64_MAX;
	afford->passed_from = PG_INT64_MAX;
}

/* The least that any request of the job may cost. */
static int64
least_cost(const LlmAfford *afford)
{
	return llm_reserve_of(&afford->worst, 1);
}

/*
 * What a request of the recipe may cost by the route; NULL, or why that cannot be said, in the
 * current context.
 */
static char *
find_worst(const LlmRoute *route, int64 recipe, LlmWorst *worst)
{
	const LlmTarget *target = route->target;
	LlmSharedRecipe *shared = llm_flight_recipe(recipe);
	LlmDearest price;
	LlmRecipeStat stat;
	char *tier = NULL;
	bool has_tier;
	int cap;

	*worst = (LlmWorst){0};
	if ((route->endpoint.learned & LLM_IGNORES_CAP) && (shared == NULL || !llm_recipe_is_of_model(shared->recipe)))
		return psprintf("budget: server \"%s\" gave a longer answer than the request allowed, so that nothing bounds what it"
						" costs; when that is fixed: SELECT llm.forget_habits(%s, %s)",
						target->server, quote_literal_cstr(target->server), quote_literal_cstr(target->model));
	if (shared != NULL)
		tier = llm_dialect_tier_asked(&shared->recipe->params, &route->endpoint.habits);
	if (!llm_ledger_dearest(target->price, tier, &price.input, &price.output, &has_tier))
		return psprintf("budget: no price is known of model \"%s\" at server \"%s\": SELECT llm.set_price(%s,"
						" input_per_mtok => ..., output_per_mtok => ...);",
						target->model, target->server, quote_literal_cstr(target->alias));
	if (shared == NULL)
		return NULL; /* its tasks fail when they are sent */
	if (llm_dialect_tier(tier) == LLM_TIER_DEARER && !has_tier)
		return psprintf("budget: what service tier \"%s\" costs is not known, so that nothing bounds it; leave the option"
						" service_tier out, or give its price: SELECT llm.set_price(..., tiers => '[{\"service_tier\": ...}]')",
						tier);
	cap = llm_flight_cap(shared, route);
	llm_recipe_stat_get(recipe, target->server, target->model, &stat);
	*worst = llm_reserve_worst(&price, llm_flight_overhead(shared, route, cap), llm_reserve_per_byte(&stat), cap);
	return NULL;
}

static void
set_text(char **place, const char *words, MemoryContext context)
{
	if (*place != NULL)
		pfree(*place);
	*place = words == NULL ? NULL : MemoryContextStrdup(context, words);
}

/* Walk over the tasks from the start. */
static void
walk_again(LlmAfford *afford)
{
	afford->at_end = false;
	afford->hopeless = false;
	afford->cheapest = PG_INT64_MAX;
	afford->passed_from = PG_INT64_MAX;
}

LlmSpender
llm_afford_spender_at(const LlmAfford *afford, const LlmRoute *route)
{
	LlmSpender spender = afford->spender;

	spender.server = route->target->server;
	spender.server_oid = route->target->server_oid;
	spender.model = route->target->model;
	return spender;
}

/* Some tasks go there: the dearer of both ways counts. */
static char *
add_other(LlmAfford *afford, int64 recipe)
{
	LlmWorst worst;
	char *problem = find_worst(afford->other, recipe, &worst);

	afford->worst.fixed = Max(afford->worst.fixed, worst.fixed);
	afford->worst.each = Max(afford->worst.each, worst.each);
	afford->other_cap = worst.cap;
	return problem;
}

/* The budgets that hold for either way, in the current context. */
static void
find_account(LlmAfford *afford)
{
	LlmSpender spender = llm_afford_spender_at(afford, afford->route);

	if (afford->account.budgets != NULL)
		pfree(afford->account.budgets);
	afford->account.budgets = NULL;
	llm_money_find(&spender, &afford->account);
	if (afford->other == NULL)
		return;
	spender = llm_afford_spender_at(afford, afford->other);
	llm_money_find_more(&spender, &afford->account);
}

static void
find_worst_of_both(LlmAfford *afford, int64 recipe, MemoryContext context, TimestampTz now)
{
	char *problem = NULL;

	if (afford->bounded)
		problem = find_worst(afford->route, recipe, &afford->worst);
	if (afford->bounded && problem == NULL && afford->other != NULL)
		problem = add_other(afford, recipe);
	set_text(&afford->problem, problem, context);
	afford->learned_at = now;
}

/*
 * Requests that have come back may have told that one needs less.  Then there may be enough for tasks that were
 * passed over; when it is about the same, there is not.
 */
static void
learn(LlmAfford *afford, int64 recipe, MemoryContext context, TimestampTz now)
{
	LlmWorst before = afford->worst;

	if (!afford->bounded || now < TimestampTzPlusMilliseconds(afford->learned_at, LEARN_MS))
		return;
	find_worst_of_both(afford, recipe, context, now);
	if (afford->worst.fixed < LESS * before.fixed || afford->worst.each < LESS * before.each)
		llm_afford_look_again(afford);
}

void
llm_afford_prepare(LlmAfford *afford, const LlmRoute *route, const LlmRoute *home, int64 recipe, MemoryContext context,
				   TimestampTz now)
{
	MemoryContext saved;
	const LlmRoute *other = route == home ? llm_route_fallback(home) : NULL;
	int which;

	if (other != NULL && other->problem != NULL)
		other = NULL;
	if (!llm_money_exists() && !afford->purse.open)
	{
		afford->bounded = false;
		return;
	}
	if (afford->account.version == llm_money_version() && afford->number == route->number &&
		afford->other_number == (other == NULL ? 0 : other->number) && afford->reasons == route->reasons)
	{
		learn(afford, recipe, context, now);
		return;
	}
	afford->route = route;
	afford->other = other;
	afford->number = route->number;
	afford->other_number = other == NULL ? 0 : other->number;
	afford->reasons = route->reasons;
	saved = MemoryContextSwitchTo(context);
	find_account(afford);
	MemoryContextSwitchTo(saved);
	afford->bounded = llm_money_bounds(&afford->account) && route->problem == NULL;
	find_worst_of_both(afford, recipe, context, now);
	afford->ever = llm_money_ever(&afford->account, &which);
	if (afford->mean == 0)
		afford->mean = llm_reserve_of(&afford->worst, FIRST_BYTES);
	llm_afford_look_again(afford);
}

void
llm_afford_look_again(LlmAfford *afford)
{
	afford->at_end = false;
	afford->hopeless = false;
}

/* What there has to be for it to be worth a look. */
static int64
needed(const LlmAfford *afford)
{
	if (!afford->at_end)
		return PG_INT64_MIN;
	return afford->hopeless || afford->cheapest == PG_INT64_MAX ? least_cost(afford) : afford->cheapest;
}

bool
llm_afford_blocks(const LlmAfford *afford)
{
	int which;

	/* before it is prepared for budgets that were read again, its places in them say nothing */
	if (!afford->bounded || afford->account.version != llm_money_version())
		return false;
	return afford->problem != NULL || afford->ever < least_cost(afford) ||
		   llm_money_left(&afford->account, &which) < needed(afford);
}

bool
llm_afford_portion(LlmAfford *afford, LlmPortion *portion)
{
	int which;
	int64 left;

	portion->bounded = afford->bounded;
	portion->last = PG_INT64_MAX;
	if (!afford->bounded)
		return true;
	left = llm_money_left(&afford->account, &which);
	if (left < least_cost(afford) && llm_money_promised(&afford->account))
		return false;
	if (afford->at_end)
	{
		portion->after = Min(portion->after, afford->passed_from);
		walk_again(afford);
	}
	portion->fixed = afford->worst.fixed;
	portion->per_byte = afford->worst.each;
	portion->room = left;
	portion->ever = afford->ever;
	llm_money_promise(&afford->account, Min(Max(left, 0), afford->mean * portion->want));
	return true;
}

bool
llm_afford_claimed(LlmAfford *afford, const LlmPortion *portion, bool whole, int64 *after)
{
	if (portion->cheapest < PG_INT64_MAX)
	{
		afford->cheapest = Min(afford->cheapest, portion->cheapest);
		afford->passed_from = Min(afford->passed_from, portion->after);
	}
	if (!whole)
		return false;
	afford->hopeless = portion->room < least_cost(afford) && portion->cheapest < PG_INT64_MAX;
	afford->at_end = portion->last == PG_INT64_MAX || afford->hopeless;
	if (!afford->at_end)
		*after = Max(*after, portion->last);
	return afford->at_end && afford->cheapest == PG_INT64_MAX;
}

static const char *
time_text(TimestampTz at)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(at)));
}

/* What is missing, in a sentence. */
static char *
want_text(const LlmAccount *account, int64 wanted, int64 ever)
{
	int which;
	int64 left = llm_money_left(account, &which);
	const LlmBudgetRow *row = which < 0 ? NULL : llm_money_row(which);

	if (row == NULL)
		return psprintf("budget: max_cost is %s dollars, of which %s are left, and the next request may cost %s",
						llm_reserve_text(account->purse->amount), llm_reserve_text(left), llm_reserve_text(wanted));
	if (ever < wanted)
		return psprintf("budget " INT64_FORMAT ": no request can be paid of %s dollars, since the least that one may cost is %s",
						row->id, llm_reserve_text(ever), llm_reserve_text(wanted));
	return psprintf("budget " INT64_FORMAT ": of %s dollars %s are left, and the next request may cost %s%s%s",
					row->id, llm_reserve_text(row->amount), llm_reserve_text(left), llm_reserve_text(wanted),
					row->ends_at == DT_NOEND ? "" : "; until ",
					row->ends_at == DT_NOEND ? "" : time_text(row->ends_at));
}

void
llm_afford_tell(LlmAfford *afford, bool waits, MemoryContext context, TimestampTz now)
{
	int64 wanted;
	int which;
	char *words;

	if (!waits || !llm_afford_blocks(afford))
	{
		if (afford->reason != NULL)
			set_text(&afford->reason, NULL, context);
		return;
	}
	wanted = least_cost(afford);
	if (afford->cheapest < PG_INT64_MAX)
		wanted = Max(wanted, afford->cheapest);
	(void) llm_money_left(&afford->account, &which);
	if (which >= 0 && afford->problem == NULL)
		llm_money_note_waiting(which, wanted);
	if (afford->reason != NULL && now < TimestampTzPlusMilliseconds(afford->told_at, TELL_MS))
		return;
	words = afford->problem != NULL ? afford->problem : want_text(&afford->account, wanted, afford->ever);
	set_text(&afford->reason, words, context);
	afford->told_at = now;
}

bool
llm_afford_letter(LlmClaim *claim, const LlmRoute *route, const LlmSpender *spender, LlmPurse *purse, char **why,
				  bool *wait)
{
	LlmAccount account = {.purse = purse};
	LlmWorst worst;
	int64 bytes;
	int64 left;
	int which;

	*why = NULL;
	*wait = false;
	llm_money_find(spender, &account);
	if (!llm_money_bounds(&account))
		return true;
	*why = find_worst(route, claim->recipe, &worst);
	if (*why != NULL)
		return false;
	bytes = (int64) claim->input_len + (claim->fault == NULL ? 0 : (int64) strlen(claim->fault)) +
			(claim->last_answer == NULL ? 0 : (int64) strlen(claim->last_answer));
	claim->cap = worst.cap;
	claim->reserved = llm_reserve_of(&worst, bytes);
	left = llm_money_left(&account, &which);
	if (claim->reserved > left)
	{
		*why = want_text(&account, claim->reserved, llm_money_ever(&account, &which));
		*wait = llm_money_may_come_back(&account, claim->reserved);
		return false;
	}
	llm_money_reserve(spender, purse, claim->claimed_at, claim->reserved);
	return true;
}
