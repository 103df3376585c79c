/*-------------------------------------------------------------------------
 *
 * argument.h
 *	  What a call of a public function was given, and what is known of each argument.
 *
 * The planner hook knows arguments by their names, issue() reads them and hashes their
 * bytes, preview and tests fill them, spec.c checks them: all by the one table in
 * argument_list.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ARGUMENT_H
#define LLM_ARGUMENT_H

#include "base/llm_enrich.h"

#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/jsonb.h"

typedef struct LlmSpec LlmSpec;

/* An argument: index of its row in the table. */
typedef enum LlmArg
{
#define LLM_ARGUMENT(symbol, name, type, takers, check) LLM_ARG_##symbol,
#include "operation/argument_list.h"
#undef LLM_ARGUMENT
	LLM_ARGS
} LlmArg;

typedef enum LlmArgType
{
	LLM_ARG_TYPE_BOOL,
	LLM_ARG_TYPE_INT,
	LLM_ARG_TYPE_FLOAT8,
	LLM_ARG_TYPE_TEXT,
	LLM_ARG_TYPE_TEXTS, /* text[] */
	LLM_ARG_TYPE_JSONB
} LlmArgType;

typedef enum LlmArgTakers
{
	LLM_ARG_TAKERS_ALL, /* every operation has it */
	LLM_ARG_TAKERS_OWN /* those that list it */
} LlmArgTakers;

typedef struct LlmArgument
{
	const char *name; /* in SQL */
	LlmArgType type;
	LlmArgTakers takers;
	void (*check)(LlmSpec *spec, LlmArg arg, Datum value); /* see argument_list.h */
} LlmArgument;

extern const LlmArgument llm_arguments[LLM_ARGS];

/* For LlmOperation.takes: the arguments of its own, LLM_TAKES(LABELS) | LLM_TAKES(MULTI). */
#define LLM_TAKES(symbol) (UINT64CONST(1) << LLM_ARG_##symbol)

/* Arguments of one call as evaluated, the input left out; all zeroes: none was given. */
typedef struct LlmCallArgs
{
	bool given[LLM_ARGS]; /* and not NULL */
	Datum values[LLM_ARGS]; /* as they came: may be toasted */
} LlmCallArgs;

/* The argument of that name; LLM_ARGS when there is none. */
extern LlmArg llm_argument_find(const char *name);

/* The SQL type of an argument. */
extern Oid llm_argument_type_oid(LlmArg arg);

/* The value is not copied.  A flag that is false is as good as not given. */
extern void llm_argument_set(LlmCallArgs *args, LlmArg arg, Datum value);

/* Text and jsonb arguments as such, detoasted; NULL when not given. */
extern text *llm_argument_text(const LlmCallArgs *args, LlmArg arg);
extern Jsonb *llm_argument_jsonb(const LlmCallArgs *args, LlmArg arg);

/* Append bytes that are the same for the same value, and those of no other value; also of NULL. */
extern void llm_argument_append(StringInfo content, LlmArg arg, Datum value, bool is_null);

#endif /* LLM_ARGUMENT_H */
