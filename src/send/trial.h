/*-------------------------------------------------------------------------
 *
 * trial.h
 *	  The sender's half of llm.check(): one real call outside of any table.
 *
 *	  take()            inside a transaction: a flight to launch after its commit, or NULL
 *	                    when no trial is wanted any more; those that cannot be sent are answered,
 *	                    and one that finds no slot is put off until put_off_until()
 *	  prepare_answer()  inside the transaction that stores its settlement
 *	  deliver_answer()  after that has committed
 *	  abandon()         when the transaction of take() failed, with its flight if there was one
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_TRIAL_H
#define LLM_TRIAL_H

#include "base/llm_enrich.h"

#include "send/flight.h"

extern LlmFlight *llm_trial_take(TimestampTz now);

/* When to take() again what found no slot, or when an answer has made room.  DT_NOEND: nothing is put off. */
extern TimestampTz llm_trial_put_off_until(void);

/* It will not be taken any more. */
extern void llm_trial_refuse_put_off(void);
extern void llm_trial_prepare_answer(LlmFlight *flight);
extern void llm_trial_deliver_answer(LlmFlight *flight);
extern void llm_trial_abandon(LlmFlight *flight);

#endif /* LLM_TRIAL_H */
