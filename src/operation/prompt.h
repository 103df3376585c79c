/*-------------------------------------------------------------------------
 *
 * prompt.h
 *	  The words that all operations share.
 *
 * A system text is the same, byte for byte, for all rows of a job, so that
 * providers can cache it; the row's own text never enters it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PROMPT_H
#define LLM_PROMPT_H

#include "base/llm_enrich.h"

#include "lib/stringinfo.h"
#include "operation/operation.h"

/*
 * Finish a system text after the operation has said what to do: the user's
 * instructions, how to answer, that the row is data, and the examples.
 * "form" describes the answer, or is NULL when it is plain text.  data is false where the
 * row's text is itself what to do.
 */
extern void llm_prompt_finish(StringInfo buf, const JsonbValue *spec, const char *form, bool data);

/* The form of an answer that must keep to a schema, for llm_prompt_finish(). */
extern char *llm_prompt_schema_form(const JsonbValue *schema);

/* Schema of an object with one property, which is required. */
extern JsonbValue llm_prompt_object_schema(const char *property, JsonbValue schema);

/* What the model is told after an invalid answer. */
extern void llm_prompt_again(StringInfo buf, const char *fault);

#endif /* LLM_PROMPT_H */
