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
	const char *kept; /* quiet cells: what is around the call, as JSON without settings; else NULL */
	Jsonb *cell; /* the same with the settings of the session, for llm.job.cell */
	int number; /* from 1, over the statement */
	int question; /* number of the first job of the statement that asks the same, for whatever column */
	int64 queued; /* rows written so far */

	int64 not_asked; /* rows left out, since the same question has failed for them */
	int64 failed_job; /* where that was; -1: in several */
	int64 none_rows; /* rows left out, since the answer to the same question was NULL */
	int64 asked_rows; /* rows that keep the task of a job that is asking */
	int64 kept_rows; /* rows that keep the task of a paused job */
	int64 kept_job; /* which; -1: several */

	/* confirm.c's own */
	int64 calls; /* tasks that will be asked */
	double input_bytes; /* of their inputs */
	int64 looked; /* bytes of some of these, and how many are ASCII */
	int64 ascii;
	struct LlmKeptShare *kept_share; /* looks up which of these have a kept answer; NULL: not yet, or none has */
	bool is_kept_known; /* kept_share was made, if there is one */
	double kept_calls; /* how many have, when the statement is over */
	bool is_estimated;
	double estimated_cost; /* US dollars */
	double statement_low; /* of all jobs of the statement */
	double statement_high;
	bool statement_is_priced;
	bool is_unconfirmed; /* it is queued paused */

	/* enqueue.c's own */
	int64 recipe; /* llm.recipe.id */
	text *application; /* of this session, where the job is shared and another one's; or NULL */
	int64 in_set; /* rows of the set that is being written */
	bool shared; /* with other statements of the day */
	bool noted; /* session.c knows of it */
} LlmNewJob;

typedef struct LlmNewTask
{
	int64 id; /* as in the marker */
	LlmNewJob *job;
	Oid leaf; /* tableoid of the stored row */
	Jsonb *key; /* {"id": 42}: numbers as numbers, all else as text made under pinned settings */
	text *input; /* not out of line; may be compressed */
	int64 same_as; /* the task that asked the same of the same input first; 0: this one */

	/* of quiet cells; cell is 0 for the others */
	int64 cell; /* the cell's number */
	bytea *fence; /* what must still hold, see cell/image.h */
	Jsonb *leaves; /* parts of the expression around the call, as texts; or NULL */
	bool is_blank; /* the input is: it fails without a request */
} LlmNewTask;

/*
 * Write a set.  "jobs" are all LlmNewJob of the statement so far.  "last" tells that the
 * statement is over: the totals of jobs are final, and a job with one row in all is
 * shared with other such statements of the day.
 */
extern void llm_enqueue_tasks(LlmNewTask *tasks, int ntasks, List *jobs, bool last);

/*
 * Of tasks for quiet cells, those that need not be queued: the same question for the cell
 * is on its way, or has failed.  NULL: there is none.  Supersedes the others' predecessors
 * (enqueue_again.c).  "jobs" are all of the statement so far.
 */
extern bool *llm_enqueue_find_asked(const LlmNewTask *tasks, int ntasks, List *jobs);

/* Tell what was not asked again, one NOTICE per job of the statement. */
extern void llm_enqueue_tell_failed(List *jobs);

/* What "cell" of a job is to be: made where the settings are still those of the session. */
extern Jsonb *llm_enqueue_cell_description(const LlmNewJob *job);

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
 * is left to the writer, which will see that the marker is gone.
 */
extern void llm_enqueue_supersede(const LlmOldTask *tasks, int ntasks);

/*
 * Is this task still on its way, for the same role, column, key, recipe, model and
 * input?  Then asking again would pay twice for one answer.
 */
extern bool llm_enqueue_is_same(int64 task, LlmNewJob *job, Jsonb *key, text *input);

/* Instructions as a part of a recipe's content, checked (22023). */
extern Jsonb *llm_enqueue_instructions(text *instructions);

/* What llm_enrich.carry_settings names, as it is set now; with search_path, if asked for. */
extern Jsonb *llm_enqueue_carried_settings(bool with_path);

/* Next task id; ids are drawn in blocks and never reused. */
extern int64 llm_enqueue_next_id(void);

#endif /* LLM_ENQUEUE_H */
