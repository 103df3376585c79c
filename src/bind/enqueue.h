/*-------------------------------------------------------------------------
 *
 * enqueue.h
 *	  Put the bound rows of a statement into llm.recipe, llm.job and llm.queue.
 *
 * Runs in the user's transaction, as the owner of the tables.  Called by
 * defer.c at the end of a statement (or when its buffer is full).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ENQUEUE_H
#define LLM_ENQUEUE_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "operation/operation.h"

/* One call site and column of one statement.  Lives as long as the statement. */
typedef struct LlmNewJob
{
	int64 id; /* 0 until written */
	const LlmOperation *op;
	Jsonb *spec;
	const char *model; /* alias, or NULL: the default when it is sent */
	int priority;
	Jsonb *tags; /* or NULL */
	TimestampTz deadline; /* DT_NOEND: none */
	Oid role; /* GetUserId() at bind time */
	Oid relation; /* as the statement named it: table or view */
	const char *column_name; /* in that relation */
	List *key_columns; /* of char *: names in that relation, in key order */
	int number; /* from 1, over the statement */
	int64 queued; /* rows written so far */

	/* enqueue.c's own */
	int64 recipe; /* llm.recipe.id */
	text *application; /* of this session, where the job is shared and another one's; or NULL */
	int64 in_set; /* rows of the set that is being written */
} LlmNewJob;

typedef struct LlmNewTask
{
	int64 id; /* as in the marker */
	LlmNewJob *job;
	Oid leaf; /* tableoid of the stored row */
	Jsonb *key; /* {"id": 42}: numbers as numbers, all else as text made under pinned settings */
	text *input; /* not out of line; may be compressed */
	int64 same_as; /* the task of this job that asked the same of the same input first; 0: this one */
} LlmNewTask;

/*
 * Write a set.  "jobs" are all LlmNewJob of the statement so far.  "last" tells that the
 * statement is over: the totals of jobs are final, and a job with one row in all is
 * shared with other such statements of the day.
 */
extern void llm_enqueue_tasks(LlmNewTask *tasks, int ntasks, List *jobs, bool last);

/* A task whose marker was overwritten, and the cell where it was: a copy elsewhere is none. */
typedef struct LlmOldTask
{
	int64 id;
	Oid leaf; /* tableoid of the stored row */
	Jsonb *key;
	const char *column_name;
} LlmOldTask;

/*
 * Supersede those of these tasks that are not sent yet.  Never waits: what a worker holds
 * is left to the writer, who will see that the marker is gone.
 */
extern void llm_enqueue_supersede(const LlmOldTask *tasks, int ntasks);

/*
 * Is this task still on its way, for the same role, column, key, recipe, model and
 * input?  Then asking again would pay twice for one answer.
 */
extern bool llm_enqueue_is_same(int64 task, const LlmNewJob *job, Jsonb *key, text *input);

/* The job that this session queued last, 0 if none; not one that was rolled back. */
extern int64 llm_enqueue_last_job(void);
extern void llm_enqueue_note_last_job(int64 job);

/* Next task id; ids are drawn in blocks and never reused. */
extern int64 llm_enqueue_next_id(void);

#endif /* LLM_ENQUEUE_H */
