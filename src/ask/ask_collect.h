/*-------------------------------------------------------------------------
 *
 * ask_collect.h
 *	  What an aggregate collects: its constant arguments, and the texts of its rows.
 *
 * All in one piece of memory, so that it can be handed on as a value.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_COLLECT_H
#define LLM_ASK_COLLECT_H

#include "base/llm_enrich.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "operation/operation.h"

/* Arguments of an aggregate, by the names in its signature. */
typedef struct LlmAggregateArgs
{
	const LlmOperation *op;
	char *name;
	int nargs; /* the input is the first */
	LlmArg args[FUNC_MAX_ARGS];
} LlmAggregateArgs;

/* The state of the aggregate, in its memory.  NULL: no text yet. */
typedef struct LlmCollected
{
	StringInfoData bytes; /* what read() reads */
} LlmCollected;

/* A text; borrowed. */
typedef struct LlmItem
{
	const char *str;
	int len;
	int64 units; /* what it takes of a question; the caller's to fill in */
} LlmItem;

/* What was collected, read; borrows from its bytes, in the current context. */
typedef struct LlmTexts
{
	Oid aggregate;
	LlmAggregateArgs signature;
	LlmCallArgs args;
	LlmItem *items;
	int n;
} LlmTexts;

extern void llm_collect_signature(Oid aggregate, LlmAggregateArgs *signature);

/* Raise that an aggregate is no window function. */
extern void llm_collect_refuse_window(void);
extern void llm_collect_read(const char *bytes, Size len, LlmTexts *texts);

#endif /* LLM_ASK_COLLECT_H */
