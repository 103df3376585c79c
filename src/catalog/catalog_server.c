/*-------------------------------------------------------------------------
 *
 * catalog_server.c
 *	  What of ours names a server follows when it gets another name.
 *
 * Names are what our tables know of servers, so that a dump restores in any order (ADR 89).
 * Prices that are in force, or planned, begin again under the new name: rows of the ledger keep
 * the name that the server had, and find what it cost then by it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/spi.h"
#include "catalog/catalog_target.h"

/* Of server $1, which becomes $2 at the time $3. */
#define RENAME(statement)                    \
	{                                        \
		statement, 3,                        \
		{                                    \
			TEXTOID, TEXTOID, TIMESTAMPTZOID \
		}                                    \
	}

/*
 * In this order.  What is left of a server that had the new name before goes.  Habits are copied: the sender writes
 * them, and waits for no user's transaction.
 */
static LlmStatement statements[] = {
	RENAME("UPDATE llm.model SET server = $2 WHERE server = $1"),
	RENAME("UPDATE llm.pause SET server = $2 WHERE server = $1"),
	RENAME("DELETE FROM llm.habit WHERE server = $2"),
	RENAME("INSERT INTO llm.habit (server, model, name, value, since, why)"
		   " SELECT $2, h.model, h.name, h.value, h.since, h.why FROM llm.habit h WHERE h.server = $1"),
	RENAME("DELETE FROM llm.price WHERE server = $2 AND valid_from >= $3"),
	RENAME("UPDATE llm.price SET valid_until = $3 WHERE server = $2 AND valid_until > $3"),
	RENAME("INSERT INTO llm.price (server, model, valid_from, valid_until, input_per_mtok, cached_input_per_mtok,"
		   " cache_write_per_mtok, output_per_mtok, batch_input_per_mtok, batch_output_per_mtok, tiers)"
		   " SELECT $2, p.model, GREATEST(p.valid_from, $3), p.valid_until, p.input_per_mtok, p.cached_input_per_mtok,"
		   " p.cache_write_per_mtok, p.output_per_mtok, p.batch_input_per_mtok, p.batch_output_per_mtok, p.tiers"
		   " FROM llm.price p WHERE p.server = $1 AND p.valid_until > $3"),
	RENAME("DELETE FROM llm.price WHERE server = $1 AND valid_from >= $3"),
	RENAME("UPDATE llm.price SET valid_until = $3 WHERE server = $1 AND valid_until > $3")};

void
llm_catalog_rename_server(const char *name, const char *new_name)
{
	Datum values[3] = {CStringGetTextDatum(name), CStringGetTextDatum(new_name), TimestampTzGetDatum(llm_clock_now())};
	LlmOwnScope scope;

	llm_spi_own_begin(&scope);
	SPI_connect();
	for (int i = 0; i < lengthof(statements); i++)
		(void) llm_spi_execute(&statements[i], values, NULL, false);
	SPI_finish();
	llm_spi_own_end(&scope);
}
