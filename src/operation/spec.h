/*-------------------------------------------------------------------------
 *
 * spec.h
 *	  What the operations share when they turn arguments into a recipe's
 *	  canonical content.
 *
 * A recipe's content is made by make(), which goes through the table of arguments
 * (argument_list.h): one that the operation does not take is refused, one that was
 * given is checked and added.
 *
 * All of these run in the user's statement and raise 22023 with a hint.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SPEC_H
#define LLM_SPEC_H

#include "base/llm_enrich.h"

#include "base/compat.h"
#include "operation/argument.h"
#include "operation/operation.h"
#include "utils/jsonb.h"

/* More keys than all operations together have. */
#define LLM_SPEC_MAX_KEYS 40

/* A recipe's content in the making. */
struct LlmSpec
{
	const LlmOperation *op;
	JsonbPair pairs[LLM_SPEC_MAX_KEYS];
	int n;
};

/* The recipe's content for these arguments; raises as make_spec() does. */
extern Jsonb *llm_operation_spec(const LlmOperation *op, const LlmCallArgs *args);

/* The part of it that all operations have in common; for those that do more. */
extern Jsonb *llm_spec_make(const LlmOperation *op, const LlmCallArgs *args);

/* Add a key; for checks of arguments. */
extern void llm_spec_add(LlmSpec *spec, const char *key, JsonbValue value);

/* A key that an earlier check has added, or NULL. */
extern const JsonbValue *llm_spec_get(const LlmSpec *spec, const char *key);

/* Raise 22023 about an argument. */
pg_noreturn extern void llm_spec_refuse(LlmArg arg, const char *hint);

/* Checks of arguments, see argument_list.h.  Each stands with the operation that has it, or in spec.c. */
extern void llm_argument_words(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_name(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_names(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_number(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_flag(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_dimensions(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_labels(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_descriptions(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_schema(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_max_words(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_stage(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_kinds(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_instructions(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_options(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_checks(LlmSpec *spec, LlmArg arg, Datum value);
extern void llm_argument_examples(LlmSpec *spec, LlmArg arg, Datum value);

/* Is the text empty, or nothing but white space? */
extern bool llm_spec_is_blank(const char *str, size_t len);

/* An option that goes to the provider; load() of operation.c reads it back by this table. */
typedef enum LlmOptionType
{
	LLM_OPTION_FLAG, /* its default is as good as not given */
	LLM_OPTION_NUMBER,
	LLM_OPTION_INTEGER,
	LLM_OPTION_WORD, /* a short lower-case identifier */
	LLM_OPTION_PLACE, /* start, middle or end */
	LLM_OPTION_DEADLINE,
	LLM_OPTION_TAGS,
	LLM_OPTION_MEMBERS /* an object of members for the request */
} LlmOptionType;

typedef struct LlmOption
{
	const char *name;
	LlmOptionType type;
	bool in_recipe; /* else it steers the job */
	int64 min; /* for numbers */
	int64 max;
	const char *only; /* the operation that knows it; NULL: each does */
} LlmOption;

/* All of them, sorted by name; *n is their number. */
extern const LlmOption *llm_options(int *n);

/* Check all options of a call.  Returns them as a tree, NULL when there are none. */
extern const JsonbValue *llm_options_check(Jsonb *options);

/* Is the member of a request, in any case of its letters, what asks the question?  Then nothing else may set it. */
extern bool llm_options_is_questions_own(const char *member);

#endif /* LLM_SPEC_H */
