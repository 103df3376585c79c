/*-------------------------------------------------------------------------
 *
 * route_table.h
 *	  The route of a model alias, a role and a kind, by hash.
 *
 *	  route.c:  llm_route_table_add()     when it is made
 *	            llm_route_table_remove()  when it goes out of use
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ROUTE_TABLE_H
#define LLM_ROUTE_TABLE_H

#include "send/route.h"

/* The route stays the caller's; there is none in the table for the same alias, role and kind. */
extern void llm_route_table_add(LlmRoute *route);
extern void llm_route_table_remove(LlmRoute *route);

#endif /* LLM_ROUTE_TABLE_H */
