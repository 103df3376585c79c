/*-------------------------------------------------------------------------
 *
 * writeback_announce.c
 *	  Say that a job has ended, was paused, goes on or has met a budget: NOTIFY and the log.
 *
 * What changes a job's state (the writer, the sender, a user) says nothing: what was
 * said last stands in llm.job.announced, and the writer looks for jobs of which something
 * else holds now (ADR 86).  So nothing is said of what was rolled back, and nothing twice
 * after a crash.
 *
 * NOTIFY can fail: the queue of messages is full, since somebody listens and does not
 * read.  That holds up nothing: the transaction is undone, and the next one leaves it out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/fence.h"
#include "base/spi.h"
#include "writeback/writeback_announce.h"

/* Jobs of one transaction. */
#define JOBS_AT_ONCE 100

/* A NOTIFY waits for other sessions that notify, whose commit may wait for a standby. */
#define LOCK_WAIT_MS 1000

#define CHANNEL "llm_enrich"

/* The sender says so in the job's reason. */
#define MEETS_BUDGET "starts_with(j.reason, 'budget')"

/*
 * As the predicate of the index job_untold.  A budget that is met is told once until the job is paused or over: it
 * may be met again with each answer.
 */
#define UNTOLD                                                                      \
	"(j.state <> j.announced AND NOT (j.state = 'open' AND j.announced = 'budget')" \
	" OR j.state = 'open' AND j.announced <> 'budget' AND " MEETS_BUDGET ")"

static LlmStatement wanted_statement = {
	.sql = "SELECT FROM llm.job j WHERE " UNTOLD " LIMIT 1",
};

/* What a session has locked is said when it has committed. */
static LlmStatement announce_statement = {
	.sql = "WITH untold AS MATERIALIZED (SELECT j.id FROM llm.job j WHERE " UNTOLD " ORDER BY j.id LIMIT $1"
		   "  FOR NO KEY UPDATE SKIP LOCKED),"
		   " told AS (UPDATE llm.job j SET announced = CASE WHEN j.state = 'open' AND " MEETS_BUDGET
		   "  THEN 'budget' ELSE j.state END FROM untold u WHERE j.id = u.id RETURNING j.*)"
		   " SELECT t.id, t.announced, COALESCE(t.reason, t.announced), t.relation_name,"
		   "  format('{\"job\": %s, \"state\": \"%s\", \"done\": %s, \"failed\": %s, \"cost\": %s}',"
		   "   t.id, t.announced, t.done, t.failed, COALESCE(k.cost::text, 'null'))"
		   " FROM told t LEFT JOIN llm.job_cost k ON k.job = t.id ORDER BY t.id",
	.nargs = 1,
	.args = {INT4OID}};

bool
llm_writeback_announce_wanted(void)
{
	bool wanted = llm_spi_execute(&wanted_statement, NULL, NULL, false) > 0;

	SPI_freetuptable(SPI_tuptable);
	return wanted;
}

/* Row "i" of what is to be said: in the log what is waited for, on the channel what a program waits for. */
static void
say(uint64 i, bool notify)
{
	HeapTuple row = SPI_tuptable->vals[i];
	TupleDesc desc = SPI_tuptable->tupdesc;
	char *id = SPI_getvalue(row, desc, 1);
	char *state = SPI_getvalue(row, desc, 2);
	char *relation = SPI_getvalue(row, desc, 4);

	if (notify && strcmp(state, "open") != 0)
		Async_Notify(CHANNEL, SPI_getvalue(row, desc, 5));
	if (strcmp(state, "open") == 0)
		ereport(LOG, (errmsg("job %s for %s goes on", id, relation)));
	else if (strcmp(state, "finished") != 0)
		ereport(LOG, (errmsg("job %s for %s waits: %s", id, relation, SPI_getvalue(row, desc, 3))));
}

/* One transaction; raises.  True when there is no more. */
static bool
transact(bool notify)
{
	Datum values[1];
	uint64 n = 0;

	llm_spi_begin("announcing jobs");
	llm_spi_limit_lock_waits(LOCK_WAIT_MS);
	values[0] = Int32GetDatum(JOBS_AT_ONCE);
	if (llm_fence_check())
		n = llm_spi_execute(&announce_statement, values, NULL, false);
	for (uint64 i = 0; i < n; i++)
		say(i, notify);
	llm_spi_commit();
	return n < JOBS_AT_ONCE;
}

/* As transact(); what it raises is said in the log. */
static bool
try_transact(bool notify, bool *over)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		*over = transact(notify);
	}
	PG_CATCH();
	{
		ErrorData *error;

		ok = false;
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 notify ? errmsg("could not notify channel \"%s\": %s", CHANNEL, error->message)
						: errmsg("could not announce jobs: %s", error->message)));
		FreeErrorData(error);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return ok;
}

bool
llm_writeback_announce(void)
{
	bool over = false;

	return (try_transact(true, &over) || try_transact(false, &over)) && over;
}
