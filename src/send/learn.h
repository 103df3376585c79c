/*-------------------------------------------------------------------------
 *
 * learn.h
 *	  The steps that keep what requests of a recipe take (llm.recipe_stat), and what
 *	  hosts have taught us (llm.habit).
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

extern void llm_learn_habits(LlmPass *pass);

#endif /* LLM_LEARN_H */
