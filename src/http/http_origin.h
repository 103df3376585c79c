/*-------------------------------------------------------------------------
 *
 * http_origin.h
 *	  One name is resolved at a time: by which exchange, and which ones wait for it.  Only
 *	  http.c uses it, also from within libcurl's callbacks.
 *
 *	  enter() / leave()      for each URL that a slot is set to
 *	  must_wait()            before an exchange is started: then wait() or start()
 *	  resolved()             when the one that was started needs the name no more
 *	  next_waiting()         those that may be started now
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HTTP_ORIGIN_H
#define LLM_HTTP_ORIGIN_H

#include "base/llm_enrich.h"

#include "lib/ilist.h"

typedef struct LlmHttpOrigin LlmHttpOrigin;

/* Length of "scheme://host:port" at the start of a URL. */
extern size_t llm_http_origin_length(const char *url);

/* The origin of a URL; NULL when memory is short. */
extern LlmHttpOrigin *llm_http_origin_enter(const char *url);
extern void llm_http_origin_leave(LlmHttpOrigin *origin);

/* Is an exchange resolving the name, or waiting for it? */
extern bool llm_http_origin_must_wait(const LlmHttpOrigin *origin);
extern void llm_http_origin_wait(LlmHttpOrigin *origin, dlist_node *exchange);
extern void llm_http_origin_stop_waiting(dlist_node *exchange);

/* The exchange is started: from now on it is the one that resolves the name. */
extern void llm_http_origin_start(LlmHttpOrigin *origin, const void *exchange);
extern bool llm_http_origin_is_resolving(const LlmHttpOrigin *origin, const void *exchange);
extern void llm_http_origin_resolved(LlmHttpOrigin *origin, const void *exchange);

/* Take the first that waits for this origin; NULL: none. */
extern dlist_node *llm_http_origin_pop(LlmHttpOrigin *origin);

/* Take the first that waits for any origin whose name no exchange is resolving; NULL: none. */
extern dlist_node *llm_http_origin_next_waiting(void);

#endif /* LLM_HTTP_ORIGIN_H */
