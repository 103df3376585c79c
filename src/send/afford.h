/*-------------------------------------------------------------------------
 *
 * afford.h
 *	  Is there money for the next requests of a job, or for a letter?
 *
 *	  prepare()   in the transaction of a pass, with the routes: which budgets hold, what a request may cost
 *	  blocks()    any time: the job waits for money
 *	  portion()   what a claim of the job may cost
 *	  take()      what it has cost; claimed() once it has committed
 *	  settle()    after llm_ledger_record(): what is booked is no longer reserved
 *
 * A job that nothing bounds pays one comparison.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_AFFORD_H
#define LLM_AFFORD_H

#include "base/llm_enrich.h"

#include "money/budget.h"
#include "money/reserve.h"
#include "send/flight.h"
#include "tables/job.h"

/*
 * Tasks are claimed upwards by id.  Where the next one costs more than is left, later ones may
 * not: so it is passed over, and when the walk has come to the last task, the job waits until
 * there is as much as the cheapest of those needs, and then begins from the first of them.
 */
typedef struct LlmAfford
{
	bool bounded; /* something bounds what it may spend */
	LlmSpender spender; /* but for where it goes */
	LlmAccount account;
	LlmPurse purse; /* of max_cost */
	const LlmRoute *route; /* that it was prepared for */
	const LlmRoute *other; /* where tasks go that the route's target has refused; or NULL */
	uint64 number; /* of these, 0: none */
	uint64 other_number;
	bool reasons; /* as the route's model did then */
	TimestampTz learned_at; /* what a request of it takes */
	char *problem; /* it cannot be said what a request may cost; or NULL */
	LlmWorst worst; /* of both; but the cap is that of the route */
	int other_cap;
	int64 ever; /* the most that there can ever be */
	int64 mean; /* of what was reserved for its last requests */

	bool at_end; /* the walk is over */
	bool hopeless; /* since there was not enough for any task */
	int64 cheapest; /* of those that were passed over; PG_INT64_MAX: none */
	int64 passed_from; /* the walk begins again after this task */

	char *reason; /* why it waits; or NULL */
	TimestampTz told_at;
} LlmAfford;

/* What is known of the job; strings and tags are copied to the context. */
extern void llm_afford_start(LlmAfford *afford, const LlmJobRow *row, MemoryContext context);

/* "home" is the job's own route, whose fallback some of its tasks go to. */
extern void llm_afford_prepare(LlmAfford *afford, const LlmRoute *route, const LlmRoute *home, int64 recipe,
							   MemoryContext context, TimestampTz now);

extern bool llm_afford_blocks(const LlmAfford *afford);

/*
 * Fill in the bounds of a portion, and *after, where it starts.  False: jobs before it may take all that is
 * left.  Then forget_promises(), when all are planned.
 */
extern bool llm_afford_portion(LlmAfford *afford, LlmPortion *portion);

/* The job as it asks this target. */
extern LlmSpender llm_afford_spender_at(const LlmAfford *afford, const LlmRoute *route);

/* The claim has committed.  "whole": it found all there was for it.  *after: where to go on; true: there is no more. */
extern bool llm_afford_claimed(LlmAfford *afford, const LlmPortion *portion, bool whole, int64 *after);

/* There may be a task that costs less than those that were passed over. */
extern void llm_afford_look_again(LlmAfford *afford);

/* Say why the job waits, and for which budget; it is, or is not, blocked. */
extern void llm_afford_tell(LlmAfford *afford, bool waits, MemoryContext context, TimestampTz now);

/*
 * May the letter's request leave?  Then what it may cost is reserved, and claim->cap and claim->reserved are
 * filled in.  Else a sentence in the current context, and whether it is worth waiting for others' requests.
 */
extern bool llm_afford_letter(LlmClaim *claim, const LlmRoute *route, const LlmSpender *spender, LlmPurse *purse,
							  char **why, bool *wait);

/* ---- afford_claims.c ---- */

/*
 * What was claimed is reserved, and the list without *dear, tasks that fail, and *back, which are put back since
 * they cost too much together.
 */
extern List *llm_afford_take(List *claims, List **dear, List **back);

/* A request that is under way, when budgets were read again: what it has reserved, or would have. */
extern void llm_afford_hold(LlmFlight *flight);

/* A request that was not sent after all; and claims that need none: they follow others, or their answer was kept. */
extern void llm_afford_release(const LlmFlight *flight);
extern void llm_afford_release_unsent(List *claims);

/* Of settlements that are on the ledger: flights', or what a dead sender left. */
extern void llm_afford_settle(LlmSettlement **settlements, int n);

#endif /* LLM_AFFORD_H */
