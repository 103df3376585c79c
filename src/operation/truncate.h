/*-------------------------------------------------------------------------
 *
 * truncate.h
 *	  A text that is too long for a model is cut, where its call allows that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_TRUNCATE_H
#define LLM_TRUNCATE_H

#include "base/llm_enrich.h"

/* Where the text is cut: the option "truncate". */
typedef enum LlmTruncate
{
	LLM_TRUNCATE_NOT = 0,
	LLM_TRUNCATE_START, /* its beginning goes */
	LLM_TRUNCATE_MIDDLE,
	LLM_TRUNCATE_END
} LlmTruncate;

/* By its name; LLM_TRUNCATE_NOT: it is none. */
extern LlmTruncate llm_truncate_find(const char *name);

/*
 * At most "keep" bytes of a text in UTF-8, cut between characters; palloc'd, *kept is its length.  In the middle
 * a sign stands for what is missing.
 */
extern char *llm_truncate(const char *str, size_t len, LlmTruncate where, size_t keep, size_t *kept);

#endif /* LLM_TRUNCATE_H */
