/*-------------------------------------------------------------------------
 *
 * step.h
 *	  What a pass of the sender is made of.
 *
 * A pass has at most one transaction.  In it scheduler.c walks a list of steps, from the
 * first to the last:
 *
 *	  due()   before it: when the step needs a transaction next
 *	  run()   inside it, whether the step was due or another one
 *	  keep()  it has committed        } from the last step to the first, so that what
 *	  undo()  it has failed           } a later step did is taken back before an earlier one's
 *
 * Each may be NULL.  run() may raise.  The others must not: what they say cannot be undone.
 * Between two run() requests may leave and answers may land, never within one.  New work
 * of the sender's is a step of its own: a row in the list, and a file where it is long.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_STEP_H
#define LLM_STEP_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "send/flight.h"

/* One pass: what its steps tell each other.  Lists live in the context of the pass. */
typedef struct LlmPass
{
	TimestampTz now; /* when it began */
	bool sweep; /* time for a look at everything */
	bool steered; /* jobs were paused, resumed or altered: what was claimed ahead goes back */
	bool may_claim; /* sending is on, and the sender is not about to end */
	bool promoted; /* tasks that waited for an answer are to be asked */
	bool gone; /* tables or columns of tasks were dropped */
	bool writer_has_work; /* besides what was stored */
	LlmSettlement **settlements; /* what is stored in this pass */
	int stored; /* so many */
	LlmPortion *portions; /* what the claims were planned to be */
	int nportions;
	List *claims; /* of LlmClaim */
	List *dear; /* the same: claimed to fail, since no budget can pay them */
	List *put_back; /* the same: claimed and put back for want of money */
	List *questions; /* beside each claim: LlmQuestion or NULL */
	List *loads; /* of LlmLoad: the requests that these make */
	List *letters; /* of LlmFlight: requests of immediate calls that leave after the commit */
	const char *failure; /* why it failed, for undo() */
} LlmPass;

typedef struct LlmStep
{
	const char *name; /* as an error's context says it */
	TimestampTz (*due)(const LlmPass *pass); /* DT_NOBEGIN: now; DT_NOEND: not by itself */
	void (*run)(LlmPass *pass);
	void (*keep)(LlmPass *pass);
	void (*undo)(LlmPass *pass);
} LlmStep;

#endif /* LLM_STEP_H */
