/*-------------------------------------------------------------------------
 *
 * route_address.h
 *	  The method, URL and headers of a route's requests, with the key in its places.
 *	  For route.c alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ROUTE_ADDRESS_H
#define LLM_ROUTE_ADDRESS_H

#include "send/route.h"

/*
 * From its dialect, endpoint and key, in the current context.  Without a key the lines that want
 * it are left out.
 */
extern void llm_route_fill_addresses(LlmRoute *route);

/* There may be a key in them. */
extern void llm_route_wipe_addresses(LlmRoute *route);

#endif /* LLM_ROUTE_ADDRESS_H */
