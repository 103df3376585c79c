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

#include "base/llm_enrich.h"

#include "nodes/pg_list.h"
#include "operation/operation.h"
#include "tables/budget.h"

/* A job that has tasks to send.  Strings live in the context of the call. */
typedef struct LlmJobRow
{
	int64 id;
	Oid role;
	char *model; /* alias, or NULL */
	int priority;
	char *reason; /* as stored now, or NULL */
	bool shared; /* single-row statements of a day add to it, each in its own time */
	int max_concurrency; /* 0: no matter */
	LlmRequestKind kind; /* of its requests */
	bool fresh; /* no kept answer will do */
	int64 recipe;
	Oid relation;
	Jsonb *tags; /* or NULL */
	bool capped; /* by llm_enrich.max_cost */
	int64 max_cost; /* then: nanodollars */
	int64 spent; /* and what it has cost so far */
} LlmJobRow;

/*
 * Open jobs above "after" with at least one ready task, as a list of LlmJobRow in the
 * current context: of each role, model and priority the first "each" by id, at most
 * "limit" in all, and the first ones of all before the second of any.
 */
extern List *llm_job_find_ready(int64 after, int each, int limit);

/* Those of these jobs that there are, as LlmJobRow, whatever their state. */
extern List *llm_job_get_some(const int64 *ids, int n);

/* One job by id, or NULL. */
extern LlmJobRow *llm_job_get(int64 id);

/* Operation and spec of a recipe, loaded in the current context; NULL when it is gone. */
extern LlmRecipe *llm_job_recipe(int64 recipe);

/*
 * Note why jobs wait (NULL: it does not).  Skips those that are locked: how many need
 * not be told again, and which in "jobs": noted, or NULL for one that is open no more.
 */
extern int llm_job_set_reasons(int64 *jobs, const char **reasons, int n);

/* Close jobs of past days that have no task left; true: there may have been some. */
extern bool llm_job_close_days(void);

#endif /* LLM_JOB_H */
