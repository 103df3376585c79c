/*-------------------------------------------------------------------------
 *
 * joblist.c
 *	  The jobs that have something to send.
 *
 * Memory holds a bounded number of jobs, and of each role, model and priority a
 * part of that; when it is full, the largest of these groups gives way to a small one.
 * So a target that is paused or slow may gather any number of jobs, of however many
 * roles, without keeping those of others out.
 *
 * Claiming goes upwards by task id, and each job remembers how far it came
 * ("after"): no claim walks over entries of tasks that are gone, which a long
 * open snapshot would keep in the index.  A task that becomes ready again below
 * that mark lowers it.  The sweep starts all jobs from the bottom.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "send/joblist.h"
#include "tables/job.h"

/*
 * Transactions commit out of order of their job's ids: look again at so many
 * ids below the newest that was seen, and always at those that others add to.
 */
#define LATE_COMMIT_WINDOW 1000

/* Old jobs may have been resumed, or got a task: they are looked at, too, but less often where there are many. */
#define WIDE_US INT64CONST(2000000)
#define LONGEST_WIDE_US INT64CONST(60000000)
#define WIDE_FACTOR 50

/* Jobs in mind: of one role, model and priority, and in all. */
#define JOBS_OF_GROUP 256
#define JOBS_IN_MIND 4096

/* Jobs that were left out are looked for when so many others have gone. */
#define JOBS_GONE (JOBS_OF_GROUP / 2)

typedef struct JobEntry
{
	int64 id; /* hash key: must be first */
	LlmJob *job;
} JobEntry;

/* Jobs of one role, model and priority; two models of one hash share a group's room, which does no harm. */
typedef struct JobGroupKey
{
	Oid role;
	int priority;
	uint32 model;
} JobGroupKey;

typedef struct JobGroup
{
	JobGroupKey key; /* hash key: must be first */
	int njobs;
} JobGroup;

/* All static: the sender's life. */
static dlist_head jobs = DLIST_STATIC_INIT(jobs); /* in the order of service */
static HTAB *jobs_by_id = NULL; /* the same, as JobEntry */
static int njobs = 0;
static int64 newest_seen = 0; /* highest job id ever found ready */
static bool left_out = false; /* there were more jobs than room */
static TimestampTz wide_at = DT_NOBEGIN; /* old jobs are looked at again from then on */
static bool narrow = false; /* the last look was at new ones only */
static int ngone = 0; /* jobs forgotten since then */

dlist_head *
llm_joblist_all(void)
{
	return &jobs;
}

LlmJob *
llm_joblist_find(int64 id)
{
	JobEntry *entry = jobs_by_id == NULL ? NULL : hash_search(jobs_by_id, &id, HASH_FIND, NULL);

	return entry == NULL ? NULL : entry->job;
}

static void
create_job_table(void)
{
	HASHCTL ctl = {0};

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(JobEntry);
	jobs_by_id = hash_create("llm_enrich jobs", JOBS_OF_GROUP, &ctl, HASH_ELEM | HASH_BLOBS);
}

/* The entry for jobs of this role, model and priority, made when there is none. */
static JobGroup *
find_group(HTAB *groups, Oid role, const char *model, int priority)
{
	JobGroupKey key = {role, priority, model == NULL ? 0 : hash_bytes((const unsigned char *) model, strlen(model))};
	bool found;
	JobGroup *group = hash_search(groups, &key, HASH_ENTER, &found);

	if (!found)
		group->njobs = 0;
	return group;
}

/*
 * The groups of the jobs in mind, in the current context.  A job that has nothing to send
 * is soon forgotten and takes up no room of its group.
 */
static HTAB *
count_groups(void)
{
	HASHCTL ctl = {.keysize = sizeof(JobGroupKey), .entrysize = sizeof(JobGroup), .hcxt = CurrentMemoryContext};
	HTAB *groups = hash_create("llm_enrich groups of jobs", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_iter iter;

	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (!job->exhausted)
			find_group(groups, job->role, job->model, job->priority)->njobs++;
	}
	return groups;
}

/* What llm.health says of a job; NULL: nothing. */
static void
report(const LlmJob *job, const char *problem, const char *hint)
{
	char subject[32];

	snprintf(subject, sizeof(subject), "job " INT64_FORMAT, job->id);
	llm_shmem_report_problem_of(job->role, subject, problem, hint);
}

static void
add_job(const LlmJobRow *row)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llm_enrich job", ALLOCSET_SMALL_SIZES);
	LlmJob *job = MemoryContextAllocZero(context, sizeof(LlmJob));

	job->context = context;
	job->id = row->id;
	job->role = row->role;
	job->model = row->model == NULL ? NULL : MemoryContextStrdup(context, row->model);
	job->priority = row->priority;
	job->shared = row->shared;
	job->fresh = row->fresh;
	job->max_concurrency = row->max_concurrency;
	job->kind = row->kind;
	job->recipe = row->recipe;
	llm_afford_start(&job->afford, row, context);
	job->reason = row->reason == NULL ? NULL : MemoryContextStrdup(context, row->reason);
	((JobEntry *) hash_search(jobs_by_id, &job->id, HASH_ENTER, NULL))->job = job;
	dlist_push_tail(&jobs, &job->node);
	njobs++;
	report(job, NULL, NULL); /* what a sender that was killed had said of it */
}

static void
forget_job(LlmJob *job)
{
	if (job->held_back != NULL)
		report(job, NULL, NULL);
	dlist_delete(&job->node);
	hash_search(jobs_by_id, &job->id, HASH_REMOVE, NULL);
	njobs--;
	MemoryContextDelete(job->context);
}

/*
 * The jobs in mind, after a look at those above "from" that found these: what was looked
 * for and not found has nothing to send.  A target that is paused gives no claim by which
 * that would show.  An older job gets ready tasks by put_back(), unless others add to it.
 */
static void
take_stock(int64 from, bool from_bottom, List *found)
{
	dlist_iter iter;

	dlist_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (job->id > from || job->shared)
			job->exhausted = true;
		if (!from_bottom && !job->shared)
			continue;
		job->after = 0;
		llm_afford_look_again(&job->afford);
	}
	foreach_ptr(LlmJobRow, row, found)
	{
		LlmJob *job = llm_joblist_find(row->id);

		if (job != NULL)
			job->exhausted = false;
	}
}

/*
 * Memory is full: forget a job, so that one of a group that has so few has room.  The
 * job is one without a request in flight of the largest group; false when that group
 * has not more than twice as many.
 */
static bool
make_room(HTAB *groups, int few)
{
	HASH_SEQ_STATUS scan;
	JobGroup *largest = NULL;
	JobGroup *group;
	dlist_iter iter;

	hash_seq_init(&scan, groups);
	while ((group = hash_seq_search(&scan)) != NULL)
	{
		if (largest == NULL || group->njobs > largest->njobs)
			largest = group;
	}
	if (largest == NULL || largest->njobs <= 2 * (few + 1))
		return false;
	dlist_reverse_foreach(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (job->flights > 0 || job->aside > 0 || job->exhausted ||
			find_group(groups, job->role, job->model, job->priority) != largest)
			continue;
		largest->njobs--;
		left_out = true;
		forget_job(job);
		return true;
	}
	return false;
}

/* Keep in mind a job that was found, or note that it was left out. */
static void
take_in(HTAB *groups, const LlmJobRow *row)
{
	JobGroup *group = find_group(groups, row->role, row->model, row->priority);

	if (group->njobs >= JOBS_OF_GROUP || (njobs >= JOBS_IN_MIND && !make_room(groups, group->njobs)))
	{
		left_out = true;
		return;
	}
	group->njobs++;
	add_job(row);
}

void
llm_joblist_discover(bool all, TimestampTz now)
{
	bool wide = all || now >= wide_at || now < wide_at - LONGEST_WIDE_US;
	int64 from = wide ? 0 : Max(0, newest_seen - LATE_COMMIT_WINDOW);
	TimestampTz began = llm_clock_steady();
	List *found;
	HTAB *groups;

	if (jobs_by_id == NULL)
		create_job_table();
	if (wide)
	{
		left_out = false;
		ngone = 0;
	}
	/* one more than there is room for: so it shows that there are more */
	found = llm_job_find_ready(from, JOBS_OF_GROUP + 1, JOBS_IN_MIND + 1);
	take_stock(from, all, found);
	groups = count_groups();
	foreach_ptr(LlmJobRow, row, found)
	{
		newest_seen = Max(newest_seen, row->id);
		if (llm_joblist_find(row->id) == NULL)
			take_in(groups, row);
	}
	hash_destroy(groups);
	narrow = !wide;
	if (wide)
		wide_at = now + Min(Max(WIDE_US, (llm_clock_steady() - began) * WIDE_FACTOR), LONGEST_WIDE_US);
}

TimestampTz
llm_joblist_wide_due(void)
{
	return narrow ? wide_at : DT_NOEND;
}

void
llm_joblist_look_for_all(void)
{
	left_out = true;
	ngone = JOBS_GONE;
}

bool
llm_joblist_wants_more(void)
{
	return left_out && (ngone >= JOBS_GONE || njobs == 0);
}

LlmRoute *
llm_joblist_destination(const LlmJob *job, const LlmClaim *claim)
{
	LlmRoute *other = claim->elsewhere ? llm_route_fallback(job->home) : NULL;

	return other != NULL ? other : job->route;
}

void
llm_joblist_reread(void)
{
	int64 *ids = palloc(sizeof(int64) * Max(njobs, 1));
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, &jobs)
		ids[n++] = dlist_container(LlmJob, node, iter.cur)->id;
	foreach_ptr(const LlmJobRow, row, llm_job_get_some(ids, n))
	{
		LlmJob *job = llm_joblist_find(row->id);

		if (job == NULL)
			continue;
		job->priority = row->priority;
		job->max_concurrency = row->max_concurrency;
		job->wrong_model = 0;
		if (row->model == NULL ? job->model == NULL : job->model != NULL && strcmp(row->model, job->model) == 0)
			continue;
		job->model = row->model == NULL ? NULL : MemoryContextStrdup(job->context, row->model);
		job->home = NULL;
	}
}

void
llm_joblist_put_back(LlmJob *job, int64 task)
{
	job->after = Min(job->after, task - 1);
	job->exhausted = false;
	llm_afford_look_again(&job->afford);
}

void
llm_joblist_hold_back(LlmJob *job, const char *why)
{
	StringInfoData problem;
	char *hint;

	if (job->held_back != NULL)
		return;
	hint = psprintf("SELECT * FROM llm.dead_letter WHERE job = " INT64_FORMAT "; says what is wrong. To ask again, as a new job: SELECT llm.retry(job => " INT64_FORMAT ");",
					job->id, job->id);
	initStringInfo(&problem);
	appendStringInfo(&problem, "failed tasks are not asked again: %s", why);
	job->held_back = MemoryContextStrdup(job->context, problem.data);
	ereport(LOG,
			(errmsg("failed tasks of job " INT64_FORMAT " are not asked again", job->id),
			 errdetail_internal("%s", why),
			 errhint("%s", hint)));
	report(job, problem.data, hint);
	pfree(problem.data);
	pfree(hint);
}

void
llm_joblist_trim(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &jobs)
	{
		LlmJob *job = dlist_container(LlmJob, node, iter.cur);

		if (!job->exhausted || job->flights > 0 || job->aside > 0 || job->reason != NULL)
			continue;
		forget_job(job);
		ngone++;
	}
}

bool
llm_joblist_is_empty(void)
{
	return dlist_is_empty(&jobs);
}
