/*-------------------------------------------------------------------------
 *
 * claim.h
 *	  The step of a pass that claims tasks: what step.h says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CLAIM_H
#define LLM_CLAIM_H

#include "base/llm_enrich.h"

#include "send/step.h"

/* When a free slot and a limit let the next request out. */
extern TimestampTz llm_claim_due(const LlmPass *pass);

/* Fills pass->claims, pass->questions and pass->loads. */
extern void llm_claim_run(LlmPass *pass);
extern void llm_claim_keep(LlmPass *pass);
extern void llm_claim_undo(LlmPass *pass);

#endif /* LLM_CLAIM_H */
