/*-------------------------------------------------------------------------
 *
 * recipe.c
 *	  llm.recipe: what the rows of a job share, found by its content.
 *
 * There is no unique index to wait at: two sessions that make the same recipe at once make it
 * twice, which does no harm (ADR 9).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/builtins.h"

#include "base/spi.h"
#include "tables/recipe.h"

/* Sorted by an expression, or the primary key would be walked for the order. */
static LlmStatement find_recipe_statement = {
	.sql = "SELECT r.id FROM llm.recipe r WHERE r.hash = $1"
		   " AND r.operation = $2 AND r.spec = $3"
		   " ORDER BY r.id + 0 LIMIT 1",
	.nargs = 3,
	.args = {BYTEAOID, TEXTOID, JSONBOID},
	.fresh = true};

static LlmStatement add_recipe_statement = {
	.sql = "INSERT INTO llm.recipe (hash, operation, spec) VALUES ($1, $2, $3) RETURNING id",
	.nargs = 3,
	.args = {BYTEAOID, TEXTOID, JSONBOID}};

bytea *
llm_recipe_hash(const char *operation, const Jsonb *spec)
{
	bytea *hash = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	SET_VARSIZE(hash, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	if (context == NULL ||
		pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) operation, strlen(operation) + 1) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) VARDATA(spec), VARSIZE(spec) - VARHDRSZ) < 0 ||
		pg_cryptohash_final(context, (uint8 *) VARDATA(hash), PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 hash")));
	pg_cryptohash_free(context);
	return hash;
}

int64
llm_recipe_find_or_add(const char *operation, Jsonb *spec)
{
	Datum values[3];
	bool isnull;
	int64 id;

	values[0] = PointerGetDatum(llm_recipe_hash(operation, spec));
	values[1] = CStringGetTextDatum(operation);
	values[2] = JsonbPGetDatum(spec);
	if (llm_spi_execute(&find_recipe_statement, values, NULL, false) == 0)
	{
		SPI_freetuptable(SPI_tuptable);
		(void) llm_spi_execute(&add_recipe_statement, values, NULL, false);
	}
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return id;
}
