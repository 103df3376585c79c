/*-------------------------------------------------------------------------
 *
 * writeback_queue.h
 *	  The writer's half of the queue: find, claim, settle, put off.
 *
 *	  find_jobs()  jobs with settled tasks
 *	  claim()      lock some tasks of one job until the transaction ends
 *	  settle()     once, when each claimed row has its fate
 *
 * All run as the owner of our tables (spi.h) and inside a transaction of the
 * writer.  Only writeback*.c call these.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_QUEUE_H
#define LLM_WRITEBACK_QUEUE_H

#include "base/llm_enrich.h"

#include "access/attnum.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* What becomes of a claimed row. */
typedef enum LlmFate
{
	LLM_FATE_OPEN = 0, /* not decided: stays settled, comes again */
	LLM_FATE_WAITING, /* somebody holds a lock: later */
	LLM_FATE_AGAIN, /* the answer is not as the user's conditions want it: it is asked again */
	LLM_FATE_DONE, /* these are final */
	LLM_FATE_FAILED,
	LLM_FATE_SUPERSEDED,
	LLM_FATE_CANCELLED,
	LLM_FATE_ROW_GONE
} LlmFate;

typedef struct LlmWriteRow
{
	int64 task;
	int64 same_as; /* task that it followed, 0: none */
	int64 landed; /* transaction of the sender that settled it; 0: somebody else did */
	Oid leaf; /* table that held the row when it was bound */
	char **key; /* values of the job's key columns as text */
	char *outcome; /* answered, failed, cancelled, superseded */
	Jsonb *answer; /* or NULL */
	char *error; /* why it failed, or NULL */
	char *message; /* or NULL */
	bool locked; /* the role saw row and marker, and holds the row's lock */
	bytea *fence; /* of quiet cells, what follows, too; else NULL */
	Jsonb *leaves; /* or NULL */
	char *input; /* of jobs with conditions, else NULL */
	int tries;
	Datum value; /* as evaluated from the answer */
	bool value_is_null;
	LlmFate fate;
	const char *reason; /* failed: short name */
	char *explanation; /* failed: sentence */
} LlmWriteRow;

typedef struct LlmWriteJob
{
	int64 id;
	Oid role;
	Oid relation; /* as the statement named it */
	char *relation_name;
	char *column; /* by the name of then */
	int nkeys;
	char **keys; /* names of columns then, as the tasks' keys have them */
	AttrNumber *numbers; /* of these columns, the one for answers first; NULL: not known, go by the names */
	Jsonb *settings; /* or NULL */
	char *shape; /* see shape.h: when it was asked; or NULL */
	char *shape_put_off; /* the one it was put off for; or NULL */
	bool paused; /* it was when it was looked for, or taken */
	bool withheld; /* it is put off for its shape: only what was cancelled is claimed */
	bool is_quiet; /* its cells show nothing of their tasks */
	Jsonb *cell; /* llm.job.cell, of quiet cells */
	Jsonb *spec; /* of the recipe, where it has conditions; else NULL */
	LlmWriteRow *rows;
	int nrows;
	int nclaimed; /* rows as claimed; some may have been dropped from "rows" since */
	bool finished; /* nothing of it is left in the queue */
	bool promoted; /* others ask now in place of tasks that ended: the sender has work */
	bool blocked; /* the table itself cannot be written now */
	const char *put_off; /* why rows have to wait; NULL: somebody has a lock */
	int delay_ms; /* rows that have to wait wait so long at least; the job, too, when it is blocked */
} LlmWriteJob;

/* Jobs above "after" with settled tasks, by id; a list of LlmWriteJob in the current context. */
extern List *llm_writeback_find_jobs(int64 after, int limit);

/* Fill job->rows with at most "limit" settled tasks, in the order of settling; fewer when answers are large. */
extern void llm_writeback_claim(LlmWriteJob *job, int limit);

/* Lock the job's row, which settling a final fate writes, and see whether it is paused now; false when somebody holds it. */
extern bool llm_writeback_take_job(LlmWriteJob *job);

/*
 * Does the relation run and obey what it did when it was asked, or what somebody let through,
 * or is that of no account?  Otherwise the job is put off, or locked: nothing of it may be
 * written.  Locks the relation and those that a write to it concerns.
 */
extern bool llm_writeback_may_write(LlmWriteJob *job);

/*
 * Rows whose quiet cells have been asked about again since are superseded; tested when they
 * are locked.  As the owner of our tables.
 */
extern void llm_writeback_pass_over_asked(LlmWriteRow **rows, int n);

/* Rows with a final fate leave the queue, waiting ones wait. */
extern void llm_writeback_settle(LlmWriteJob *job);

/* Rows that waited come back when their time has come; how many did. */
extern uint64 llm_writeback_wake(int limit);

/* The clock was set back: let all come back that wait for a time farther ahead than any wait is. */
extern uint64 llm_writeback_wake_ahead(void);

/*
 * Tasks that somebody cancelled and that are not under way end; looks at so many
 * cancellations.  True when it should be called again soon: more are there, or a task is locked.
 */
extern bool llm_writeback_stop_cancelled(int limit);

/* Tasks that were not sent fail when their job's deadline is over; how many did. */
extern uint64 llm_writeback_fail_late(int limit);

/* Tasks that were not sent fail when the role that asked is gone; how many did. */
extern uint64 llm_writeback_fail_roleless(int limit);

/* When the next waiting row or deadline is due; DT_NOEND when there is none. */
extern TimestampTz llm_writeback_next_due(void);

/* Nothing in the queue at all?  Then cancellations of final tasks go, too. */
extern bool llm_writeback_is_empty(void);

extern void llm_writeback_fail(LlmWriteRow *row, const char *reason, char *explanation);

#endif /* LLM_WRITEBACK_QUEUE_H */
