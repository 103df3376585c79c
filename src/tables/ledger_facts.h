/*-------------------------------------------------------------------------
 *
 * ledger_facts.h
 *	  What rows of the ledger take from the job and from the price.
 *
 * Only ledger.c calls this, inside a transaction of the sender.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LEDGER_FACTS_H
#define LLM_LEDGER_FACTS_H

#include "base/llm_enrich.h"

#include "tables/queue.h"

/* Columns of a job, in this order. */
typedef enum LlmJobFact
{
	LLM_FACT_ROLE,
	LLM_FACT_APPLICATION,
	LLM_FACT_RELATION,
	LLM_FACT_COLUMN,
	LLM_FACT_OPERATION,
	LLM_FACT_TAGS,
	LLM_FACT_HIDES_KEY, /* NULL: it does not */
	LLM_JOB_FACTS
} LlmJobFact;

/* Of one job, by the numbers above; or of one price. */
typedef struct LlmLedgerFacts
{
	int64 id; /* hash key: must be first */
	Datum values[LLM_JOB_FACTS];
	bool nulls[LLM_JOB_FACTS];
} LlmLedgerFacts;

/* Read what is not known yet of the jobs and prices of these.  Facts given before may be gone then. */
extern void llm_ledger_facts_load(LlmSettlement **settlements, int n);

/* NULL when there was no such job. */
extern const LlmLedgerFacts *llm_ledger_facts_of_job(int64 job);

/* Has the price those of a class of service, by the provider's word, for so much input?  It has been loaded. */
extern bool llm_ledger_facts_has_tier(int64 price, const char *tier, const LlmUsage *usage);

/*
 * The dearest prices that a price has, of any class of input, of output, of long prompts, and of that class of
 * service (NULL: the usual one): US dollars per million tokens.  False where it is not known in full;
 * *has_tier, unless NULL, says whether that class is.
 */
extern bool llm_ledger_facts_dearest(int64 price, const char *tier, double *input, double *output, bool *has_tier);

/* What so much input costs there, by class, and the dearest; false as above.  In a session's statement. */
extern bool llm_ledger_facts_prices(int64 price, const char *tier, int64 tokens, double *prices, double *input,
									double *output);

/*
 * What the usage costs at the price (llm.price.id), of a class of service (or NULL) where it has that one, as
 * numeric US dollars in the current context; NULL where a price is missing, unless there is nothing to pay.
 */
extern Datum llm_ledger_facts_cost(int64 price, const char *tier, const LlmUsage *usage, bool *isnull);

#endif /* LLM_LEDGER_FACTS_H */
