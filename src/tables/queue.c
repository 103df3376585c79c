/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The sender's half of the queue: wake, claim, recover; queue_settle.c settles.
 *
 * Claiming commits before any request leaves, so no snapshot is held while we
 * wait for a provider, and a crash shows as a claimed task with no answer: the
 * next sender finds those with llm_queue_orphans() and settles them as
 * "unknown".  All statements work on sets and skip rows that somebody else has
 * locked, so that a user's open transaction holds up nobody but itself.
 *
 * Users' transactions lock rows that are ready or waiting (to supersede or to
 * cancel them) and never rows that are claimed: a settle() meets no lock.
 *
 * unnest() of several arrays is a form of the grammar, not a function that could
 * be qualified: the parser resolves it to pg_catalog by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "base/committing.h"
#include "base/spi.h"
#include "tables/queue.h"
#include "tables/repeat.h"

/*
 * The columns that make an LlmClaim, in the order that read_claim() expects.
 * Only what was wrong with an answer is told to the model.  Whether anybody follows a task
 * is not asked for each where nobody follows any.
 */
#define CLAIM_COLUMNS                                                                                   \
	"q.id, q.job, q.recipe, q.request, q.tries, q.attempts, q.faults, q.key, q.input,"                  \
	" CASE WHEN q.error = 'invalid_output' THEN q.message END, q.last_answer,"                          \
	" q.application_name,"                                                                              \
	" COALESCE(q.same_as, 0), (SELECT true FROM llm.queue f WHERE " LLM_FOLLOWS " LIMIT 1) IS NOT NULL" \
	" AND (SELECT true FROM llm.queue f WHERE f.same_as ="                                              \
	"  ANY (ARRAY[q.id, q.same_as]) AND " LLM_FOLLOWS " LIMIT 1) IS NOT NULL"

/*
 * What was cancelled while somebody held it is left to the writer, unsent (writeback_queue.c).
 * A row that changed between snapshot and lock is not at the place that was found: next time.
 */
static LlmStatement claim_statement = {
	.sql = "WITH picked AS MATERIALIZED ("
		   " SELECT p.place FROM unnest($1, $2, $3) AS s(job, first, want)"
		   " CROSS JOIN LATERAL (SELECT c.ctid AS place FROM llm.queue c"
		   "  WHERE c.job = s.job AND c.state = 'ready'"
		   "  AND c.id > s.first"
		   "  AND (NOT EXISTS (SELECT FROM llm.cancellation) OR NOT EXISTS (SELECT FROM llm.cancellation x"
		   "   WHERE x.task = c.id))"
		   "  ORDER BY c.id LIMIT s.want FOR NO KEY UPDATE SKIP LOCKED) AS p"
		   " WHERE EXISTS (SELECT FROM llm.job j WHERE j.id = s.job"
		   "  AND j.state = 'open' AND (j.deadline IS NULL"
		   "   OR j.deadline > pg_catalog.clock_timestamp())"
		   "  AND (SELECT true FROM pg_catalog.pg_class r WHERE r.oid = j.relation)))"
		   " UPDATE llm.queue q SET state = 'claimed', claimed_at = pg_catalog.clock_timestamp(),"
		   "  reason = NULL, not_before = NULL,"
		   "  attempts = q.attempts + 1,"
		   "  request = pg_catalog.nextval('llm.request_id')"
		   " FROM picked WHERE q.ctid = picked.place"
		   " RETURNING " CLAIM_COLUMNS,
	.nargs = 3,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID}};

/* Claimed and not sent: as if it had not been. */
static LlmStatement unclaim_statement = {
	.sql = "UPDATE llm.queue q SET state = 'ready', claimed_at = NULL, request = NULL,"
		   "  attempts = q.attempts - 1"
		   " WHERE q.id = ANY ($1) AND q.state = 'claimed'",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

/* So many, or so many bytes of inputs: their length is known without reading them. */
static LlmStatement orphan_statement = {
	.sql = "SELECT " CLAIM_COLUMNS " FROM (SELECT o.id, pg_catalog.sum(pg_catalog.octet_length(o.input))"
		   "   OVER (ORDER BY o.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before"
		   "  FROM (SELECT c.id, c.input FROM llm.queue c WHERE c.state = 'claimed'"
		   "   ORDER BY c.id LIMIT $1) o) p"
		   " JOIN llm.queue q ON q.id = p.id"
		   " WHERE COALESCE(p.before, 0) < $2 ORDER BY q.id",
	.nargs = 2,
	.args = {INT4OID, INT8OID}};

/*
 * Nobody waits for what was to go into a table that was dropped.  An answer that is kept for
 * others is theirs.
 */
static LlmStatement fail_gone_statement = {
	.sql = "WITH gone AS MATERIALIZED (SELECT j.id FROM llm.job j WHERE j.state <> 'finished'"
		   "  AND j.relation <> 0 AND (SELECT true FROM pg_catalog.pg_class r"
		   "   WHERE r.oid = j.relation) IS NULL),"
		   " ready AS MATERIALIZED (SELECT p.id FROM gone CROSS JOIN LATERAL (SELECT q.id FROM llm.queue q"
		   "  WHERE q.job = gone.id AND q.state = 'ready'"
		   "  ORDER BY q.id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) p LIMIT $1),"
		   " waiting AS MATERIALIZED (SELECT p.id FROM gone CROSS JOIN LATERAL (SELECT q.id FROM llm.queue q"
		   "  WHERE q.job = gone.id AND q.state = 'waiting'"
		   "  AND q.outcome IS NULL AND q.answer IS NULL LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) p LIMIT $1)"
		   " UPDATE llm.queue q SET state = 'failed', outcome = 'failed', error = 'relation_gone',"
		   "  message = 'the table was dropped before the question was sent', reason = NULL, not_before = NULL,"
		   "  landed = $2"
		   " FROM (SELECT id FROM ready UNION ALL SELECT id FROM waiting) p WHERE q.id = p.id",
	.nargs = 2,
	.args = {INT4OID, INT8OID}};

/*
 * Tasks with an outcome wait for the writer, and are the writer's to wake.  The time is asked for
 * once, in a sub-select: compared with a volatile function, all that waits would be looked at.
 */
static LlmStatement wake_statement = {
	.sql = "WITH due AS MATERIALIZED (SELECT w.id FROM llm.queue w"
		   "  WHERE w.state = 'waiting' AND w.outcome IS NULL"
		   "  AND w.not_before <= (SELECT pg_catalog.clock_timestamp())"
		   "  ORDER BY w.not_before LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)"
		   " UPDATE llm.queue q SET state = 'ready', reason = NULL, not_before = NULL"
		   " FROM due WHERE q.id = due.id RETURNING q.job, q.id",
	.nargs = 1,
	.args = {INT4OID}};

/*
 * Claimed later than now, or not at all and yet to wait: the clock was set back since, and the
 * time until which such a task waits is as far ahead.  Only what is due later than in $2 seconds
 * is looked at.
 */
static LlmStatement wake_ahead_statement = {
	.sql = "WITH ahead AS MATERIALIZED (SELECT w.id FROM llm.queue w"
		   "  WHERE w.state = 'waiting' AND w.outcome IS NULL"
		   "  AND w.not_before < 'infinity' AND w.not_before >"
		   "   (SELECT pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $2))"
		   "  AND (w.claimed_at <= pg_catalog.clock_timestamp()) IS NOT TRUE"
		   "  ORDER BY w.not_before DESC LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)"
		   " UPDATE llm.queue q SET state = 'ready', reason = NULL, not_before = NULL"
		   " FROM ahead WHERE q.id = ahead.id",
	.nargs = 2,
	.args = {INT4OID, FLOAT8OID}};

static LlmStatement due_statement = {
	.sql = "SELECT q.not_before FROM llm.queue q WHERE q.state = 'waiting'"
		   " AND q.outcome IS NULL AND q.not_before < 'infinity' ORDER BY q.not_before LIMIT 1"};

static LlmStatement add_claimed_statement = {
	.sql = "INSERT INTO llm.queue AS q (id, job, recipe, role, relation, state, attempts, request,"
		   "  claimed_at, key, input)"
		   " VALUES (pg_catalog.nextval('llm.task_id'), $1, $2, $3, 0, 'claimed', 1,"
		   "  pg_catalog.nextval('llm.request_id'), pg_catalog.clock_timestamp(), '{}', $4)"
		   " RETURNING " CLAIM_COLUMNS,
	.nargs = 4,
	.args = {INT8OID, INT8OID, OIDOID, TEXTOID}};

/* After a look for tables that are gone, which asks of every open job: the next one, however many relations change. */
#define LOOK_GONE_MS 1000

/* Written by the callback below: some relation has changed, or gone, since fail_gone() looked. */
static bool relations_changed = true;
static TimestampTz look_gone_at = DT_NOBEGIN; /* not before */

/* One column of the current result as a C string in the caller's context, NULL for NULL. */
static char *
get_text(HeapTuple row, TupleDesc desc, int column, size_t *len)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);
	text *detoasted;

	if (isnull)
		return NULL;
	detoasted = DatumGetTextPP(value);
	if (len != NULL)
		*len = VARSIZE_ANY_EXHDR(detoasted);
	return text_to_cstring(detoasted);
}

static int64
get_int64(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;

	return DatumGetInt64(SPI_getbinval(row, desc, column, &isnull));
}

static int
get_int32(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;

	return DatumGetInt32(SPI_getbinval(row, desc, column, &isnull));
}

/* Read row "i" of the current result.  Everything is copied to the current context. */
static LlmClaim *
read_claim(uint64 i)
{
	HeapTuple row = SPI_tuptable->vals[i];
	TupleDesc desc = SPI_tuptable->tupdesc;
	LlmClaim *claim = palloc0(sizeof(LlmClaim));
	bool isnull;

	claim->task = get_int64(row, desc, 1);
	claim->job = get_int64(row, desc, 2);
	claim->recipe = get_int64(row, desc, 3);
	claim->request = get_int64(row, desc, 4);
	claim->tries = get_int32(row, desc, 5);
	claim->attempt = get_int32(row, desc, 6);
	claim->faults = get_int32(row, desc, 7);
	claim->key = (Jsonb *) PG_DETOAST_DATUM_COPY(SPI_getbinval(row, desc, 8, &isnull));
	claim->input = get_text(row, desc, 9, &claim->input_len);
	claim->fault = get_text(row, desc, 10, NULL);
	claim->last_answer = get_text(row, desc, 11, NULL);
	claim->application = get_text(row, desc, 12, NULL);
	claim->same_as = get_int64(row, desc, 13);
	claim->followed = DatumGetBool(SPI_getbinval(row, desc, 14, &isnull));
	return claim;
}

/* Make a list of LlmClaim of the current result. */
static List *
read_claims(void)
{
	List *claims = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
		claims = lappend(claims, read_claim(i));
	SPI_freetuptable(SPI_tuptable);
	return claims;
}

/*
 * Claim up to portion->want tasks of each job: the list of LlmClaim, in the
 * current context.  A job that gives fewer has no more that are ready.  Catalogs are known
 * then as those left them who queued what was claimed.
 */
List *
llm_queue_claim(const LlmPortion *portions, int nportions)
{
	Datum *jobs = palloc(sizeof(Datum) * nportions);
	Datum *after = palloc(sizeof(Datum) * nportions);
	Datum *want = palloc(sizeof(Datum) * nportions);
	Datum values[3];
	List *claims;

	for (int i = 0; i < nportions; i++)
	{
		jobs[i] = Int64GetDatum(portions[i].job);
		after[i] = Int64GetDatum(portions[i].after);
		want[i] = Int32GetDatum(portions[i].want);
	}
	values[0] = llm_spi_array(INT8OID, jobs, NULL, nportions);
	values[1] = llm_spi_array(INT8OID, after, NULL, nportions);
	values[2] = llm_spi_array(INT4OID, want, NULL, nportions);
	llm_spi_execute(&claim_statement, values, NULL, false);
	claims = read_claims();
	if (claims != NIL)
	{
		llm_committing_await();
		AcceptInvalidationMessages();
	}
	return claims;
}

void
llm_queue_unclaim(const int64 *tasks, int n)
{
	Datum *ids = palloc(sizeof(Datum) * n);
	Datum values[1];

	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(tasks[i]);
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	llm_spi_execute(&unclaim_statement, values, NULL, false);
}

/* Tasks that a dead sender left claimed: a list of LlmClaim, in the current context; empty when there are none. */
List *
llm_queue_orphans(int limit, int64 bytes)
{
	Datum values[2];

	values[0] = Int32GetDatum(limit);
	values[1] = Int64GetDatum(bytes);
	llm_spi_execute(&orphan_statement, values, NULL, false);
	return read_claims();
}

List *
llm_queue_wake(int limit)
{
	Datum values[1];
	List *woken = NIL;

	values[0] = Int32GetDatum(limit);
	llm_spi_execute(&wake_statement, values, NULL, false);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		LlmWoken *task = palloc(sizeof(LlmWoken));

		task->job = get_int64(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		task->task = get_int64(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
		woken = lappend(woken, task);
	}
	SPI_freetuptable(SPI_tuptable);
	return woken;
}

/* Make tasks ready that wait for a time which the clock has taken back; how many. */
uint64
llm_queue_wake_ahead(int limit, int least_s)
{
	Datum values[2];

	values[0] = Int32GetDatum(limit);
	values[1] = Float8GetDatum((float8) least_s);
	return llm_spi_execute(&wake_ahead_statement, values, NULL, false);
}

static void
note_relation_change(Datum arg, Oid relation)
{
	relations_changed = true;
}

TimestampTz
llm_queue_gone_due(void)
{
	return relations_changed ? look_gone_at : DT_NOEND;
}

uint64
llm_queue_fail_gone(bool anyway, int limit, TimestampTz now)
{
	static bool callback_registered = false;
	Datum values[2];
	uint64 failed;

	if (!callback_registered)
		CacheRegisterRelcacheCallback(note_relation_change, (Datum) 0);
	callback_registered = true;
	AcceptInvalidationMessages();
	if (!anyway && (!relations_changed || now < look_gone_at))
		return 0;
	relations_changed = false;
	look_gone_at = TimestampTzPlusMilliseconds(now, LOOK_GONE_MS);
	values[0] = Int32GetDatum(limit);
	values[1] = Int64GetDatum(llm_spi_transaction());
	failed = llm_spi_execute(&fail_gone_statement, values, NULL, false);
	if (failed > 0)
	{
		relations_changed = true;
		look_gone_at = DT_NOBEGIN;
	}
	return failed;
}

TimestampTz
llm_queue_next_due(void)
{
	TimestampTz due = DT_NOEND;
	bool isnull;

	if (llm_spi_execute(&due_statement, NULL, NULL, true) > 0)
		due = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return due;
}

LlmClaim *
llm_queue_add_claimed(int64 job, int64 recipe, Oid role, const char *input)
{
	Datum values[4];

	values[0] = Int64GetDatum(job);
	values[1] = Int64GetDatum(recipe);
	values[2] = ObjectIdGetDatum(role);
	values[3] = CStringGetTextDatum(input);
	llm_spi_execute(&add_claimed_statement, values, NULL, false);
	return read_claim(0);
}
