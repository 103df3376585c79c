/*-------------------------------------------------------------------------
 *
 * refused.c
 *	  Tasks that their provider has refused.
 *
 * There are few of them at a time: what a target refuses while it is shut is what was in
 * flight, and one probe after the other.  Where refusals come by chance, each is here until
 * its next answer.  Should there be more than room, the oldest one is forgotten, which costs
 * it no more than that it is counted from the beginning.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/shmem.h"
#include "send/joblist.h"
#include "send/refused.h"

/* Tasks in mind. */
#define MOST_REFUSED 8192

/* A target that is shut is looked at so often: ms. */
#define LOOK_MS 200

/* How often to look whether what a task waits for has been fixed: ms. */
#define LOOK_MENDED_MS 2000

/* All static: the sender's life. */
static HTAB *by_task = NULL;
static dlist_head in_order = DLIST_STATIC_INIT(in_order); /* the longest ago first */
static int naside = 0;
static TimestampTz wake_at = DT_NOEND;

static LlmRefusedTask *
find(int64 task)
{
	return by_task == NULL ? NULL : hash_search(by_task, &task, HASH_FIND, NULL);
}

uint64
llm_refused_row(int64 task)
{
	uint64 row = hash_bytes_extended((const unsigned char *) &task, sizeof(task), MyDatabaseId);

	return row == 0 ? 1 : row;
}

static void
subject_of(int64 task, char *subject, size_t size)
{
	snprintf(subject, size, "task " INT64_FORMAT, task);
}

static void
clear_report(LlmRefusedTask *refused)
{
	char subject[40];

	if (!refused->reported)
		return;
	subject_of(refused->task, subject, sizeof(subject));
	llm_shmem_report_problem_of(refused->role, subject, NULL, NULL);
	refused->reported = false;
}

/* Its time has come: the next look for tasks of the job finds it. */
static void
release(LlmRefusedTask *refused)
{
	LlmJob *job = llm_joblist_find(refused->job);

	if (!refused->aside)
		return;
	refused->aside = false;
	naside--;
	clear_report(refused); /* should it have been cancelled, nobody else would */
	if (!refused->stored)
		return;
	refused->stored = false;
	if (job == NULL)
		llm_joblist_look_for_all();
	else
	{
		job->aside = Max(job->aside - 1, 0);
		llm_joblist_put_back(job, refused->task);
	}
}

static void
forget(LlmRefusedTask *refused)
{
	release(refused);
	clear_report(refused);
	dlist_delete(&refused->node);
	hash_search(by_task, &refused->task, HASH_REMOVE, NULL);
}

void
llm_refused_forget(int64 task)
{
	LlmRefusedTask *refused = find(task);

	if (refused != NULL)
		forget(refused);
}

static void
make_table(void)
{
	HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(LlmRefusedTask)};

	by_task = hash_create("llm_enrich refused tasks", 64, &ctl, HASH_ELEM | HASH_BLOBS);
}

LlmRefusedTask *
llm_refused_recall(int64 task, int64 job)
{
	LlmRefusedTask *refused;
	bool found;

	if (by_task == NULL)
		make_table();
	if (hash_get_num_entries(by_task) >= MOST_REFUSED && find(task) == NULL)
		forget(dlist_container(LlmRefusedTask, node, dlist_head_node(&in_order)));
	refused = hash_search(by_task, &task, HASH_ENTER, &found);
	if (found)
		dlist_delete(&refused->node);
	else
		memset((char *) refused + sizeof(int64), 0, sizeof(LlmRefusedTask) - sizeof(int64));
	refused->job = job;
	dlist_push_tail(&in_order, &refused->node);
	return refused;
}

void
llm_refused_set_aside(LlmRefusedTask *refused, TimestampTz until, bool target_shut, uint32 repairs)
{
	if (!refused->aside)
		naside++;
	refused->aside = true;
	refused->until = until;
	refused->target_shut = target_shut;
	refused->repairs = repairs;
	wake_at = DT_NOBEGIN;
}

void
llm_refused_wait(int64 task, int64 job, TimestampTz until)
{
	LlmJob *found = llm_joblist_find(job);

	llm_refused_set_aside(llm_refused_recall(task, job), until, false,
						  found == NULL || found->route == NULL ? 0 : found->route->repairs);
	(void) llm_refused_stored(task);
}

bool
llm_refused_stored(int64 task)
{
	LlmRefusedTask *refused = naside == 0 ? NULL : find(task);
	LlmJob *job;

	if (refused == NULL || !refused->aside)
		return false;
	job = llm_joblist_find(refused->job);
	if (!refused->stored && job != NULL)
		job->aside++;
	refused->stored = true;
	wake_at = DT_NOBEGIN;
	return true;
}

/*
 * May it be claimed?  Not while its target is shut and others are there to try it with; where
 * none is, the one that was refused the longest time ago is the next probe.
 */
static bool
may_go(const LlmRefusedTask *refused, TimestampTz now, TimestampTz *look_at)
{
	LlmJob *job = llm_joblist_find(refused->job);
	LlmRoute *route = job == NULL ? NULL : job->route;
	TimestampTz gate;
	bool shut;

	if (route == NULL || route->problem != NULL)
		return true;
	shut = llm_route_is_shut(route, now, &gate);
	*look_at = TimestampTzPlusMilliseconds(now, LOOK_MS);
	if (shut && refused->target_shut)
	{
		if (gate > now || route->front > 0)
			return false;
		route->front = 1; /* this one is there now */
		return true;
	}
	if (refused->until <= now || refused->repairs != route->repairs)
		return true;
	*look_at = Min(refused->until, TimestampTzPlusMilliseconds(now, LOOK_MENDED_MS));
	return false;
}

void
llm_refused_tend(TimestampTz now)
{
	dlist_mutable_iter iter;

	if (naside == 0 || wake_at > now)
		return;
	wake_at = DT_NOEND;
	(void) llm_joblist_count_fronts();
	dlist_foreach_modify(iter, &in_order)
	{
		LlmRefusedTask *refused = dlist_container(LlmRefusedTask, node, iter.cur);
		TimestampTz look_at = DT_NOEND;

		/* until it is stored it is the transaction's that stores it */
		if (!refused->aside || !refused->stored)
			continue;
		if (may_go(refused, now, &look_at))
			release(refused);
		else
			wake_at = Min(wake_at, look_at);
	}
}

TimestampTz
llm_refused_wake_at(void)
{
	return naside == 0 ? DT_NOEND : wake_at;
}

int
llm_refused_aside(int64 **tasks)
{
	int n = 0;
	dlist_iter iter;

	*tasks = palloc(sizeof(int64) * Max(naside, 1));
	if (naside == 0)
		return 0;
	dlist_foreach(iter, &in_order)
	{
		const LlmRefusedTask *refused = dlist_container(LlmRefusedTask, node, iter.cur);

		if (refused->aside)
			(*tasks)[n++] = refused->task;
	}
	return n;
}

void
llm_refused_report(LlmRefusedTask *refused, Oid role, const char *what)
{
	char subject[40];
	char problem[200];
	char hint[200];

	subject_of(refused->task, subject, sizeof(subject));
	snprintf(problem, sizeof(problem), "refused %d times while others are answered (%s); it alone waits",
			 refused->refusals, what);
	snprintf(hint, sizeof(hint), "SELECT * FROM llm.ledger WHERE task = " INT64_FORMAT "; it is asked again a few times, and fails then. To give it up: SELECT llm.cancel(task => " INT64_FORMAT ");",
			 refused->task, refused->task);
	llm_shmem_report_problem_of(role, subject, problem, hint);
	refused->role = role;
	refused->reported = true;
}
