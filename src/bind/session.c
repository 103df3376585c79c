/*-------------------------------------------------------------------------
 *
 * session.c
 *	  What this session has queued: for llm.last_job(), llm.wait() and llm.cancel().
 *
 * A job of many rows is noted as one; a single row, whose job other sessions share, by its
 * task.  Sessions draw task ids in blocks, so that tasks in a row are one range: what lies
 * between two ids of one block is nobody else's.
 *
 * What a transaction notes is kept apart until it commits, in one array: a subtransaction
 * that fails cuts off what has come since it noted first.  Room in the session's own array
 * is made before the commit, since nothing may fail after it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "bind/session.h"

/* Entries before it is worth while to look which are over. */
#define MANY 8192

/* Shared jobs that are remembered: the newest. */
#define SHARED_JOBS 1024

/* So many ranges of one job in a transaction, and it is noted as a whole. */
#define MANY_RANGES 256

typedef struct AwaitedArray
{
	LlmAwaited *of; /* in TopMemoryContext; NULL: none yet */
	int n;
	int room;
} AwaitedArray;

/* What a subtransaction that is open has noted, where it has. */
typedef struct Level
{
	SubTransactionId owner;
	int start; /* its first entry in "fresh" */
	int64 last_job; /* 0: none */
} Level;

/* Of this transaction; levels innermost last, in TopTransactionContext. */
static AwaitedArray fresh;
static List *levels = NIL;

/* Of this session. */
static AwaitedArray noted;
static int dropped = 0; /* of "noted", from its beginning */
static int many = MANY;
static int64 last_job = 0;
static int64 shared_jobs[SHARED_JOBS]; /* a ring */
static int nshared = 0;
static bool callbacks_registered = false;

static void
make_room(AwaitedArray *array, int more)
{
	int room = Max(64, array->room);

	while (room < array->n + more)
		room *= 2;
	if (room == array->room)
		return;
	array->of = array->of == NULL ? MemoryContextAlloc(TopMemoryContext, room * sizeof(LlmAwaited))
								  : repalloc_huge(array->of, room * sizeof(LlmAwaited));
	array->room = room;
}

static void
settle(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && fresh.n > 0)
		make_room(&noted, fresh.n);
	if (event == XACT_EVENT_COMMIT)
	{
		if (fresh.n > 0)
			memcpy(noted.of + noted.n, fresh.of, fresh.n * sizeof(LlmAwaited));
		noted.n += fresh.n;
		if (levels != NIL && ((Level *) llast(levels))->last_job != 0)
			last_job = ((Level *) llast(levels))->last_job;
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		levels = NIL; /* its memory goes with the transaction */
		fresh.n = 0;
	}
}

/* The level of a subtransaction that is open and the innermost. */
static Level *
open_level(SubTransactionId owner, int start)
{
	MemoryContext caller;
	Level *level = levels == NIL ? NULL : llast(levels);

	if (level != NULL && level->owner == owner)
		return level;
	caller = MemoryContextSwitchTo(TopTransactionContext);
	level = palloc0(sizeof(Level));
	level->owner = owner;
	level->start = start;
	levels = lappend(levels, level);
	MemoryContextSwitchTo(caller);
	return level;
}

/* What a subtransaction noted is its parent's when it commits, and gone when it does not. */
static void
settle_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	Level *level = levels == NIL ? NULL : llast(levels);

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (level == NULL || level->owner != mine)
		return;
	levels = list_delete_last(levels);
	if (event == SUBXACT_EVENT_ABORT_SUB)
		fresh.n = level->start;
	else
	{
		Level *outer = open_level(parent, level->start);

		if (level->last_job != 0)
			outer->last_job = level->last_job;
	}
}

static Level *
begin_note(void)
{
	if (!callbacks_registered)
	{
		RegisterXactCallback(settle, NULL);
		RegisterSubXactCallback(settle_subtransaction, NULL);
		callbacks_registered = true;
	}
	make_room(&fresh, 1);
	return open_level(GetCurrentSubTransactionId(), fresh.n);
}

static void
add(int64 job, int64 first, int64 last)
{
	LlmAwaited *entry = &fresh.of[fresh.n++];

	entry->job = job;
	entry->first = first;
	entry->last = last;
	entry->relation = InvalidOid;
}

void
llm_session_note_job(int64 job)
{
	Level *level = begin_note();

	level->last_job = job;
	add(job, 0, 0);
}

/* Does an entry of this level hold the task, or can take it in?  How many others of the job there are. */
static bool
take_in(const Level *level, int64 job, int64 task, int64 run, int *others)
{
	*others = 0;
	for (int i = fresh.n - 1; i >= level->start && fresh.n - i <= 2 * MANY_RANGES; i--)
	{
		LlmAwaited *entry = &fresh.of[i];

		if (entry->job != job)
			continue;
		if (entry->first == 0 || (task >= entry->first && task <= entry->last))
			return true;
		if (task > entry->last && (task == entry->last + 1 || (run > 0 && entry->last >= run)))
		{
			entry->last = task;
			return true;
		}
		(*others)++;
	}
	return false;
}

void
llm_session_note_task(int64 job, int64 task, int64 run)
{
	Level *level = begin_note();
	int others;

	level->last_job = job;
	if (!llm_session_shares(job))
		shared_jobs[nshared++ % SHARED_JOBS] = job;
	if (!take_in(level, job, task, run, &others))
		add(job, task, task);
}

void
llm_session_note_kept(int64 job, int64 task)
{
	Level *level = begin_note();
	int others;

	if (take_in(level, job, task, 0, &others))
		return;
	if (others >= MANY_RANGES && !llm_session_shares(job))
		add(job, 0, 0);
	else
		add(job, task, task);
}

int64
llm_session_last_job(void)
{
	ListCell *cell;
	int64 job = last_job;

	foreach(cell, levels)
	{
		if (((Level *) lfirst(cell))->last_job != 0)
			job = ((Level *) lfirst(cell))->last_job;
	}
	return job;
}

bool
llm_session_shares(int64 job)
{
	for (int i = 0; i < Min(nshared, SHARED_JOBS); i++)
	{
		if (shared_jobs[i] == job)
			return true;
	}
	return false;
}

const LlmAwaited *
llm_session_first(void)
{
	return dropped < noted.n ? &noted.of[dropped] : NULL;
}

void
llm_session_drop_first(void)
{
	if (++dropped >= noted.n)
		dropped = noted.n = 0;
}

LlmAwaited *
llm_session_of_job(int64 job, int *n)
{
	LlmAwaited *found = palloc(sizeof(LlmAwaited) * (noted.n - dropped + fresh.n + 1));

	*n = 0;
	for (int i = dropped; i < noted.n; i++)
	{
		if (noted.of[i].job == job)
			found[(*n)++] = noted.of[i];
	}
	for (int i = 0; i < fresh.n; i++)
	{
		if (fresh.of[i].job == job)
			found[(*n)++] = fresh.of[i];
	}
	return found;
}

bool
llm_session_is_full(void)
{
	return noted.n - dropped > many;
}

const LlmAwaited *
llm_session_all(int *n)
{
	*n = noted.n - dropped;
	return noted.of == NULL ? NULL : noted.of + dropped;
}

void
llm_session_keep(const bool *keep)
{
	int kept = 0;

	for (int i = dropped; i < noted.n; i++)
	{
		if (keep[i - dropped])
			noted.of[kept++] = noted.of[i];
	}
	noted.n = kept;
	dropped = 0;
	many = Max(MANY, 2 * kept);
}

void
llm_session_forget(void)
{
	noted.n = dropped = 0;
	last_job = 0;
	nshared = 0;
}
