/*-------------------------------------------------------------------------
 *
 * catalog_kind.h
 *	  Does a model give text, or vectors?
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CATALOG_KIND_H
#define LLM_CATALOG_KIND_H

#include "base/llm_enrich.h"

#include "dialect/dialect.h"

/* As llm.price_list says; the numbers are those of catalog_target.c's statement. */
typedef enum LlmModelKind
{
	LLM_MODEL_UNKNOWN = 0, /* it does not, or lists do not agree */
	LLM_MODEL_CHAT,
	LLM_MODEL_EMBED
} LlmModelKind;

/* A model that is about to be asked, as it was found. */
typedef struct LlmAskedModel
{
	const char *alias;
	const char *model; /* the provider's name */
	LlmModelKind kind; /* as any list says */
	const char *base_url; /* of its server; NULL: not told */
	const char *dialect; /* likewise */
} LlmAskedModel;

/* Is it known to give vectors, and no text? */
extern bool llm_catalog_is_of_vectors(const LlmAskedModel *asked);

/* Raise where what is known speaks against a request of this kind; "function" is the one that is called. */
extern void llm_catalog_check_kind(const LlmAskedModel *asked, LlmRequestKind kind, const char *function);

#endif /* LLM_CATALOG_KIND_H */
