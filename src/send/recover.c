/*-------------------------------------------------------------------------
 *
 * recover.c
 *	  What a dead sender left claimed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/fence.h"
#include "base/shmem.h"
#include "base/spi.h"
#include "money/budget.h"
#include "send/afford.h"
#include "send/flight.h"
#include "send/flight_usage.h"
#include "send/letters.h"
#include "send/recover.h"
#include "send/share.h"
#include "tables/job.h"
#include "tables/ledger.h"

/* Orphans settled in one transaction: so many, or inputs of so many bytes; a single larger one goes alone. */
#define ORPHAN_ROWS 500
#define ORPHAN_BYTES (16 * 1024 * 1024)

static int
compare_requests(const ListCell *a, const ListCell *b)
{
	int64 left = ((const LlmClaim *) lfirst(a))->request;
	int64 right = ((const LlmClaim *) lfirst(b))->request;

	return (left > right) - (left < right);
}

/* Crashes of ours are not charged to the tasks, which are asked again. */
static LlmRequest *
make_orphan(LlmClaim *const *claims, int n, TimestampTz now)
{
	LlmJobRow *job = llm_job_get(claims[0]->job);
	LlmRoute *home = job == NULL ? llm_route_find(NULL, InvalidOid, LLM_REQUEST_CHAT, now)
								 : llm_route_find(job->model, job->role, job->kind, now);
	LlmRoute *other = claims[0]->asked == NULL ? NULL : llm_route_find(claims[0]->asked, home->role, home->kind, now);
	LlmRoute *route = other != NULL && other->target->server != NULL ? other : home;
	LlmRequest *request = llm_request_make(claims, n, route, llm_flight_recipe(claims[0]->recipe));
	LlmUsage guess = {.output = llm_flight_usual_output(request)};

	/* its length was wanted; many of them may be all that was in memory when the sender died of that */
	if (request->exchange.body != NULL)
		pfree(unconstify(char *, request->exchange.body));
	request->exchange.body = NULL;
	for (int i = 0; i < n; i++)
	{
		LlmSettlement *s = &request->flights[i].settlement;

		if (i > 0 && claims[i]->job != claims[i - 1]->job)
			job = llm_job_get(claims[i]->job);
		s->spender.relation = job == NULL ? InvalidOid : job->relation;
		s->spender.tags = job == NULL ? NULL : job->tags;
		guess.input += llm_dialect_estimate_tokens(claims[i]->input, claims[i]->input_len);
		s->outcome = "unknown";
		s->error = "the sender ended before the answer came";
		s->state = LLM_TASK_READY;
	}
	guess.input = Max(guess.input, request->input_tokens);
	llm_flight_divide_usage(request, &guess, true);
	return request;
}

/* The requests that carried these tasks; a list of LlmRequest. */
static List *
make_requests(List *orphans, TimestampTz now)
{
	int n = list_length(orphans);
	LlmClaim **claims = palloc(sizeof(LlmClaim *) * Max(n, 1));
	List *requests = NIL;
	int from = 0;
	ListCell *lc;

	list_sort(orphans, compare_requests);
	foreach(lc, orphans)
		claims[foreach_current_index(lc)] = lfirst(lc);
	for (int i = 1; i <= n; i++)
	{
		if (i < n && claims[i]->request == claims[from]->request)
			continue;
		requests = lappend(requests, make_orphan(&claims[from], i - from, now));
		from = i;
	}
	return requests;
}

/* One transaction of recover(): how many it settled, or -1 when the extension is gone. */
static int
recover_some(TimestampTz now)
{
	List *requests = NIL;
	LlmSettlement **settlements;
	List *orphans;
	ListCell *lc;
	bool cancelled = false;
	int n = 0;
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llm_enrich recover", ALLOCSET_DEFAULT_SIZES);

	llm_spi_begin("recover");
	MemoryContextSwitchTo(context);
	if (!llm_fence_check())
	{
		llm_spi_commit();
		return -1; /* the sender ends */
	}
	orphans = llm_queue_orphans(ORPHAN_ROWS, ORPHAN_BYTES);
	settlements = palloc(sizeof(LlmSettlement *) * Max(list_length(orphans), 1));
	requests = make_requests(orphans, now);
	foreach_ptr(LlmRequest, request, requests)
	{
		for (int i = 0; i < request->nflights; i++)
			settlements[n++] = &request->flights[i].settlement;
	}
	if (n > 0)
	{
		llm_money_resume();
		llm_ledger_record(settlements, n);
		llm_afford_settle(settlements, n);
		llm_money_flush();
		llm_share_settle(settlements, n);
		cancelled = llm_queue_settle(settlements, n);
	}
	llm_spi_commit();
	llm_money_keep();
	if (cancelled)
		llm_shmem_wake(MyDatabaseId, LLM_WORKER_WRITER);
	foreach(lc, requests)
		llm_request_free(lfirst(lc));
	MemoryContextDelete(context);
	return n;
}

/* The same for immediate calls: the caller is gone, or has been told. */
static int
recover_letters(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llm_enrich recover", ALLOCSET_DEFAULT_SIZES);
	int n;

	llm_spi_begin("recover");
	MemoryContextSwitchTo(context);
	n = llm_letters_recover();
	llm_spi_commit();
	llm_money_keep();
	MemoryContextDelete(context);
	return n;
}

/*
 * Settle what a dead sender left claimed: such a request may have been sent, so
 * it is booked with an estimate, and the task is asked again.
 */
bool
llm_recover(void)
{
	int n;

	do
		n = recover_some(llm_clock_steady());
	while (n > 0);
	while (n >= 0 && recover_letters() > 0)
		;
	llm_money_undo(); /* nothing is reserved any more */
	return n >= 0;
}
