/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  One row per HTTP request and task, and the running cost of each job.
 *
 * Written by the sender, in the transaction that gives the tasks their next
 * state: an answer and its bill are stored together or not at all.  Prices are
 * per million tokens; multiplying by 0.000001 keeps numeric exact where a
 * division would round.  A price that a model does not have (cached input, cache
 * writes) is that of plain input.
 *
 * unnest() of several arrays is a form of the grammar, not a function that could
 * be qualified: the parser resolves it to pg_catalog by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "ledger.h"
#include "spi.h"

#define LEDGER_COLUMNS 19

/*
 * What "v" owes at price "p"; nothing costs nothing even where no price is known.
 * Qualified operators all bind alike, so every product has its own brackets.
 */
#define TIMES(tokens, price) "(" tokens " OPERATOR(pg_catalog.*) " price ")"
#define PLUS " OPERATOR(pg_catalog.+) "
#define COST                                                                                          \
	"CASE WHEN v.input" PLUS "v.cached" PLUS "v.cache_write" PLUS "v.output OPERATOR(pg_catalog.=) 0" \
	" THEN 0::pg_catalog.numeric ELSE (" TIMES("v.input", "p.input_per_mtok") PLUS                    \
		TIMES("v.cached", "COALESCE(p.cached_input_per_mtok, p.input_per_mtok)") PLUS                 \
			TIMES("v.cache_write", "COALESCE(p.cache_write_per_mtok, p.input_per_mtok)") PLUS         \
				TIMES("v.output", "p.output_per_mtok") ") OPERATOR(pg_catalog.*) 0.000001 END"

static LlmStatement record_statement = {
	.sql = "WITH booked AS (INSERT INTO llm.ledger AS l (request, task, job, attempt, latency_ms, role,"
		   "  application_name, server, model, relation, column_name, key, operation, lane, outcome,"
		   "  http_status, error, request_id, input_tokens, cached_tokens, cache_write_tokens,"
		   "  output_tokens, reasoning_tokens, cost, estimated, tags)"
		   " SELECT v.request, v.task, v.job, v.attempt, v.latency, j.role_name, j.application_name,"
		   "  v.server, v.model, NULLIF(j.relation_name, ''), NULLIF(j.column_name, ''), v.key,"
		   "  j.operation, 'realtime', v.outcome, v.http_status, v.error, v.request_id,"
		   "  v.input, v.cached, v.cache_write, v.output, v.reasoning, " COST ", v.estimated, j.tags"
		   " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,"
		   "   $16, $17, $18, $19)"
		   "  AS v(request, task, job, attempt, latency, server, model, key, outcome, http_status, error,"
		   "   request_id, input, cached, cache_write, output, reasoning, price, estimated)"
		   " JOIN llm.job j ON j.id OPERATOR(pg_catalog.=) v.job"
		   " LEFT JOIN llm.price p ON p.id OPERATOR(pg_catalog.=) v.price"
		   " RETURNING l.job, l.input_tokens, l.cached_tokens, l.cache_write_tokens, l.output_tokens, l.cost)"
		   " INSERT INTO llm.job_cost AS c (job, requests, input_tokens, output_tokens, cost)"
		   " SELECT b.job, pg_catalog.count(*),"
		   "  pg_catalog.sum(b.input_tokens OPERATOR(pg_catalog.+) b.cached_tokens"
		   "   OPERATOR(pg_catalog.+) b.cache_write_tokens),"
		   "  pg_catalog.sum(b.output_tokens), pg_catalog.sum(b.cost)"
		   " FROM booked b GROUP BY b.job"
		   " ON CONFLICT (job) DO UPDATE SET requests = c.requests OPERATOR(pg_catalog.+) excluded.requests,"
		   "  input_tokens = c.input_tokens OPERATOR(pg_catalog.+) excluded.input_tokens,"
		   "  output_tokens = c.output_tokens OPERATOR(pg_catalog.+) excluded.output_tokens,"
		   "  cost = COALESCE(c.cost OPERATOR(pg_catalog.+) excluded.cost, c.cost, excluded.cost)",
	.nargs = LEDGER_COLUMNS,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID,
			 TEXTARRAYOID, JSONBARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
			 INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
			 BOOLARRAYOID}};

/* One probe of the ledger for each retry; the row was written a moment ago. */
static LlmStatement retries_statement = {
	.sql = "WITH retry AS (SELECT l.job, pg_catalog.sum(v.over) AS retried, pg_catalog.sum(l.cost) AS cost,"
		   "  pg_catalog.sum(l.input_tokens OPERATOR(pg_catalog.+) l.cached_tokens OPERATOR(pg_catalog.+)"
		   "   l.cache_write_tokens OPERATOR(pg_catalog.+) l.output_tokens) AS tokens"
		   "  FROM unnest($1, $2, $3) AS v(task, request, over)"
		   "  CROSS JOIN LATERAL (SELECT * FROM llm.ledger r WHERE r.task OPERATOR(pg_catalog.=) v.task"
		   "   AND r.request OPERATOR(pg_catalog.=) v.request LIMIT 1) AS l GROUP BY l.job)"
		   " UPDATE llm.job_cost c SET retried = c.retried OPERATOR(pg_catalog.+) retry.retried,"
		   "  retry_cost = c.retry_cost OPERATOR(pg_catalog.+) COALESCE(retry.cost, 0::pg_catalog.numeric),"
		   "  retry_tokens = (c.retry_tokens OPERATOR(pg_catalog.+) retry.tokens)::pg_catalog.int8"
		   " FROM retry WHERE c.job OPERATOR(pg_catalog.=) retry.job",
	.nargs = 3,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID}};

static LlmStatement sums_statement = {
	.sql = "SELECT c.job, COALESCE(c.cost, 0::pg_catalog.numeric)::pg_catalog.float8, c.retry_cost::pg_catalog.float8,"
		   "  c.input_tokens OPERATOR(pg_catalog.+) c.output_tokens, c.retry_tokens, c.retries, c.retried"
		   " FROM llm.job_cost c WHERE c.job OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

static LlmStatement store_retries_statement = {
	.sql = "UPDATE llm.job_cost c SET retries = v.retries FROM unnest($1, $2) AS v(job, retries)"
		   " WHERE c.job OPERATOR(pg_catalog.=) v.job AND c.retries OPERATOR(pg_catalog.<>) v.retries",
	.nargs = 2,
	.args = {INT8ARRAYOID, INT8ARRAYOID}};

static LlmStatement cost_statement = {
	.sql = "SELECT pg_catalog.trim_scale(l.cost)::pg_catalog.text FROM llm.ledger l"
		   " WHERE l.task OPERATOR(pg_catalog.=) $1 ORDER BY l.id DESC LIMIT 1",
	.nargs = 1,
	.args = {INT8OID}};

static const Oid column_types[LEDGER_COLUMNS] = {
	INT8OID, INT8OID, INT8OID, INT4OID, INT4OID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT4OID,
	TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID};

/* The values of one row, in the order of the statement's parameters. */
static void
fill_row(const LlmSettlement *s, Datum *row, bool *isnull)
{
	row[0] = Int64GetDatum(s->request);
	row[1] = Int64GetDatum(s->task);
	row[2] = Int64GetDatum(s->job);
	row[3] = Int32GetDatum(s->attempt);
	row[4] = Int32GetDatum(s->latency_ms);
	row[5] = CStringGetTextDatum(s->server);
	row[6] = CStringGetTextDatum(s->model);
	row[7] = PointerGetDatum(s->key);
	row[8] = CStringGetTextDatum(s->outcome);
	row[9] = Int32GetDatum(s->http_status);
	isnull[9] = (s->http_status == 0);
	isnull[10] = (s->error == NULL);
	row[10] = isnull[10] ? (Datum) 0 : CStringGetTextDatum(s->error);
	isnull[11] = (s->request_id == NULL);
	row[11] = isnull[11] ? (Datum) 0 : CStringGetTextDatum(s->request_id);
	row[12] = Int64GetDatum(s->usage.input);
	row[13] = Int64GetDatum(s->usage.cached);
	row[14] = Int64GetDatum(s->usage.cache_write);
	row[15] = Int64GetDatum(s->usage.output);
	row[16] = Int64GetDatum(s->usage.reasoning);
	row[17] = Int64GetDatum(s->price);
	row[18] = BoolGetDatum(s->estimated);
}

void
llm_ledger_record(LlmSettlement **settlements, int n)
{
	Datum *columns[LEDGER_COLUMNS];
	bool *nulls[LEDGER_COLUMNS];
	Datum values[LEDGER_COLUMNS];

	for (int c = 0; c < LEDGER_COLUMNS; c++)
	{
		columns[c] = palloc(sizeof(Datum) * n);
		nulls[c] = palloc0(sizeof(bool) * n);
	}
	for (int i = 0; i < n; i++)
	{
		Datum row[LEDGER_COLUMNS];
		bool isnull[LEDGER_COLUMNS] = {false};

		fill_row(settlements[i], row, isnull);
		for (int c = 0; c < LEDGER_COLUMNS; c++)
		{
			columns[c][i] = row[c];
			nulls[c][i] = isnull[c];
		}
	}
	for (int c = 0; c < LEDGER_COLUMNS; c++)
		values[c] = llm_spi_array(column_types[c], columns[c], nulls[c], n);
	llm_spi_execute(&record_statement, values, NULL, false);
}

/* A retry is over unless it is to be asked once more at no charge (a 429, say). */
static bool
is_over(const LlmSettlement *s)
{
	return s->charged || s->state == NULL || (strcmp(s->state, "ready") != 0 && strcmp(s->state, "waiting") != 0);
}

void
llm_ledger_record_retries(LlmSettlement **settlements, int n)
{
	Datum *tasks = palloc(sizeof(Datum) * Max(n, 1));
	Datum *requests = palloc(sizeof(Datum) * Max(n, 1));
	Datum *over = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[3];
	int rows = 0;

	for (int i = 0; i < n; i++)
	{
		if (settlements[i]->tries == 0)
			continue;
		tasks[rows] = Int64GetDatum(settlements[i]->task);
		requests[rows] = Int64GetDatum(settlements[i]->request);
		over[rows] = Int32GetDatum(is_over(settlements[i]) ? 1 : 0);
		rows++;
	}
	if (rows == 0)
		return;
	values[0] = llm_spi_array(INT8OID, tasks, NULL, rows);
	values[1] = llm_spi_array(INT8OID, requests, NULL, rows);
	values[2] = llm_spi_array(INT4OID, over, NULL, rows);
	llm_spi_execute(&retries_statement, values, NULL, false);
}

/* Row "i" of the current result. */
static void
read_sums(uint64 i, LlmRetrySums *sums)
{
	HeapTuple row = SPI_tuptable->vals[i];
	TupleDesc desc = SPI_tuptable->tupdesc;
	bool isnull;

	sums->job = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
	sums->cost = DatumGetFloat8(SPI_getbinval(row, desc, 2, &isnull));
	sums->retry_cost = DatumGetFloat8(SPI_getbinval(row, desc, 3, &isnull));
	sums->tokens = DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));
	sums->retry_tokens = DatumGetInt64(SPI_getbinval(row, desc, 5, &isnull));
	sums->retries = DatumGetInt64(SPI_getbinval(row, desc, 6, &isnull));
	sums->retried = DatumGetInt64(SPI_getbinval(row, desc, 7, &isnull));
}

int
llm_ledger_retry_sums(LlmSettlement **settlements, int n, LlmRetrySums **sums)
{
	Datum *jobs = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[1];
	int found;

	for (int i = 0; i < n; i++)
		jobs[i] = Int64GetDatum(settlements[i]->job);
	values[0] = llm_spi_array(INT8OID, jobs, NULL, n);
	found = (int) llm_spi_execute(&sums_statement, values, NULL, false);
	*sums = palloc(sizeof(LlmRetrySums) * Max(found, 1));
	for (int i = 0; i < found; i++)
		read_sums(i, &(*sums)[i]);
	SPI_freetuptable(SPI_tuptable);
	return found;
}

void
llm_ledger_store_retries(const LlmRetrySums *sums, int n)
{
	Datum *jobs = palloc(sizeof(Datum) * Max(n, 1));
	Datum *retries = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[2];

	for (int i = 0; i < n; i++)
	{
		jobs[i] = Int64GetDatum(sums[i].job);
		retries[i] = Int64GetDatum(sums[i].retries);
	}
	values[0] = llm_spi_array(INT8OID, jobs, NULL, n);
	values[1] = llm_spi_array(INT8OID, retries, NULL, n);
	llm_spi_execute(&store_retries_statement, values, NULL, false);
}

char *
llm_ledger_cost(int64 task)
{
	Datum values[1];
	char *cost = NULL;

	values[0] = Int64GetDatum(task);
	if (llm_spi_execute(&cost_statement, values, NULL, false) > 0)
		cost = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return cost;
}
