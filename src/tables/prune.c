/*-------------------------------------------------------------------------
 *
 * prune.c
 *	  Old rows of our tables are deleted, in steps.
 *
 * Each kind is walked by number, so many rows a step, so that no step takes long, holds many
 * locks or keeps old rows from being vacuumed.  The ledger is in the order of its times, but
 * for a clock that was set: its walk ends with the first step that finds nothing old.
 *
 * What is still needed stays, however old: a row of the ledger that is in no sum yet; the bill
 * of a task in the queue, whose followers are booked by it; the job of a dead letter, which
 * llm.retry() copies; the recipe of either.
 *
 * A recipe that nothing refers to may have been found a moment ago by a session that is about
 * to add a job with it.  So it is hidden first: its hash gets a byte in front, by which nobody
 * finds it, and that commits.  Every transaction that may have found it before has a lock on
 * the table; when these are over, what is hidden and unused goes, and what is used after all
 * is shown again.  Where one of them takes long, that is left to the next llm.prune().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/spi.h"
#include "tables/prune.h"

/* Rows looked at in one step. */
#define STEP_ROWS 5000

/* Between two looks at sessions that may have found a recipe, and how many looks. */
#define LOOK_MS 20
#define LOOKS 250

/* $1 before, $2 the last number that was looked at, $3 how many. */
#define STEP_ARGS                        \
	{                                    \
		TIMESTAMPTZOID, INT8OID, INT4OID \
	}

/* The last number, how many were looked at, of these old ones, and what was deleted. */
#define RESULT " SELECT max(s.id), count(*), count(*) FILTER (WHERE s.old), (SELECT count(*) FROM gone) FROM seen s"

#define UNUSED_RECIPE                                          \
	"NOT EXISTS (SELECT FROM llm.job j WHERE j.recipe = r.id)" \
	" AND NOT EXISTS (SELECT FROM llm.dead_letter d WHERE d.recipe = r.id)"

/* Of SHA-256; without what hides it. */
#define HASH_BYTES "32"

typedef struct Step
{
	const char *name;
	bool in_order; /* of time: nothing old behind rows that are not */
	LlmStatement statement;
} Step;

/* A line of C is a line of SQL. */
/* clang-format off */
static Step steps[] = {
	[LLM_PRUNE_LEDGER] = {
		.name = "ledger",
		.in_order = true,
		.statement.sql = "WITH seen AS MATERIALIZED (SELECT l.id, l.task, l.at < $1 AS old FROM llm.ledger l"
			"  WHERE l.id > $2 ORDER BY l.id LIMIT $3),"
			" gone AS (DELETE FROM llm.ledger l USING seen s WHERE l.id = s.id AND s.old"
			"  AND l.id <= COALESCE((SELECT u.up_to FROM llm.ledger_summed u), 0)"
			"  AND (SELECT true FROM llm.queue q WHERE q.id = s.task) IS NULL RETURNING l.id)" RESULT,
		.statement.nargs = 3,
		.statement.args = STEP_ARGS},
	[LLM_PRUNE_DEAD_LETTERS] = {
		.name = "dead letters",
		.statement.sql = "WITH seen AS MATERIALIZED (SELECT d.task AS id, d.failed_at < $1 AS old FROM llm.dead_letter d"
			"  WHERE d.task > $2 ORDER BY d.task LIMIT $3),"
			" gone AS (DELETE FROM llm.dead_letter d USING seen s WHERE d.task = s.id AND s.old"
			"  AND d.failed_at < $1 RETURNING d.task)" RESULT,
		.statement.nargs = 3,
		.statement.args = STEP_ARGS},
	[LLM_PRUNE_JOBS] = {
		.name = "jobs",
		.statement.sql = "WITH seen AS MATERIALIZED (SELECT j.id, COALESCE(j.state = 'finished' AND j.finished_at < $1, false)"
			"  AND (SELECT true FROM llm.dead_letter d WHERE d.job = j.id LIMIT 1) IS NULL AS old"
			"  FROM llm.job j WHERE j.id > $2 ORDER BY j.id LIMIT $3),"
			" costs AS (DELETE FROM llm.job_cost c USING seen s WHERE c.job = s.id AND s.old),"
			" gone AS (DELETE FROM llm.job j USING seen s WHERE j.id = s.id AND s.old RETURNING j.id)" RESULT,
		.statement.nargs = 3,
		.statement.args = STEP_ARGS},
	[LLM_PRUNE_ANSWERS] = {
		.name = "kept answers",
		.in_order = true,
		.statement.sql = "WITH seen AS MATERIALIZED (SELECT a.id, a.at < $1 AS old FROM llm.answer a"
			"  WHERE a.id > $2 ORDER BY a.id LIMIT $3),"
			" gone AS (DELETE FROM llm.answer a USING seen s WHERE a.id = s.id AND s.old RETURNING a.id)" RESULT,
		.statement.nargs = 3,
		.statement.args = STEP_ARGS},
	[LLM_PRUNE_NONE] = {
		.name = "answers that were NULL",
		.statement.sql = "WITH seen AS MATERIALIZED (SELECT a.task AS id, a.at < $1 AS old FROM llm.none_answer a"
			"  WHERE a.task > $2 ORDER BY a.task LIMIT $3),"
			" gone AS (DELETE FROM llm.none_answer a USING seen s WHERE a.task = s.id AND s.old RETURNING a.task)" RESULT,
		.statement.nargs = 3,
		.statement.args = STEP_ARGS},
	[LLM_PRUNE_HIDE_RECIPES] = {
		.statement.sql = "WITH seen AS MATERIALIZED (SELECT r.id, r.created_at < $1 AND length(r.hash) = " HASH_BYTES
			"  AND " UNUSED_RECIPE " AS old FROM llm.recipe r WHERE r.id > $2 ORDER BY r.id LIMIT $3),"
			" gone AS (UPDATE llm.recipe r SET hash = '\\x00'::bytea || r.hash FROM seen s"
			"  WHERE r.id = s.id AND s.old AND length(r.hash) = " HASH_BYTES " RETURNING r.id)" RESULT,
		.statement.nargs = 3,
		.statement.args = STEP_ARGS,
		.statement.planning = LLM_BY_STATISTICS},
	[LLM_PRUNE_RECIPES] = {
		.name = "recipes",
		.statement.sql = "WITH seen AS MATERIALIZED (SELECT r.id, $1 IS NOT NULL AND length(r.hash) > " HASH_BYTES " AS old,"
			"  " UNUSED_RECIPE " AS unused FROM llm.recipe r WHERE r.id > $2 ORDER BY r.id LIMIT $3),"
			" shown AS (UPDATE llm.recipe r SET hash = substr(r.hash, 2) FROM seen s"
			"  WHERE r.id = s.id AND s.old AND NOT s.unused),"
			" learned AS (DELETE FROM llm.recipe_stat t USING seen s WHERE t.recipe = s.id AND s.old AND s.unused),"
			" gone AS (DELETE FROM llm.recipe r USING seen s WHERE r.id = s.id AND s.old AND s.unused RETURNING r.id)" RESULT,
		.statement.nargs = 3,
		.statement.args = STEP_ARGS,
		.statement.planning = LLM_BY_STATISTICS},
};
/* clang-format on */

StaticAssertDecl(lengthof(steps) == LLM_PRUNE_KINDS, "a statement for each kind");

const char *
llm_prune_name(LlmPruneKind kind)
{
	return steps[kind].name;
}

/* How far the walk of one kind has got. */
typedef struct Walk
{
	int64 after; /* looked at up to this number; 0: nothing yet */
	int64 deleted;
	bool over;
} Walk;

static void
walk_on(LlmPruneKind kind, TimestampTz before, Walk *walk)
{
	Datum values[3];
	int64 result[4];
	bool isnull;

	values[0] = TimestampTzGetDatum(before);
	values[1] = Int64GetDatum(walk->after);
	values[2] = Int32GetDatum(STEP_ROWS);
	llm_spi_execute(&steps[kind].statement, values, NULL, false);
	for (int i = 0; i < lengthof(result); i++)
	{
		Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);

		result[i] = isnull ? 0 : DatumGetInt64(value);
	}
	SPI_freetuptable(SPI_tuptable);
	walk->after = result[0];
	walk->deleted += result[3];
	walk->over = result[1] < STEP_ROWS || (steps[kind].in_order && result[2] == 0);
}

int64
llm_prune(LlmPruneKind kind, TimestampTz before)
{
	Walk walk = {0};

	while (!walk.over)
	{
		LlmOwnScope scope;

		if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
			elog(ERROR, "could not connect to SPI");
		PushActiveSnapshot(GetTransactionSnapshot());
		llm_spi_own_begin(&scope);
		walk_on(kind, before, &walk);
		llm_spi_own_end(&scope);
		PopActiveSnapshot();
		SPI_commit();
		SPI_finish();
		CHECK_FOR_INTERRUPTS();
	}
	return walk.deleted;
}

bool
llm_prune_await_recipe_readers(void)
{
	LOCKTAG tag;
	VirtualTransactionId *readers;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, llm_spi_relation("recipe"));
	readers = GetLockConflicts(&tag, AccessExclusiveLock, NULL);
	for (int looks = 0; VirtualTransactionIdIsValid(*readers);)
	{
		if (VirtualXactLock(*readers, false))
		{
			readers++;
			continue;
		}
		if (looks++ == LOOKS)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}
