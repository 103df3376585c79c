/*-------------------------------------------------------------------------
 *
 * dialect_openai.h
 *	  What the files of this dialect share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DIALECT_OPENAI_H
#define LLM_DIALECT_OPENAI_H

#include "base/llm_enrich.h"

#include "base/json.h"
#include "dialect/dialect_question.h"
#include "dialect/dialect_shared.h"

/* What the walk noted; a slice without "at" was not there. */
typedef struct LlmOpenaiNotes
{
	bool has_error;
	LlmErrorSigns error;

	bool has_choice;
	LlmJsonSlice finish;
	LlmJsonSlice refusal;
	char *content;
	size_t content_len;

	int nvectors; /* by index, up to the inputs that were sent */
	LlmVector *vectors;

	LlmJsonSlice id;
	LlmJsonSlice tier; /* the class of service */
	LlmToldUsage usage;
	int64 cache_miss; /* of the prompt, where that is told instead */
} LlmOpenaiNotes;

/* Does the schema, as it is, lie within OpenAI's strict subset and its limits? */
extern bool llm_dialect_openai_is_strict(Jsonb *schema);

/* Walk over a body and note what is of use.  LLM_OK, or the class and a sentence of what is no JSON. */
extern LlmErrorClass llm_dialect_openai_walk(const LlmRawAnswer *raw, LlmOpenaiNotes *notes, const char **problem);

/* Names of members that others of this form have otherwise. */
typedef struct LlmOpenaiNames
{
	const char *max_tokens;
	const char *seed;
	const char *dimensions;
} LlmOpenaiNames;

extern const LlmTurns llm_dialect_openai_turns;

/* The dialect's own, for dialects that differ little from it. */
extern void llm_dialect_openai_address(const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address);
extern LlmFrame *llm_dialect_openai_prepare(const LlmRecipe *recipe, const LlmEndpoint *endpoint);
extern LlmFrame *llm_dialect_openai_prepare_as(const LlmRecipe *recipe, const LlmEndpoint *endpoint,
											   const LlmOpenaiNames *names);
extern void llm_dialect_openai_body(const LlmFrame *frame, const LlmChat *chat, StringInfo body);
extern void llm_dialect_openai_embed(const LlmEndpoint *endpoint, const LlmEmbed *ask, StringInfo body);
extern void llm_dialect_openai_embed_as(const LlmEndpoint *endpoint, const LlmEmbed *ask, const LlmOpenaiNames *names,
										StringInfo body);
extern void llm_dialect_openai_read(const LlmRawAnswer *raw, LlmReply *reply);

/* The instructions, up to the row's text: a message of their own, or the beginning of the user's. */
extern void llm_dialect_openai_instructions(StringInfo head, const char *system, const char *role);

#endif /* LLM_DIALECT_OPENAI_H */
