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

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/json.h"
#include "operation/spec.h"

/* Words about all rows are sent with each of them; in characters. */
#define MAX_WORDS_LEN 10000

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
