/*-------------------------------------------------------------------------
 *
 * defer_same.c
 *	  The same question is asked once: which task of a statement was the first to
 *	  ask just this.
 *
 * Within one statement, role and recipe, for whatever column: one answer may go into several.
 * It is decided for a set
 * of tasks when the set is written: they are bound, so that none is followed that was
 * never one, and all is gone with the statement, as its tasks are when it is undone.
 *
 * Texts are known by 96 bits of a hash under a key that this process drew by
 * chance: the text of a follower is never looked at again, and two texts taken
 * for one would bring a wrong answer.  By chance that happens to one of 10^16
 * statements over a million rows; by intent, only to somebody who knows the key.
 *
 * A long text that its table keeps compressed goes to the queue as it is, and to
 * decompress it for a hash takes longer than all else.  Most texts need no hash: nobody
 * is near, which is to say, has the same length and the same beginning, for which little
 * is decompressed.  A text that comes near has both hashed; where the first one is written
 * already, its text is read from the queue.  That happens once to each text at most, and
 * what one row keeps compressed and another does not is one text all the same.
 *
 * Both tables have 16 bytes a text, are open and probed in a row, and take each as much
 * memory as a hash table may have (work_mem, hash_mem_multiplier).  When one is full, texts
 * that are new to it are not remembered: then rows with them are asked one by one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "executor/nodeHash.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "bind/defer.h"
#include "bind/enqueue_rows.h"

/* Places in a table: a power of 2, and at most as many texts as three quarters of them. */
#define FIRST_PLACES 1024
#define MOST_PLACES (4 * 1024 * 1024)

/* Shorter texts are hashed sooner than looked at. */
#define LONG_INPUT 512

/* The beginning of a long one. */
#define HEAD_BYTES 64

/* Texts that are read from the queue at a time. */
#define READ_ROWS 500

/* Lookups ahead of the one that is made, for which the processor may fetch the place. */
#define LOOK_AHEAD 8

/* In place of a task: all texts that are near have been hashed. */
#define ALL_HASHED PG_UINT32_MAX

typedef struct Place
{
	uint64 key;
	uint32 mark; /* more of the text's hash; of what is near, the number of the set that the task is in */
	uint32 task; /* as a distance from "base"; 0: the place is free */
} Place;

typedef struct Table
{
	Place *places; /* NULL: none yet */
	uint32 nplaces;
	uint32 used;
	bool by_mark; /* the mark is part of the key */
} Table;

struct LlmQuestions
{
	Table texts; /* texts that were hashed: the first task with each */
	Table nears; /* lengths and beginnings of long ones: the only task with them, or ALL_HASHED */
	uint32 most_places; /* of each */
	uint32 set; /* which set this is */
	int64 base; /* far below the first task, since they are not bound in order */
};

/* A set while it is looked at; arrays are by task, as in run->bound. */
typedef struct Look
{
	LlmRun *run;
	LlmQuestions *questions;
	uint64 *nears; /* 0: the text is to be hashed in any case */
	LlmSipHash *hashes;

	/* first ones that are near somebody of this set, and are in the queue already */
	int64 written[READ_ROWS];
	const LlmNewJob *jobs[READ_ROWS]; /* theirs */
	int nwritten;
} Look;

/* What texts are hashed with: drawn once, at first use. */
static LlmSipKey hash_key;
static bool has_hash_key = false;

static void
draw_hash_key(void)
{
	if (!has_hash_key && !pg_strong_random(&hash_key, sizeof(hash_key)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not draw a random number")));
	has_hash_key = true;
}

static LlmQuestions *
make_questions(LlmRun *run)
{
	LlmQuestions *questions = MemoryContextAllocZero(run->context, sizeof(LlmQuestions));

	draw_hash_key();
	questions->most_places = Max(FIRST_PLACES, Min(get_hash_memory_limit() / sizeof(Place), MOST_PLACES));
	questions->texts.by_mark = true;
	questions->base = run->bound[0].id - PG_INT32_MAX;
	return questions;
}

/* The place of this key, or the free one where it belongs; the table has places, one at least of them free. */
static Place *
find_place(const Table *table, uint64 key, uint32 mark)
{
	uint32 at = (uint32) key & (table->nplaces - 1);

	while (table->places[at].task != 0 &&
		   (table->places[at].key != key || (table->by_mark && table->places[at].mark != mark)))
		at = (at + 1) & (table->nplaces - 1);
	return &table->places[at];
}

/* The place of this key; NULL: it has none. */
static Place *
find(const Table *table, uint64 key, uint32 mark)
{
	Place *place = table->nplaces == 0 ? NULL : find_place(table, key, mark);

	return place == NULL || place->task == 0 ? NULL : place;
}

/* Make the first places of a table, or twice as many. */
static void
grow(LlmRun *run, Table *table)
{
	Table old = *table;

	table->nplaces = Max(FIRST_PLACES, old.nplaces * 2);
	table->places = MemoryContextAllocZero(run->context, table->nplaces * sizeof(Place));
	for (uint32 i = 0; i < old.nplaces; i++)
	{
		if (old.places[i].task != 0)
			*find_place(table, old.places[i].key, old.places[i].mark) = old.places[i];
	}
	if (old.places != NULL)
		pfree(old.places);
}

/* See to it that one more can be entered; false when the memory for that is used up. */
static bool
make_room(LlmRun *run, Table *table)
{
	if (table->used < table->nplaces / 4 * 3)
		return true;
	if (table->nplaces * 2 > run->questions->most_places)
		return false;
	grow(run, table);
	return true;
}

/* Enter the first with a key that was not found; not when there is no room. */
static void
enter(LlmRun *run, Table *table, uint64 key, uint32 mark, uint32 task)
{
	Place *place;

	if (!make_room(run, table))
		return;
	place = find_place(table, key, mark);
	place->key = key;
	place->mark = mark;
	place->task = task;
	table->used++;
}

/* A task as a distance from the base; 0: it is too far from it. */
static uint32
distance(const LlmQuestions *questions, int64 task)
{
	int64 far = task - questions->base;

	return far > 0 && far < ALL_HASHED ? (uint32) far : 0;
}

/* One text in two jobs is two questions: no two numbers give it one key. */
static uint64
key_in_job(uint64 key, const LlmNewJob *job)
{
	return key ^ ((uint64) job->question * UINT64CONST(0x9e3779b97f4a7c15));
}

static LlmSipHash
hash_of(const text *input)
{
	text *plain = (text *) pg_detoast_datum_packed(unconstify(text *, input));
	LlmSipHash hash = llm_siphash(&hash_key, VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));

	if (plain != input)
		pfree(plain);
	return hash;
}

/* What texts of one length and beginning have in common in this job; never 0. */
static uint64
near_of(const LlmBound *bound, Size size)
{
	text *head = (text *) detoast_attr_slice((struct varlena *) bound->input, 0, HEAD_BYTES);
	struct
	{
		char head[HEAD_BYTES];
		uint64 size;
		uint64 job;
	} common = {.size = size, .job = bound->job->question};

	memcpy(common.head, VARDATA_ANY(head), VARSIZE_ANY_EXHDR(head));
	pfree(head);
	return Max(llm_siphash(&hash_key, &common, sizeof(common)).low, 1);
}

/* The task that was the first to have this text, 0 when this one is. */
static int64
first_with(Look *look, const LlmNewJob *job, const LlmSipHash *hash, int64 task)
{
	LlmQuestions *questions = look->questions;
	uint64 key = key_in_job(hash->low, job);
	uint32 mark = (uint32) hash->high;
	uint32 far = distance(questions, task);
	const Place *place = find(&questions->texts, key, mark);

	if (place != NULL)
		return questions->base + place->task;
	if (far != 0)
		enter(look->run, &questions->texts, key, mark, far);
	return 0;
}

/* Read the texts that were noted, and enter them. */
static void
read_written(Look *look)
{
	text **inputs;

	if (look->nwritten == 0)
		return;
	inputs = llm_enqueue_read_inputs(look->written, look->nwritten);
	for (int i = 0; i < look->nwritten; i++)
	{
		LlmSipHash hash;

		CHECK_FOR_INTERRUPTS();
		if (inputs[i] == NULL)
			continue; /* it is there no more: then nobody can follow it */
		hash = hash_of(inputs[i]);
		(void) first_with(look, look->jobs[i], &hash, look->written[i]);
		pfree(inputs[i]);
	}
	pfree(inputs);
	look->nwritten = 0;
}

/* Somebody has come near the only one that was there: both are to be hashed. */
static void
meet(Look *look, Place *place, const LlmNewJob *job)
{
	if (place->mark != look->questions->set)
	{
		look->written[look->nwritten] = look->questions->base + place->task;
		look->jobs[look->nwritten++] = job;
	}
	place->task = ALL_HASHED;
	if (look->nwritten == READ_ROWS)
		read_written(look);
}

/* Is anybody near the text of this task?  If nobody is, the next one will find this one there. */
static void
look_near(Look *look, int i)
{
	LlmQuestions *questions = look->questions;
	const LlmBound *bound = &look->run->bound[i];
	Size size = toast_raw_datum_size(PointerGetDatum(bound->input)) - VARHDRSZ;
	uint32 far = VARATT_IS_COMPRESSED(bound->input) ? distance(questions, bound->id) : ALL_HASHED;
	uint64 near;
	Place *place;

	look->nears[i] = 0;
	if (!bound->shares || size < LONG_INPUT || far == 0)
		return;
	near = near_of(bound, size);
	place = find(&questions->nears, near, 0);
	if (place == NULL)
		enter(look->run, &questions->nears, near, questions->set, far);
	else if (place->task != ALL_HASHED)
		meet(look, place, bound->job);
	if (far != ALL_HASHED)
		look->nears[i] = near;
}

/* Not when nobody is near, nor when there was no room to remember this one. */
static bool
needs_hash(const Look *look, int i)
{
	const Place *place;

	if (look->nears[i] == 0)
		return look->run->bound[i].shares;
	place = find(&look->questions->nears, look->nears[i], 0);
	return place != NULL && place->task == ALL_HASHED;
}

/* Let the processor fetch the place that will be looked at. */
static void
fetch_place(const Look *look, int i)
{
	const Table *texts = &look->questions->texts;
	uint64 key = key_in_job(look->hashes[i].low, look->run->bound[i].job);

	if (texts->nplaces > 0)
		__builtin_prefetch(&texts->places[key & (texts->nplaces - 1)]);
}

void
llm_defer_find_same(LlmRun *run)
{
	Look *look;
	int *hashed;
	int nhashed = 0;

	if (run->nbound == 0)
		return;
	if (run->questions == NULL)
		run->questions = make_questions(run);
	run->questions->set++;
	look = palloc(sizeof(Look));
	look->run = run;
	look->questions = run->questions;
	look->nears = palloc(run->nbound * sizeof(uint64));
	look->hashes = palloc(run->nbound * sizeof(LlmSipHash));
	look->nwritten = 0;
	hashed = palloc(run->nbound * sizeof(int));

	for (int i = 0; i < run->nbound; i++)
		look_near(look, i);
	read_written(look);
	for (int i = 0; i < run->nbound; i++)
	{
		CHECK_FOR_INTERRUPTS();
		run->bound[i].same_as = 0;
		if (!needs_hash(look, i))
			continue;
		look->hashes[i] = hash_of(run->bound[i].input);
		hashed[nhashed++] = i;
	}
	for (int i = 0; i < nhashed; i++)
	{
		LlmBound *bound = &run->bound[hashed[i]];

		if (i + LOOK_AHEAD < nhashed)
			fetch_place(look, hashed[i + LOOK_AHEAD]);
		bound->same_as = first_with(look, bound->job, &look->hashes[hashed[i]], bound->id);
	}
}
