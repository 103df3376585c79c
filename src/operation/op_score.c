/*-------------------------------------------------------------------------
 *
 * op_score.c
 *	  llm_score: how far the message meets a criterion, as a number in a range.
 *
 *	  {"score": 0.75}
 *
 * The number is kept with the 15 digits that any double has: so it is a double whatever the
 * model wrote, and the same in the cell, in the ledger and for the checks of users.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "base/json.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/spec.h"
#include "operation/validate.h"

#define DEFAULT_MIN 0.0
#define DEFAULT_MAX 1.0

typedef struct Score
{
	JsonbValue min;
	JsonbValue max;
} Score;

/* The recipe always says the range: NULL is the same question as the default. */
static Jsonb *
make_spec(const LlmCallArgs *args)
{
	LlmCallArgs whole = *args;

	if (!whole.given[LLM_ARG_MIN])
		llm_argument_set(&whole, LLM_ARG_MIN, Float8GetDatum(DEFAULT_MIN));
	if (!whole.given[LLM_ARG_MAX])
		llm_argument_set(&whole, LLM_ARG_MAX, Float8GetDatum(DEFAULT_MAX));
	if (DatumGetFloat8(whole.values[LLM_ARG_MIN]) >= DatumGetFloat8(whole.values[LLM_ARG_MAX]))
		llm_spec_refuse(LLM_ARG_MAX, "It must be larger than \"min\".");
	return llm_spec_make(&llm_op_score, &whole);
}

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	Score *own = palloc0(sizeof(Score));
	JsonbPair range[3];
	JsonbValue schema;
	StringInfoData buf;

	own->min = *llm_json_get(spec, "min");
	own->max = *llm_json_get(spec, "max");
	recipe->private_data = own;
	llm_json_set_pair(&range[0], "type", llm_json_make_text("number"));
	llm_json_set_pair(&range[1], "minimum", own->min);
	llm_json_set_pair(&range[2], "maximum", own->max);
	schema = llm_prompt_object_schema("score", llm_json_make_object(range, 3));
	recipe->schema = llm_json_store(&schema);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "Rate the user's message by this criterion: ");
	llm_json_append(&buf, llm_json_get(spec, "criterion"));
	appendStringInfoString(&buf, "\nGive a number from ");
	llm_json_append(&buf, &own->min);
	appendStringInfoString(&buf, ", not at all, to ");
	llm_json_append(&buf, &own->max);
	appendStringInfoString(&buf, ", fully.\n");
	llm_prompt_finish(&buf, spec, "{\"score\": number}", true);
	recipe->system = buf.data;
	recipe->value_key = "score";
}

/* As a double that jsonb can hold; one that is too small is 0. */
static JsonbValue
as_double(const JsonbValue *number)
{
	JsonbValue result = {.type = jbvNumeric};
	char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number->val.numeric)));
	double value = strtod(digits, NULL);

	result.val.numeric = DatumGetNumeric(DirectFunctionCall1(float8_numeric, Float8GetDatum(value)));
	return result;
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	const Score *own = recipe->private_data;
	JsonbValue *score = llm_validate_member(given->str, given->len, "score", fault);

	if (score == NULL)
		return NULL;
	if (score->type != jbvNumeric)
		appendStringInfo(fault, "\"score\" must be a number, not a JSON %s.", llm_json_type(score));
	else if (llm_json_compare(score, &own->min) < 0 || llm_json_compare(score, &own->max) > 0)
	{
		appendStringInfoString(fault, "The score must be a number from ");
		llm_json_append(fault, &own->min);
		appendStringInfoString(fault, " to ");
		llm_json_append(fault, &own->max);
		appendStringInfoChar(fault, '.');
		llm_validate_clip(fault);
	}
	else
	{
		return llm_json_store_member("score", as_double(score));
	}
	return NULL;
}

const LlmOperation llm_op_score = {
	.name = "score",
	.function = "llm_score",
	.output_tokens = 16,
	.takes = LLM_TAKES(CRITERION) | LLM_TAKES(MIN) | LLM_TAKES(MAX),
	.needs = LLM_TAKES(CRITERION),
	.make_spec = make_spec,
	.is_plain = true,
	.load = load,
	.check = check,
};
