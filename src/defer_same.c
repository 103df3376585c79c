/*-------------------------------------------------------------------------
 *
 * defer_same.c
 *	  The same question is asked once: which task of a statement was the first to
 *	  ask just this.
 *
 * Within one job, so one call site, column, role and recipe.  A task is entered
 * when it is bound, so that none is followed that was never one, and all is gone
 * with the statement, as its tasks are when it is undone.
 *
 * Texts are known by 96 bits of a hash under a key that this process drew by
 * chance: the text of a follower is never looked at again, and two texts taken
 * for one would bring a wrong answer.  By chance that happens to one of 10^16
 * statements over a million rows; by intent, only to who knows the key.
 *
 * A table of 16 bytes a text, open and probed in a row, takes as much memory as
 * a hash table may have (work_mem, hash_mem_multiplier).  When it is full, texts
 * that are new are not remembered: then rows with them are asked one by one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/nodeHash.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "defer.h"

/* Places in the table: a power of 2, and at most as many texts as three quarters of them. */
#define FIRST_PLACES 1024
#define MOST_PLACES (4 * 1024 * 1024)

typedef struct Question
{
	uint64 text;
	uint32 text_rest;
	uint32 task; /* as a distance from "base"; 0: the place is free */
} Question;

struct LlmQuestions
{
	Question *places;
	uint32 nplaces;
	uint32 most_places;
	uint32 used;
	int64 base; /* far below the first task, since they are not bound in order */
};

/* What texts are hashed with: drawn once, at first use. */
static LlmSipKey hash_key;
static bool has_hash_key = false;

LlmSipHash
llm_defer_hash(const text *input)
{
	if (!has_hash_key)
	{
		if (!pg_strong_random(&hash_key, sizeof(hash_key)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not draw a random number")));
		has_hash_key = true;
	}
	return llm_siphash(&hash_key, VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input));
}

static LlmQuestions *
make_questions(LlmRun *run, int64 first_task)
{
	LlmQuestions *questions = MemoryContextAllocZero(run->context, sizeof(LlmQuestions));
	Size most = Min(get_hash_memory_limit() / sizeof(Question), MOST_PLACES);

	questions->nplaces = FIRST_PLACES;
	questions->most_places = FIRST_PLACES;
	while (questions->most_places <= most / 2)
		questions->most_places *= 2;
	questions->places = MemoryContextAllocZero(run->context, FIRST_PLACES * sizeof(Question));
	questions->base = first_task - PG_INT32_MAX;
	return questions;
}

/* The place of this text, or the free one where it belongs.  One place at least is free. */
static Question *
find_place(Question *places, uint32 nplaces, uint64 text_hash, uint32 text_rest)
{
	uint32 at = (uint32) text_hash & (nplaces - 1);

	while (places[at].task != 0 && (places[at].text != text_hash || places[at].text_rest != text_rest))
		at = (at + 1) & (nplaces - 1);
	return &places[at];
}

/* Twice the places. */
static void
grow_questions(LlmRun *run, LlmQuestions *questions)
{
	uint32 nplaces = questions->nplaces * 2;
	Question *places = MemoryContextAllocZero(run->context, nplaces * sizeof(Question));
	uint32 i;

	for (i = 0; i < questions->nplaces; i++)
	{
		Question *old = &questions->places[i];

		if (old->task != 0)
			*find_place(places, nplaces, old->text, old->text_rest) = *old;
	}
	pfree(questions->places);
	questions->places = places;
	questions->nplaces = nplaces;
}

/* Where a text is looked for first.  One text in two jobs is two questions: no two numbers give it one value. */
static uint64
text_of_job(const LlmNewJob *job, const LlmSipHash *hash)
{
	return hash->low ^ ((uint64) job->number * UINT64CONST(0x9e3779b97f4a7c15));
}

void
llm_defer_same_soon(const LlmRun *run, const LlmAsked *asked, const LlmSipHash *hash)
{
	const LlmQuestions *questions = run->questions;

	if (asked->shares && questions != NULL && asked->jobs != NIL)
		__builtin_prefetch(&questions->places[text_of_job(linitial(asked->jobs), hash) & (questions->nplaces - 1)]);
}

int64
llm_defer_same_as(LlmRun *run, const LlmNewJob *job, const LlmSipHash *hash, int64 task)
{
	LlmQuestions *questions = run->questions;
	Question *place;
	uint64 text_hash;

	if (questions == NULL)
		questions = run->questions = make_questions(run, task);
	if (questions->used >= questions->nplaces / 4 * 3 && questions->nplaces < questions->most_places)
		grow_questions(run, questions);
	text_hash = text_of_job(job, hash);
	place = find_place(questions->places, questions->nplaces, text_hash, (uint32) hash->high);
	if (place->task != 0)
		return questions->base + place->task;
	if (questions->used >= questions->nplaces / 4 * 3 || task <= questions->base ||
		task - questions->base > PG_UINT32_MAX)
		return 0;
	place->text = text_hash;
	place->text_rest = (uint32) hash->high;
	place->task = (uint32) (task - questions->base);
	questions->used++;
	return 0;
}
