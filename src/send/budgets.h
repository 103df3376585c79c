/*-------------------------------------------------------------------------
 *
 * budgets.h
 *	  The steps of a pass that know what may be spent: what step.h says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_BUDGETS_H
#define LLM_BUDGETS_H

#include "base/llm_enrich.h"

#include "send/step.h"

/* The first: budgets as they are now, with what requests under way have reserved. */
extern TimestampTz llm_budgets_due(const LlmPass *pass);
extern void llm_budgets_take(LlmPass *pass);
extern void llm_budgets_keep(LlmPass *pass);
extern void llm_budgets_undo(LlmPass *pass);

/* When all is claimed: what the transaction has spent and reserved, and which tasks wait for money. */
extern void llm_budgets_store(LlmPass *pass);

#endif /* LLM_BUDGETS_H */
