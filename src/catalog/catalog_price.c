/*-------------------------------------------------------------------------
 *
 * catalog_price.c
 *	  What a model costs, from when on: what writes llm.price.
 *
 * A price is a row with a range of time and is never rewritten: a new one ends
 * the range in force now, at this moment, and takes away only ranges that have
 * not begun.  So what was sent by a price can be booked by it later.
 *
 * Called by catalog_model.c, with SPI connected and as the owner of our tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/spi.h"
#include "catalog/catalog_price.h"
#include "catalog/catalog_read.h"
#include "catalog/fdw.h"
#include "dialect/dialect.h"

/* Per million tokens: a dollar for each.  So what a request costs fits the sums of budgets. */
#define MOST_DOLLARS 1000000

static const char *const price_names[LLM_PRICES] = {
	"input_per_mtok", "cached_input_per_mtok", "cache_write_per_mtok", "output_per_mtok",
	"batch_input_per_mtok", "batch_output_per_mtok"};

static LlmStatement select_price = {
	"SELECT p.input_per_mtok, p.cached_input_per_mtok, p.cache_write_per_mtok, p.output_per_mtok,"
	" p.batch_input_per_mtok, p.batch_output_per_mtok, p.tiers FROM llm.price p"
	" WHERE p.server = $1 AND p.model = $2"
	" AND p.valid_from <= $3 AND p.valid_until > $3",
	3,
	{TEXTOID, TEXTOID, TIMESTAMPTZOID}};

static LlmStatement delete_planned = {
	"DELETE FROM llm.price WHERE server = $1 AND model = $2"
	" AND valid_from >= $3",
	3,
	{TEXTOID, TEXTOID, TIMESTAMPTZOID}};

static LlmStatement end_price = {
	"UPDATE llm.price SET valid_until = $3 WHERE server = $1"
	" AND model = $2 AND valid_until > $3",
	3,
	{TEXTOID, TEXTOID, TIMESTAMPTZOID}};

static LlmStatement insert_price = {
	"INSERT INTO llm.price (server, model, valid_from, input_per_mtok, cached_input_per_mtok,"
	" cache_write_per_mtok, output_per_mtok, batch_input_per_mtok, batch_output_per_mtok, tiers)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
	10,
	{TEXTOID, TEXTOID, TIMESTAMPTZOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID,
	 JSONBOID}};

/* What is wrong with the prices of long prompts and service tiers, as a sentence; no row: nothing. */
static LlmStatement check_tiers = {
	"SELECT CASE WHEN jsonb_typeof($1) <> 'array' THEN 'It must be an array of objects.'"
	" ELSE (SELECT CASE WHEN jsonb_typeof(t) <> 'object' THEN 'Each of its elements must be an object.'"
	"  WHEN t ? 'service_tier' AND (jsonb_typeof(t->'service_tier') <> 'string' OR t->>'service_tier' = '')"
	"   THEN '\"service_tier\" must be a word of the provider''s.'"
	"  WHEN jsonb_typeof(t->'above_tokens') IS DISTINCT FROM 'number' AND (t ? 'above_tokens' OR NOT t ? 'service_tier')"
	"   THEN 'Each of its objects needs a number \"above_tokens\", or a \"service_tier\".'"
	"  ELSE (SELECT format(CASE WHEN jsonb_typeof(m.value) = 'number' AND m.value::numeric BETWEEN 0::numeric AND 1000000::numeric"
	"   OR m.key = 'above_tokens' THEN 'There is no price \"%s\".'"
	"   ELSE '\"%s\" must be a number from 0 to 1000000.' END, m.key) FROM jsonb_each(t) m"
	"   WHERE m.key <> 'service_tier' AND (m.key <> ALL ('{above_tokens,input_per_mtok,cached_input_per_mtok,cache_write_per_mtok,output_per_mtok}')"
	"   OR jsonb_typeof(m.value) <> 'number' OR m.value::numeric < 0::numeric"
	"   OR m.key <> 'above_tokens' AND m.value::numeric > 1000000::numeric) LIMIT 1) END AS fault"
	"  FROM jsonb_array_elements($1) t ORDER BY 1 NULLS LAST LIMIT 1) END",
	1,
	{JSONBOID}};

/*
 * Listed prices of a model, first those of the provider that the server most likely
 * stands for: one with a name that is part of the host's, else one named like the dialect.
 */
static LlmStatement select_listed = {
	"SELECT l.input_per_mtok, l.cached_input_per_mtok, l.cache_write_per_mtok, l.output_per_mtok,"
	" l.batch_input_per_mtok, l.batch_output_per_mtok,"
	" l.tiers, CASE WHEN $2 ~* ('^https?://([^/]*[.])?' || l.provider"
	" || '[.]') THEN 2"
	" WHEN l.provider = $3 THEN 1 ELSE 0 END AS likeness"
	" FROM llm.price_list l WHERE l.model = $1"
	" AND l.input_per_mtok IS NOT NULL AND l.output_per_mtok IS NOT NULL"
	" ORDER BY likeness DESC, l.provider",
	3,
	{TEXTOID, TEXTOID, TEXTOID}};

/* A price that is not negative, and a number; argument number i. */
void
llm_price_argument(FunctionCallInfo fcinfo, int i, LlmPrices *prices, int column)
{
	char *number;

	prices->nulls[column] = PG_ARGISNULL(i);
	prices->values[column] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	if (PG_ARGISNULL(i))
		return;
	number = DatumGetCString(DirectFunctionCall1(numeric_out, prices->values[column]));
	if (number[0] == '-' || number[0] == 'N' || number[0] == 'I')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a number that is not negative: %s", price_names[column], number),
				 errdetail("Prices are US dollars per million tokens.")));
	/* NaN and infinities are refused above */
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, prices->values[column],
										 NumericGetDatum(int64_to_numeric(MOST_DOLLARS)))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is above %d", price_names[column], MOST_DOLLARS),
				 errdetail("Prices are US dollars per million tokens; none is above a dollar for each token."),
				 errhint("A price per token times 1000000 is one per million.")));
}

void
llm_price_tiers_argument(FunctionCallInfo fcinfo, int i, LlmPrices *prices)
{
	Datum values[1];
	char *fault;

	prices->no_tiers = PG_ARGISNULL(i);
	prices->tiers = prices->no_tiers ? (Datum) 0 : PG_GETARG_DATUM(i);
	if (prices->no_tiers)
		return;
	values[0] = prices->tiers;
	llm_spi_execute(&check_tiers, values, NULL, true);
	fault = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"tiers\" does not hold prices of long prompts or of service tiers"),
				 errdetail_internal("%s", fault),
				 errhint("For instance: [{\"above_tokens\": 200000, \"input_per_mtok\": 2.5, \"output_per_mtok\": 15}].")));
}

/* Raise when only some prices were given and not those that every answer needs; are there any? */
bool
llm_price_check(const LlmPrices *prices)
{
	bool given = false;

	for (int i = 0; i < LLM_PRICES; i++)
		given = given || !prices->nulls[i];
	if (given && (prices->nulls[LLM_PRICE_INPUT] || prices->nulls[LLM_PRICE_OUTPUT]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a price needs both \"%s\" and \"%s\"", price_names[LLM_PRICE_INPUT], price_names[LLM_PRICE_OUTPUT]),
				 errdetail("Prices are US dollars per million tokens."),
				 errhint("Use 0 for tokens that cost nothing.")));
	return given;
}

/*
 * From a time on, this is the price.  Ranges that would begin later go: nothing
 * was booked by them.  "start" lies in the future or is this moment.
 */
void
llm_price_set(const char *server, const char *model, const LlmPrices *prices, TimestampTz start)
{
	Datum values[3 + LLM_PRICES + 1];
	char nulls[3 + LLM_PRICES + 1];
	uint64 planned;

	values[0] = CStringGetTextDatum(server);
	values[1] = CStringGetTextDatum(model);
	values[2] = TimestampTzGetDatum(start);
	memset(nulls, ' ', sizeof(nulls));
	for (int i = 0; i < LLM_PRICES; i++)
	{
		values[3 + i] = prices->values[i];
		nulls[3 + i] = prices->nulls[i] ? 'n' : ' ';
	}
	values[3 + LLM_PRICES] = prices->tiers;
	nulls[3 + LLM_PRICES] = prices->no_tiers ? 'n' : ' ';
	planned = llm_spi_execute(&delete_planned, values, NULL, false);
	llm_spi_execute(&end_price, values, NULL, false);
	llm_spi_execute(&insert_price, values, nulls, false);
	if (planned > 0)
		ereport(NOTICE,
				(errmsg("dropped later prices of model \"%s\" of server \"%s\"", model, server)));
}

/* The first row that a statement found; its first columns are the prices. */
static void
copy_prices(LlmPrices *prices)
{
	for (int i = 0; i < LLM_PRICES; i++)
		prices->values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &prices->nulls[i]);
	prices->tiers = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, LLM_PRICES + 1, &prices->no_tiers);
}

/* Find the price in force of a model; false when there is none. */
static bool
find_current(const char *server, const char *model, TimestampTz now, LlmPrices *prices)
{
	Datum values[3];

	values[0] = CStringGetTextDatum(server);
	values[1] = CStringGetTextDatum(model);
	values[2] = TimestampTzGetDatum(now);
	if (llm_spi_execute(&select_price, values, NULL, false) == 0)
		return false;
	copy_prices(prices);
	return true;
}

/* How like the server a listed provider is, in the row given of what select_listed found. */
static int
get_likeness(int row)
{
	bool isnull;

	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, LLM_PRICES + 2, &isnull));
}

/* Find the listed prices of a model; false when there are none, or several alike. */
static bool
find_listed(const ForeignServer *server, const char *model, LlmPrices *prices)
{
	LlmServerOptions options;
	Datum values[3];
	uint64 found;

	llm_fdw_server_options(server->options, &options);
	values[0] = CStringGetTextDatum(model);
	values[1] = CStringGetTextDatum(options.base_url != NULL ? options.base_url : "");
	values[2] = CStringGetTextDatum(options.dialect != NULL ? options.dialect : "");
	found = llm_spi_execute(&select_listed, values, NULL, false);
	if (found == 0 || (found > 1 && get_likeness(0) == get_likeness(1)))
		return false;
	copy_prices(prices);
	return true;
}

/*
 * A price that stands is left alone; the one that the model had under the former name
 * of its server goes before a listed one.  Where none is known the cost is NULL, and
 * we say so.
 */
void
llm_price_provide(const char *alias, const ForeignServer *server, const char *former_server, const char *model)
{
	TimestampTz now = llm_clock_now();
	LlmPrices prices;

	if (find_current(server->servername, model, now, &prices))
		return;
	if ((former_server != NULL && find_current(former_server, model, now, &prices)) ||
		find_listed(server, model, &prices))
		llm_price_set(server->servername, model, &prices, now);
	else
		ereport(NOTICE,
				(errmsg("no price is known for model \"%s\" of server \"%s\"", model, server->servername),
				 errdetail("Its cost will be NULL in the ledger."),
				 errhint("SELECT llm.set_price(%s, input_per_mtok => ..., output_per_mtok => ...) tells it.",
						 quote_literal_cstr(alias))));
}

/* Has the price those of a service tier? */
static bool
has_tier(int64 price, const char *tier)
{
	static LlmStatement find_tier = {
		"SELECT FROM llm.price p, jsonb_array_elements(p.tiers) t"
		" WHERE p.id = $1 AND lower(t->>'service_tier') = lower($2)",
		2,
		{INT8OID, TEXTOID}};
	Datum values[2];
	LlmOwnScope scope;
	bool found;

	llm_catalog_begin_reading(&scope);
	values[0] = Int64GetDatum(price);
	values[1] = CStringGetTextDatum(tier);
	found = llm_spi_execute(&find_tier, values, NULL, true) > 0;
	llm_catalog_end_reading(&scope);
	return found;
}

char *
llm_price_gap(const LlmTarget *target, char **hint)
{
	static const LlmParams usual = {0};
	const char *alias = target->alias == NULL ? "..." : target->alias;
	char *tier;

	if (target->server == NULL || target->model == NULL)
		return NULL;
	if (target->price == 0)
	{
		*hint = psprintf("SELECT llm.set_price(%s, input_per_mtok => ..., output_per_mtok => ...);", quote_literal_cstr(alias));
		return psprintf("no price is known for model \"%s\" of server \"%s\", so that nothing is asked of it where a budget or a cap bounds the call",
						target->model, target->server);
	}
	tier = llm_dialect_tier_asked(&usual, &target->endpoint.habits);
	if (llm_dialect_tier(tier) == LLM_TIER_USUAL || has_tier(target->price, tier))
		return NULL;
	*hint = psprintf("SELECT llm.set_price(%s, ..., tiers => '[{\"service_tier\": \"%s\", \"input_per_mtok\": ..., \"output_per_mtok\": ...}]');",
					 quote_literal_cstr(alias), tier);
	return psprintf("model \"%s\" of server \"%s\" is asked in service tier \"%s\", of which no price is known: what it costs is an estimate%s",
					target->model, target->server, tier,
					llm_dialect_tier(tier) == LLM_TIER_DEARER ? ", and nothing is asked of it where a budget or a cap bounds the call" : "");
}
