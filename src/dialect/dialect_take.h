/*-------------------------------------------------------------------------
 *
 * dialect_take.h
 *	  Read an answer by a table of the places that matter, and settle what was found.
 *
 * A dialect lists paths ("usage.output_tokens", "content[].text"), of what kind each is and
 * which member of LlmTaken it fills; all else is skipped, wherever it stands.  Then it makes
 * LlmTaken mean what it says there (some count cached tokens apart), and settles it:
 *
 *	  class = llm_dialect_take(raw, table, &taken, &problem);
 *	  ...
 *	  llm_dialect_settle(raw, class, problem, &taken, reply);
 *
 * In a path "[]" is every item of a list and "[0]" the first.  Where a path holds another, the
 * longer one must stand for itself: what is taken is not looked into, but for LLM_TAKE_SEEN.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DIALECT_TAKE_H
#define LLM_DIALECT_TAKE_H

#include "base/llm_enrich.h"

#include "dialect/dialect_shared.h"

typedef enum LlmTakeKind
{
	LLM_TAKE_SEEN, /* a bool: there is something, which is looked into */
	LLM_TAKE_STRING, /* an LlmJsonSlice */
	LLM_TAKE_CODE, /* likewise, of a string or a number */
	LLM_TAKE_COUNT, /* an int64 */
	LLM_TAKE_TEXT, /* appended to the content */
	LLM_TAKE_JSON, /* the value's own JSON, appended to the content */
	LLM_TAKE_HIDDEN, /* true: the text beside it is no part of the answer */
	LLM_TAKE_VECTOR /* of the input with the number of the item */
} LlmTakeKind;

typedef struct LlmTake
{
	const char *path; /* NULL: the end of the table */
	LlmTakeKind kind;
	size_t offset; /* in LlmTaken; of no use for the last four */
} LlmTake;

#define LLM_TAKE(path, kind, member)                      \
	{                                                     \
		path, LLM_TAKE_##kind, offsetof(LlmTaken, member) \
	}
#define LLM_TAKE_END           \
	{                          \
		NULL, LLM_TAKE_SEEN, 0 \
	}

/* What was found.  A slice without "at" was not there, a count of -1 neither. */
typedef struct LlmTaken
{
	bool has_error; /* whatever the status says */
	LlmErrorSigns error;

	bool answered; /* there is a place for an answer */
	LlmJsonSlice finish; /* the provider's word for how it ended */
	LlmJsonSlice reason; /* more of why it was stopped */
	LlmJsonSlice blocked; /* why the question was not let through */
	StringInfoData content;

	LlmJsonSlice id;
	LlmJsonSlice tier; /* the class of service */
	LlmToldUsage usage;
	int64 extra; /* a count that only this dialect has */
	LlmJsonSlice word; /* likewise, a word */
	LlmVector *vectors; /* one for each input */

	const LlmLimitNames *requests; /* as for llm_dialect_note_headers() */
	const LlmLimitNames *tokens;
} LlmTaken;

/* LLM_OK; or the class and a sentence of what is no JSON, and nothing taken. */
extern LlmErrorClass llm_dialect_take(const LlmRawAnswer *raw, const LlmTake *table, LlmTaken *taken,
									  const char **problem);

/* Make the reply of it, given what llm_dialect_take() said. */
extern void llm_dialect_settle(const LlmRawAnswer *raw, LlmErrorClass class, const char *problem, LlmTaken *taken,
							   LlmReply *reply);

#endif /* LLM_DIALECT_TAKE_H */
