/*-------------------------------------------------------------------------
 *
 * share.c
 *	  The share of a job's cost that retries may take.
 *
 * A retry is the request that follows a charged failure of the same task.  A bad
 * question over 50,000 rows would be paid max_tries times for each of them; here
 * the rest of such a job fails at the first fault instead, as soon as retries have
 * taken "llm_enrich.max_retry_share" of what the job cost (retry.c does the sum).
 *
 * Called by the scheduler for each set that it stores.  Costs nothing as long as
 * nothing fails.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/guc.h"
#include "dialect/dialect.h"
#include "money/dollars.h"
#include "send/flight.h"
#include "send/retry.h"
#include "send/share.h"
#include "tables/ledger.h"

/* Tokens of what every second asking says beside the answer and its fault, rounded up. */
#define WORDS_AGAIN 16

/* Would the task be asked again after a failure that was charged to it? */
static bool
is_to_be_retried(const LlmSettlement *s)
{
	return s->charged && s->letter == NULL && llm_task_is_open(s->state);
}

static LlmFlight *
flight_of(LlmSettlement *s)
{
	return (LlmFlight *) ((char *) s - offsetof(LlmFlight, settlement));
}

static bool
is_of_vectors(const LlmFlight *flight)
{
	return flight->recipe != NULL && flight->recipe->recipe->op->kind == LLM_REQUEST_EMBED;
}

/* What the failed request took, and what the next one says of its answer, the next one will take. */
static int64
tokens_of_retry(LlmSettlement *s)
{
	const LlmUsage *usage = &s->usage;
	int64 tokens = usage->input + usage->cached + usage->cache_write + usage->output;

	if (s->message == NULL || is_of_vectors(flight_of(s)))
		return tokens; /* asked in the same words */
	if (s->last_answer != NULL)
		tokens += llm_dialect_estimate_tokens(s->last_answer, strlen(s->last_answer));
	return tokens + llm_dialect_estimate_tokens(s->message, strlen(s->message)) + WORDS_AGAIN;
}

/* Why the task is not asked again: one text for the job, one for the task. */
static void
hold_back(LlmSettlement *s, const LlmRetrySums *sums)
{
	LlmFlight *flight = flight_of(s);
	MemoryContext saved = MemoryContextSwitchTo(flight->context); /* outlives a store that fails */

	if (llm_retry_counts_dollars(sums))
		s->held_back = psprintf("retries have taken %s of %s dollars, and \"llm_enrich.max_retry_share\" is %g",
								llm_dollars(sums->retry_cost), llm_dollars(sums->cost), llm_guc_max_retry_share);
	else
		s->held_back = psprintf("retries have taken " INT64_FORMAT " of " INT64_FORMAT
								" tokens, and \"llm_enrich.max_retry_share\" is %g",
								sums->retry_tokens, sums->tokens, llm_guc_max_retry_share);
	s->message = psprintf("%s; not asked again: %s", s->error != NULL ? s->error : s->outcome, s->held_back);
	s->state = LLM_TASK_FAILED;
	s->failure = LLM_RETRY_SHARE_REASON;
	s->reason = NULL;
	s->not_before = 0;
	MemoryContextSwitchTo(saved);
}

static LlmRetrySums *
find_sums(LlmRetrySums *sums, int nsums, int64 job)
{
	for (int i = 0; i < nsums; i++)
	{
		if (sums[i].job == job)
			return &sums[i];
	}
	return NULL;
}

void
llm_share_settle(LlmSettlement **settlements, int n)
{
	LlmSettlement **failed = palloc(sizeof(LlmSettlement *) * Max(n, 1));
	LlmRetrySums *sums;
	int nfailed = 0;
	int nsums;

	llm_ledger_record_retries(settlements, n);
	for (int i = 0; i < n; i++)
	{
		if (is_to_be_retried(settlements[i]))
			failed[nfailed++] = settlements[i];
	}
	if (nfailed == 0)
		return;
	nsums = llm_ledger_retry_sums(failed, nfailed, &sums);
	for (int i = 0; i < nfailed; i++)
	{
		LlmSettlement *s = failed[i];
		LlmRetrySums *of_job = find_sums(sums, nsums, s->job);

		if (of_job == NULL)
			continue; /* the job is gone, and its task with it */
		if (llm_retry_within_share(of_job, tokens_of_retry(s), flight_of(s)->request->nflights,
								   llm_guc_max_retry_share))
			of_job->retries++;
		else
			hold_back(s, of_job);
	}
	llm_ledger_store_retries(sums, nsums);
}
