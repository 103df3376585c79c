/*-------------------------------------------------------------------------
 *
 * job.h
 *	  Jobs and recipes as the sender reads them.
 *
 * All inside a transaction of the sender (spi.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_JOB_H
#define LLM_JOB_H

#include "llm_enrich.h"

#include "nodes/pg_list.h"
#include "operation.h"

/* A job that has tasks to send.  Strings live in the context of the call. */
typedef struct LlmJobRow
{
	int64 id;
	Oid role;
	char *model; /* alias, or NULL */
	int priority;
	char *reason; /* as stored now, or NULL */
	bool check; /* of llm.check() */
	bool shared; /* single-row statements of a day add to it, each in its own time */
} LlmJobRow;

/*
 * Open jobs above "after" with at least one ready task, by id: at most "limit"
 * of them, as a list of LlmJobRow in the current context.
 */
extern List *llm_job_find_ready(int64 after, int limit);

/* One job by id, or NULL. */
extern LlmJobRow *llm_job_get(int64 id);

/* Operation and spec of a recipe, loaded in the current context; NULL when it is gone. */
extern LlmRecipe *llm_job_recipe(int64 recipe);

/* Note why a job waits (NULL: it does not).  Skips jobs that are locked. */
extern void llm_job_set_reasons(const int64 *jobs, const char **reasons, int n);

/* Close jobs of past days that have no task left. */
extern void llm_job_close_days(void);

/* A job for llm.check(): no table, one task. */
extern int64 llm_job_add_check(Oid role, const char *role_name, const char *model, int64 *recipe);

/* The ready tasks of so many jobs at most are looked at in one pass. */
#define LLM_JOBS_PER_PASS 256

#endif /* LLM_JOB_H */
