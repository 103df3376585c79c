/*-------------------------------------------------------------------------
 *
 * learn.h
 *	  The step that keeps what requests of a recipe take (llm.recipe_stat).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LEARN_H
#define LLM_LEARN_H

#include "base/llm_enrich.h"

#include "send/step.h"

extern TimestampTz llm_learn_due(const LlmPass *pass);
extern void llm_learn_run(LlmPass *pass);
extern void llm_learn_keep(LlmPass *pass);
extern void llm_learn_undo(LlmPass *pass);

#endif /* LLM_LEARN_H */
