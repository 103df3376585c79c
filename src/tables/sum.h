/*-------------------------------------------------------------------------
 *
 * sum.h
 *	  The ledger, summed by time and dimensions, for llm.bill().
 *
 *	  sender:  llm_sum_ledger()   in a transaction of its pass, from time to time
 *	  writer:  llm_sum_ended()    in the transaction that makes tasks final
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SUM_H
#define LLM_SUM_H

#include "base/llm_enrich.h"

/* Sum at most "limit" rows of the ledger that are not summed yet; how many there were. */
extern int64 llm_sum_ledger(int64 limit);

#endif /* LLM_SUM_H */
