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
#include "dialect/dialect.h"

/* Token counts as the provider names them; -1: not told. */
typedef struct LlmOpenaiCounts
{
	int64 prompt;
	int64 completion;
	int64 total;
	int64 cached;
	int64 cache_write;
	int64 reasoning;
	int64 cache_hit;
	int64 cache_miss;
} LlmOpenaiCounts;

/* What the walk noted; a slice without "at" was not there. */
typedef struct LlmOpenaiNotes
{
	bool has_error;
	bool flagged; /* by a moderation */
	LlmJsonSlice code; /* a string or a number */
	LlmJsonSlice type;
	LlmJsonSlice message;

	bool has_choice;
	LlmJsonSlice finish;
	LlmJsonSlice refusal;
	char *content;
	size_t content_len;

	LlmJsonSlice id;
	LlmOpenaiCounts counts;
} LlmOpenaiNotes;

/* Does the schema, as it is, lie within OpenAI's strict subset and its limits? */
extern bool llm_dialect_openai_is_strict(Jsonb *schema);

/* Walk over a body and note what is of use; false when it is not JSON through and through. */
extern bool llm_dialect_openai_walk(const LlmRawAnswer *raw, LlmOpenaiNotes *notes);

/* The dialect's read(). */
extern void llm_dialect_openai_read(const LlmRawAnswer *raw, LlmReply *reply);

#endif /* LLM_DIALECT_OPENAI_H */
