/*-------------------------------------------------------------------------
 *
 * route_table.c
 *	  The route of a model alias, a role and a kind, by hash: a role may have hundreds, and each job and each
 *	  letter looks for its own whenever one of them has gone out of use.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "send/route_table.h"

#define BUCKETS 256

static dlist_head buckets[BUCKETS]; /* the sender's life; an empty head is as good as one that was initialized */

static dlist_head *
bucket_of(const char *alias, Oid role, LlmRequestKind kind)
{
	uint32 hash = hash_combine(murmurhash32((uint32) role), murmurhash32((uint32) kind));

	if (alias != NULL)
		hash = hash_combine(hash, hash_bytes((const unsigned char *) alias, (int) strlen(alias)));
	return &buckets[hash % BUCKETS];
}

void
llm_route_table_add(LlmRoute *route)
{
	dlist_push_tail(bucket_of(route->alias, route->role, route->kind), &route->bucket_node);
}

void
llm_route_table_remove(LlmRoute *route)
{
	dlist_delete(&route->bucket_node);
}

LlmRoute *
llm_route_look_up(const char *alias, Oid role, LlmRequestKind kind)
{
	dlist_iter iter;

	dlist_foreach(iter, bucket_of(alias, role, kind))
	{
		LlmRoute *route = dlist_container(LlmRoute, bucket_node, iter.cur);

		if (route->role != role || route->kind != kind)
			continue;
		if (alias == NULL ? route->alias == NULL : route->alias != NULL && strcmp(alias, route->alias) == 0)
			return route;
	}
	return NULL;
}
