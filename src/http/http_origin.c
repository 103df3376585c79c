/*-------------------------------------------------------------------------
 *
 * http_origin.c
 *	  One name is resolved at a time.
 *
 * libcurl resolves the name for each new connection on a thread of its own until
 * the first result is in its cache, so that a burst of 256 requests would make 256
 * threads, with three descriptors each, and as many questions to a name server.
 * So while one exchange resolves the name of an origin, the others to that origin
 * wait.  Their clocks do not run meanwhile; the one that resolves has its connect
 * timeout.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "http/http_origin.h"

/* Scheme, host and port of a URL. */
struct LlmHttpOrigin
{
	dlist_node node;
	char *name;
	size_t name_len;
	int users;
	const void *resolving; /* this one does; others wait */
	dlist_head waiting;
};

/* From the first enter() to the last leave(); few, as each is a provider. */
static dlist_head origins = DLIST_STATIC_INIT(origins);

/* In all origins, so that the common case of none costs nothing. */
static int nwaiting = 0;

size_t
llm_http_origin_length(const char *url)
{
	const char *authority = strstr(url, "://");

	if (authority == NULL)
		return strlen(url);
	return (authority - url) + 3 + strcspn(authority + 3, "/?#");
}

LlmHttpOrigin *
llm_http_origin_enter(const char *url)
{
	size_t len = llm_http_origin_length(url);
	dlist_iter iter;
	LlmHttpOrigin *origin;

	dlist_foreach(iter, &origins)
	{
		origin = dlist_container(LlmHttpOrigin, node, iter.cur);
		if (origin->name_len == len && memcmp(origin->name, url, len) == 0)
		{
			origin->users++;
			return origin;
		}
	}
	origin = calloc(1, sizeof(LlmHttpOrigin));
	if (origin == NULL)
		return NULL;
	origin->name = strndup(url, len);
	if (origin->name == NULL)
	{
		free(origin);
		return NULL;
	}
	origin->name_len = len;
	origin->users = 1;
	dlist_init(&origin->waiting);
	dlist_push_tail(&origins, &origin->node);
	return origin;
}

void
llm_http_origin_leave(LlmHttpOrigin *origin)
{
	if (origin == NULL || --origin->users > 0)
		return;
	Assert(dlist_is_empty(&origin->waiting));
	dlist_delete(&origin->node);
	free(origin->name);
	free(origin);
}

bool
llm_http_origin_must_wait(const LlmHttpOrigin *origin)
{
	return origin->resolving != NULL || !dlist_is_empty(unconstify(dlist_head *, &origin->waiting));
}

void
llm_http_origin_wait(LlmHttpOrigin *origin, dlist_node *exchange)
{
	dlist_push_tail(&origin->waiting, exchange);
	nwaiting++;
}

void
llm_http_origin_stop_waiting(dlist_node *exchange)
{
	dlist_delete(exchange);
	nwaiting--;
}

void
llm_http_origin_start(LlmHttpOrigin *origin, const void *exchange)
{
	origin->resolving = exchange;
}

bool
llm_http_origin_is_resolving(const LlmHttpOrigin *origin, const void *exchange)
{
	return origin->resolving == exchange;
}

void
llm_http_origin_resolved(LlmHttpOrigin *origin, const void *exchange)
{
	if (origin->resolving == exchange)
		origin->resolving = NULL;
}

dlist_node *
llm_http_origin_pop(LlmHttpOrigin *origin)
{
	if (dlist_is_empty(&origin->waiting))
		return NULL;
	nwaiting--;
	return dlist_pop_head_node(&origin->waiting);
}

dlist_node *
llm_http_origin_next_waiting(void)
{
	dlist_iter iter;

	if (nwaiting == 0)
		return NULL;
	dlist_foreach(iter, &origins)
	{
		LlmHttpOrigin *origin = dlist_container(LlmHttpOrigin, node, iter.cur);

		if (origin->resolving == NULL && !dlist_is_empty(&origin->waiting))
			return llm_http_origin_pop(origin);
	}
	return NULL;
}
