/*-------------------------------------------------------------------------
 *
 * store_trouble.h
 *	  A sender that cannot store what has come is shown in llm.health.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_STORE_TROUBLE_H
#define LLM_STORE_TROUBLE_H

#include "base/llm_enrich.h"

/* After each pass: why its transaction failed; NULL: it did not. */
extern void llm_store_trouble_note(const char *failure);

#endif /* LLM_STORE_TROUBLE_H */
