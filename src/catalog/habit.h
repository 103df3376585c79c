/*-------------------------------------------------------------------------
 *
 * habit.h
 *	  What hosts were found not to take, and the simpler way that they are spoken to since:
 *	  the only code that knows the columns of llm.habit.
 *
 *	  step()     pure: the next simpler way
 *	  note()     inside a transaction of the sender's
 *	  forget()   the options of a model were changed: it is tried once more
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HABIT_H
#define LLM_HABIT_H

#include "base/llm_enrich.h"

#include "dialect/dialect.h"
#include "utils/jsonb.h"

/* No option, but kept as one: the host has given more output than it was allowed, and is not asked under budgets. */
#define LLM_HABIT_IGNORES_CAP "ignores_output_cap"

/* A habit that was learned. */
typedef struct LlmLearned
{
	const char *name; /* of the option; NULL: nothing */
	const char *value;
} LlmLearned;

/*
 * The host refused one LLM_USED_… bit.  What to try instead; a name of NULL when there is
 * nothing simpler, or it was learned before.  Strings are constant.
 */
extern LlmLearned llm_habit_step(const LlmDialect *dialect, const LlmEndpoint *endpoint, int refused);

/* Remember it, unless as much was learned before. */
extern void llm_habit_note(const char *server, const char *model, const LlmLearned *learned, const char *why);

/* Take what was learned of an endpoint, an object of names and values; may be NULL. */
extern void llm_habit_apply_learned(LlmEndpoint *endpoint, Jsonb *learned);

/* Inside SPI, as the owner of our tables. */
extern void llm_habit_forget(const char *server, const char *model);

#endif /* LLM_HABIT_H */
