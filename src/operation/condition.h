/*-------------------------------------------------------------------------
 *
 * condition.h
 *	  The user's own conditions on an answer: the argument "checks".
 *
 *	  prepare()  once per recipe, as the role that asked; raises what is wrong with them
 *	  fault()    once per answer
 *
 * Each is one SQL expression of type boolean over "answer" (jsonb) and "input" (text), read and
 * evaluated under the settings of the session that asked.  As with a CHECK constraint, one that
 * is NULL holds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CONDITION_H
#define LLM_CONDITION_H

#include "base/llm_enrich.h"

#include "utils/jsonb.h"

/*
 * Members of a recipe's spec: an array of texts as typed; the same with every name qualified and every type
 * said; the settings under which they are evaluated; and the functions that they call.
 */
#define LLM_CONDITION_KEY "checks"
#define LLM_CONDITION_PARSED_KEY "checks_parsed"
#define LLM_CONDITION_SETTINGS_KEY "checks_settings"
#define LLM_CONDITION_CALLED_KEY "checks_called"

/* And the member of an answer that "answer" is, where the function returns that alone. */
#define LLM_CONDITION_VALUE_KEY "checks_value"

/* Of what may not be evaluated in this process, so that no other answer would do better. */
#define LLM_ERRCODE_NOT_HERE ERRCODE_E_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED

typedef struct LlmConditions LlmConditions;

/* Of a recipe's spec, in the current context; NULL when it has none. */
extern LlmConditions *llm_conditions_prepare(Jsonb *spec);

/*
 * NULL when all hold; else, in the current context, a sentence about the first that does not, or that cannot be
 * evaluated for this answer.  Raises what is no fault of the answer's: a cancelled query, no memory, a lock.  So it
 * does with what may be evaluated in this process for no answer, unless "forbidden" is there to take the error: the
 * result is NULL then.
 */
extern char *llm_conditions_fault(LlmConditions *conditions, Jsonb *answer, const char *input, size_t input_len,
								  ErrorData **forbidden);

#endif /* LLM_CONDITION_H */
