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

#include "base/blank.h"
#include "base/compat.h"
#include "operation/input.h"

/*
 * Far above what any model reads, and far below what a value or a set of them can hold:
 * the input is stored, sent as JSON, which may be six times as long, and kept in memory
 * meanwhile.
 */
#define MAX_INPUT_SIZE (64 * 1024 * 1024)

/* Bytes of a compressed input that are looked at first, whether they show anything; and of a cut character. */
#define BLANK_HEAD 32
#define MAX_CUT 3

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

/* So many bytes at its beginning show nothing. */
static size_t
blank_prefix(const text *input)
{
	return llm_blank_prefix(VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input));
}

static bool
shows_nothing(const text *input)
{
	return blank_prefix(input) == VARSIZE_ANY_EXHDR(input);
}

/* Of an input that is compressed, the beginning mostly tells; its last character may be cut. */
bool
llm_input_is_blank(text *input)
{
	text *head;
	bool may_be;

	if (!VARATT_IS_COMPRESSED(input))
		return shows_nothing(input);
	head = (text *) detoast_attr_slice((struct varlena *) input, 0, BLANK_HEAD);
	may_be = blank_prefix(head) + MAX_CUT >= VARSIZE_ANY_EXHDR(head);
	pfree(head);
	return may_be && shows_nothing((text *) pg_detoast_datum_packed(input));
}
