/*-------------------------------------------------------------------------
 *
 * pinned.c
 *	  Settings under which a value is written as text, and read again in another session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "base/pinned.h"

/* What output functions look at; search_path: whether names are qualified. */
static const char *const pinned_settings[][2] = {
	{"search_path", "pg_catalog"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"TimeZone", "UTC"},
	{"lc_monetary", "C"},
	{"array_nulls", "on"},
	{"quote_all_identifiers", "off"},
};

int
llm_pinned_begin(void)
{
	int nest = NewGUCNestLevel();

	for (int i = 0; i < lengthof(pinned_settings); i++)
		(void) set_config_option(pinned_settings[i][0], pinned_settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

void
llm_pinned_end(int nest)
{
	AtEOXact_GUC(true, nest);
}
