/*-------------------------------------------------------------------------
 *
 * op_agg.c
 *	  llm_agg, llm_summarize_agg: the texts of many rows, asked about together.
 *
 *	  {"answer": "…"} and {"summary": "…"}
 *
 * The message is a JSON array of strings, so that no text can end its own quotes and pass
 * for another, or for our words.  What does not fit the model at once is asked in parts and
 * put together in stages; which stage it is belongs to the recipe, so that each has words
 * of its own and its answers are kept by themselves (ask/ask_aggregate.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/json.h"
#include "operation/aggregate.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/spec.h"
#include "operation/validate.h"

#define DEFAULT_MAX_WORDS 50

/* What is put together later may be longer than what is given in the end, and not too short for that. */
#define PART_TIMES 3
#define PART_LEAST_WORDS 100

/* A word of any language, generously; and the object around the answer. */
#define TOKENS_PER_WORD 4
#define TOKENS_AROUND 16

/* What an answer to an instruction takes at most, about. */
#define ANSWER_TOKENS 1500

typedef struct Aggregate
{
	const char *key; /* the member of the answer */
	int max_words; /* 0: no bound */
} Aggregate;

static const char *const stage_names[LLM_STAGES] = {
	[LLM_STAGE_WHOLE] = "whole",
	[LLM_STAGE_PART] = "part",
	[LLM_STAGE_JOIN] = "join",
	[LLM_STAGE_LAST] = "last",
};

const char *
llm_stage_name(LlmStage stage)
{
	return stage_names[stage];
}

/* Check of the argument "stage", which no user gives.  The usual one has no key. */
void
llm_argument_stage(LlmSpec *spec, LlmArg arg, Datum value)
{
	char *name = text_to_cstring(DatumGetTextPP(value));

	for (int i = 0; i < LLM_STAGES; i++)
	{
		if (strcmp(name, stage_names[i]) != 0)
			continue;
		if (i != LLM_STAGE_WHOLE)
			llm_spec_add(spec, llm_arguments[arg].name, llm_json_make_text(stage_names[i]));
		return;
	}
	llm_spec_refuse(arg, "It is whole, part, join or last.");
}

static LlmStage
stage_of(const JsonbValue *spec)
{
	const JsonbValue *name = llm_json_get(spec, llm_arguments[LLM_ARG_STAGE].name);

	for (int i = 0; name != NULL && i < LLM_STAGES; i++)
	{
		if (llm_json_string_is(name, stage_names[i]))
			return (LlmStage) i;
	}
	return LLM_STAGE_WHOLE;
}

static bool
is_of_answers(LlmStage stage)
{
	return stage == LLM_STAGE_JOIN || stage == LLM_STAGE_LAST;
}

static bool
is_of_part(LlmStage stage)
{
	return stage == LLM_STAGE_PART || stage == LLM_STAGE_JOIN;
}

/* What the texts are. */
static void
append_stage(StringInfo buf, LlmStage stage, const char *what)
{
	appendStringInfoString(buf, "The user's message is a JSON array of texts");
	if (is_of_answers(stage))
		appendStringInfo(buf, ", each of which is %s for one part of a long list, in the order of the parts", what);
	else if (stage == LLM_STAGE_PART)
		appendStringInfoString(buf, ", which are one part of a long list; a long text may be cut into several");
	appendStringInfoString(buf, ".\n");
}

static void
append_rest(StringInfo buf, LlmStage stage)
{
	if (is_of_part(stage))
		appendStringInfoString(buf, "Your answer will be combined with those for the other parts: keep what matters for the whole, names and numbers.\n");
}

/* What both share: the form of the answer, and the rest of the words. */
static void
finish(LlmRecipe *recipe, const JsonbValue *spec, const char *key, int max_words, StringInfo words)
{
	Aggregate *own = palloc0(sizeof(Aggregate));
	JsonbPair type[1];
	JsonbValue schema;

	own->key = key;
	own->max_words = max_words;
	recipe->private_data = own;
	llm_json_set_pair(type, "type", llm_json_make_text("string"));
	schema = llm_prompt_object_schema(key, llm_json_make_object(type, 1));
	recipe->schema = llm_json_store(&schema);
	llm_prompt_finish(words, spec, psprintf("{\"%s\": \"…\"}", key), true);
	recipe->system = words->data;
	recipe->value_key = key;
	recipe->output_tokens = max_words > 0 ? TOKENS_PER_WORD * max_words + TOKENS_AROUND : ANSWER_TOKENS;
}

static void
load_agg(LlmRecipe *recipe, const JsonbValue *spec)
{
	LlmStage stage = stage_of(spec);
	StringInfoData buf;

	initStringInfo(&buf);
	append_stage(&buf, stage, "an answer to the task below");
	appendStringInfoString(&buf, is_of_answers(stage) ? "Put these answers together into one answer, as if the task had been done for the whole list at once. The task: "
													  : "Do this task once, for all of the texts together: ");
	llm_json_append(&buf, llm_json_get(spec, "instruction"));
	appendStringInfoChar(&buf, '\n');
	append_rest(&buf, stage);
	finish(recipe, spec, "answer", 0, &buf);
}

/* The recipe always says how many words: NULL is the same question as the default. */
static Jsonb *
make_summarize_spec(const LlmCallArgs *args)
{
	LlmCallArgs whole = *args;

	if (!whole.given[LLM_ARG_MAX_WORDS])
		llm_argument_set(&whole, LLM_ARG_MAX_WORDS, Int32GetDatum(DEFAULT_MAX_WORDS));
	return llm_spec_make(&llm_op_summarize_agg, &whole);
}

static void
load_summarize(LlmRecipe *recipe, const JsonbValue *spec)
{
	int max_words = llm_json_to_int(llm_json_get(spec, "max_words"));
	LlmStage stage = stage_of(spec);
	StringInfoData buf;

	if (is_of_part(stage))
		max_words = Max(PART_TIMES * max_words, PART_LEAST_WORDS);
	initStringInfo(&buf);
	append_stage(&buf, stage, "a summary");
	appendStringInfo(&buf, "Summarize all of them together in at most %d words, in their own language. Add nothing to them.\n",
					 max_words);
	append_rest(&buf, stage);
	finish(recipe, spec, "summary", max_words, &buf);
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	const Aggregate *own = recipe->private_data;
	JsonbValue *words = llm_validate_member(given->str, given->len, own->key, fault);

	if (words == NULL)
		return NULL;
	if (words->type != jbvString)
	{
		appendStringInfo(fault, "\"%s\" must be a string, not a JSON %s.", own->key, llm_json_type(words));
		return NULL;
	}
	if (llm_spec_is_blank(words->val.string.val, words->val.string.len))
	{
		appendStringInfo(fault, "\"%s\" is empty.", own->key);
		return NULL;
	}
	if (own->max_words > 0 && !llm_validate_words(words, own->max_words, fault))
		return NULL;
	return llm_json_store_member(own->key, *words);
}

const LlmOperation llm_op_agg = {
	.name = "agg",
	.function = "llm_agg",
	.takes = LLM_TAKES(INSTRUCTION) | LLM_TAKES(STAGE),
	.needs = LLM_TAKES(INSTRUCTION),
	.is_plain = true,
	.is_aggregate = true,
	.load = load_agg,
	.check = check,
};

const LlmOperation llm_op_summarize_agg = {
	.name = "summarize_agg",
	.function = "llm_summarize_agg",
	.takes = LLM_TAKES(MAX_WORDS) | LLM_TAKES(STAGE),
	.is_plain = true,
	.is_aggregate = true,
	.make_spec = make_summarize_spec,
	.load = load_summarize,
	.check = check,
};
