/*-------------------------------------------------------------------------
 *
 * ask_node.h
 *	  The plan node below which rows are read ahead, so that many calls are in flight.
 *
 *	  plan:  llm_ask_plan_init() installs the planner hook, which puts nodes into plans
 *	  node:  llm_ask_node_make() makes one
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_NODE_H
#define LLM_ASK_NODE_H

#include "base/llm_enrich.h"

#include "nodes/plannodes.h"

/* Name of the node in EXPLAIN. */
#define LLM_ASK_NODE_NAME "LlmAsk"

/* A call whose question can be posted for a row ahead; and what must hold of the row. */
typedef struct LlmAskSite
{
	FuncExpr *call;
	List *guards; /* of Expr: boolean, none of them contains a call */
} LlmAskSite;

/* How many of a node's rows are read. */
typedef enum LlmAskDemand
{
	LLM_ASK_SOME, /* as many as somebody above likes */
	LLM_ASK_AS_STATEMENT, /* all, where all rows of the statement are read */
	LLM_ASK_ALL
} LlmAskDemand;

/* What a node is made from; all expressions are over columns of "rows". */
typedef struct LlmAskSpec
{
	List *rows; /* of TargetEntry: what the plan below gives, as this node sees it */
	List *targetlist;
	List *qual;
	List *sites; /* of LlmAskSite */
	Limit *limit; /* directly above, or NULL */
	bool may_read_ahead;
	LlmAskDemand demand; /* of those that the limit leaves */
} LlmAskSpec;

extern CustomScan *llm_ask_node_make(Plan *below, const LlmAskSpec *spec);

/* Both called once from _PG_init. */
extern void llm_ask_node_init(void);
extern void llm_ask_plan_init(void);

#endif /* LLM_ASK_NODE_H */
