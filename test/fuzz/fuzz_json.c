/*-------------------------------------------------------------------------
 *
 * fuzz_json.c
 *	  JSON read, written and read again; the server's own parser as the judge.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/json.h"
#include "fuzz.h"

typedef struct ServerParse
{
	char *text;
	Jsonb *jsonb;
} ServerParse;

static void
parse_by_server(void *arg)
{
	ServerParse *parse = arg;

	parse->jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(parse->text)));
}

/* The reader alone agrees on what is JSON. */
static bool
walk(const char *str, size_t len)
{
	LlmJsonReader reader;

	llm_json_open(&reader, str, len);
	llm_json_skip(&reader);
	return llm_json_close(&reader);
}

/* What was taken is written, read back and stored without a difference. */
static void
check_tree(const char *str, size_t len, const JsonbValue *tree)
{
	StringInfoData written;
	StringInfoData fault;
	JsonbValue again;
	JsonbValue stored;
	ServerParse theirs;
	Jsonb *ours;

	must(walk(str, len));
	initStringInfo(&written);
	initStringInfo(&fault);
	llm_json_append(&written, tree);
	must(llm_json_parse(written.data, written.len, &again, &fault));
	must(llm_json_compare(tree, &again) == 0);
	ours = llm_json_store(tree);
	must(llm_json_tree(ours, &stored));
	must(llm_json_compare(tree, &stored) == 0);
	/* the text as it came, by the server */
	theirs.text = pnstrdup(str, len);
	must(llm_fuzz_raises(parse_by_server, &theirs) == 0);
	must(compareJsonbContainers(&ours->root, &theirs.jsonb->root) == 0);
}

/* Any text at all survives as a string. */
static void
check_string(const char *str, size_t len)
{
	StringInfoData written;
	StringInfoData fault;
	JsonbValue again;
	size_t clipped = llm_json_clip(str, len, len / 2);

	must(clipped <= len / 2 && llm_json_is_utf8(str, clipped));
	initStringInfo(&written);
	initStringInfo(&fault);
	llm_json_append_string(&written, str, len);
	must(llm_json_parse(written.data, written.len, &again, &fault));
	must(again.type == jbvString && again.val.string.len == len);
	must(memcmp(again.val.string.val, str, len) == 0);
}

static void
run(const uint8 *data, size_t size)
{
	char *str = palloc(size);
	StringInfoData fault;
	JsonbValue tree;

	/* exactly as long as it is */
	memcpy(str, data, size);
	(void) walk(str, size);
	initStringInfo(&fault);
	if (llm_json_parse(str, size, &tree, &fault))
	{
		must(fault.len == 0);
		check_tree(str, size, &tree);
	}
	else
		must(fault.len > 0 && llm_fuzz_is_shown(fault.data, 200));
	if (llm_json_is_utf8(str, size))
		check_string(str, size);
}

const LlmFuzzTarget llm_fuzz_json = {
	.name = "json",
	.run = run,
	.fixed = 200000,
	.per_byte = 1000,
};
