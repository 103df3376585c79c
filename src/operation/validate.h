/*-------------------------------------------------------------------------
 *
 * validate.h
 *	  Check an answer against a schema.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_VALIDATE_H
#define LLM_VALIDATE_H

#include "base/llm_enrich.h"

#include "lib/stringinfo.h"
#include "operation/operation.h"
#include "operation/schema.h"

/* Longest sentence about a fault, in bytes: it is told to the model and kept with the task. */
#define LLM_FAULT_MAX 300

/*
 * Does the value keep to the schema?  If not, append one sentence that names
 * the place, written to be told to the model.  Never raises for what the value holds.
 */
extern bool llm_validate(const LlmSchema *schema, const JsonbValue *value, StringInfo fault);

/* LlmOperation.check() where the answer is an object whose schema is recipe->private_data. */
extern Jsonb *llm_validate_answer(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault);

/*
 * Read the JSON object that a model gave: as it is, surrounded by white space,
 * as the only thing in a ```json fence, or as the only object in running text.  False and one sentence otherwise.
 * The tree borrows from the text.
 */
extern bool llm_validate_object(const char *str, size_t len, JsonbValue *object, StringInfo fault);

/*
 * The only member of the object that a model gave, or NULL and one sentence where it is no
 * object, or has other members.  In the current context; borrows from the text.
 */
extern JsonbValue *llm_validate_member(const char *str, size_t len, const char *key, StringInfo fault);

/* Is the text fit to be stored: valid UTF-8, no NUL, not blank?  Else false and one sentence. */
extern bool llm_validate_text(const char *str, size_t len, StringInfo fault);

/*
 * Has a string so many words, give or take what a model miscounts?  Else, and where it has none,
 * false and one sentence.
 */
extern bool llm_validate_words(const JsonbValue *string, int max_words, StringInfo fault);

/* Cut a sentence to LLM_FAULT_MAX. */
extern void llm_validate_clip(StringInfo fault);

#endif /* LLM_VALIDATE_H */
