/*-------------------------------------------------------------------------
 *
 * recipe_stat.c
 *	  llm.recipe_stat: what requests of a recipe to a model have taken so far.
 *
 * Sums and sums of squares, from which means, spreads and the tokens of a byte follow.
 * They are of requests whose usage was told, and first askings are kept apart from those
 * after an invalid answer, which carry that answer along.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/spi.h"
#include "tables/recipe.h"
#include "tables/recipe_stat.h"

#define NCOLUMNS 19

static const Oid column_types[NCOLUMNS] = {
	INT8OID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
	FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, INT8OID, INT8OID, INT8OID, INT8OID};

static LlmStatement store_statement = {
	.sql = "INSERT INTO llm.recipe_stat AS s (recipe, server, model, requests, body_bytes, input_tokens, cached_tokens,"
		   "  cache_write_tokens, output_tokens, output_tokens_max, tokens_per_byte_max, bytes_squared, bytes_input,"
		   "  input_squared, output_squared, again_requests, again_input_tokens, again_output_tokens, latency_ms)"
		   " SELECT v.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
		   "  AS v"
		   " ON CONFLICT (recipe, server, model) DO UPDATE SET requests = s.requests + excluded.requests,"
		   "  body_bytes = s.body_bytes + excluded.body_bytes, input_tokens = s.input_tokens + excluded.input_tokens,"
		   "  cached_tokens = s.cached_tokens + excluded.cached_tokens,"
		   "  cache_write_tokens = s.cache_write_tokens + excluded.cache_write_tokens,"
		   "  output_tokens = s.output_tokens + excluded.output_tokens,"
		   "  output_tokens_max = GREATEST(s.output_tokens_max, excluded.output_tokens_max),"
		   "  tokens_per_byte_max = GREATEST(s.tokens_per_byte_max, excluded.tokens_per_byte_max),"
		   "  bytes_squared = s.bytes_squared + excluded.bytes_squared,"
		   "  bytes_input = s.bytes_input + excluded.bytes_input,"
		   "  input_squared = s.input_squared + excluded.input_squared,"
		   "  output_squared = s.output_squared + excluded.output_squared,"
		   "  again_requests = s.again_requests + excluded.again_requests,"
		   "  again_input_tokens = s.again_input_tokens + excluded.again_input_tokens,"
		   "  again_output_tokens = s.again_output_tokens + excluded.again_output_tokens,"
		   "  latency_ms = s.latency_ms + excluded.latency_ms",
	.nargs = NCOLUMNS,
	.args = {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
			 INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID,
			 FLOAT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}};

#define SUMS                                                                                                         \
	"sum(s.requests)::float8, sum(s.body_bytes)::float8, sum(s.input_tokens)::float8, sum(s.cached_tokens)::float8," \
	" sum(s.cache_write_tokens)::float8, sum(s.output_tokens)::float8, max(s.output_tokens_max)::float8,"            \
	" max(s.tokens_per_byte_max), sum(s.bytes_squared), sum(s.bytes_input), sum(s.input_squared),"                   \
	" sum(s.output_squared), sum(s.again_requests)::float8, sum(s.again_input_tokens)::float8,"                      \
	" sum(s.again_output_tokens)::float8, sum(s.latency_ms)::float8"

/* The same recipe may be there twice (recipe.c). */
static LlmStatement read_statement = {
	.sql = "SELECT " SUMS " FROM llm.recipe r JOIN llm.recipe_stat s ON s.recipe = r.id"
		   " WHERE r.hash = $1 AND r.operation = $2 AND r.spec = $3 AND s.server = $4 AND s.model = $5",
	.nargs = 5,
	.args = {BYTEAOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID}};

static LlmStatement get_statement = {
	.sql = "SELECT " SUMS " FROM llm.recipe_stat s WHERE s.recipe = $1 AND s.server = $2 AND s.model = $3",
	.nargs = 3,
	.args = {INT8OID, TEXTOID, TEXTOID}};

bool
llm_recipe_stat_tells(const LlmSettlement *s)
{
	return s->recipe != 0 && s->body_bytes > 0 && s->usage.known && s->model[0] != '\0';
}

void
llm_recipe_stat_add(LlmRecipeStat *sums, const LlmSettlement *s)
{
	double bytes = (double) s->body_bytes;
	double input = (double) s->usage.input + s->usage.cached + s->usage.cache_write;
	double output = (double) s->usage.output;

	sums->output_max = Max(sums->output_max, output);
	sums->per_byte_max = Max(sums->per_byte_max, input / bytes);
	if (s->tries > 0)
	{
		sums->again++;
		sums->again_input += input;
		sums->again_output += output;
		return;
	}
	sums->requests++;
	sums->bytes += bytes;
	sums->input += input;
	sums->cached += s->usage.cached;
	sums->cache_write += s->usage.cache_write;
	sums->output += output;
	sums->bytes_squared += bytes * bytes;
	sums->bytes_input += bytes * input;
	sums->input_squared += input * input;
	sums->output_squared += output * output;
	sums->latency_ms += s->latency_ms;
}

void
llm_recipe_stat_store(const LlmRecipeStatRow *rows, int n)
{
	Datum *columns[NCOLUMNS];
	Datum values[NCOLUMNS];

	if (n == 0)
		return;
	for (int c = 0; c < NCOLUMNS; c++)
		columns[c] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		const LlmRecipeStat *sums = &rows[i].sums;

		columns[0][i] = Int64GetDatum(rows[i].recipe);
		columns[1][i] = CStringGetTextDatum(rows[i].server);
		columns[2][i] = CStringGetTextDatum(rows[i].model);
		columns[3][i] = Int64GetDatum(sums->requests);
		columns[4][i] = Int64GetDatum((int64) sums->bytes);
		columns[5][i] = Int64GetDatum((int64) sums->input);
		columns[6][i] = Int64GetDatum((int64) sums->cached);
		columns[7][i] = Int64GetDatum((int64) sums->cache_write);
		columns[8][i] = Int64GetDatum((int64) sums->output);
		columns[9][i] = Int64GetDatum((int64) sums->output_max);
		columns[10][i] = Float8GetDatum(sums->per_byte_max);
		columns[11][i] = Float8GetDatum(sums->bytes_squared);
		columns[12][i] = Float8GetDatum(sums->bytes_input);
		columns[13][i] = Float8GetDatum(sums->input_squared);
		columns[14][i] = Float8GetDatum(sums->output_squared);
		columns[15][i] = Int64GetDatum(sums->again);
		columns[16][i] = Int64GetDatum((int64) sums->again_input);
		columns[17][i] = Int64GetDatum((int64) sums->again_output);
		columns[18][i] = Int64GetDatum((int64) sums->latency_ms);
	}
	for (int c = 0; c < NCOLUMNS; c++)
		values[c] = llm_spi_array(column_types[c], columns[c], NULL, n);
	llm_spi_execute(&store_statement, values, NULL, false);
}

/* The one row of the current result. */
static void
read_sums(LlmRecipeStat *stat)
{
	double sums[16];

	for (int i = 0; i < lengthof(sums); i++)
	{
		bool isnull;
		Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);

		sums[i] = isnull ? 0 : DatumGetFloat8(value);
	}
	SPI_freetuptable(SPI_tuptable);
	stat->requests = (int64) sums[0];
	stat->bytes = sums[1];
	stat->input = sums[2];
	stat->cached = sums[3];
	stat->cache_write = sums[4];
	stat->output = sums[5];
	stat->output_max = sums[6];
	stat->per_byte_max = sums[7];
	stat->bytes_squared = sums[8];
	stat->bytes_input = sums[9];
	stat->input_squared = sums[10];
	stat->output_squared = sums[11];
	stat->again = (int64) sums[12];
	stat->again_input = sums[13];
	stat->again_output = sums[14];
	stat->latency_ms = sums[15];
}

void
llm_recipe_stat_read(const char *operation, Jsonb *spec, const char *server, const char *model, LlmRecipeStat *stat)
{
	Datum values[5];

	values[0] = PointerGetDatum(llm_recipe_hash(operation, spec));
	values[1] = CStringGetTextDatum(operation);
	values[2] = JsonbPGetDatum(spec);
	values[3] = CStringGetTextDatum(server);
	values[4] = CStringGetTextDatum(model);
	memset(stat, 0, sizeof(*stat));
	llm_spi_execute(&read_statement, values, NULL, true);
	read_sums(stat);
}

void
llm_recipe_stat_get(int64 recipe, const char *server, const char *model, LlmRecipeStat *stat)
{
	Datum values[3] = {Int64GetDatum(recipe), CStringGetTextDatum(server), CStringGetTextDatum(model)};

	memset(stat, 0, sizeof(*stat));
	llm_spi_execute(&get_statement, values, NULL, false);
	read_sums(stat);
}

void
llm_recipe_stat_rename_server(const char *name, const char *new_name)
{
	static LlmStatement delete_statement = {
		.sql = "DELETE FROM llm.recipe_stat s WHERE s.server = $1",
		.nargs = 1,
		.args = {TEXTOID}};
	static LlmStatement copy_statement = {
		.sql = "INSERT INTO llm.recipe_stat SELECT s.recipe, $2, s.model, s.requests, s.body_bytes, s.input_tokens,"
			   "  s.cached_tokens, s.cache_write_tokens, s.output_tokens, s.output_tokens_max, s.tokens_per_byte_max,"
			   "  s.bytes_squared, s.bytes_input, s.input_squared, s.output_squared, s.again_requests,"
			   "  s.again_input_tokens, s.again_output_tokens, s.latency_ms"
			   " FROM llm.recipe_stat s WHERE s.server = $1",
		.nargs = 2,
		.args = {TEXTOID, TEXTOID}};
	Datum values[2] = {CStringGetTextDatum(new_name)};
	LlmOwnScope scope;

	SPI_connect();
	llm_spi_own_begin(&scope);
	(void) llm_spi_execute(&delete_statement, values, NULL, false); /* of a server that is gone */
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(new_name);
	(void) llm_spi_execute(&copy_statement, values, NULL, false);
	llm_spi_own_end(&scope);
	SPI_finish();
}
