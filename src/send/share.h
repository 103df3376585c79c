/*-------------------------------------------------------------------------
 *
 * share.h
 *	  Which failed tasks are not asked again, since retries have had their share
 *	  of what the job may spend.
 *
 * Inside the transaction that stores settlements: after llm_ledger_record(),
 * before llm_queue_settle().
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SHARE_H
#define LLM_SHARE_H

#include "base/llm_enrich.h"

#include "tables/queue.h"

/*
 * Book what retries cost, and let fail what may not be asked again: held_back is set
 * in such a settlement.  Each settlement is that of a flight.
 */
extern void llm_share_settle(LlmSettlement **settlements, int n);

#endif /* LLM_SHARE_H */
