/*-------------------------------------------------------------------------
 *
 * kept.c
 *	  Kept answers: the same question of the same role is not paid twice.
 *
 * What is the same is told by the bytes that would be sent (tables/answer_key.c).
 *
 * An answer is looked up at the first request of a question only: a task that asks again, after an
 * invalid answer or a failure, wants another one.  Nor where a temperature makes each answer a
 * sample, nor for jobs of llm.retry().  It costs one probe of an index for each task, in one
 * statement for all tasks of a claim, and nothing while no answer is kept.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/guc.h"
#include "send/air.h"
#include "send/joblist.h"
#include "send/kept.h"
#include "send/kept_key.h"
#include "tables/answer_key.h"
#include "tables/ledger.h"

/* Rows that are looked at in one step, and the time between two looks while nothing is old. */
#define TIDY_ROWS 500
#define TIDY_MS 10000

/* All static: the sender's life. */
static bool may_exist = true; /* rows of llm.answer */
static bool looked = false; /* whether there are, at the start */
static bool emptied = false; /* by the transaction that runs, as far as it saw */
static TimestampTz tidy_at = DT_NOBEGIN;

bool
llm_kept_may_exist(void)
{
	if (llm_guc_keep_answers_s == 0)
		return false;
	if (!looked)
	{
		may_exist = llm_answer_exists();
		looked = true;
	}
	return may_exist;
}

/* Answers that came before are too old. */
static TimestampTz
oldest(void)
{
	return llm_clock_now() - llm_guc_keep_answers_s * USECS_PER_SEC;
}

int
llm_kept_find(const LlmAnswerKey *keys, int n, LlmKeptAnswer *found)
{
	return llm_answer_find(keys, n, oldest(), found);
}

void
llm_kept_settle(LlmSettlement *settlement, const LlmRoute *route, const LlmKeptAnswer *kept)
{
	settlement->server = route->target->server;
	settlement->model = route->target->model;
	settlement->price = route->target->price;
	settlement->outcome = "cached";
	settlement->paid_by = kept->task;
	settlement->state = LLM_TASK_ANSWERED;
	settlement->answer = kept->answer;
}

/* Is the claim one that may be settled by a kept answer? */
static bool
may_be_served(const LlmClaim *claim, LlmSharedRecipe *recipe, const LlmRoute *route)
{
	return claim->attempt == 1 && claim->tries == 0 && !claim->fresh && route->problem == NULL &&
		   llm_kept_is_wanted(recipe);
}

/* Those of the claims that may be served, with their keys; how many. */
static int
list_askers(List *claims, LlmClaim **askers, LlmAnswerKey *keys)
{
	int n = 0;

	foreach_ptr(LlmClaim, claim, claims)
	{
		const LlmRoute *route = llm_joblist_find(claim->job)->route;
		LlmSharedRecipe *recipe = llm_flight_recipe(claim->recipe);

		if (!may_be_served(claim, recipe, route))
			continue;
		llm_kept_make_key(recipe, route, claim->input, claim->input_len, &keys[n]);
		claim->answer_key = &keys[n];
		askers[n++] = claim;
	}
	return n;
}

/* A claim that is served needs no request. */
static LlmSettlement *
settle_claim(LlmClaim *claim, const LlmKeptAnswer *kept)
{
	LlmSettlement *s = palloc0(sizeof(LlmSettlement));

	claim->kept = true;
	s->task = claim->task;
	s->job = claim->job;
	s->request = claim->request;
	s->attempt = claim->attempt;
	s->key = claim->key;
	s->application = claim->application;
	llm_kept_settle(s, llm_joblist_find(claim->job)->route, kept);
	return s;
}

bool
llm_kept_serve(LlmPass *pass, LlmRepeatResult *result)
{
	int n = list_length(pass->claims);
	LlmAnswerKey *keys;
	LlmClaim **askers;
	LlmKeptAnswer *found;
	LlmSettlement **settlements;
	LlmRepeatLead *leads;
	int nfound = 0;
	int nleads = 0;

	if (n == 0 || !llm_kept_may_exist())
		return false;
	keys = palloc(sizeof(LlmAnswerKey) * n);
	askers = palloc(sizeof(LlmClaim *) * n);
	found = palloc(sizeof(LlmKeptAnswer) * n);
	n = list_askers(pass->claims, askers, keys);
	if (n == 0 || llm_kept_find(keys, n, found) == 0)
		return false;
	settlements = palloc(sizeof(LlmSettlement *) * n);
	leads = palloc0(sizeof(LlmRepeatLead) * n);
	for (int i = 0; i < n; i++)
	{
		if (found[i].answer == NULL)
			continue;
		settlements[nfound++] = settle_claim(askers[i], &found[i]);
		if (!askers[i]->followed)
			continue;
		leads[nleads].task = askers[i]->task;
		leads[nleads].job = askers[i]->job;
		leads[nleads++].same_as = askers[i]->same_as;
	}
	llm_ledger_record(settlements, nfound);
	(void) llm_queue_settle(settlements, nfound);
	if (nleads > 0)
		llm_repeat_settled(leads, nleads, result);
	return true;
}

void
llm_kept_store(LlmPass *pass)
{
	LlmNewAnswer *answers = palloc(sizeof(LlmNewAnswer) * Max(pass->stored, 1));
	int left = pass->stored;
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, llm_air_landed_list())
	{
		const LlmFlight *flight = dlist_container(LlmFlight, node, iter.cur);
		const LlmSettlement *s = &flight->settlement;

		if (left-- == 0)
			break;
		if (flight->answer_key == NULL || flight->class != LLM_OK || s->answer == NULL)
			continue;
		answers[n].key = flight->answer_key;
		answers[n].role = flight->route->role;
		answers[n].operation = flight->recipe->recipe->op->name;
		answers[n].recipe = flight->recipe->id;
		answers[n].server = s->server;
		answers[n].model = s->model;
		answers[n].task = s->task;
		answers[n++].answer = s->answer;
	}
	if (n == 0)
		return;
	llm_answer_add(answers, n);
	if (!may_exist)
		tidy_at = TimestampTzPlusMilliseconds(pass->now, TIDY_MS);
	looked = true;
	may_exist = true;
	emptied = false;
}

TimestampTz
llm_kept_tidy_due(const LlmPass *pass)
{
	return may_exist ? tidy_at : DT_NOEND;
}

void
llm_kept_tidy(LlmPass *pass)
{
	int seen;
	int dropped;

	if (!may_exist || tidy_at > pass->now)
		return;
	dropped = llm_answer_drop(oldest(), llm_guc_keep_answers_size_kb * INT64CONST(1024), TIDY_ROWS, &seen);
	emptied = (seen == 0);
	tidy_at = dropped == TIDY_ROWS ? pass->now : TimestampTzPlusMilliseconds(pass->now, TIDY_MS);
}

void
llm_kept_keep(LlmPass *pass)
{
	llm_answer_dropped();
	if (emptied)
		may_exist = false;
	emptied = false;
}

void
llm_kept_undo(LlmPass *pass)
{
	llm_answer_forget();
	may_exist = true;
	emptied = false;
}
