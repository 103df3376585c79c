/*-------------------------------------------------------------------------
 *
 * control.h
 *	  What users do to tasks that are queued: cancel, retry, wait.
 *
 * Runs in the user's transaction as the owner of our tables; whose tasks they
 * are is checked here against the role that called.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CONTROL_H
#define LLM_CONTROL_H

#include "base/llm_enrich.h"

#include "base/spi.h"
#include "bind/session.h"

/* Which tasks: all that is given must hold.  Zero and NULL: not given. */
typedef struct LlmSelection
{
	Oid relation; /* as the statement named it, or the partition that holds the row */
	const char *column_name;
	int64 job;
	int64 task;
	Datum reasons; /* text[]; 0: any */
	const char *server; /* of pause() and resume(): that the jobs' model is at now */
	const char *model; /* likewise: its alias */
} LlmSelection;

/* What else llm.retry() may be told. */
typedef struct LlmRetryChange
{
	const char *model; /* or NULL */
	text *instructions; /* or NULL */
	bool discard; /* ask nothing: cells get back what they held */
} LlmRetryChange;

/*
 * Both return the number of tasks.  Of a job that sessions share, and into which this one has
 * put tasks, cancel() by job alone takes only these.
 */
extern int64 llm_control_cancel(const LlmSelection *selection);
extern int64 llm_control_retry(const LlmSelection *selection, const LlmRetryChange *change);

/*
 * What a selection has found is nothing: a NOTICE says so where it can only be a mistake, a job that
 * there is not, or a reason that none of these dead letters has.
 */
extern void llm_control_tell_nothing(const LlmSelection *selection);

/* Stop jobs, and let jobs that were stopped go on; how many. */
extern int64 llm_control_pause(const LlmSelection *selection);
extern int64 llm_control_resume(const LlmSelection *selection);

/* A server, a model, or a role's tasks; all NULL: everything.  How many: pause() 0 when it is paused already. */
typedef struct LlmPauseOf
{
	const char *server;
	const char *model;
	Oid role; /* InvalidOid: any */
} LlmPauseOf;

extern int64 llm_control_pause_target(const LlmPauseOf *of);
extern int64 llm_control_resume_target(const LlmPauseOf *of);

/* What of a job is changed; NULL: stays. */
typedef struct LlmJobChange
{
	int *priority;
	int *max_concurrency; /* 0: no bound of its own */
	const char *model;
} LlmJobChange;

/* False when it is no open job of the caller's. */
extern bool llm_control_alter_job(int64 job, const LlmJobChange *change);

/* May the current role act for everybody's tasks? */
extern bool llm_control_is_admin(void);

/* For control*.c: the first six arguments of all statements over a selection, and which of them are NULL. */
extern void llm_control_selection_values(const LlmSelection *selection, Datum *values, char *nulls);

/* Forget that these cells were answered with NULL, so that they can be asked the same again; how many. */
extern int64 llm_control_forget_none(const LlmSelection *selection);

/* For control*.c: run as the owner of our tables; how many rows. */
extern int64 llm_control_count(LlmStatement *statement, Datum *values, const char *nulls);

typedef struct LlmJobStand
{
	bool found; /* exists, and the caller may see it, or has queued it in this session */
	bool finished; /* all that is waited for is final */
	bool paused;
	int64 final;
	int64 total; /* -1: not known, a job that single-row statements share; or another role's */
	char *reason; /* or NULL; another role's is not told */
} LlmJobStand;

/*
 * How a job, or some of its tasks, stand in a fresh snapshot.  "chain" ends the transaction and
 * starts the next, so that no snapshot is held afterwards: only in a CALL outside of a
 * transaction block.  The reason is in the current context, which must survive that.  "own":
 * this session's, whatever role it has now.
 */
extern void llm_control_stand(const LlmAwaited *awaited, bool own, bool chain, LlmJobStand *stand);

/*
 * What of a selection is not final now: an array in the current context, which must survive
 * the end of the transaction if "chain" is given.  Raises when a job is given that there is not.
 */
extern LlmAwaited *llm_control_await(const LlmSelection *selection, bool chain, int *n);

/* Drop from what this session has noted (session.h) what is over.  SPI is connected, as our tables' owner. */
extern void llm_control_tidy_session(void);

#endif /* LLM_CONTROL_H */
