/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The sender's half of the queue: wake, claim, recover; queue_settle.c settles.
 *
 * Claiming commits before any request leaves, so no snapshot is held while we
 * wait for a provider, and a crash shows as a claimed task with no answer: the
 * next sender finds those with llm_queue_orphans() and settles them as
 * "unknown".
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
#include "tables/transition.h"

/* Tasks of a job that one claim looks at, where not all of them may be affordable. */
#define WINDOW_ROWS "500"

/* So many, or so many bytes of inputs: their length is known without reading them. */
static LlmStatement orphan_statement = {
	.sql = "SELECT " LLM_CLAIM_COLUMNS " FROM (SELECT o.id, pg_catalog.sum(pg_catalog.octet_length(o.input))"
		   "   OVER (ORDER BY o.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before"
		   "  FROM (SELECT c.id, c.input FROM llm.queue c WHERE c.state = 'claimed'"
		   "   ORDER BY c.id LIMIT $1) o) p"
		   " JOIN llm.queue q ON q.id = p.id"
		   " WHERE COALESCE(p.before, 0) < $2 ORDER BY q.id",
	.nargs = 2,
	.args = {INT4OID, INT8OID}};

/*
 * For each job in $1 the last of the next so many tasks above $2, NULL where there are no more; and of them the
 * least cost above $5.  COST of transition.c.
 */
static LlmStatement windows_statement = {
	.sql = "SELECT (SELECT w.id FROM llm.queue w WHERE w.job = s.job AND w.state = 'ready' AND w.id > s.first"
		   "   ORDER BY w.id OFFSET " WINDOW_ROWS " - 1 LIMIT 1),"
		   "  (SELECT min(x.cost) FROM (SELECT s.fixed + ceil(s.per_byte * (octet_length(c.input)"
		   "    + COALESCE(octet_length(c.message), 0) + COALESCE(octet_length(c.last_answer), 0)))::int8 AS cost"
		   "   FROM llm.queue c WHERE c.job = s.job AND c.state = 'ready' AND c.id > s.first"
		   "   ORDER BY c.id LIMIT " WINDOW_ROWS ") x WHERE x.cost > s.room AND x.cost <= s.ever)"
		   " FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY AS s(job, first, fixed, per_byte, room, ever, place)"
		   " ORDER BY s.place",
	.nargs = 6,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}};

static LlmStatement due_statement = {
	.sql = "SELECT q.not_before FROM llm.queue q WHERE q.state = 'waiting'"
		   " AND q.outcome IS NULL AND q.not_before < 'infinity' ORDER BY q.not_before LIMIT 1"};

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
	claim->outages = get_int32(row, desc, 7);
	claim->key = (Jsonb *) PG_DETOAST_DATUM_COPY(SPI_getbinval(row, desc, 8, &isnull));
	claim->input = get_text(row, desc, 9, &claim->input_len);
	claim->fault = get_text(row, desc, 10, NULL);
	claim->last_answer = get_text(row, desc, 11, NULL);
	claim->application = get_text(row, desc, 12, NULL);
	claim->same_as = get_int64(row, desc, 13);
	claim->followed = DatumGetBool(SPI_getbinval(row, desc, 14, &isnull));
	claim->elsewhere = DatumGetBool(SPI_getbinval(row, desc, 15, &isnull));
	claim->reserved = get_int64(row, desc, 16); /* NULL is 0 */
	claim->claimed_at = DatumGetTimestampTz(SPI_getbinval(row, desc, 17, &isnull));
	claim->asked = get_text(row, desc, 18, NULL);
	if (desc->natts > 18)
	{
		claim->cut = DatumGetBool(SPI_getbinval(row, desc, 19, &isnull));
		claim->dear = DatumGetBool(SPI_getbinval(row, desc, 20, &isnull));
	}
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

/* Fill in what claim() and windows() both say of portions. */
static void
set_bounds(const LlmPortion *portion, Datum *fixed, bool *unbounded, Datum *per_byte, Datum *room, Datum *ever)
{
	*unbounded = !portion->bounded;
	*fixed = Int64GetDatum(portion->fixed);
	*per_byte = Float8GetDatum(portion->per_byte);
	*room = Int64GetDatum(portion->room);
	*ever = Int64GetDatum(portion->ever);
}

void
llm_queue_windows(LlmPortion *portions, int nportions)
{
	Datum *columns[6];
	bool unbounded;
	Datum values[6];
	LlmPortion **bounded = palloc(sizeof(LlmPortion *) * Max(nportions, 1));
	int n = 0;

	for (int c = 0; c < lengthof(columns); c++)
		columns[c] = palloc(sizeof(Datum) * Max(nportions, 1));
	for (int i = 0; i < nportions; i++)
	{
		LlmPortion *portion = &portions[i];

		portion->last = PG_INT64_MAX;
		portion->cheapest = PG_INT64_MAX;
		if (!portion->bounded)
			continue;
		columns[0][n] = Int64GetDatum(portion->job);
		columns[1][n] = Int64GetDatum(portion->after);
		set_bounds(portion, &columns[2][n], &unbounded, &columns[3][n], &columns[4][n], &columns[5][n]);
		bounded[n++] = portion;
	}
	if (n == 0)
		return;
	for (int c = 0; c < lengthof(columns); c++)
		values[c] = llm_spi_array(c == 3 ? FLOAT8OID : INT8OID, columns[c], NULL, n);
	(void) llm_spi_execute(&windows_statement, values, NULL, false);
	for (int i = 0; i < n && i < (int) SPI_processed; i++)
	{
		bool isnull;
		Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		bounded[i]->last = isnull ? PG_INT64_MAX : DatumGetInt64(value);
		value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);
		bounded[i]->cheapest = isnull ? PG_INT64_MAX : DatumGetInt64(value);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* The arguments of CLAIM_WITHIN that CLAIM does not have. */
static void
set_within(const LlmPortion *portions, int nportions, Datum *values)
{
	Datum *columns[5];
	bool *unbounded = palloc(sizeof(bool) * nportions);

	for (int c = 0; c < lengthof(columns); c++)
		columns[c] = palloc(sizeof(Datum) * nportions);
	for (int i = 0; i < nportions; i++)
	{
		columns[0][i] = Int64GetDatum(portions[i].last);
		set_bounds(&portions[i], &columns[1][i], &unbounded[i], &columns[2][i], &columns[3][i], &columns[4][i]);
	}
	for (int c = 0; c < lengthof(columns); c++)
		values[c] = llm_spi_array(c == 2 ? FLOAT8OID : INT8OID, columns[c], c == 1 ? unbounded : NULL, nportions);
}

/*
 * Claim up to portion->want tasks of each job, but none that is aside: the list of LlmClaim, in the
 * current context.  A job that gives fewer has no more that are ready, unless claim->cut.  Catalogs are known
 * then as the sessions left them that queued what was claimed.
 */
List *
llm_queue_claim(const LlmPortion *portions, int nportions, const LlmClaimBounds *bounds)
{
	Datum *jobs = palloc(sizeof(Datum) * nportions);
	Datum *after = palloc(sizeof(Datum) * nportions);
	Datum *want = palloc(sizeof(Datum) * nportions);
	Datum *aside = palloc(sizeof(Datum) * Max(bounds->naside, 1));
	Datum values[10];
	List *claims;
	bool bounded = false;

	for (int i = 0; i < nportions; i++)
	{
		bounded = bounded || portions[i].bounded;
		jobs[i] = Int64GetDatum(portions[i].job);
		after[i] = Int64GetDatum(portions[i].after);
		want[i] = Int32GetDatum(portions[i].want);
	}
	values[0] = llm_spi_array(INT8OID, jobs, NULL, nportions);
	values[1] = llm_spi_array(INT8OID, after, NULL, nportions);
	values[2] = llm_spi_array(INT4OID, want, NULL, nportions);
	for (int i = 0; i < bounds->naside; i++)
		aside[i] = Int64GetDatum(bounds->aside[i]);
	values[3] = llm_spi_array(INT8OID, aside, NULL, bounds->naside);
	values[4] = Int64GetDatum(bounds->bytes);
	if (bounded)
		set_within(portions, nportions, &values[5]);
	llm_transition(bounded ? LLM_EVENT_CLAIM_WITHIN : LLM_EVENT_CLAIM, values, NULL);
	claims = read_claims();
	if (claims != NIL)
	{
		llm_committing_await();
		AcceptInvalidationMessages();
	}
	return claims;
}

void
llm_queue_join(const int64 *tasks, const int64 *requests, int n)
{
	Datum *ids = palloc(sizeof(Datum) * n);
	Datum *numbers = palloc(sizeof(Datum) * n);
	Datum values[2];

	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(tasks[i]);
		numbers[i] = Int64GetDatum(requests[i]);
	}
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	values[1] = llm_spi_array(INT8OID, numbers, NULL, n);
	llm_transition(LLM_EVENT_JOIN, values, NULL);
}

void
llm_queue_divert(const int64 *tasks, const char **aliases, int n)
{
	Datum *ids = palloc(sizeof(Datum) * n);
	Datum *names = palloc(sizeof(Datum) * n);
	Datum values[2];

	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(tasks[i]);
		names[i] = CStringGetTextDatum(aliases[i]);
	}
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	values[1] = llm_spi_array(TEXTOID, names, NULL, n);
	llm_transition(LLM_EVENT_DIVERT, values, NULL);
}

void
llm_queue_unclaim(const int64 *tasks, int n)
{
	Datum *ids = palloc(sizeof(Datum) * n);
	Datum values[1];

	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(tasks[i]);
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	llm_transition(LLM_EVENT_UNCLAIM, values, NULL);
}

void
llm_queue_fail_dear(const int64 *tasks, const char **messages, int n)
{
	Datum *ids = palloc(sizeof(Datum) * n);
	Datum *texts = palloc(sizeof(Datum) * n);
	Datum values[3];

	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(tasks[i]);
		texts[i] = CStringGetTextDatum(messages[i]);
	}
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	values[1] = llm_spi_array(TEXTOID, texts, NULL, n);
	values[2] = Int64GetDatum(llm_spi_transaction());
	llm_transition(LLM_EVENT_FAIL_DEAR, values, NULL);
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
	llm_transition(LLM_EVENT_WAKE, values, NULL);
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
	return llm_transition(LLM_EVENT_WAKE_AHEAD, values, NULL);
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
	failed = llm_transition(LLM_EVENT_FAIL_GONE, values, NULL);
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
