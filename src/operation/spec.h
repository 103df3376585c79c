/*-------------------------------------------------------------------------
 *
 * spec.h
 *	  What the operations share when they turn arguments into a recipe's
 *	  canonical content.
 *
 *	  start()      refuse arguments that the function does not have
 *	  add()        any number
 *	  finish()     instructions, options and examples, all checked
 *
 * All of these run in the user's statement and raise 22023 with a hint.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SPEC_H
#define LLM_SPEC_H

#include "base/llm_enrich.h"

#include "operation/operation.h"
#include "utils/jsonb.h"

/* Arguments that not every operation has, as bits. */
#define LLM_ARG_LABELS 0x1
#define LLM_ARG_MULTI 0x2
#define LLM_ARG_SCHEMA 0x4
#define LLM_ARG_MAX_WORDS 0x8

/* More keys than all operations together have. */
#define LLM_SPEC_MAX_KEYS 24

typedef struct LlmSpec
{
	const LlmOperation *op;
	JsonbPair pairs[LLM_SPEC_MAX_KEYS];
	int n;
} LlmSpec;

extern void llm_spec_start(LlmSpec *spec, const LlmOperation *op, const LlmCallArgs *args, int allowed);
extern void llm_spec_add(LlmSpec *spec, const char *key, JsonbValue value);

/*
 * answer_key is the one key of the operation's answers, so that an example may give
 * its value alone as output; NULL when answers are whole objects.
 */
extern Jsonb *llm_spec_finish(LlmSpec *spec, const LlmCallArgs *args, const char *answer_key);

/* Is the text empty, or nothing but white space? */
extern bool llm_spec_is_blank(const char *str, size_t len);

/* An option that goes to the provider; load() of operation.c reads it back by this table. */
typedef enum LlmOptionType
{
	LLM_OPTION_NUMBER,
	LLM_OPTION_INTEGER,
	LLM_OPTION_WORD, /* a short lower-case identifier */
	LLM_OPTION_DEADLINE,
	LLM_OPTION_TAGS
} LlmOptionType;

typedef struct LlmOption
{
	const char *name;
	LlmOptionType type;
	bool in_recipe; /* else it steers the job */
	int64 min; /* for numbers */
	int64 max;
} LlmOption;

/* All of them, sorted by name; *n is their number. */
extern const LlmOption *llm_options(int *n);

/* Check all options of a call.  Returns them as a tree, NULL when there are none. */
extern const JsonbValue *llm_options_check(Jsonb *options);

#endif /* LLM_SPEC_H */
