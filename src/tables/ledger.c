/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  One row per HTTP request and task, and the running cost of each job.
 *
 * Written by the sender, in the transaction that gives the tasks their next
 * state: an answer and its bill are stored together or not at all.  The rows go to
 * the table by store.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/spi.h"
#include "base/store.h"
#include "tables/ledger.h"
#include "tables/ledger_facts.h"

/* The columns of a row; it takes the others' defaults. */
typedef enum LedgerColumn
{
	LEDGER_AT,
	LEDGER_REQUEST,
	LEDGER_TASK,
	LEDGER_JOB,
	LEDGER_ATTEMPT,
	LEDGER_LATENCY,
	LEDGER_ROLE,
	LEDGER_APPLICATION,
	LEDGER_SERVER,
	LEDGER_MODEL,
	LEDGER_RELATION,
	LEDGER_COLUMN,
	LEDGER_KEY,
	LEDGER_OPERATION,
	LEDGER_LANE,
	LEDGER_OUTCOME,
	LEDGER_HTTP_STATUS,
	LEDGER_ERROR,
	LEDGER_REQUEST_ID,
	LEDGER_PAID_BY,
	LEDGER_INPUT,
	LEDGER_CACHED,
	LEDGER_CACHE_WRITE,
	LEDGER_OUTPUT,
	LEDGER_REASONING,
	LEDGER_COST,
	LEDGER_ESTIMATED,
	LEDGER_TAGS,
	LEDGER_COLUMNS
} LedgerColumn;

static const LlmStoreColumn ledger_columns[] = {
	{"at", TIMESTAMPTZOID},
	{"request", INT8OID},
	{"task", INT8OID},
	{"job", INT8OID},
	{"attempt", INT4OID},
	{"latency_ms", INT4OID},
	{"role", TEXTOID},
	{"application_name", TEXTOID},
	{"server", TEXTOID},
	{"model", TEXTOID},
	{"relation", TEXTOID},
	{"column_name", TEXTOID},
	{"key", JSONBOID},
	{"operation", TEXTOID},
	{"lane", TEXTOID},
	{"outcome", TEXTOID},
	{"http_status", INT4OID},
	{"error", TEXTOID},
	{"request_id", TEXTOID},
	{"paid_by", INT8OID},
	{"input_tokens", INT8OID},
	{"cached_tokens", INT8OID},
	{"cache_write_tokens", INT8OID},
	{"output_tokens", INT8OID},
	{"reasoning_tokens", INT8OID},
	{"cost", NUMERICOID},
	{"estimated", BOOLOID},
	{"tags", JSONBOID},
};

StaticAssertDecl(lengthof(ledger_columns) == LEDGER_COLUMNS, "a name for each column");

/* One row, by the numbers above. */
typedef struct LedgerRow
{
	Datum values[LEDGER_COLUMNS];
	bool nulls[LEDGER_COLUMNS];
} LedgerRow;

/* Of a row that adds to no job's sums: it is of an immediate call. */
#define NO_JOB 0

/* What a set adds to the sums of one job. */
typedef struct JobSum
{
	int64 job;
	int64 requests;
	int64 input; /* tokens, of all classes */
	int64 output;
	Datum cost; /* numeric */
	bool costless; /* no price is known of any: cost is NULL */
} JobSum;

static LlmStatement sum_statement = {
	.sql = "INSERT INTO llm.job_cost AS c (job, requests, input_tokens, output_tokens, cost)"
		   " SELECT v.job, v.requests, v.input, v.output, v.cost"
		   " FROM unnest($1, $2, $3, $4, $5) AS v(job, requests, input, output, cost)"
		   " ON CONFLICT (job) DO UPDATE SET requests = c.requests + excluded.requests,"
		   "  input_tokens = c.input_tokens + excluded.input_tokens,"
		   "  output_tokens = c.output_tokens + excluded.output_tokens,"
		   "  cost = COALESCE(c.cost + excluded.cost, c.cost, excluded.cost)",
	.nargs = 5,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, NUMERICARRAYOID}};

/* One probe of the ledger for each retry; the row was written a moment ago. */
static LlmStatement retries_statement = {
	.sql = "WITH retry AS (SELECT l.job, pg_catalog.sum(v.over) AS retried, pg_catalog.sum(l.cost) AS cost,"
		   "  pg_catalog.sum(l.input_tokens + l.cached_tokens +"
		   "   l.cache_write_tokens + l.output_tokens) AS tokens"
		   "  FROM unnest($1, $2, $3) AS v(task, request, over)"
		   "  CROSS JOIN LATERAL (SELECT * FROM llm.ledger r WHERE r.task = v.task"
		   "   AND r.request = v.request LIMIT 1) AS l GROUP BY l.job)"
		   " UPDATE llm.job_cost c SET retried = c.retried + retry.retried,"
		   "  retry_cost = c.retry_cost + COALESCE(retry.cost, 0::pg_catalog.numeric),"
		   "  retry_tokens = (c.retry_tokens + retry.tokens)::pg_catalog.int8"
		   " FROM retry WHERE c.job = retry.job",
	.nargs = 3,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID}};

static LlmStatement sums_statement = {
	.sql = "SELECT c.job, COALESCE(c.cost, 0::pg_catalog.numeric)::pg_catalog.float8, c.retry_cost::pg_catalog.float8,"
		   "  c.input_tokens + c.output_tokens, c.retry_tokens, c.retries, c.retried"
		   " FROM llm.job_cost c WHERE c.job = ANY ($1)",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

static LlmStatement store_retries_statement = {
	.sql = "UPDATE llm.job_cost c SET retries = v.retries FROM unnest($1, $2) AS v(job, retries)"
		   " WHERE c.job = v.job AND c.retries <> v.retries",
	.nargs = 2,
	.args = {INT8ARRAYOID, INT8ARRAYOID}};

static void
set_text(LedgerRow *row, LedgerColumn column, const char *string)
{
	row->nulls[column] = (string == NULL);
	row->values[column] = string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}

static void
set_fact(LedgerRow *row, LedgerColumn column, const LlmLedgerFacts *facts, LlmJobFact fact)
{
	row->nulls[column] = facts->nulls[fact];
	row->values[column] = facts->values[fact];
}

/* What the job tells. */
static void
fill_from_job(LedgerRow *row, const LlmSettlement *s, const LlmLedgerFacts *facts)
{
	row->values[LEDGER_JOB] = Int64GetDatum(s->job);
	set_fact(row, LEDGER_ROLE, facts, LLM_FACT_ROLE);
	if (s->application != NULL)
		set_text(row, LEDGER_APPLICATION, s->application);
	else
		set_fact(row, LEDGER_APPLICATION, facts, LLM_FACT_APPLICATION);
	set_fact(row, LEDGER_RELATION, facts, LLM_FACT_RELATION);
	set_fact(row, LEDGER_COLUMN, facts, LLM_FACT_COLUMN);
	row->values[LEDGER_KEY] = JsonbPGetDatum(s->key);
	row->nulls[LEDGER_KEY] = !facts->nulls[LLM_FACT_HIDES_KEY];
	set_fact(row, LEDGER_OPERATION, facts, LLM_FACT_OPERATION);
	set_fact(row, LEDGER_TAGS, facts, LLM_FACT_TAGS);
}

/* The same of an immediate call, which has no job and no cell. */
static void
fill_from_letter(LedgerRow *row, const LlmLetterFacts *letter)
{
	row->nulls[LEDGER_JOB] = true;
	set_text(row, LEDGER_ROLE, letter->role_name);
	set_text(row, LEDGER_APPLICATION, letter->application);
	row->nulls[LEDGER_RELATION] = true;
	row->nulls[LEDGER_COLUMN] = true;
	row->nulls[LEDGER_KEY] = true;
	set_text(row, LEDGER_OPERATION, letter->operation);
	row->values[LEDGER_TAGS] = PointerGetDatum(letter->tags);
	row->nulls[LEDGER_TAGS] = (letter->tags == NULL);
}

/* An answer that was there already: no request, and nothing to pay. */
static void
fill_kept(LedgerRow *row, const LlmSettlement *s)
{
	bool kept = (s->paid_by != 0);

	row->values[LEDGER_PAID_BY] = Int64GetDatum(s->paid_by);
	row->nulls[LEDGER_PAID_BY] = !kept;
	if (!kept)
		return;
	row->nulls[LEDGER_REQUEST] = true;
	row->nulls[LEDGER_ATTEMPT] = true;
	row->nulls[LEDGER_LATENCY] = true;
	set_text(row, LEDGER_LANE, "cache");
}

/* What nobody has told costs all that was reserved for it. */
static Datum
cost_of(const LlmSettlement *s, bool *isnull)
{
	*isnull = false;
	if (s->estimated && !s->cheap && s->reserved > 0)
		return DirectFunctionCall2(numeric_mul, NumericGetDatum(int64_to_numeric(s->reserved)),
								   DirectFunctionCall3(numeric_in, CStringGetDatum("0.000000001"),
													   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return llm_ledger_facts_cost(s->price, s->tier, &s->usage, isnull);
}

/* An answer of another service tier: where that has a price, the cost is no estimate. */
static void
judge_tier(LlmSettlement *s)
{
	if (s->tier == NULL)
		return;
	s->estimated = !llm_ledger_facts_has_tier(s->price, s->tier, &s->usage);
	if (s->estimated && s->error == NULL)
		s->error = s->tier_remark;
}

static void
fill_row(LedgerRow *row, const LlmSettlement *s, const LlmLedgerFacts *facts)
{
	memset(row, 0, sizeof(*row));
	row->values[LEDGER_AT] = TimestampTzGetDatum(llm_clock_now());
	row->values[LEDGER_REQUEST] = Int64GetDatum(s->request);
	row->values[LEDGER_TASK] = Int64GetDatum(s->task);
	row->values[LEDGER_ATTEMPT] = Int32GetDatum(s->attempt);
	row->values[LEDGER_LATENCY] = Int32GetDatum(s->latency_ms);
	if (s->letter != NULL)
		fill_from_letter(row, s->letter);
	else
		fill_from_job(row, s, facts);
	set_text(row, LEDGER_LANE, s->lane);
	set_text(row, LEDGER_SERVER, s->server);
	set_text(row, LEDGER_MODEL, s->model);
	set_text(row, LEDGER_OUTCOME, s->outcome);
	row->values[LEDGER_HTTP_STATUS] = Int32GetDatum(s->http_status);
	row->nulls[LEDGER_HTTP_STATUS] = (s->http_status == 0);
	set_text(row, LEDGER_ERROR, s->error);
	set_text(row, LEDGER_REQUEST_ID, s->request_id);
	fill_kept(row, s);
	row->values[LEDGER_INPUT] = Int64GetDatum(s->usage.input);
	row->values[LEDGER_CACHED] = Int64GetDatum(s->usage.cached);
	row->values[LEDGER_CACHE_WRITE] = Int64GetDatum(s->usage.cache_write);
	row->values[LEDGER_OUTPUT] = Int64GetDatum(s->usage.output);
	row->values[LEDGER_REASONING] = Int64GetDatum(s->usage.reasoning);
	row->values[LEDGER_COST] = cost_of(s, &row->nulls[LEDGER_COST]);
	row->values[LEDGER_ESTIMATED] = BoolGetDatum(s->estimated);
}

/* Bytes of the columns that may be long. */
static Size
long_part(const LedgerRow *row)
{
	Size bytes = 0;

	if (!row->nulls[LEDGER_KEY])
		bytes += VARSIZE_ANY(DatumGetPointer(row->values[LEDGER_KEY]));
	if (!row->nulls[LEDGER_ERROR])
		bytes += VARSIZE_ANY(DatumGetPointer(row->values[LEDGER_ERROR]));
	if (!row->nulls[LEDGER_TAGS])
		bytes += VARSIZE_ANY(DatumGetPointer(row->values[LEDGER_TAGS]));
	return bytes;
}

static void
write_rows(const LedgerRow *rows, int n)
{
	int columns[LEDGER_COLUMNS];
	LlmStore *store = llm_store_begin("ledger", CMD_INSERT, ledger_columns, LEDGER_COLUMNS, columns);

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *slot = llm_store_next(store);

		for (int c = 0; c < LEDGER_COLUMNS; c++)
		{
			slot->tts_values[columns[c]] = rows[i].values[c];
			slot->tts_isnull[columns[c]] = rows[i].nulls[c];
		}
		llm_store_put(store, long_part(&rows[i]));
	}
	llm_store_end(store);
}

static int
compare_jobs(const void *a, const void *b)
{
	int64 left = ((const JobSum *) a)->job;
	int64 right = ((const JobSum *) b)->job;

	return (left > right) - (left < right);
}

/* What a row adds as it is given. */
static void
start_sum(JobSum *sum, const LlmSettlement *s, const LedgerRow *row)
{
	sum->job = s->job;
	sum->requests = s->carried || s->paid_by != 0 ? 0 : 1;
	sum->input = s->usage.input + s->usage.cached + s->usage.cache_write;
	sum->output = s->usage.output;
	sum->cost = row->values[LEDGER_COST];
	sum->costless = row->nulls[LEDGER_COST];
}

static void
add_sum(JobSum *sum, const JobSum *other)
{
	sum->requests += other->requests;
	sum->input += other->input;
	sum->output += other->output;
	if (sum->costless)
		sum->cost = other->cost;
	else if (!other->costless)
		sum->cost = DirectFunctionCall2(numeric_add, sum->cost, other->cost);
	sum->costless = sum->costless && other->costless;
}

/* Make of the sums of single rows those of jobs, at the front; how many. */
static int
add_up(JobSum *sums, int n)
{
	int njobs = 0;

	qsort(sums, n, sizeof(JobSum), compare_jobs);
	for (int i = 0; i < n; i++)
	{
		if (sums[i].job == NO_JOB)
			continue;
		if (njobs > 0 && sums[njobs - 1].job == sums[i].job)
			add_sum(&sums[njobs - 1], &sums[i]);
		else
			sums[njobs++] = sums[i];
	}
	return njobs;
}

/* Add what the rows cost to the sums of their jobs, of which one row has one. */
static void
record_sums(JobSum *sums, int n)
{
	static const Oid types[] = {INT8OID, INT8OID, INT8OID, INT8OID, NUMERICOID};
	int njobs = add_up(sums, n);
	Datum *columns[lengthof(types)];
	bool *costless = palloc(sizeof(bool) * Max(njobs, 1));
	Datum values[lengthof(types)];

	if (njobs == 0)
		return;
	for (int c = 0; c < lengthof(types); c++)
		columns[c] = palloc(sizeof(Datum) * njobs);
	for (int i = 0; i < njobs; i++)
	{
		columns[0][i] = Int64GetDatum(sums[i].job);
		columns[1][i] = Int64GetDatum(sums[i].requests);
		columns[2][i] = Int64GetDatum(sums[i].input);
		columns[3][i] = Int64GetDatum(sums[i].output);
		columns[4][i] = sums[i].cost;
		costless[i] = sums[i].costless;
	}
	for (int c = 0; c < lengthof(types); c++)
		values[c] = llm_spi_array(types[c], columns[c], c == 4 ? costless : NULL, njobs);
	llm_spi_execute(&sum_statement, values, NULL, false);
}

void
llm_ledger_record(LlmSettlement **settlements, int n)
{
	LedgerRow *rows = palloc(sizeof(LedgerRow) * Max(n, 1));
	JobSum *sums = palloc(sizeof(JobSum) * Max(n, 1));
	int nrows = 0;

	llm_ledger_facts_load(settlements, n);
	for (int i = 0; i < n; i++)
	{
		const LlmLedgerFacts *facts = llm_ledger_facts_of_job(settlements[i]->job);

		settlements[i]->cost = (Datum) 0;
		judge_tier(settlements[i]);
		if (facts == NULL && settlements[i]->letter == NULL)
			continue; /* somebody has deleted it before anything of it was booked */
		fill_row(&rows[nrows], settlements[i], facts);
		if (!rows[nrows].nulls[LEDGER_COST])
			settlements[i]->cost = rows[nrows].values[LEDGER_COST];
		start_sum(&sums[nrows], settlements[i], &rows[nrows]);
		nrows++;
	}
	if (nrows == 0)
		return;
	write_rows(rows, nrows);
	record_sums(sums, nrows);
}

/* A retry is over unless it is to be asked once more at no charge (a 429, say). */
static bool
is_over(const LlmSettlement *s)
{
	return s->charged || !llm_task_is_open(s->state);
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
		if (settlements[i]->tries == 0 || settlements[i]->letter != NULL)
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

Datum
llm_ledger_cost(const LlmSettlement *settlement, bool *isnull)
{
	return cost_of(settlement, isnull);
}

bool
llm_ledger_dearest(int64 price, const char *tier, double *input, double *output, bool *has_tier)
{
	return llm_ledger_facts_dearest(price, tier, input, output, has_tier);
}

bool
llm_ledger_prices(int64 price, const char *tier, int64 tokens, double *prices, double *input, double *output)
{
	return llm_ledger_facts_prices(price, tier, tokens, prices, input, output);
}
