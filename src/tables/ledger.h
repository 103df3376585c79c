/*-------------------------------------------------------------------------
 *
 * ledger.h
 *	  One row per HTTP request and task, and the running cost of each job.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LEDGER_H
#define LLM_LEDGER_H

#include "base/llm_enrich.h"

#include "tables/queue.h"

/*
 * Book requests.  Cost is tokens times the price in force when they were sent,
 * in exact numeric dollars; NULL when no price is known and there were tokens.
 */
extern void llm_ledger_record(LlmSettlement **settlements, int n);

/*
 * What a job has spent so far, and on retries: requests that follow a charged failure of
 * the same task.
 */
typedef struct LlmRetrySums
{
	int64 job;
	double cost; /* US dollars; 0 where no price is known */
	double retry_cost;
	int64 tokens; /* all classes */
	int64 retry_tokens;
	int64 retries; /* charged failures that were to be asked again */
	int64 retried; /* of these, those whose next request is over */
} LlmRetrySums;

/* Add what those of the settlements that are retries cost; they are in the ledger already. */
extern void llm_ledger_record_retries(LlmSettlement **settlements, int n);

/* The sums of the settlements' jobs, these included, in the current context; how many. */
extern int llm_ledger_retry_sums(LlmSettlement **settlements, int n, LlmRetrySums **sums);

/* Keep what has become of "retries". */
extern void llm_ledger_store_retries(const LlmRetrySums *sums, int n);

/*
 * Cost of a settlement that has just been recorded, as numeric US dollars in the current
 * context; NULL (*isnull) where no price is known and there were tokens.
 */
extern Datum llm_ledger_cost(const LlmSettlement *settlement, bool *isnull);

/*
 * The dearest prices of llm.price.id, of any class of input, of output, of long prompts, and of that class of
 * service (NULL: the usual one): US dollars per million tokens.  False where it is not known in full;
 * *has_tier, unless NULL, says whether that class is.
 */
extern bool llm_ledger_dearest(int64 price, const char *tier, double *input, double *output, bool *has_tier);

/* Uncached and cached input, cache writes and output: what has prices of its own. */
#define LLM_TOKEN_CLASSES 4

/*
 * The prices at which so much input would be booked in that class of service, and the dearest as above; false where
 * they are not known.  For a session's statement.
 */
extern bool llm_ledger_prices(int64 price, const char *tier, int64 tokens, double *prices, double *input,
							  double *output);

#endif /* LLM_LEDGER_H */
