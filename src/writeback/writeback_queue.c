/*-------------------------------------------------------------------------
 *
 * writeback_queue.c
 *	  The writer's half of the queue.
 *
 * Work is found job by job, by one probe of the index on settled tasks for each
 * open job: a job whose table is locked is passed over without a look at its
 * rows, however many they are.
 *
 * The writer goes upwards by "landed", the number of the sender's transaction that
 * settled a task, and remembers for each job how far it came: so no claim walks over
 * entries of tasks that are gone, which a long open snapshot would keep in the index.
 * One process settles, one transaction after the other, so nothing lands below a number
 * that has been seen.  What others settle (cancelled, superseded, put off and woken) has
 * no number and goes first.
 *
 * A task that was put off keeps in "outcome" what it was, which also tells the
 * writer's waiting tasks from the sender's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "tables/job_count.h"
#include "tables/repeat.h"
#include "tables/shape.h"
#include "tables/sum.h"
#include "tables/transition.h"
#include "writeback/writeback_progress.h"
#include "writeback/writeback_queue.h"

/* Answers of one set together; a single larger one still goes, alone. */
#define CLAIM_BYTES "8388608"

/* And of so many bytes uncompressed, the last row not counted: they are held twice while they are written. */
#define READ_BYTES (64 * 1024 * 1024)

/*
 * The LATERAL with its LIMITs asks for two probes per job, never for a join of all tasks; how
 * far a job came is looked up in an object, not joined.
 */
static LlmStatement find_statement = {
	.sql = "SELECT j.id, j.role, j.relation, j.relation_name, j.column_name, j.key_columns, j.settings, j.column_numbers,"
		   "  j.shape, j.shape_put_off, j.state = 'paused',"
		   "  j.cell_kind = 'quiet', j.cell,"
		   "  (SELECT r.spec FROM llm.recipe r WHERE r.id = j.recipe AND r.spec ? 'checks')"
		   " FROM llm.job j CROSS JOIN LATERAL ("
		   "  (SELECT true FROM llm.queue q WHERE q.job = j.id AND " LLM_SETTLED
		   "   AND q.landed >= COALESCE(($3 ->> j.id::pg_catalog.text)"
		   "    ::pg_catalog.int8, 0) LIMIT 1) UNION ALL"
		   "  (SELECT true FROM llm.queue q WHERE q.job = j.id AND " LLM_SETTLED
		   "   AND q.landed IS NULL LIMIT 1) LIMIT 1) s"
		   " WHERE j.state <> 'finished' AND j.id > $1"
		   " AND (j.state = 'open' OR j.shape_put_off IS NULL OR (SELECT true FROM llm.queue q WHERE q.job = j.id"
		   "  AND " LLM_GIVEN_UP " AND q.landed IS NULL LIMIT 1)) ORDER BY j.id LIMIT $2",
	.nargs = 3,
	.args = {INT8OID, INT4OID, JSONBOID}};

/* A user who cancels a task that is answered or failed wants back what was there.  $5: only what was given up. */
static LlmStatement claim_statement = {
	.sql = "WITH others AS MATERIALIZED (SELECT q.id, q.landed, pg_catalog.pg_column_size(q.answer) AS size"
		   "  FROM llm.queue q WHERE q.job = $1 AND " LLM_SETTLED " AND q.landed IS NULL AND (NOT $5 OR " LLM_GIVEN_UP ")"
		   "  ORDER BY q.landed, q.id LIMIT $2 FOR UPDATE SKIP LOCKED),"
		   " own AS MATERIALIZED (SELECT q.id, q.landed, pg_catalog.pg_column_size(q.answer) AS size"
		   "  FROM llm.queue q WHERE q.job = $1 AND " LLM_SETTLED
		   "  AND q.landed >= $3 AND NOT $5"
		   "  ORDER BY q.landed, q.id LIMIT $2 FOR UPDATE SKIP LOCKED),"
		   " picked AS MATERIALIZED (SELECT * FROM others UNION ALL SELECT * FROM own LIMIT $2),"
		   " sized AS (SELECT p.id, pg_catalog.sum(p.size) OVER (ORDER BY p.landed NULLS FIRST, p.id"
		   "  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM picked p)"
		   " SELECT q.id, q.relation, q.key, CASE WHEN q.state IN ('answered', 'failed') THEN COALESCE((SELECT"
		   "   CASE WHEN pg_catalog.bool_or(c.superseded) THEN 'superseded' ELSE 'cancelled' END"
		   "   FROM llm.cancellation c WHERE c.task = q.id HAVING pg_catalog.count(*) > 0), q.state)"
		   "  ELSE q.state END, q.answer, q.error, q.message, COALESCE(q.same_as, 0), COALESCE(q.landed, 0),"
		   " q.fence, q.leaves, CASE WHEN $4 THEN q.input END, q.tries"
		   " FROM sized s JOIN llm.queue q ON q.id = s.id"
		   " WHERE COALESCE(s.before, 0) < " CLAIM_BYTES
		   " ORDER BY q.id",
	.nargs = 5,
	.args = {INT8OID, INT4OID, INT8OID, BOOLOID, BOOLOID}};

/* Found by a new snapshot: what was committed before the row could be locked. */
static LlmStatement asked_again_statement = {
	.sql = "SELECT DISTINCT c.task FROM llm.cancellation c WHERE c.task = ANY ($1) AND c.superseded",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

/* As it is now: it may have been paused or resumed since it was looked for. */
static LlmStatement take_job_statement = {
	.sql = "SELECT j.state = 'paused', j.shape_put_off FROM llm.job j WHERE j.id = $1 FOR NO KEY UPDATE SKIP LOCKED",
	.nargs = 1,
	.args = {INT8OID}};

/* With the shape that was found, which somebody with the role's rights may let through. */
static LlmStatement put_off_statement = {
	.sql = "UPDATE llm.job j SET state = 'paused', shape_put_off = $2, reason = $3 WHERE j.id = $1",
	.nargs = 3,
	.args = {INT8OID, TEXTOID, TEXTOID}};

static LlmStatement let_through_statement = {
	.sql = "UPDATE llm.job j SET shape = $2, shape_put_off = NULL WHERE j.id = $1",
	.nargs = 2,
	.args = {INT8OID, TEXTOID}};

static LlmStatement due_statement = {
	.sql = "SELECT q.not_before FROM llm.queue q WHERE q.state = 'waiting'"
		   " AND q.outcome IS NOT NULL AND q.not_before IS NOT NULL ORDER BY q.not_before LIMIT 1",
};

/*
 * Is anything to come?  A job whose size is known ends with its last task; of one that single rows
 * share, what is claimed is not looked for: the sender calls us when it is settled.
 */
static LlmStatement empty_statement = {
	.sql = "SELECT FROM llm.job j WHERE j.state <> 'finished' AND (j.total IS NOT NULL"
		   " OR (SELECT true FROM llm.queue q WHERE q.job = j.id"
		   "  AND q.state = 'ready' LIMIT 1)"
		   " OR (SELECT true FROM llm.queue q WHERE q.job = j.id"
		   "  AND q.state = 'waiting' LIMIT 1)"
		   " OR (SELECT true FROM llm.queue q WHERE q.job = j.id AND " LLM_SETTLED
		   "  LIMIT 1)) LIMIT 1",
};

static LlmStatement next_deadline_statement = {
	.sql = "SELECT j.deadline FROM llm.job j WHERE j.deadline > llm.clock()"
		   " AND j.state <> 'finished' ORDER BY j.deadline LIMIT 1",
};

/* Somebody cancelled a task that was already final in a transaction of the writer. */
static LlmStatement purge_statement = {
	.sql = "DELETE FROM llm.cancellation c WHERE NOT EXISTS (SELECT FROM llm.queue q"
		   " WHERE q.id = c.task)",
};

static const char *const fate_names[] = {
	[LLM_FATE_OPEN] = NULL,
	[LLM_FATE_WAITING] = NULL,
	[LLM_FATE_AGAIN] = NULL,
	[LLM_FATE_DONE] = "done",
	[LLM_FATE_FAILED] = "failed",
	[LLM_FATE_SUPERSEDED] = "superseded",
	[LLM_FATE_CANCELLED] = "cancelled",
	[LLM_FATE_ROW_GONE] = "row_gone",
};

static uint64
execute(LlmStatement *statement, Datum *values)
{
	return llm_spi_execute(statement, values, NULL, false);
}

static uint64
happen(LlmTaskEvent event, Datum *values)
{
	return llm_transition(event, values, NULL);
}

/* Bytes of a column when it is not compressed; 0 for NULL. */
static int64
raw_size(uint64 i, int n)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n, &isnull);

	return isnull ? 0 : toast_raw_datum_size(value);
}

/* Column "n" of row "i" of the current result; a copy in the current context, or NULL. */
static char *
read_text(uint64 i, int n)
{
	return SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n);
}

static Jsonb *
read_jsonb(uint64 i, int n)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n, &isnull);

	return isnull ? NULL : (Jsonb *) PG_DETOAST_DATUM_COPY(value);
}

static int64
read_int64(uint64 i, int n)
{
	bool isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n, &isnull));
}

static int32
read_int32(uint64 i, int n)
{
	bool isnull;

	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n, &isnull));
}

static bool
read_bool(uint64 i, int n)
{
	bool isnull;

	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n, &isnull));
}

static Oid
read_oid(uint64 i, int n)
{
	bool isnull;

	return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n, &isnull));
}

static void
read_names(uint64 i, int n, LlmWriteJob *job)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n, &isnull);
	Datum *names;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
					  &names, NULL, &job->nkeys);
	job->keys = palloc(sizeof(char *) * job->nkeys);
	for (int k = 0; k < job->nkeys; k++)
		job->keys[k] = TextDatumGetCString(names[k]);
}

/* NULL when there are not so many. */
static AttrNumber *
read_numbers(uint64 i, int n, int expected)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, n, &isnull);
	AttrNumber *numbers = palloc(sizeof(AttrNumber) * expected);
	Datum *elements;
	int found;

	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), INT2OID, sizeof(int16), true, TYPALIGN_SHORT, &elements, NULL, &found);
	for (int k = 0; k < Min(found, expected); k++)
		numbers[k] = DatumGetInt16(elements[k]);
	return found == expected ? numbers : NULL;
}

List *
llm_writeback_find_jobs(int64 after, int limit)
{
	Datum values[3];
	List *jobs = NIL;

	values[0] = Int64GetDatum(after);
	values[1] = Int32GetDatum(limit);
	values[2] = llm_writeback_progress();
	execute(&find_statement, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		LlmWriteJob *job = palloc0(sizeof(LlmWriteJob));

		job->id = read_int64(i, 1);
		job->role = read_oid(i, 2);
		job->relation = read_oid(i, 3);
		job->relation_name = read_text(i, 4);
		job->column = read_text(i, 5);
		read_names(i, 6, job);
		job->settings = read_jsonb(i, 7);
		job->numbers = read_numbers(i, 8, 1 + job->nkeys);
		job->shape = read_text(i, 9);
		job->shape_put_off = read_text(i, 10);
		job->paused = read_bool(i, 11);
		job->withheld = job->paused && job->shape_put_off != NULL;
		job->is_quiet = read_bool(i, 12);
		job->cell = read_jsonb(i, 13);
		job->spec = read_jsonb(i, 14);
		jobs = lappend(jobs, job);
	}
	SPI_freetuptable(SPI_tuptable);
	return jobs;
}

/* The value of one key column as text, as it was when the row was bound; NULL when it is not there. */
static char *
key_text(Jsonb *key, const char *column)
{
	JsonbValue buffer;
	JsonbValue *value = NULL;

	if (JB_ROOT_IS_OBJECT(key))
		value = getKeyJsonValueFromContainer(&key->root, column, strlen(column), &buffer);
	if (value == NULL)
		return NULL;
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

static void
read_row(uint64 i, LlmWriteJob *job, LlmWriteRow *row)
{
	Jsonb *key = read_jsonb(i, 3);

	row->task = read_int64(i, 1);
	row->leaf = read_oid(i, 2);
	row->outcome = read_text(i, 4);
	row->answer = read_jsonb(i, 5);
	row->error = read_text(i, 6);
	row->message = read_text(i, 7);
	row->same_as = read_int64(i, 8);
	row->landed = read_int64(i, 9);
	row->fence = (bytea *) read_jsonb(i, 10);
	row->leaves = read_jsonb(i, 11);
	row->input = read_text(i, 12);
	row->tries = (int) read_int32(i, 13);
	row->key = palloc(sizeof(char *) * job->nkeys);
	for (int k = 0; k < job->nkeys; k++)
	{
		row->key[k] = key_text(key, job->keys[k]);
		if (row->key[k] == NULL)
			llm_writeback_fail(row, "column_gone",
							   psprintf("the task's key has no value for column \"%s\"", job->keys[k]));
	}
}

void
llm_writeback_claim(LlmWriteJob *job, int limit)
{
	Datum values[5];
	int nread = 0;
	int64 bytes = 0;
	int n;

	values[0] = Int64GetDatum(job->id);
	values[1] = Int32GetDatum(limit);
	values[2] = Int64GetDatum(llm_writeback_came_to(job->id));
	values[3] = BoolGetDatum(job->spec != NULL);
	values[4] = BoolGetDatum(job->withheld);
	n = execute(&claim_statement, values);
	job->rows = palloc0(sizeof(LlmWriteRow) * Max(n, 1));
	while (nread < n && bytes < READ_BYTES)
	{
		bytes += raw_size(nread, 5);
		read_row(nread, job, &job->rows[nread]);
		nread++;
	}
	job->nclaimed = n;
	job->nrows = nread; /* only now: after an error, rows are put aside by their ids */
	SPI_freetuptable(SPI_tuptable);
}

static Datum
text_or_null(const char *string, bool *isnull)
{
	*isnull = (string == NULL);
	return string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}

/* Tasks have left the queue: a task that waits for one of them without an answer asks instead. */
static void
promote_followers(LlmWriteJob *job)
{
	LlmRepeatLead *gone = palloc(sizeof(LlmRepeatLead) * job->nrows);
	int n = 0;

	for (int i = 0; i < job->nrows; i++)
	{
		if (fate_names[job->rows[i].fate] == NULL)
			continue;
		gone[n].task = job->rows[i].task;
		gone[n].job = job->id;
		gone[n++].same_as = job->rows[i].same_as;
	}
	job->promoted = llm_repeat_promote(gone, n) > 0;
}

/* Answers that could not be written, after the last one that was: the rows are in the order of their tasks. */
static int64
count_refused(const LlmWriteJob *job)
{
	int64 refused = 0;

	for (int i = 0; i < job->nrows; i++)
	{
		const LlmWriteRow *row = &job->rows[i];

		if (row->fate == LLM_FATE_DONE)
			refused = 0;
		else if (row->fate == LLM_FATE_FAILED && strcmp(row->outcome, "answered") == 0)
			refused++;
	}
	return refused;
}

/* What the provider said of a model that is of the other kind; NULL: nothing. */
static const char *
find_wrong_model(const LlmWriteJob *job)
{
	for (int i = 0; i < job->nrows; i++)
	{
		const LlmWriteRow *row = &job->rows[i];

		if (row->fate == LLM_FATE_FAILED && row->explanation != NULL &&
			strcmp(row->reason, LLM_WRONG_MODEL_REASON) == 0)
			return row->explanation;
	}
	return NULL;
}

static void
settle_final(LlmWriteJob *job)
{
	Datum *columns[5];
	bool *nulls[4];
	Datum values[6];
	LlmJobCounts counts;
	int n = 0;

	for (int c = 0; c < 4; c++)
	{
		columns[c] = palloc(sizeof(Datum) * job->nrows);
		nulls[c] = palloc0(sizeof(bool) * job->nrows);
	}
	columns[4] = palloc(sizeof(Datum) * job->nrows);
	for (int i = 0; i < job->nrows; i++)
	{
		LlmWriteRow *row = &job->rows[i];

		if (fate_names[row->fate] == NULL)
			continue;
		columns[0][n] = Int64GetDatum(row->task);
		columns[1][n] = CStringGetTextDatum(fate_names[row->fate]);
		columns[2][n] = text_or_null(row->reason, &nulls[2][n]);
		columns[3][n] = text_or_null(row->explanation, &nulls[3][n]);
		columns[4][n] = BoolGetDatum(job->is_quiet && row->fate == LLM_FATE_DONE && row->value_is_null);
		n++;
	}
	if (n == 0)
		return;
	values[0] = Int64GetDatum(job->id);
	values[1] = llm_spi_array(INT8OID, columns[0], NULL, n);
	for (int c = 1; c < 4; c++)
		values[c + 1] = llm_spi_array(TEXTOID, columns[c], nulls[c], n);
	values[5] = llm_spi_array(BOOLOID, columns[4], NULL, n);
	happen(LLM_EVENT_END, values);
	counts.done = read_int64(0, 1);
	counts.failed = read_int64(0, 2);
	counts.superseded = read_int64(0, 3);
	counts.cancelled = read_int64(0, 4);
	counts.row_gone = read_int64(0, 5);
	counts.refused = count_refused(job);
	counts.wrong_model = find_wrong_model(job);
	SPI_freetuptable(SPI_tuptable);
	job->finished = llm_job_count(job->id, &counts);
	llm_sum_ended(job->id, &counts, values[1], values[2]);
	promote_followers(job);
}

/* The sender is to ask again. */
static void
ask_again(LlmWriteJob *job)
{
	Datum *tasks = palloc(sizeof(Datum) * Max(job->nrows, 1));
	Datum *faults = palloc(sizeof(Datum) * Max(job->nrows, 1));
	Datum values[2];
	int n = 0;

	for (int i = 0; i < job->nrows; i++)
	{
		if (job->rows[i].fate != LLM_FATE_AGAIN)
			continue;
		tasks[n] = Int64GetDatum(job->rows[i].task);
		faults[n++] = CStringGetTextDatum(job->rows[i].explanation);
	}
	if (n == 0)
		return;
	values[0] = llm_spi_array(INT8OID, tasks, NULL, n);
	values[1] = llm_spi_array(TEXTOID, faults, NULL, n);
	happen(LLM_EVENT_ASK_AGAIN, values);
	job->promoted = true;
}

void
llm_writeback_settle(LlmWriteJob *job)
{
	Datum *waiting = palloc(sizeof(Datum) * Max(job->nrows, 1));
	Datum values[3];
	int n = 0;

	settle_final(job);
	ask_again(job);
	for (int i = 0; i < job->nrows; i++)
		if (job->rows[i].fate == LLM_FATE_WAITING)
			waiting[n++] = Int64GetDatum(job->rows[i].task);
	if (n == 0)
		return;
	values[0] = llm_spi_array(INT8OID, waiting, NULL, n);
	values[1] = Int32GetDatum(job->delay_ms);
	values[2] = CStringGetTextDatum(job->put_off != NULL ? job->put_off : "locked");
	happen(LLM_EVENT_PUT_OFF, values);
}

bool
llm_writeback_take_job(LlmWriteJob *job)
{
	MemoryContext job_memory = GetMemoryChunkContext(job);
	MemoryContext caller;
	Datum values[1];

	values[0] = Int64GetDatum(job->id);
	if (execute(&take_job_statement, values) == 0)
		return false;
	caller = MemoryContextSwitchTo(job_memory);
	job->paused = read_bool(0, 1);
	job->shape_put_off = read_text(0, 2);
	MemoryContextSwitchTo(caller);
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/* Put the job off for a shape that is not the one that was asked for. */
static void
put_off(LlmWriteJob *job, const char *shape)
{
	char *reason = psprintf("paused: owner, triggers, rules, policies, constraints or the like of %s have changed since"
							" it was asked; look at them, then SELECT llm.resume(job => " INT64_FORMAT ");",
							job->relation_name, job->id);
	Datum values[3];

	values[0] = Int64GetDatum(job->id);
	values[1] = CStringGetTextDatum(shape);
	values[2] = CStringGetTextDatum(reason);
	execute(&put_off_statement, values);
}

bool
llm_writeback_may_write(LlmWriteJob *job)
{
	MemoryContext job_memory = GetMemoryChunkContext(job);
	char *shape = llm_shape_of(job->relation, job->role, RowExclusiveLock);
	Datum values[2];
	bool seen;

	if (shape == NULL || (job->shape != NULL && strcmp(job->shape, shape) == 0))
		return true;
	/* a session that resumes the job, and has not committed, is not waited for */
	if (!llm_writeback_take_job(job))
		return false;
	seen = job->shape_put_off != NULL && strcmp(job->shape_put_off, shape) == 0;
	if (seen && job->paused)
		return false;
	/* go on where somebody has looked at the change and resumed the job, or it is from before shapes were kept */
	if (!seen && (job->shape == NULL || job->shape[0] != '\0'))
	{
		put_off(job, shape);
		return false;
	}
	values[0] = Int64GetDatum(job->id);
	values[1] = CStringGetTextDatum(shape);
	execute(&let_through_statement, values);
	job->shape = MemoryContextStrdup(job_memory, shape);
	job->shape_put_off = NULL;
	return true;
}

void
llm_writeback_pass_over_asked(LlmWriteRow **rows, int n)
{
	Datum *tasks = palloc(Max(n, 1) * sizeof(Datum));
	LlmOwnScope scope;
	Datum values[1];
	uint64 nfound;

	for (int i = 0; i < n; i++)
		tasks[i] = Int64GetDatum(rows[i]->task);
	values[0] = llm_spi_array(INT8OID, tasks, NULL, n);
	llm_spi_own_begin(&scope);
	nfound = execute(&asked_again_statement, values);
	for (uint64 i = 0; i < nfound; i++)
	{
		for (int r = 0; r < n; r++)
		{
			if (rows[r]->task == read_int64(i, 1))
				rows[r]->fate = LLM_FATE_SUPERSEDED;
		}
	}
	SPI_freetuptable(SPI_tuptable);
	llm_spi_own_end(&scope);
}

uint64
llm_writeback_wake(int limit)
{
	Datum values[1];

	values[0] = Int32GetDatum(limit);
	return happen(LLM_EVENT_COME_BACK, values);
}

uint64
llm_writeback_wake_ahead(void)
{
	return happen(LLM_EVENT_COME_BACK_AHEAD, NULL);
}

uint64
llm_writeback_fail_roleless(int limit)
{
	Datum values[1];

	values[0] = Int32GetDatum(limit);
	return happen(LLM_EVENT_FAIL_ROLELESS, values);
}

bool
llm_writeback_stop_cancelled(int limit)
{
	static int64 after = 0; /* the last cancellation that was looked at; 0: begin again */
	Datum values[2];
	bool held;

	values[0] = Int64GetDatum(after);
	values[1] = Int32GetDatum(limit);
	happen(LLM_EVENT_STOP_CANCELLED, values);
	held = read_int64(0, 1) > 0;
	after = read_int64(0, 2) == limit ? read_int64(0, 3) : 0;
	SPI_freetuptable(SPI_tuptable);
	return held || after > 0;
}

uint64
llm_writeback_fail_late(int limit)
{
	Datum values[1];

	values[0] = Int32GetDatum(limit);
	return happen(LLM_EVENT_FAIL_LATE, values);
}

/* The time that a statement finds, DT_NOEND when it finds none. */
static TimestampTz
find_time(LlmStatement *statement)
{
	TimestampTz time = DT_NOEND;
	bool isnull;

	if (execute(statement, NULL) > 0)
		time = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return time;
}

TimestampTz
llm_writeback_next_due(void)
{
	return Min(find_time(&due_statement), find_time(&next_deadline_statement));
}

bool
llm_writeback_is_empty(void)
{
	bool empty = execute(&empty_statement, NULL) == 0;

	SPI_freetuptable(SPI_tuptable);
	if (empty)
		execute(&purge_statement, NULL);
	return empty;
}

void
llm_writeback_fail(LlmWriteRow *row, const char *reason, char *explanation)
{
	row->fate = LLM_FATE_FAILED;
	row->reason = reason;
	row->explanation = explanation;
}
