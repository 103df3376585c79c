/*-------------------------------------------------------------------------
 *
 * ask_site.h
 *	  Calls in the expressions of a plan, and which of them are asked for certain.
 *
 * Walkers take an argument that they do not use.  "subplans" are those of the statement, into
 * which its sub-selects were planned.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_SITE_H
#define LLM_ASK_SITE_H

#include "base/llm_enrich.h"

#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

/* What is evaluated in another node, or has no value of its own here. */
extern bool llm_site_is_leaf(Node *node);

extern bool llm_site_has_call(Node *node, void *unused);

/* A volatile function that is none of ours; or, in a sub-select, also one of ours, or an aggregate of ours? */
extern bool llm_site_has_volatile(Node *node, List *subplans);

/* In an expression of an Agg: is one of its aggregates ours? */
extern bool llm_site_has_aggregate(Node *node, void *unused);

/* The function by which an aggregate of ours answers; InvalidOid: it is another's, or none. */
extern Oid llm_site_aggregate(Node *node);

/* Is it a window function that is an aggregate of ours? */
extern bool llm_site_is_window(Node *node);

/* Add the calls that are evaluated for certain where their guards hold; of LlmAskSite. */
extern void llm_site_collect(Node *node, List *subplans, List **sites);

/* Those of conditions of which the first alone is evaluated for every row. */
extern List *llm_site_of_quals(List *qual, List *subplans);

#endif /* LLM_ASK_SITE_H */
