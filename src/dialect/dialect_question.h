/*-------------------------------------------------------------------------
 *
 * dialect_question.h
 *	  What dialects share to make a question.
 *
 * All append to a body; nothing is looked up, nothing raises.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DIALECT_QUESTION_H
#define LLM_DIALECT_QUESTION_H

#include "base/llm_enrich.h"

#include "dialect/dialect.h"

/* How a message begins and ends; in between is the inner part of a JSON string. */
typedef struct LlmTurns
{
	const char *user;
	const char *model;
	const char *end;
} LlmTurns;

/* Which part of JSON schema a provider takes. */
typedef struct LlmSchemaRules
{
	const char *const *keywords; /* that it knows; the others are left out.  Ends with NULL. */
	bool closed; /* each object must say that it has no other members */
	bool const_as_enum; /* "const" is written as an enum of one */
	int most_min_items; /* a larger minItems is left out; -1: no bound */
} LlmSchemaRules;

/* ,"key":value — nothing where the value is NULL. */
extern void llm_dialect_append_number(StringInfo buf, const char *key, const char *number);
extern void llm_dialect_append_word(StringInfo buf, const char *key, const char *word);

/*
 * Append the members that the call and then the habits add to one object of the body, which begins at
 * "from" in the buffer; a member that is there already stays as it is.
 */
extern void llm_dialect_append_extra_of(StringInfo buf, int from, const char *of_call, const LlmHabits *habits,
										const char *member);

/* A whole body: the head, the row's text, its end, the second asking if it is one, the tail. */
extern void llm_dialect_append_turns(StringInfo body, const LlmFrame *frame, const LlmChat *chat,
									 const LlmTurns *turns);

/* A schema as the provider takes it: what it does not know is left out, since the answer is checked here. */
extern void llm_dialect_append_schema(StringInfo buf, const JsonbValue *schema, const LlmSchemaRules *rules);

/* A model's name as one step of a path. */
extern char *llm_dialect_path_step(const char *name);

#endif /* LLM_DIALECT_QUESTION_H */
