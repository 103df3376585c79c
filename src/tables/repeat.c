/*-------------------------------------------------------------------------
 *
 * repeat.c
 *	  Tasks that ask what another task asks already: the same question is paid once.
 *
 * A follower waits, without a time, for the task in "same_as", its leader.  It is
 * served in the transaction that stores the leader's answer, so that no crash can
 * come between them.  As many as one transaction may serve, that is: with more of
 * them the leader keeps its answer back from the writer, waiting for ever
 * ("infinity"), until the last one has been served.  So an answer stays in the queue
 * as long as anybody needs it.
 *
 * A leader that ends without an answer is succeeded by its first follower, which
 * keeps "same_as": it now leads the tasks that have the same there.  Nobody rewrites the
 * others, however many they are.  Only what any repeat would meet for certain is
 * shared of failures: the provider refused these very bytes, and billed nothing.
 *
 * Tasks of another job, strangers, follow a request and not a task: as soon as it is
 * over without an answer they ask for themselves.  Their leader may be asked again late
 * or never: its job may be paused, of low priority, or behind its deadline.
 *
 * What a follower's row is locked by (somebody cancels or supersedes it) is not
 * waited for.  If that comes to nothing, the sweep finds the row, and it asks.
 *
 * Whether a task has followers is asked with LIMIT 1, in a sub-select: one probe of
 * an index that is empty where nothing repeats, and never a join.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "base/spi.h"
#include "tables/repeat.h"
#include "tables/transition.h"

/* Followers served in one transaction. */
#define SERVE_ROWS 5000

/* Leaders that keep an answer back, looked at in one transaction; groups of a step of the sweep. */
#define SOURCES 100
#define SWEEP_GROUPS 500

/* As the index queue_promoted says: asks itself, and leads the tasks that have the same in "same_as". */
#define PROMOTED                                  \
	"h.same_as IS NOT NULL AND h.outcome IS NULL" \
	" AND (h.state <> 'waiting' OR h.not_before IS NOT NULL)"

/* Is a task under way that the tasks with led.label in same_as follow?  NULL: none. */
#define LEADER                                                                  \
	"COALESCE((SELECT true FROM llm.queue h WHERE h.id = led.label"             \
	"  AND h.outcome IS NULL), (SELECT true FROM llm.queue h WHERE h.same_as =" \
	"  led.label AND " PROMOTED " LIMIT 1))"

/* Is an answer on its way to the followers of led.label, whatever becomes of any job?  NULL: no. */
#define COMING "(h.state = 'claimed' OR h.answer IS NOT NULL)"
#define HOPE                                                                 \
	"COALESCE((SELECT true FROM llm.queue h WHERE h.id = led.label"          \
	"  AND h.outcome IS NULL AND " COMING "), (SELECT true FROM llm.queue h" \
	"  WHERE h.same_as = led.label AND " PROMOTED " AND " COMING " LIMIT 1))"

/* One follower of led.label, of a job below or above led.job. */
#define STRANGER(than)                                          \
	"(SELECT true FROM llm.queue f WHERE f.same_as = led.label" \
	"  AND f.job " than " led.job AND " LLM_FOLLOWS " LIMIT 1)"

#define SOURCE                                  \
	"q.state = 'waiting' AND q.outcome IS NULL" \
	" AND q.not_before = 'infinity'"

/* Leaders that keep an answer back, locked: what is found can be released. */
static LlmStatement sources_statement = {
	.sql = "SELECT q.id FROM llm.queue q WHERE " SOURCE " LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
	.nargs = 1,
	.args = {INT4OID}};

/* Those that somebody else has locked, if anybody follows them: that one's lock is not their affair. */
static LlmStatement held_statement = {
	.sql = "SELECT q.id FROM llm.queue q WHERE " SOURCE " AND (SELECT true FROM llm.queue f"
		   "  WHERE f.same_as = ANY (ARRAY[q.id, q.same_as]) AND " LLM_FOLLOWS " LIMIT 1) LIMIT $1",
	.nargs = 1,
	.args = {INT4OID}};

/*
 * The tasks that ask now, locked: the first follower of each label in $1 that nobody leads, of the job in
 * $2; and at most $3 of other jobs that no answer is coming to, which lead and follow nobody from
 * then on.
 */
static LlmStatement heirs_statement = {
	.sql = "WITH led AS MATERIALIZED (SELECT v.label, v.job FROM unnest($1, $2) AS v(label, job)"
		   "  WHERE (SELECT true FROM llm.queue f WHERE f.same_as = v.label AND " LLM_FOLLOWS
		   " LIMIT 1)),"
		   " lost AS MATERIALIZED (SELECT led.label, led.job FROM led WHERE " HOPE
		   " IS NULL),"
		   " own AS MATERIALIZED (SELECT lost.label, p.id FROM lost CROSS JOIN LATERAL ("
		   "  SELECT f.id FROM llm.queue f WHERE f.same_as = lost.label"
		   "  AND f.job = lost.job AND " LLM_FOLLOWS
		   "  ORDER BY f.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) p),"
		   " stranger AS MATERIALIZED (SELECT p.id FROM lost CROSS JOIN LATERAL (VALUES"
		   "  (0::pg_catalog.int8, lost.job - 1),"
		   "  (lost.job + 1, 9223372036854775807)) AS r(low, high) CROSS JOIN LATERAL ("
		   "  SELECT f.id FROM llm.queue f WHERE f.same_as = lost.label"
		   "  AND f.job >= r.low AND f.job <= r.high AND " LLM_FOLLOWS
		   "  LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) p LIMIT $3),"
		   " next AS MATERIALIZED (SELECT led.id, true AS leads FROM own led WHERE " LEADER
		   "  IS NULL UNION ALL SELECT stranger.id, false FROM stranger)"
		   " SELECT next.id, next.leads FROM next",
	.nargs = 3,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT4OID}};

/*
 * One probe for each group, from the first above $1: the job of the task that leads it, or should;
 * whether nobody does; and whether there is anything to do.
 */
static LlmStatement sweep_statement = {
	.sql = "WITH RECURSIVE label AS ("
		   " (SELECT f.same_as AS id FROM llm.queue f WHERE f.same_as > $1 AND " LLM_FOLLOWS
		   "  ORDER BY f.same_as LIMIT 1)"
		   " UNION ALL SELECT (SELECT f.same_as FROM llm.queue f"
		   "  WHERE f.same_as > label.id AND " LLM_FOLLOWS
		   "  ORDER BY f.same_as LIMIT 1) FROM label WHERE label.id IS NOT NULL),"
		   " led AS MATERIALIZED (SELECT l.id AS label, COALESCE("
		   "  (SELECT h.job FROM llm.queue h WHERE h.id = l.id),"
		   "  (SELECT h.job FROM llm.queue h WHERE h.same_as = l.id AND " PROMOTED " LIMIT 1),"
		   "  (SELECT f.job FROM llm.queue f WHERE f.same_as = l.id AND " LLM_FOLLOWS
		   "   ORDER BY f.job LIMIT 1)) AS job FROM label l WHERE l.id IS NOT NULL LIMIT $2),"
		   " seen AS MATERIALIZED (SELECT led.label, led.job, " LEADER
		   " IS NULL AS dead FROM led)"
		   " SELECT led.label, led.job, led.dead, led.dead OR (" HOPE " IS NULL AND COALESCE(" STRANGER("<") ", " STRANGER(">") ", false)) FROM seen led",
	.nargs = 2,
	.args = {INT8OID, INT4OID}};

/* Column 1 of the current result: numbers, palloc'ed; how many in *n. */
static Datum *
read_ids(int *n)
{
	Datum *ids = palloc(sizeof(Datum) * Max(SPI_processed, 1));
	bool isnull;

	*n = (int) SPI_processed;
	for (int i = 0; i < *n; i++)
		ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	SPI_freetuptable(SPI_tuptable);
	return ids;
}

/* Let it happen to an array of ids; how many rows it changed. */
static uint64
over_ids(LlmTaskEvent event, Datum *ids, int n)
{
	Datum values[1];

	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	return llm_transition(event, values, NULL);
}

void
llm_repeat_follow(const int64 *tasks, const int64 *leaders, int n)
{
	Datum *columns[2];
	Datum values[2];

	if (n == 0)
		return;
	columns[0] = palloc(sizeof(Datum) * n);
	columns[1] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		columns[0][i] = Int64GetDatum(tasks[i]);
		columns[1][i] = Int64GetDatum(leaders[i]);
	}
	values[0] = llm_spi_array(INT8OID, columns[0], NULL, n);
	values[1] = llm_spi_array(INT8OID, columns[1], NULL, n);
	llm_transition(LLM_EVENT_FOLLOW, values, NULL);
}

/* Serve up to "limit" followers of the leaders; how many.  In *heads those that are followed themselves. */
static int
serve_once(Datum leaders, int limit, Datum **heads, int *nheads)
{
	Datum values[3];
	Datum result;
	bool isnull;
	int served;

	values[0] = leaders;
	values[1] = Int32GetDatum(limit);
	values[2] = Int64GetDatum(llm_spi_transaction());
	llm_transition(LLM_EVENT_SERVE, values, NULL);
	served = (int) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
	*nheads = 0;
	if (!isnull)
		deconstruct_array(DatumGetArrayTypePCopy(result), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
						  heads, NULL, nheads);
	SPI_freetuptable(SPI_tuptable);
	return served;
}

/* Serve the followers of the leaders, and theirs, as many as one transaction may. */
static void
serve(Datum *leaders, int n, LlmRepeatResult *result)
{
	int left = SERVE_ROWS;

	while (n > 0)
	{
		Datum *heads = NULL;
		int nheads = 0;
		int served = serve_once(llm_spi_array(INT8OID, leaders, NULL, n), left, &heads, &nheads);

		result->served += served;
		left -= served;
		if (left == 0)
		{
			over_ids(LLM_EVENT_KEEP, leaders, n);
			if (nheads > 0)
				over_ids(LLM_EVENT_KEEP, heads, nheads);
			result->more = true;
			return;
		}
		leaders = heads;
		n = nheads;
	}
}

uint64
llm_repeat_promote(const LlmRepeatLead *leads, int n)
{
	Datum *columns[2];
	Datum *heirs;
	Datum *leads_others;
	Datum values[3];
	int nlabels = 0;
	int nheirs;
	bool isnull;

	if (n == 0)
		return 0;
	columns[0] = palloc(sizeof(Datum) * n * 2);
	columns[1] = palloc(sizeof(Datum) * n * 2);
	for (int i = 0; i < n; i++)
	{
		columns[0][nlabels] = Int64GetDatum(leads[i].task);
		columns[1][nlabels++] = Int64GetDatum(leads[i].job);
		if (leads[i].same_as == 0)
			continue;
		columns[0][nlabels] = Int64GetDatum(leads[i].same_as);
		columns[1][nlabels++] = Int64GetDatum(leads[i].job);
	}
	values[0] = llm_spi_array(INT8OID, columns[0], NULL, nlabels);
	values[1] = llm_spi_array(INT8OID, columns[1], NULL, nlabels);
	values[2] = Int32GetDatum(SERVE_ROWS);
	nheirs = (int) llm_spi_execute(&heirs_statement, values, NULL, false);
	heirs = palloc(sizeof(Datum) * Max(nheirs, 1));
	leads_others = palloc(sizeof(Datum) * Max(nheirs, 1));
	for (int i = 0; i < nheirs; i++)
	{
		heirs[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		leads_others[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);
	}
	SPI_freetuptable(SPI_tuptable);
	if (nheirs == 0)
		return 0;
	values[0] = llm_spi_array(INT8OID, heirs, NULL, nheirs);
	values[1] = llm_spi_array(BOOLOID, leads_others, NULL, nheirs);
	return llm_transition(LLM_EVENT_PROMOTE, values, NULL);
}

void
llm_repeat_settled(const LlmRepeatLead *leads, int n, LlmRepeatResult *result)
{
	Datum *leaders = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		leaders[i] = Int64GetDatum(leads[i].task);
	serve(leaders, n, result);
	result->promoted += llm_repeat_promote(leads, n);
}

/* Serve the followers of what the statement finds; the leaders, *n of them. */
static Datum *
serve_found(LlmStatement *statement, int *n, LlmRepeatResult *result)
{
	Datum values[1];
	Datum *sources;

	values[0] = Int32GetDatum(SOURCES);
	llm_spi_execute(statement, values, NULL, false);
	sources = read_ids(n);
	serve(sources, *n, result);
	return sources;
}

void
llm_repeat_go_on(LlmRepeatResult *result)
{
	LlmRepeatResult served = {0};
	Datum *sources;
	int n;

	sources = serve_found(&sources_statement, &n, &served);
	if (n == 0)
	{
		(void) serve_found(&held_statement, &n, &served);
		served.more = (served.served > 0);
	}
	else if (!served.more)
	{
		served.served += over_ids(LLM_EVENT_RELEASE, sources, n);
		served.more = true; /* there may be others */
	}
	result->served += served.served;
	result->more = result->more || served.more;
}

bool
llm_repeat_sweep(int64 *after, LlmRepeatResult *result)
{
	Datum values[2];
	LlmRepeatLead *dead;
	LlmRepeatLead *stalled;
	int ndead = 0;
	int nstalled = 0;
	int n;
	bool isnull;

	values[0] = Int64GetDatum(*after);
	values[1] = Int32GetDatum(SWEEP_GROUPS);
	n = (int) llm_spi_execute(&sweep_statement, values, NULL, false);
	dead = palloc0(sizeof(LlmRepeatLead) * Max(n, 1));
	stalled = palloc0(sizeof(LlmRepeatLead) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		LlmRepeatLead lead = {0};

		lead.task = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
		lead.job = DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
		*after = lead.task;
		if (DatumGetBool(SPI_getbinval(row, desc, 3, &isnull)))
			dead[ndead++] = lead;
		else if (DatumGetBool(SPI_getbinval(row, desc, 4, &isnull)))
			stalled[nstalled++] = lead;
	}
	SPI_freetuptable(SPI_tuptable);
	if (ndead > 0)
		llm_repeat_settled(dead, ndead, result);
	result->promoted += llm_repeat_promote(stalled, nstalled);
	return n == SWEEP_GROUPS;
}
