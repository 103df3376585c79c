/*-------------------------------------------------------------------------
 *
 * fuzz_marker.c
 *	  Markers in cells of text: found, laid over, taken away; the cell comes back
 *	  byte for byte.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "cell/marker.h"
#include "cell/marker_text.h"
#include "fuzz.h"

/* Less than what the scanner and the server's parser go down to. */
#define MODEST_DEPTH 500

static void
parse_by_server(void *arg)
{
	(void) DirectFunctionCall1(json_in, CStringGetDatum((char *) arg));
}

static int
count_brackets(const char *str)
{
	int n = 0;

	for (; *str != '\0'; str++)
		n += *str == '[' || *str == '{';
	return n;
}

static bool
lies_within(LlmSpan cell, LlmSpan part)
{
	return part.data == NULL ||
		   (part.len >= 0 && part.data >= cell.data && part.data + part.len <= cell.data + cell.len);
}

/* Without the marker it is an object of as many members, and none of them is ours. */
static void
check_cut(LlmSpan cell, const LlmMarkerText *found)
{
	LlmMarkerText rest;
	StringInfoData cut;

	must(found->cut_start >= 0 && found->cut_start < found->cut_end && found->cut_end <= cell.len);
	initStringInfo(&cut);
	appendBinaryStringInfo(&cut, cell.data, found->cut_start);
	appendBinaryStringInfo(&cut, cell.data + found->cut_end, cell.len - found->cut_end);
	llm_marker_text_read((LlmSpan){cut.data, cut.len}, &rest);
	must(rest.is_object && !rest.has_key && rest.members == found->members);
}

static void
check_read(LlmSpan cell)
{
	LlmMarkerText found;
	size_t before = llm_fuzz_memory_held();

	llm_marker_text_read(cell, &found);
	(void) llm_marker_text_mentions(cell);
	must(llm_fuzz_memory_held() == before);
	must(lies_within(cell, found.marker) && lies_within(cell, found.previous));
	must(!found.has_marker || (found.has_key && found.status != NULL && found.task >= 0));
	must(!found.has_key || (found.is_object && llm_marker_text_mentions(cell)));
	if (found.has_marker)
		check_cut(cell, &found);
}

/* Without the white space around it. */
static char *
trimmed(char *str)
{
	size_t len;

	str += strspn(str, " \t\r\n");
	len = strlen(str);
	while (len > 0 && strchr(" \t\r\n", str[len - 1]) != NULL)
		len--;
	return pnstrdup(str, len);
}

/*
 * A marker laid over the cell names the task; without it the cell is as it was, but for
 * blanks, in json, around a value that is kept within the marker.
 */
static void
check_keep(char *str, LlmCellType type)
{
	Datum old = CStringGetTextDatum(str);
	Datum fresh = llm_marker_cell(type, llm_marker_pending(42));
	Datum kept;
	Datum held;
	LlmMarkerText parts;
	bool nested = false;

	if (llm_marker_task(type, old, &nested) != 0 || llm_marker_status(type, old) != NULL || nested)
		return;
	kept = llm_marker_keep(type, old, false, fresh);
	must(llm_marker_task(type, kept, &nested) == 42);
	must(strcmp(llm_marker_status(type, kept), "pending") == 0);
	must(llm_marker_restore(type, kept, &held));
	llm_marker_text_read((LlmSpan){str, strlen(str)}, &parts);
	if (parts.members > 0 || type == LLM_CELL_TEXT)
		must(strcmp(TextDatumGetCString(held), str) == 0);
	else
		must(strcmp(trimmed(TextDatumGetCString(held)), trimmed(str)) == 0);
}

static void
run(const uint8 *data, size_t size)
{
	const uint8 *at = data;
	size_t len;
	char *str = llm_fuzz_piece(&at, data + size, '\0', &len);
	LlmSpan cell = {palloc(len), len};
	bool is_json;

	/* exactly as long as it is */
	memcpy(unconstify(char *, cell.data), str, len);
	check_read(cell);
	(void) llm_marker_text_can_keep(cell);
	if (!pg_verify_mbstr(PG_UTF8, str, (int) len, true) || count_brackets(str) > MODEST_DEPTH)
		return;
	is_json = llm_fuzz_raises(parse_by_server, str) == 0;
	must(llm_marker_text_can_keep(cell) == is_json);
	if (is_json)
		check_keep(str, LLM_CELL_JSON);
	check_keep(str, LLM_CELL_TEXT);
}

const LlmFuzzTarget llm_fuzz_marker = {
	.name = "marker",
	.run = run,
	.fixed = 200000,
	.per_byte = 400,
};
