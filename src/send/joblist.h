/*-------------------------------------------------------------------------
 *
 * joblist.h
 *	  The jobs that the sender has in mind: which have something to send, how
 *	  far each was claimed, and which get the next free slots.
 *
 *	  discover()  inside a transaction, when something may have been queued
 *	  plan()      free slots -> portions, limits respected; grants are in flight
 *	  claimed()   what a portion brought
 *	  undo()      instead, when the claim failed
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_JOBLIST_H
#define LLM_JOBLIST_H

#include "base/llm_enrich.h"

#include "lib/ilist.h"
#include "send/afford.h"
#include "send/flight.h"
#include "send/route.h"
#include "tables/queue.h"

typedef struct LlmJob
{
	dlist_node node;
	MemoryContext context;
	int64 id;
	Oid role;
	const char *model; /* alias, or NULL */
	int priority;
	bool shared; /* tasks are added to it as time goes, not in the order of their ids */
	LlmRoute *home; /* its model's; good until the next refresh of the routes, as is the next one */
	LlmRoute *route; /* where its tasks go in this pass: there, or to the fallback */
	bool probes; /* there, since one request is to try it; the others go on in the next pass */
	int64 after; /* tasks up to this id are not ready, as far as known */
	bool exhausted; /* nothing ready above "after", as far as known */
	bool fresh; /* no kept answer will do */
	TimestampTz wrong_model; /* when it was said that its model is of the other kind, which pauses it; 0: was not */
	int max_concurrency; /* requests in flight, at most; 0: no matter */
	LlmRequestKind kind; /* of its requests */
	int flights; /* its tasks that are claimed, and not stored */
	int requests; /* in flight: those whose first task is the job's */
	int aside; /* tasks that were refused, and wait: refused.c */
	char *reason; /* as stored in llm.job, or NULL */
	char *held_back; /* failed tasks are not asked again, and why; or NULL */
	int portion; /* tasks to claim in this pass, at most */
	int carried; /* tasks in a request, where the last claim had some that were full before that; 0: it had none */
	int64 recipe;
	LlmAfford afford; /* is there money for it */
} LlmJob;

/* Look for jobs with ready tasks; "all": also among those that are old. */
extern void llm_joblist_discover(bool all, TimestampTz now);

/* Jobs were left out for lack of room, and there is room again: discover() all. */
extern bool llm_joblist_wants_more(void);

/* When discover() is to look at old jobs, too, since it was asked and did not; DT_NOEND: it did. */
extern TimestampTz llm_joblist_wide_due(void);

/* A job that is not in mind has a task to send: the next discover() looks at all. */
extern void llm_joblist_look_for_all(void);

/*
 * For each route, in route->front, how many of its jobs have something to send at the highest
 * priority; how many routes have any, and can be used now.
 */
extern int llm_joblist_count_fronts(void);

/* Read again what somebody may have changed of the jobs in mind; inside a transaction. */
extern void llm_joblist_reread(void);

/* Resolve the routes of all jobs; after llm_route_refresh(). */
extern void llm_joblist_route(TimestampTz now);

/* What each job may claim, at most one portion for each, in the current context; how many. */
extern int llm_joblist_plan(int slots, int in_flight, TimestampTz now, LlmPortion **portions);

/* Is anything granted that is not claimed yet? */
extern bool llm_joblist_has_grants(void);

/*
 * What was claimed, and the loads that it makes (load.h): which of them leave ahead of a grant.  And how far the
 * portions have come.
 */
extern void llm_joblist_claimed(List *claims, List *loads, const LlmPortion *portions, int nportions);
extern void llm_joblist_undo(void);

extern LlmJob *llm_joblist_find(int64 id);

/* Where a task that was claimed goes: what its model's target has refused goes to the fallback. */
extern LlmRoute *llm_joblist_destination(const LlmJob *job, const LlmClaim *claim);
/* LlmJob by node; not to be changed. */
extern dlist_head *llm_joblist_all(void);

/* A task of the job is ready again. */
extern void llm_joblist_put_back(LlmJob *job, int64 task);

/* Failed tasks of the job are not asked again: say so, once. */
extern void llm_joblist_hold_back(LlmJob *job, const char *why);

/* When a limit lets the next request out; DT_NOEND when nothing waits for a limit. */
extern TimestampTz llm_joblist_wake_at(int slots, int in_flight);

/* Store why jobs wait, where that has changed; inside a transaction. */
extern bool llm_joblist_reasons_changed(void);
extern bool llm_joblist_store_reasons(void); /* true: a job has met a budget */

/* Forget jobs that have nothing to send and nothing in flight. */
extern void llm_joblist_trim(void);
extern bool llm_joblist_is_empty(void);

#endif /* LLM_JOBLIST_H */
