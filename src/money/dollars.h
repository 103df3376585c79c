/*-------------------------------------------------------------------------
 *
 * dollars.h
 *	  An amount of money as people read it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DOLLARS_H
#define LLM_DOLLARS_H

#include "base/llm_enrich.h"

/* US dollars with at least two digits that count and two behind the point; in the current memory context. */
extern char *llm_dollars(double amount);

#endif /* LLM_DOLLARS_H */
