/*-------------------------------------------------------------------------
 *
 * route_hint.h
 *	  What to type so that a target can be used.  For route.c alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ROUTE_HINT_H
#define LLM_ROUTE_HINT_H

#include "base/llm_enrich.h"

#include "catalog/catalog_target.h"
#include "http/http.h"

/* In the current context; NULL for classes that nobody has to do anything about. */
extern char *llm_route_hint(const LlmTarget *target, LlmErrorClass class, LlmHttpCause cause);

#endif /* LLM_ROUTE_HINT_H */
