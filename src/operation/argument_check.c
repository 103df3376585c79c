/*-------------------------------------------------------------------------
 *
 * argument_check.c
 *	  Checks of arguments that are no operation's own: words, names, numbers, flags.
 *
 * What such an argument means is for the operation; here is only what anything of the kind
 * must be.  Called by spec.c, by the table of arguments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/json.h"
#include "operation/spec.h"

/* Words about all rows are sent with each of them; in characters. */
#define MAX_WORDS_LEN 10000

/* Names of languages, kinds and the like. */
#define MAX_NAME_LEN 100
#define MAX_NAMES 100

/* A flag that is set; one that is not never comes here. */
void
llm_argument_flag(LlmSpec *spec, LlmArg arg, Datum value)
{
	llm_spec_add(spec, llm_arguments[arg].name, llm_json_make_bool(true));
}

/* Something said in words. */
void
llm_argument_words(LlmSpec *spec, LlmArg arg, Datum value)
{
	text *words = DatumGetTextPP(value);
	const char *str = VARDATA_ANY(words);
	int len = VARSIZE_ANY_EXHDR(words);

	if (llm_spec_is_blank(str, len))
		llm_spec_refuse(arg, "It must not be blank.");
	if (pg_mbstrlen_with_len(str, len) > MAX_WORDS_LEN)
		llm_spec_refuse(arg, psprintf("It has at most %d characters.", MAX_WORDS_LEN));
	llm_spec_add(spec, llm_arguments[arg].name, llm_json_make_string(str, len));
}

/* A name, in a few words. */
static JsonbValue
read_name(LlmArg arg, text *name)
{
	const char *str = VARDATA_ANY(name);
	int len = VARSIZE_ANY_EXHDR(name);

	if (llm_spec_is_blank(str, len))
		llm_spec_refuse(arg, "A name must not be blank.");
	if (pg_mbstrlen_with_len(str, len) > MAX_NAME_LEN)
		llm_spec_refuse(arg, psprintf("A name has at most %d characters.", MAX_NAME_LEN));
	return llm_json_make_string(str, len);
}

void
llm_argument_name(LlmSpec *spec, LlmArg arg, Datum value)
{
	llm_spec_add(spec, llm_arguments[arg].name, read_name(arg, DatumGetTextPP(value)));
}

/* A list of different names, at least one. */
void
llm_argument_names(LlmSpec *spec, LlmArg arg, Datum value)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	JsonbValue *names;
	JsonbValue *sorted;
	Datum *elements;
	bool *nulls;
	int n;

	if (ARR_NDIM(array) > 1)
		llm_spec_refuse(arg, "It must be an array of one dimension.");
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n == 0 || n > MAX_NAMES)
		llm_spec_refuse(arg, psprintf("Give 1 to %d different names, or omit it.", MAX_NAMES));
	names = palloc(n * sizeof(JsonbValue));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			llm_spec_refuse(arg, "A name must not be NULL.");
		names[i] = read_name(arg, DatumGetTextPP(elements[i]));
		if (llm_json_string_is(&names[i], LLM_MARKER_KEY))
			llm_spec_refuse(arg, psprintf("The name \"%s\" is reserved.", LLM_MARKER_KEY));
	}
	sorted = palloc(n * sizeof(JsonbValue));
	memcpy(sorted, names, n * sizeof(JsonbValue));
	llm_json_sort(sorted, n, sizeof(JsonbValue), llm_json_order);
	for (int i = 1; i < n; i++)
	{
		if (llm_json_order(&sorted[i - 1], &sorted[i]) == 0)
			llm_spec_refuse(arg, psprintf("The name \"%s\" is given twice.", llm_json_cstring(&sorted[i])));
	}
	llm_spec_add(spec, llm_arguments[arg].name, llm_json_make_array(names, n));
}

/* A finite number. */
void
llm_argument_number(LlmSpec *spec, LlmArg arg, Datum value)
{
	JsonbValue number = {.type = jbvNumeric};

	if (!isfinite(DatumGetFloat8(value)))
		llm_spec_refuse(arg, "It must be a finite number.");
	number.val.numeric = DatumGetNumeric(DirectFunctionCall1(float8_numeric, value));
	llm_spec_add(spec, llm_arguments[arg].name, number);
}
