/*-------------------------------------------------------------------------
 *
 * part.h
 *	  What each task has of the tokens of a request that carried several.  Pure.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PART_H
#define LLM_PART_H

#include "base/llm_enrich.h"

/*
 * Divide "whole" into whole numbers, in proportion to the weights (not negative; all 0: equal
 * ones), which add up to it exactly.  Cost is linear in tokens, so that costs of parts add up
 * to that of the whole, too.
 */
extern void llm_part_tokens(int64 whole, const int64 *weights, int n, int64 *parts);

/* The same for all classes of a usage; reasoning stays within a part's output. */
extern void llm_part_usage(const LlmUsage *whole, const int64 *weights, int n, LlmUsage *parts);

#endif /* LLM_PART_H */
