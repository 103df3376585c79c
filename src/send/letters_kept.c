/*-------------------------------------------------------------------------
 *
 * letters_kept.c
 *	  Letters whose answers are kept: nothing is asked.
 *
 * They are looked up before their route is asked for a place, so that a target that is
 * shut, or a limit, keeps nobody from an answer that is there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "send/kept.h"
#include "send/kept_key.h"
#include "send/letter_state.h"
#include "tables/ledger.h"

/* Letters that have not been looked up, with their keys; how many. */
static int
list_askers(dlist_head *waiting, int most, LlmLetter **askers, LlmAnswerKey *keys)
{
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, waiting)
	{
		LlmLetter *letter = dlist_container(LlmLetter, node, iter.cur);
		LlmSharedRecipe *recipe;

		if (n == most)
			break;
		if (letter->looked_up || letter->attempt > 0 || !letter->question.reuse)
			continue;
		letter->looked_up = true;
		recipe = llm_flight_recipe(letter->recipe);
		if (!llm_kept_is_wanted(recipe))
			continue;
		llm_kept_make_key(recipe, letter->route, letter->question.input, letter->question.input_len, &keys[n]);
		askers[n++] = letter;
	}
	return n;
}

static LlmSettlement *
settle_letter(LlmLetter *letter, const LlmKeptAnswer *found)
{
	LlmSettlement *s = palloc0(sizeof(LlmSettlement));
	MemoryContext saved = MemoryContextSwitchTo(letter->context);

	letter->kept = palloc(VARSIZE(found->answer));
	memcpy(letter->kept, found->answer, VARSIZE(found->answer));
	letter->kept_server = pstrdup(letter->route->target->server);
	letter->kept_model = pstrdup(letter->route->target->model);
	MemoryContextSwitchTo(saved);
	s->task = letter->task;
	s->letter = &letter->facts;
	llm_kept_settle(s, letter->route, found);
	return s;
}

/* The letters that were not looked up yet. */
static int
count_new(dlist_head *waiting)
{
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, waiting)
		n += dlist_container(LlmLetter, node, iter.cur)->looked_up ? 0 : 1;
	return n;
}

void
llm_letters_find_kept(dlist_head *waiting, dlist_head *kept)
{
	int most = count_new(waiting);
	LlmLetter **askers;
	LlmAnswerKey *keys;
	LlmKeptAnswer *found;
	LlmSettlement **settlements;
	int nfound = 0;
	int n;

	if (most == 0 || !llm_kept_may_exist())
		return;
	askers = palloc(sizeof(LlmLetter *) * most);
	keys = palloc(sizeof(LlmAnswerKey) * most);
	found = palloc(sizeof(LlmKeptAnswer) * most);
	n = list_askers(waiting, most, askers, keys);
	if (n == 0 || llm_kept_find(keys, n, found) == 0)
		return;
	settlements = palloc(sizeof(LlmSettlement *) * n);
	for (int i = 0; i < n; i++)
	{
		if (found[i].answer == NULL)
			continue;
		settlements[nfound++] = settle_letter(askers[i], &found[i]);
		dlist_delete(&askers[i]->node);
		dlist_push_tail(kept, &askers[i]->node);
	}
	llm_ledger_record(settlements, nfound);
}
