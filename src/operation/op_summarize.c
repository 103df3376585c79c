/*-------------------------------------------------------------------------
 *
 * op_summarize.c
 *	  llm_summarize: the message in so many words at most.
 *
 *	  {"summary": "…"}
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/json.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/spec.h"
#include "operation/validate.h"

#define DEFAULT_MAX_WORDS 50
#define MAX_MAX_WORDS 10000

/* A word of any language, generously; and the object around the summary. */
#define TOKENS_PER_WORD 4
#define TOKENS_AROUND 16

typedef struct Summarize
{
	int max_words;
} Summarize;

/* Check of the argument "max_words". */
void
llm_argument_max_words(LlmSpec *spec, LlmArg arg, Datum value)
{
	int max_words = DatumGetInt32(value);

	if (max_words < 1 || max_words > MAX_MAX_WORDS)
		llm_spec_refuse(arg, psprintf("It must be from 1 to %d.", MAX_MAX_WORDS));
	llm_spec_add(spec, llm_arguments[arg].name, llm_json_make_int(max_words));
}

/* The recipe always says how many words: NULL is the same question as the default. */
static Jsonb *
make_spec(const LlmCallArgs *args)
{
	LlmCallArgs whole = *args;

	if (!whole.given[LLM_ARG_MAX_WORDS])
		llm_argument_set(&whole, LLM_ARG_MAX_WORDS, Int32GetDatum(DEFAULT_MAX_WORDS));
	return llm_spec_make(&llm_op_summarize, &whole);
}

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	Summarize *own = palloc0(sizeof(Summarize));
	JsonbPair type[1];
	JsonbValue schema;
	StringInfoData buf;

	own->max_words = llm_json_to_int(llm_json_get(spec, "max_words"));
	recipe->private_data = own;
	llm_json_set_pair(type, "type", llm_json_make_text("string"));
	schema = llm_prompt_object_schema("summary", llm_json_make_object(type, 1));
	recipe->schema = llm_json_store(&schema);
	initStringInfo(&buf);
	appendStringInfo(&buf, "Summarize the user's message in at most %d words, in its own language. Add nothing to it.\n",
					 own->max_words);
	llm_prompt_finish(&buf, spec, "{\"summary\": \"…\"}", true);
	recipe->system = buf.data;
	recipe->value_key = "summary";
	recipe->output_tokens = TOKENS_PER_WORD * own->max_words + TOKENS_AROUND;
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	const Summarize *own = recipe->private_data;
	JsonbValue answer;
	JsonbValue *summary;

	if (!llm_validate_object(given->str, given->len, &answer, fault))
		return NULL;
	summary = llm_json_get(&answer, "summary");
	if (summary == NULL || summary->type != jbvString || answer.val.object.nPairs != 1)
	{
		appendStringInfoString(fault, "The answer must have the property \"summary\", a string, and no other.");
		return NULL;
	}
	return llm_validate_words(summary, own->max_words, fault) ? llm_json_store(&answer) : NULL;
}

const LlmOperation llm_op_summarize = {
	.name = "summarize",
	.function = "llm_summarize",
	.takes = LLM_TAKES(MAX_WORDS),
	.make_spec = make_spec,
	.load = load,
	.check = check,
};
