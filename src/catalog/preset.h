/*-------------------------------------------------------------------------
 *
 * preset.h
 *	  Providers that are known by name: what the option "provider" fills in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PRESET_H
#define LLM_PRESET_H

#include "base/llm_enrich.h"

/* Each member is the value of the option of its name, NULL: none is filled in. */
typedef struct LlmPreset
{
	const char *provider;
	const char *dialect;
	const char *base_url; /* NULL: everybody has one of his own */
	const char *answer_form;
	const char *max_tokens_field;
	const char *max_concurrency;
	const char *note; /* for llm.provider_list, or NULL */
} LlmPreset;

/* NULL when the name is not known, or its dialect is not part of this build. */
extern const LlmPreset *llm_preset_find(const char *provider);

/* Number i, from 0; NULL: there are no more. */
extern const LlmPreset *llm_preset_at(int i);

/* "anthropic, azure, …" for hints. */
extern const char *llm_preset_names(void);

#endif /* LLM_PRESET_H */
