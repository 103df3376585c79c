/*-------------------------------------------------------------------------
 *
 * planner_apart.h
 *	  An expression with calls is taken apart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PLANNER_APART_H
#define LLM_PLANNER_APART_H

#include "base/llm_enrich.h"

#include "bind/planner.h"

/* A question in an expression. */
typedef struct LlmQuestion
{
	FuncExpr *call;
	Node *carrier; /* in the expression: the call, or a column that was lifted */
	Node *marker; /* what gives the marker: the call, or that column's own one */
	Node *around; /* see LlmLiftQuestion */
} LlmQuestion;

/* One expression with calls, while it is taken apart. */
typedef struct LlmTaking
{
	LlmFound *found;
	LlmQueryLevel *level; /* of the expression */

	/* Move calls out of the column that is named, also ("force") where its marker could travel; false: nothing was. */
	bool (*lift)(Node *node, bool force, struct LlmTaking *taking);
	bool in_sublink; /* there are no columns for leaves */
	int next; /* number of the column for the first leaf */
	List *carriers;
	List *questions; /* of LlmQuestion */
	List *leaves; /* columns to add, after the calls' */
	int nodes; /* in what was made so far */
	bool failed; /* it cannot be taken apart */

	/* for those that walk through the expression */
	Node *carrier;
	Node *instead;
} LlmTaking;

/*
 * Find the questions of an expression; false: there is none, or it cannot be taken apart, or
 * (without "force") need not be.  "first" is the number of the first column that can be added.
 */
extern bool llm_take_apart(Node *expr, LlmTaking *taking, bool force, int first);

/* The outermost CASE or COALESCE with the carrier in it, or NULL. */
extern Node *llm_take_choice(Node *expr, Node *carrier);

/* The marker, or NULL where the expression would not get to the carrier. */
extern Node *llm_take_marker(Node *expr, Node *carrier, Node *marker);

/* What the expression is where no call in it has an answer. */
extern Node *llm_take_calls_out(Node *expr);

/* A marker that is none. */
extern Node *llm_take_no_marker(void);

/* Are two nodes the same call, or the same column?  The parser copies what it needs twice. */
extern bool llm_planner_is_same(Node *one, Node *other);

#endif /* LLM_PLANNER_APART_H */
