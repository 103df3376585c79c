/*-------------------------------------------------------------------------
 *
 * input.c
 *	  The text that a call asks about, as it comes from a table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "fmgr.h"

#include "base/compat.h"
#include "operation/input.h"

/*
 * Far above what any model reads, and far below what a value or a set of them can hold:
 * the input is stored, sent as JSON, which may be six times as long, and kept in memory
 * meanwhile.
 */
#define MAX_INPUT_SIZE (64 * 1024 * 1024)

/* Bytes of a compressed input that are looked at first, whether they are white space. */
#define BLANK_HEAD 32

void
llm_input_check_size(const char *function, Datum input)
{
	Size size = toast_raw_datum_size(input) - VARHDRSZ;

	if (size > MAX_INPUT_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("input of %s() is too long", function),
				 errdetail("It has %zu bytes; at most %d are allowed.", size, MAX_INPUT_SIZE),
				 errhint("Ask about a part of it, or about several parts in rows of their own.")));
}

static bool
is_white(const text *input)
{
	const char *data = VARDATA_ANY(input);
	const char *end = data + VARSIZE_ANY_EXHDR(input);

	while (data < end && (*data == ' ' || (*data >= '\t' && *data <= '\r')))
		data++;
	return data == end;
}

/* Of an input that is compressed, the beginning mostly tells. */
bool
llm_input_is_blank(text *input)
{
	text *head;
	bool is_white_head;

	if (!VARATT_IS_COMPRESSED(input))
		return is_white(input);
	head = (text *) detoast_attr_slice((struct varlena *) input, 0, BLANK_HEAD);
	is_white_head = is_white(head);
	pfree(head);
	return is_white_head && is_white((text *) pg_detoast_datum_packed(input));
}
