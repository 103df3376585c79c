/*-------------------------------------------------------------------------
 *
 * ask_measure.h
 *	  Calls that tell what they would ask, and ask nothing.
 *
 * While a statement is estimated, its calls come here with their arguments as evaluated
 * for a row, and give NULL.  begin() and end() nest, also by way of an error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_MEASURE_H
#define LLM_ASK_MEASURE_H

#include "base/llm_enrich.h"

#include "letter/letter.h"
#include "operation/operation.h"

/* What a call would ask.  Good during the call. */
typedef struct LlmMeasuredCall
{
	const LlmOperation *op;
	Oid function;
	int location; /* in the statement, in bytes; -1: not known */
	const char *model; /* alias, or NULL: the default one */
	Jsonb *spec;
	text *input; /* NULL: the call gives NULL */
	bool is_shareable; /* one answer serves all rows with this input */
} LlmMeasuredCall;

typedef void (*LlmMeasurer)(const LlmMeasuredCall *call, void *arg);

/* The function that is told, and its argument; NULL: calls ask. */
typedef struct LlmMeasuring
{
	LlmMeasurer tell;
	void *arg;
	const struct LlmMeasuring *outer;
} LlmMeasuring;

extern void llm_ask_measure_begin(LlmMeasuring *measuring);
extern void llm_ask_measure_end(const LlmMeasuring *measuring);

#endif /* LLM_ASK_MEASURE_H */
