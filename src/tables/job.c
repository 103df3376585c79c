/*-------------------------------------------------------------------------
 *
 * job.c
 *	  Jobs and recipes as the sender reads them.
 *
 * Whether a job has something to send is asked of the index on ready tasks, one
 * probe per open job: no count is kept that could be wrong, and nothing grows
 * with the number of tasks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/spi.h"
#include "tables/job.h"

#define JOB_COLUMNS                                                                                                \
	"j.id, j.role, j.model, j.priority, j.reason, j.day IS NOT NULL, COALESCE(j.max_concurrency, 0), j.operation," \
	" j.fresh,"                                                                                                    \
	" j.recipe, j.relation, j.tags, CASE WHEN j.max_cost IS NOT NULL"                                              \
	"  THEN floor(LEAST(j.max_cost, 1000000000::numeric) * 1000000000::numeric)::int8 END,"                        \
	" CASE WHEN j.max_cost IS NOT NULL THEN COALESCE((SELECT ceil(c.cost * 1000000000::numeric)::int8"             \
	"  FROM llm.job_cost c WHERE c.job = j.id), 0) END"

/*
 * Jobs above $1, and all that others add to, however old.  The LATERAL with its LIMIT asks for
 * one probe per job, never for a join of all tasks.
 */
static LlmStatement ready_statement = {
	.sql = "SELECT " JOB_COLUMNS " FROM (SELECT o.*,"
		   "  pg_catalog.row_number() OVER (PARTITION BY o.role, o.model, o.priority ORDER BY o.id) AS place"
		   "  FROM (SELECT n.* FROM llm.job n WHERE n.state <> 'finished' AND n.id > $1 AND n.state = 'open'"
		   "   UNION ALL SELECT d.* FROM llm.job d WHERE d.day IS NOT NULL AND d.state = 'open' AND d.id <= $1) AS o"
		   "  CROSS JOIN LATERAL (SELECT FROM llm.queue q"
		   "   WHERE q.job = o.id AND q.state = 'ready' LIMIT 1) AS r) AS j"
		   " WHERE j.place <= $2 ORDER BY j.place, j.id LIMIT $3",
	.nargs = 3,
	.args = {INT8OID, INT8OID, INT4OID}};

static LlmStatement get_statement = {
	.sql = "SELECT " JOB_COLUMNS " FROM llm.job j WHERE j.id = $1",
	.nargs = 1,
	.args = {INT8OID}};

static LlmStatement some_statement = {
	.sql = "SELECT " JOB_COLUMNS " FROM llm.job j WHERE j.id = ANY ($1)",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

static LlmStatement recipe_statement = {
	.sql = "SELECT r.operation, r.spec FROM llm.recipe r WHERE r.id = $1",
	.nargs = 1,
	.args = {INT8OID}};

/*
 * The writer may hold a job's row for the length of a commit: then next time.  Once a job
 * is not open its reason is the writer's, so that ours is gone without being taken back.
 */
static LlmStatement reasons_statement = {
	.sql = "WITH free AS MATERIALIZED (SELECT j.id, v.reason FROM unnest($1, $2) AS v(job, reason)"
		   "  JOIN llm.job j ON j.id = v.job WHERE j.state = 'open'"
		   "  FOR NO KEY UPDATE OF j SKIP LOCKED),"
		   " noted AS (UPDATE llm.job j SET reason = free.reason FROM free"
		   "  WHERE j.id = free.id RETURNING j.id)"
		   " SELECT n.id FROM noted n"
		   " UNION ALL SELECT v.job FROM unnest($1, $2) AS v(job, reason)"
		   " WHERE v.reason IS NULL AND NOT EXISTS (SELECT FROM llm.job j"
		   "  WHERE j.id = v.job AND j.state = 'open')",
	.nargs = 2,
	.args = {INT8ARRAYOID, TEXTARRAYOID}};

/*
 * A session that adds a task to a job of the day holds FOR KEY SHARE on it until
 * it commits, which FOR UPDATE respects and passes over.  Whether anything is left is
 * asked with the lock in hand, by a snapshot that is taken after it: in one statement, a
 * task committed between snapshot and lock would be left in a job that is over.
 */
static LlmStatement lock_days_statement = {
	.sql = "SELECT j.id FROM llm.job j"
		   " WHERE j.day < (pg_catalog.timezone('UTC', pg_catalog.now()))::pg_catalog.date"
		   " AND j.state = 'open' FOR UPDATE SKIP LOCKED",
};

static LlmStatement close_statement = {
	.sql = "UPDATE llm.job j SET state = 'finished', finished_at = llm.clock()"
		   " WHERE j.id = ANY ($1)"
		   " AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id"
		   "  AND q.state = 'ready')"
		   " AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id"
		   "  AND q.state = 'claimed')"
		   " AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id"
		   "  AND q.state = 'waiting')"
		   " AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id"
		   "  AND q.state IN ('answered', 'failed', 'cancelled', 'superseded'))",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

/* Row "i" of the current result as a job. */
static LlmJobRow *
read_job(uint64 i)
{
	HeapTuple row = SPI_tuptable->vals[i];
	TupleDesc desc = SPI_tuptable->tupdesc;
	LlmJobRow *job = palloc0(sizeof(LlmJobRow));
	const LlmOperation *op;
	bool isnull;
	Datum value;

	job->id = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
	job->role = DatumGetObjectId(SPI_getbinval(row, desc, 2, &isnull));
	value = SPI_getbinval(row, desc, 3, &isnull);
	job->model = isnull ? NULL : TextDatumGetCString(value);
	job->priority = DatumGetInt32(SPI_getbinval(row, desc, 4, &isnull));
	value = SPI_getbinval(row, desc, 5, &isnull);
	job->reason = isnull ? NULL : TextDatumGetCString(value);
	job->shared = DatumGetBool(SPI_getbinval(row, desc, 6, &isnull));
	job->max_concurrency = DatumGetInt32(SPI_getbinval(row, desc, 7, &isnull));
	op = llm_operation_find(TextDatumGetCString(SPI_getbinval(row, desc, 8, &isnull)));
	job->kind = op == NULL ? LLM_REQUEST_CHAT : op->kind;
	job->fresh = DatumGetBool(SPI_getbinval(row, desc, 9, &isnull));
	job->recipe = DatumGetInt64(SPI_getbinval(row, desc, 10, &isnull));
	job->relation = DatumGetObjectId(SPI_getbinval(row, desc, 11, &isnull));
	value = SPI_getbinval(row, desc, 12, &isnull);
	job->tags = isnull ? NULL : (Jsonb *) PG_DETOAST_DATUM_COPY(value);
	value = SPI_getbinval(row, desc, 13, &isnull);
	job->capped = !isnull;
	job->max_cost = isnull ? 0 : DatumGetInt64(value);
	value = SPI_getbinval(row, desc, 14, &isnull);
	job->spent = isnull ? 0 : DatumGetInt64(value);
	return job;
}

List *
llm_job_find_ready(int64 after, int each, int limit)
{
	Datum values[3];
	List *jobs = NIL;

	values[0] = Int64GetDatum(after);
	values[1] = Int64GetDatum(each);
	values[2] = Int32GetDatum(limit);
	llm_spi_execute(&ready_statement, values, NULL, false);
	for (uint64 i = 0; i < SPI_processed; i++)
		jobs = lappend(jobs, read_job(i));
	SPI_freetuptable(SPI_tuptable);
	return jobs;
}

List *
llm_job_get_some(const int64 *ids, int n)
{
	Datum *elements = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[1];
	List *jobs = NIL;

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(ids[i]);
	values[0] = llm_spi_array(INT8OID, elements, NULL, n);
	llm_spi_execute(&some_statement, values, NULL, false);
	for (uint64 i = 0; i < SPI_processed; i++)
		jobs = lappend(jobs, read_job(i));
	SPI_freetuptable(SPI_tuptable);
	return jobs;
}

LlmJobRow *
llm_job_get(int64 id)
{
	Datum values[1];
	LlmJobRow *job = NULL;

	values[0] = Int64GetDatum(id);
	if (llm_spi_execute(&get_statement, values, NULL, false) > 0)
		job = read_job(0);
	SPI_freetuptable(SPI_tuptable);
	return job;
}

LlmRecipe *
llm_job_recipe(int64 recipe)
{
	Datum values[1];
	LlmRecipe *loaded = NULL;
	char *operation;
	Datum spec;
	bool isnull;

	values[0] = Int64GetDatum(recipe);
	if (llm_spi_execute(&recipe_statement, values, NULL, false) > 0)
	{
		operation = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		spec = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
		loaded = llm_operation_load(recipe, operation, (Jsonb *) PG_DETOAST_DATUM_COPY(spec));
	}
	SPI_freetuptable(SPI_tuptable);
	return loaded;
}

int
llm_job_set_reasons(int64 *jobs, const char **reasons, int n)
{
	Datum *ids = palloc(sizeof(Datum) * n);
	Datum *texts = palloc(sizeof(Datum) * n);
	bool *nulls = palloc(sizeof(bool) * n);
	Datum values[2];
	bool isnull;
	int stored;

	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(jobs[i]);
		nulls[i] = (reasons[i] == NULL);
		texts[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(reasons[i]);
	}
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	values[1] = llm_spi_array(TEXTOID, texts, nulls, n);
	stored = llm_spi_execute(&reasons_statement, values, NULL, false);
	for (int i = 0; i < stored; i++)
		jobs[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return stored;
}

bool
llm_job_close_days(void)
{
	int n = (int) llm_spi_execute(&lock_days_statement, NULL, NULL, false);
	Datum *ids = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[1];
	bool isnull;

	for (int i = 0; i < n; i++)
		ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	SPI_freetuptable(SPI_tuptable);
	if (n > 0)
		llm_spi_execute(&close_statement, values, NULL, false);
	return n > 0;
}
