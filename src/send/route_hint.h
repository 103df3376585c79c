/*-------------------------------------------------------------------------
 *
 * route_hint.h
 *	  What to type so that a target can be used.  The provider's own advice comes first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ROUTE_HINT_H
#define LLM_ROUTE_HINT_H

#include "base/llm_enrich.h"

#include "catalog/catalog_target.h"
#include "http/http.h"

/* What to type, and no more. In the current context; NULL where there is nothing. */
extern char *llm_route_command(const LlmTarget *target, LlmErrorClass class, LlmHttpCause cause);

/* In the current context; NULL for classes that nobody has to do anything about. */
extern char *llm_route_hint(const LlmTarget *target, LlmErrorClass class, LlmHttpCause cause);

/* The same for a caller that tried it on purpose: also where waiting would help. */
extern char *llm_route_trial_hint(const LlmTarget *target, LlmErrorClass class, LlmHttpCause cause, bool answered);

#endif /* LLM_ROUTE_HINT_H */
