/*-------------------------------------------------------------------------
 *
 * expect.h
 *	  How long the answers of a recipe may be, before any has come.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_EXPECT_H
#define LLM_EXPECT_H

#include "base/llm_enrich.h"

#include "operation/operation.h"

/* Bytes of an answer's text: not less than, most likely, not more than. */
typedef struct LlmExpectation
{
	double low;
	double typical;
	double high;
} LlmExpectation;

/* "input_bytes" is the length of the input that is asked about. */
extern void llm_operation_expect(const LlmRecipe *recipe, double input_bytes, LlmExpectation *answer);

#endif /* LLM_EXPECT_H */
