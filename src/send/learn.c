/*-------------------------------------------------------------------------
 *
 * learn.c
 *	  The steps that keep what requests of a recipe take (llm.recipe_stat), and what
 *	  hosts have taught us (llm.habit).
 *
 * What has been stored is added up in memory, and written a few times a second by one
 * statement, so that a request costs next to nothing here.  A crash loses a quarter of a
 * second of it: these are figures to guess by, and no bill.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "catalog/habit.h"
#include "send/air.h"
#include "send/learn.h"
#include "tables/recipe_stat.h"

/* Written so long after the first that is not, or when there are so many. */
#define WAIT_MS 250
#define MOST_LESSONS 1000

/* Names up to this length are told apart; longer ones teach nothing. */
#define NAME_BYTES 128

typedef struct LessonKey
{
	int64 recipe;
	char server[NAMEDATALEN];
	char model[NAME_BYTES];
} LessonKey;

typedef struct Lesson
{
	LessonKey key; /* must be first */
	LlmRecipeStat sums;
} Lesson;

/* What is not written yet; NULL: nothing. */
static MemoryContext lessons_context = NULL;
static HTAB *lessons = NULL;
static TimestampTz write_at = DT_NOEND;
static bool written = false; /* in the transaction of this pass */

static void
make_lessons(void)
{
	HASHCTL control = {0};

	lessons_context = AllocSetContextCreate(TopMemoryContext, "llm_enrich lessons", ALLOCSET_DEFAULT_SIZES);
	control.keysize = sizeof(LessonKey);
	control.entrysize = sizeof(Lesson);
	control.hcxt = lessons_context;
	lessons = hash_create("llm_enrich lessons", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
forget_lessons(void)
{
	MemoryContextDelete(lessons_context);
	lessons_context = NULL;
	lessons = NULL;
	write_at = DT_NOEND;
}

static void
note(const LlmSettlement *s, TimestampTz now)
{
	LessonKey key;
	Lesson *lesson;
	bool found;

	if (!llm_recipe_stat_tells(s) || strlen(s->server) >= NAMEDATALEN || strlen(s->model) >= NAME_BYTES)
		return;
	if (lessons == NULL)
	{
		make_lessons();
		write_at = TimestampTzPlusMilliseconds(now, WAIT_MS);
	}
	memset(&key, 0, sizeof(key));
	key.recipe = s->recipe;
	strlcpy(key.server, s->server, sizeof(key.server));
	strlcpy(key.model, s->model, sizeof(key.model));
	lesson = hash_search(lessons, &key, HASH_ENTER, &found);
	if (!found)
		memset(&lesson->sums, 0, sizeof(lesson->sums));
	llm_recipe_stat_add(&lesson->sums, s);
	if (hash_get_num_entries(lessons) >= MOST_LESSONS)
		write_at = now;
}

TimestampTz
llm_learn_due(const LlmPass *pass)
{
	return write_at;
}

void
llm_learn_run(LlmPass *pass)
{
	LlmRecipeStatRow *rows;
	HASH_SEQ_STATUS scan;
	Lesson *lesson;
	int n = 0;

	written = lessons != NULL && write_at <= pass->now;
	if (!written)
		return;
	rows = palloc(sizeof(LlmRecipeStatRow) * hash_get_num_entries(lessons));
	hash_seq_init(&scan, lessons);
	while ((lesson = hash_seq_search(&scan)) != NULL)
	{
		rows[n].recipe = lesson->key.recipe;
		rows[n].server = lesson->key.server;
		rows[n].model = lesson->key.model;
		rows[n++].sums = lesson->sums;
	}
	llm_recipe_stat_store(rows, n);
}

/* Before the flights of what was stored are freed: the steps are kept from the last to the first. */
void
llm_learn_keep(LlmPass *pass)
{
	if (written)
		forget_lessons();
	written = false;
	for (int i = 0; i < pass->stored; i++)
		note(pass->settlements[i], pass->now);
}

/* Tried again later; while nothing can be stored, no more comes. */
void
llm_learn_undo(LlmPass *pass)
{
	if (written)
		write_at = TimestampTzPlusMilliseconds(pass->now, WAIT_MS);
	written = false;
}

static const LlmLearned ignores_cap = {LLM_HABIT_IGNORES_CAP, "true"};

/* What hosts have taught us, before anybody is asked again. */
void
llm_learn_habits(LlmPass *pass)
{
	int left = pass->stored;
	dlist_iter iter;

	dlist_foreach(iter, llm_air_landed_list())
	{
		LlmFlight *flight = dlist_container(LlmFlight, node, iter.cur);

		if (left-- == 0)
			break;
		if (llm_flight_is_first(flight) && flight->request->learned.name != NULL)
			llm_habit_note(flight->settlement.server, flight->settlement.model, &flight->request->learned,
						   flight->request->lesson);
		if (llm_flight_is_first(flight) && flight->request->over_cap)
			llm_habit_note(flight->settlement.server, flight->settlement.model, &ignores_cap,
						   psprintf("an answer was longer than the %d tokens that were allowed", flight->request->cap));
	}
}
