/*-------------------------------------------------------------------------
 *
 * pinned.h
 *	  Settings under which a value is written as text, and read again in another session.
 *
 * Between begin() and end() output and input functions give and take what does not
 * depend on the session: keys, and what is around the call of a quiet cell.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PINNED_H
#define LLM_PINNED_H

#include "base/llm_enrich.h"

/* Returns what end() is to be given.  After an error the transaction's abort ends it. */
extern int llm_pinned_begin(void);
extern void llm_pinned_end(int nest);

#endif /* LLM_PINNED_H */
