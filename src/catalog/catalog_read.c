/*-------------------------------------------------------------------------
 *
 * catalog_read.c
 *	  Reading our tables of servers and models, in a user's statement or the sender.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/snapmgr.h"

#include "catalog/catalog_read.h"

/* Enough names for a hint. */
#define NAMES_IN_HINT 10

void
llm_catalog_begin_reading(LlmOwnScope *scope)
{
	llm_spi_own_begin(scope);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
}

void
llm_catalog_end_reading(LlmOwnScope *scope)
{
	PopActiveSnapshot();
	SPI_finish();
	llm_spi_own_end(scope);
}

char *
llm_catalog_list_names(LlmStatement *statement)
{
	StringInfoData names;
	LlmOwnScope scope;
	uint64 found;
	uint64 i;

	initStringInfo(&names);
	llm_catalog_begin_reading(&scope);
	found = llm_spi_execute(statement, NULL, NULL, true);
	for (i = 0; i < found && i < NAMES_IN_HINT; i++)
		appendStringInfo(&names, "%s\"%s\"", i == 0 ? "" : ", ",
						 SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	llm_catalog_end_reading(&scope);
	if (i < found)
		appendStringInfoString(&names, ", ...");
	return found > 0 ? names.data : NULL;
}
