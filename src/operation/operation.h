/*-------------------------------------------------------------------------
 *
 * operation.h
 *	  An operation turns a call into a recipe, a recipe and an input into a
 *	  question, and a provider's text into a checked answer or a named fault.
 *
 * Pure: no SPI, no I/O, no clock.  A new function is one op_*.c, one line in
 * operation_list.h and its SQL.
 *
 *	  find()             by name
 *	  make_spec()        in the user's statement: check the arguments, raise
 *	  load()             in the sender: spec -> LlmRecipe, once per recipe
 *	  check()            once per answer
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_OPERATION_H
#define LLM_OPERATION_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "operation/argument.h"
#include "operation/truncate.h"
#include "utils/jsonb.h"

typedef struct LlmOperation LlmOperation;

/* What is asked of a provider. */
typedef enum LlmRequestKind
{
	LLM_REQUEST_CHAT = 0, /* one question, one text */
	LLM_REQUEST_EMBED, /* n inputs, n vectors */
	LLM_REQUEST_KINDS
} LlmRequestKind;

/* Parameters that travel to the provider only when the user set them. */
typedef struct LlmParams
{
	const char *temperature; /* as JSON number text, or NULL */
	const char *top_p; /* likewise */
	const char *seed; /* likewise */
	int max_tokens; /* 0: not set */
	const char *reasoning_effort; /* or NULL */
	const char *verbosity; /* or NULL */
	const char *service_tier; /* or NULL */
	const char *extra_body; /* members to add to the request, as JSON without the braces, or NULL */
	bool reuse; /* a kept answer will do, and the answer may be kept: this one does not travel */
	LlmTruncate truncate; /* nor does this */
} LlmParams;

/* What the rows of a job share, ready for a dialect.  Lives in the context it was loaded in. */
typedef struct LlmRecipe
{
	int64 id;
	const LlmOperation *op;
	Jsonb *spec; /* canonical content as stored in llm.recipe */
	Jsonb *schema; /* the schema that the answer must satisfy, or NULL for plain text */
	const char *schema_name; /* [A-Za-z0-9_-]{1,64} */
	const char *system; /* instructions for the model, UTF-8, never NULL */
	int output_tokens; /* what an answer needs at most, generously; 0: not known */
	const char *value_key; /* the member of an answer that is its own value; NULL: the whole object is */
	int dimensions; /* of vectors; 0: as many as the model gives */
	LlmParams params;
	bool reads_input; /* check() compares the answer with what was asked about */
	void *private_data; /* the operation's own */
} LlmRecipe;

/* What a model gave, and what it was asked about; NULL unless the recipe reads it.  Both are borrowed. */
typedef struct LlmCandidate
{
	const char *str;
	size_t len;
	const char *input;
	size_t input_len;
} LlmCandidate;

struct LlmOperation
{
	const char *name; /* "classify", as in llm.recipe.operation and llm.ledger.operation */
	const char *function; /* "llm_classify" */
	int output_tokens; /* what an answer needs at most, unless load() knows better; 0: not known */
	uint64 takes; /* arguments that not all operations have, see LLM_TAKES() */
	uint64 needs; /* those of them that must be given */
	LlmRequestKind kind; /* what is asked: texts are given to check(), vectors to check_vector() */
	bool is_plain; /* the function returns the answer's own value, not an object */
	bool is_aggregate; /* the function is one, and its input is made of many rows' texts */
	bool not_kept; /* answers are kept for the same question only where its options say "reuse": true */

	/*
	 * Check the arguments of a call and make the recipe's canonical content.
	 * Raises ERROR (22023 and hint) on bad arguments.  Same arguments give the
	 * same bytes.  Result in the current context.  NULL: llm_spec_make() does it
	 * all; call llm_operation_spec().
	 */
	Jsonb *(*make_spec)(const LlmCallArgs *args);

	/*
	 * Fill recipe->schema, system, value_key and private_data from the content of
	 * recipe->spec, which make_spec() has checked.
	 */
	void (*load)(LlmRecipe *recipe, const JsonbValue *spec);

	/*
	 * Check the text that the model gave.  On success the answer as the object
	 * that goes into the cell.  On failure NULL and one sentence in "fault",
	 * written to be told to the model.  Never raises for what the text holds.
	 */
	Jsonb *(*check)(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault);

	/* The same of the vector that belongs to an input; "n" numbers. */
	Jsonb *(*check_vector)(const LlmRecipe *recipe, const float4 *values, int n, StringInfo fault);
};

#define LLM_OPERATION(name) extern const LlmOperation llm_op_##name;
#include "operation/operation_list.h"
#undef LLM_OPERATION

/* NULL when there is no such operation. */
extern const LlmOperation *llm_operation_find(const char *name);
extern const LlmOperation *llm_operation_by_function(const char *function);

/* "classify, …" for hints: those of one text and of many. */
extern const char *llm_operation_names(void);

/* In the current context; the spec is copied.  NULL when this version does not know the operation. */
extern LlmRecipe *llm_operation_load(int64 id, const char *operation, Jsonb *spec);

/* What a job's priority may be; higher ones go first. */
#define LLM_LEAST_PRIORITY (-100)
#define LLM_MOST_PRIORITY 100

/*
 * Options that steer the job and not the question are left out of the recipe:
 * priority, deadline, tags.  Checks the whole options object (an unknown key is an error
 * that lists the known ones); options and any of the pointers may be NULL.  The deadline
 * is a JSON string as the user gave it: an interval from now or a time, checked to be one.
 */
extern void llm_operation_job_options(Jsonb *options, int *priority, Jsonb **tags, Jsonb **deadline);

/*
 * That string as a time, read with the session's settings; an interval counts from the
 * start of the transaction, as now() does.  DT_NOEND for NULL.  Raises 22008 when the
 * time is out of range.
 */
extern TimestampTz llm_operation_deadline(Jsonb *deadline);

/* What is wrong with an object of tags, as a sentence in the current context; NULL: nothing. */
extern const char *llm_operation_tags_fault(const JsonbValue *tags);

/*
 * Tags of a call: what llm_enrich.tags says, with those of the call laid over it; NULL
 * when there are none.  Raises 22023 when the setting is no JSON object.
 */
extern Jsonb *llm_operation_tags(Jsonb *own);

#endif /* LLM_OPERATION_H */
