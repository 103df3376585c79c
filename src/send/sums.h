/*-------------------------------------------------------------------------
 *
 * sums.h
 *	  The step of a pass that sums the ledger for the bill: what step.h says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SUMS_H
#define LLM_SUMS_H

#include "base/llm_enrich.h"

#include "send/step.h"

extern TimestampTz llm_sums_due(const LlmPass *pass);
extern void llm_sums_run(LlmPass *pass);

/* There is so much to sum that the sender stays for it. */
extern bool llm_sums_are_behind(void);

#endif /* LLM_SUMS_H */
