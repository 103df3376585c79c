/*-------------------------------------------------------------------------
 *
 * reading.h
 *	  A statement as one that reads the same rows, evaluates the same calls, and
 *	  writes nothing.
 *
 *	  calls()    the calls that stand in a statement
 *	  make()     the reading, or why there is none
 *	  sample()   let it read a part of a large table
 *	  run()      read all of it
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_READING_H
#define LLM_READING_H

#include "base/llm_enrich.h"

#include "nodes/parsenodes.h"

/* What a condition with a call in it does, since nobody knows the answer. */
typedef enum LlmReadingConditions
{
	LLM_CONDITIONS_HOLD,
	LLM_CONDITIONS_FAIL
} LlmReadingConditions;

/* Our calls in a statement as rewritten, sub-queries included: a list of FuncExpr. */
extern List *llm_reading_calls(Query *query);

/* Our aggregates in it: a list of Aggref.  Raises where they would raise, since nothing of that is measured. */
extern List *llm_reading_aggregates(Query *query);

/* Does a condition contain a call, so that how many rows pass is not known? */
extern bool llm_reading_has_conditions(Query *query);

/* May calls depend on the answers of others, within an expression? */
extern bool llm_reading_has_dependent(Query *query);

/*
 * A copy that only reads; NULL, and *why as a part of a sentence, where that cannot be, or would read rows that the
 * role may not see.
 */
extern Query *llm_reading_make(Query *query, LlmReadingConditions conditions, const char **why);

/*
 * Where a large table can be sampled, let "query" read a part of its pages; what is read are
 * "share" of its rows.  "rows" is how many rows the planner expects.  Rows of a page are *per_page.
 */
extern bool llm_reading_sample(Query *query, double rows, double *share, double *per_page);

extern void llm_reading_run(Query *query, const char *source);

#endif /* LLM_READING_H */
