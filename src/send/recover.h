/*-------------------------------------------------------------------------
 *
 * recover.h
 *	  What a dead sender left claimed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_RECOVER_H
#define LLM_RECOVER_H

#include "base/llm_enrich.h"

/* Once, before the first pass.  False when the extension is gone. */
extern bool llm_recover(void);

#endif /* LLM_RECOVER_H */
