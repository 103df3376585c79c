/*-------------------------------------------------------------------------
 *
 * utility.h
 *	  Commands that need a database or the extension for themselves, or that
 *	  bring new work: the ProcessUtility hook.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_UTILITY_H
#define LLM_UTILITY_H

#include "base/llm_enrich.h"

/* Called by init.c while the library is preloaded. */
extern void llm_utility_init(void);

#endif /* LLM_UTILITY_H */
