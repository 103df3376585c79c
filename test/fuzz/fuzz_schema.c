/*-------------------------------------------------------------------------
 *
 * fuzz_schema.c
 *	  A user's schema, as the server read it, and an answer to be checked with it.
 *
 * Both stand in the input, parted by a line feed.  A schema may be refused, by an
 * error that says so; once it was taken, no answer raises.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/json.h"
#include "dialect/dialect_openai.h"
#include "fuzz.h"
#include "operation/validate.h"

typedef struct Compile
{
	const char *text;
	Jsonb *jsonb;
	LlmSchema *schema;
} Compile;

static void
read_jsonb(void *arg)
{
	Compile *compile = arg;

	compile->jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(compile->text)));
}

static void
compile_schema(void *arg)
{
	Compile *compile = arg;

	compile->schema = llm_schema_compile(compile->jsonb);
}

static void
check_answer(const LlmSchema *schema, const char *str, size_t len)
{
	StringInfoData fault;
	StringInfoData written;
	JsonbValue answer;

	initStringInfo(&fault);
	initStringInfo(&written);
	if (!llm_validate_object(str, len, &answer, &fault))
		return;
	if (!llm_validate(schema, &answer, &fault))
	{
		/* a name in the answer is shown as it stands */
		must(fault.len > 0 && fault.len <= LLM_FAULT_MAX && llm_json_is_utf8(fault.data, fault.len));
		return;
	}
	must(fault.len == 0);
	llm_json_append(&written, &answer);
	must(llm_validate_object(written.data, written.len, &answer, &fault));
	must(llm_validate(schema, &answer, &fault));
}

static void
run(const uint8 *data, size_t size)
{
	const uint8 *at = data;
	size_t len;
	Compile compile = {.text = llm_fuzz_piece(&at, data + size, '\n', &len)};
	int sqlstate;

	if (!pg_verify_mbstr(PG_UTF8, compile.text, (int) len, true) || llm_fuzz_raises(read_jsonb, &compile) != 0)
		return;
	sqlstate = llm_fuzz_raises(compile_schema, &compile);
	must(sqlstate == 0 || sqlstate == ERRCODE_INVALID_PARAMETER_VALUE);
	if (sqlstate != 0)
		return;
	(void) llm_dialect_openai_is_strict(compile.jsonb);
	check_answer(compile.schema, (const char *) at, data + size - at);
}

const LlmFuzzTarget llm_fuzz_schema = {
	.name = "schema",
	.run = run,
	.fixed = 400000,
	.per_byte = 3000,
};
