/*-------------------------------------------------------------------------
 *
 * meaning.h
 *	  The settings that an SQL expression means when it is evaluated later, in another session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_MEANING_H
#define LLM_MEANING_H

#include "base/llm_enrich.h"

#include "utils/jsonb.h"

/* Those of this session, as an object. */
extern JsonbValue llm_meaning(void);

/* Have them again; NULL: none were kept.  The result is for AtEOXact_GUC(). */
extern int llm_meaning_begin(const JsonbValue *settings);

#endif /* LLM_MEANING_H */
