/*-------------------------------------------------------------------------
 *
 * aggregate.h
 *	  Stages in which the texts of many rows are asked about.
 *
 *	  all fit at once:	WHOLE
 *	  else:				PART for each part, JOIN while their answers do not fit, LAST
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_AGGREGATE_H
#define LLM_AGGREGATE_H

#include "base/llm_enrich.h"

typedef enum LlmStage
{
	LLM_STAGE_WHOLE = 0, /* all texts */
	LLM_STAGE_PART, /* texts, of which there are more */
	LLM_STAGE_JOIN, /* answers, of which there are more */
	LLM_STAGE_LAST, /* all answers */
	LLM_STAGES
} LlmStage;

/* Value of the argument "stage". */
extern const char *llm_stage_name(LlmStage stage);

#endif /* LLM_AGGREGATE_H */
