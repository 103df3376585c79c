/*-------------------------------------------------------------------------
 *
 * sum.c
 *	  The ledger, summed by time and dimensions, for llm.bill().
 *
 * Rows of the ledger are summed in the order of their numbers, some thousand at a time,
 * and llm.ledger_summed says how far.  This relies on the ledger having one author, the
 * sender: a row that is seen was preceded by all rows with lower numbers.  A session that reads
 * the bill adds what is not summed yet, so nothing depends on how soon this is done, and
 * a crash between two sets loses nothing.
 *
 * Each set is grouped by every dimension first; the coarse grains are made of that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/spi.h"
#include "tables/sum.h"

#define MEASURES                                                                                \
	"requests, tasks, answers, input_tokens, cached_tokens, cache_write_tokens, output_tokens," \
	" reasoning_tokens, cost, estimated_cost, wasted, saved, unpriced, latency_ms"

#define SUMS_OF_MEASURES                                                                     \
	"sum(requests)::int8, sum(tasks)::int8, sum(answers)::int8, sum(input_tokens)::int8,"    \
	" sum(cached_tokens)::int8, sum(cache_write_tokens)::int8, sum(output_tokens)::int8,"    \
	" sum(reasoning_tokens)::int8, sum(cost), sum(estimated_cost), sum(wasted), sum(saved)," \
	" sum(unpriced)::int8, sum(latency_ms)::int8"

/*
 * A request is counted with the first of its tasks.  Its rows are neighbours on the ledger, and no
 * cut is made between them: those at the end of a full set are left to the next one.
 */
static LlmStatement sum_statement = {
	.sql = "WITH head AS MATERIALIZED (SELECT u.* FROM llm.ledger_unsummed u ORDER BY u.id LIMIT $1),"
		   " cut AS MATERIALIZED (SELECT CASE WHEN count(*) = $1 AND min(h.request) <> max(h.request)"
		   "  THEN (SELECT l.request FROM head l ORDER BY l.id DESC LIMIT 1) END AS request FROM head h),"
		   " new AS (SELECT h.*, CASE WHEN h.request IS NOT NULL"
		   "   AND row_number() OVER (PARTITION BY h.request ORDER BY h.id) = 1 THEN 1 ELSE 0 END AS first"
		   "  FROM head h, cut WHERE h.request IS DISTINCT FROM cut.request OR cut.request IS NULL),"
		   " unit AS MATERIALIZED (SELECT start, role, server, model, relation, column_name, operation, lane, outcome,"
		   "  tags, sum(first) AS requests, sum(tasks) AS tasks, sum(answers) AS answers,"
		   "  sum(input_tokens) AS input_tokens, sum(cached_tokens) AS cached_tokens,"
		   "  sum(cache_write_tokens) AS cache_write_tokens, sum(output_tokens) AS output_tokens,"
		   "  sum(reasoning_tokens) AS reasoning_tokens, sum(cost) AS cost,"
		   "  COALESCE(sum(estimated_cost), 0::numeric) AS estimated_cost, COALESCE(sum(wasted), 0::numeric) AS wasted,"
		   "  COALESCE(sum(saved), 0::numeric) AS saved, sum(unpriced) AS unpriced,"
		   "  sum(latency_ms) * count(DISTINCT request) / GREATEST(count(request), 1) AS latency_ms,"
		   "  max(id) AS last_id, count(*) AS n"
		   "  FROM new GROUP BY start, role, server, model, relation, column_name, operation, lane, outcome, tags),"
		   " grains AS (SELECT 'quarter' AS grain, start, role, server, model, relation, column_name, operation, lane,"
		   "   outcome, tags, " SUMS_OF_MEASURES " FROM unit"
		   "   GROUP BY start, role, server, model, relation, column_name, operation, lane, outcome, tags"
		   "  UNION ALL SELECT 'hour', date_trunc('hour', start, 'UTC'), role, server, model, NULL, NULL, NULL, lane,"
		   "   outcome, NULL, " SUMS_OF_MEASURES " FROM unit GROUP BY 2, role, server, model, lane, outcome"
		   "  UNION ALL SELECT 'day', date_trunc('day', start, 'UTC'), role, NULL, NULL, relation, column_name, operation,"
		   "   NULL, NULL, tags, " SUMS_OF_MEASURES " FROM unit GROUP BY 2, role, relation, column_name, operation, tags"
		   "  UNION ALL SELECT 'total', '-infinity', role, server, model, NULL, NULL, NULL, NULL, outcome, NULL,"
		   "   " SUMS_OF_MEASURES " FROM unit GROUP BY role, server, model, outcome),"
		   " named (grain, start, role, server, model, relation, column_name, operation, lane, outcome, tags,"
		   "  " MEASURES ") AS (SELECT * FROM grains),"
		   " stored AS (INSERT INTO llm.ledger_sum AS s (grain, start, hash, role, server, model, relation,"
		   "   column_name, operation, lane, outcome, tags, " MEASURES ")"
		   "  SELECT g.grain, g.start, md5(ROW(g.role, g.server, g.model, g.relation, g.column_name, g.operation,"
		   "    g.lane, g.outcome, g.tags)::text)::uuid, g.role, g.server, g.model, g.relation, g.column_name,"
		   "    g.operation, g.lane, g.outcome, g.tags, " MEASURES " FROM named g"
		   "  ON CONFLICT (grain, start, hash) DO UPDATE SET requests = s.requests + excluded.requests,"
		   "   tasks = s.tasks + excluded.tasks, answers = s.answers + excluded.answers,"
		   "   input_tokens = s.input_tokens + excluded.input_tokens,"
		   "   cached_tokens = s.cached_tokens + excluded.cached_tokens,"
		   "   cache_write_tokens = s.cache_write_tokens + excluded.cache_write_tokens,"
		   "   output_tokens = s.output_tokens + excluded.output_tokens,"
		   "   reasoning_tokens = s.reasoning_tokens + excluded.reasoning_tokens,"
		   "   cost = COALESCE(s.cost + excluded.cost, s.cost, excluded.cost),"
		   "   estimated_cost = s.estimated_cost + excluded.estimated_cost, wasted = s.wasted + excluded.wasted,"
		   "   saved = s.saved + excluded.saved, unpriced = s.unpriced + excluded.unpriced,"
		   "   latency_ms = s.latency_ms + excluded.latency_ms RETURNING 1),"
		   " noted AS (INSERT INTO llm.ledger_summed AS s (up_to, tags, tags_since)"
		   "  SELECT max(u.last_id), current_setting('llm_enrich.bill_tags'), '-infinity'::timestamptz FROM unit u"
		   "  HAVING count(*) > 0 ON CONFLICT (only_row) DO UPDATE SET up_to = excluded.up_to, tags = excluded.tags,"
		   "   tags_since = CASE WHEN s.tags = excluded.tags THEN s.tags_since ELSE llm.clock() END RETURNING 1)"
		   " SELECT COALESCE(sum(n), 0::numeric)::int8, (SELECT count(*) FROM stored), (SELECT count(*) FROM noted),"
		   "  (SELECT count(*) = $1 FROM head) FROM unit",
	.nargs = 1,
	.args = {INT8OID}};

bool
llm_sum_ledger(int64 limit, int64 *summed)
{
	Datum values[1] = {Int64GetDatum(limit)};
	bool isnull;
	bool full;

	llm_spi_execute(&sum_statement, values, NULL, false);
	*summed = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	full = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return full;
}

/*
 * A job with no names is that of llm.check() or of immediate calls: no relation, no column.
 *
 * What was paid in vain: all answers of a task that is not done; of one that is done all but the last, since checks
 * did not hold for them.  One that llm.retry() writes was paid under the job before, in vain until now.  Where there
 * are neither checks nor retries a task that is done has one answer, and is not looked up.
 */
static LlmStatement ended_statement = {
	.sql = "INSERT INTO llm.ended_sum AS s (start, job, role, relation, column_name, operation, tags,"
		   "  done, failed, superseded, cancelled, row_gone, dropped_cost)"
		   " SELECT date_bin('15 minutes', llm.clock(), '2000-01-01 00:00:00+00'), j.id, j.role_name,"
		   "  NULLIF(j.relation_name, ''), NULLIF(j.column_name, ''), j.operation,"
		   "  CASE WHEN j.tags IS NOT NULL THEN llm.billed_tags(j.tags) END,"
		   "  $2, $3, $4, $5, $6, COALESCE((SELECT sum(CASE WHEN v.fate <> 'done' THEN p.here"
		   "    ELSE COALESCE(p.here, 0::numeric) - p.last END) FROM unnest($7, $8) AS v(task, fate)"
		   "   CROSS JOIN LATERAL (SELECT sum(l.cost) FILTER (WHERE l.job = $1) AS here,"
		   "     (array_agg(l.cost ORDER BY l.id DESC))[1] AS last"
		   "    FROM llm.ledger l WHERE l.task = v.task AND l.outcome = 'ok') p"
		   "   WHERE v.fate <> 'done' OR w.several), 0::numeric)"
		   " FROM llm.job j CROSS JOIN LATERAL (SELECT j.fresh OR EXISTS (SELECT FROM llm.recipe r"
		   "   WHERE r.id = j.recipe AND r.spec ? 'checks') AS several) w WHERE j.id = $1"
		   " ON CONFLICT (start, job) DO UPDATE SET done = s.done + excluded.done, failed = s.failed + excluded.failed,"
		   "  superseded = s.superseded + excluded.superseded, cancelled = s.cancelled + excluded.cancelled,"
		   "  row_gone = s.row_gone + excluded.row_gone, dropped_cost = s.dropped_cost + excluded.dropped_cost",
	.nargs = 8,
	.args = {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8ARRAYOID, TEXTARRAYOID}};

void
llm_sum_ended(int64 job, const LlmJobCounts *counts, Datum tasks, Datum fates)
{
	Datum values[8];

	values[0] = Int64GetDatum(job);
	values[1] = Int64GetDatum(counts->done);
	values[2] = Int64GetDatum(counts->failed);
	values[3] = Int64GetDatum(counts->superseded);
	values[4] = Int64GetDatum(counts->cancelled);
	values[5] = Int64GetDatum(counts->row_gone);
	values[6] = tasks;
	values[7] = fates;
	llm_spi_execute(&ended_statement, values, NULL, false);
}

/* What has no job has a number of its own there for what its rows share, below zero. */
static LlmStatement wasted_statement = {
	.sql = "INSERT INTO llm.ended_sum AS s (start, job, role, operation, tags, done, failed, superseded, cancelled,"
		   "  row_gone, dropped_cost)"
		   " SELECT date_bin('15 minutes', llm.clock(), '2000-01-01 00:00:00+00'),"
		   "  -1 - (hashtextextended(ROW($1, $2, v.tags)::text, 0) & 9223372036854775807), $1, $2, v.tags,"
		   "  0, 0, 0, 0, 0, $4::numeric"
		   " FROM (SELECT CASE WHEN $3 IS NOT NULL THEN llm.billed_tags($3) END AS tags) v"
		   " ON CONFLICT (start, job) DO UPDATE SET dropped_cost = s.dropped_cost + excluded.dropped_cost",
	.nargs = 4,
	.args = {TEXTOID, TEXTOID, JSONBOID, TEXTOID}};

void
llm_sum_wasted(const LlmLetterFacts *letter, const char *cost)
{
	Datum values[4];
	char nulls[4] = {' ', ' ', letter->tags == NULL ? 'n' : ' ', ' '};

	values[0] = CStringGetTextDatum(letter->role_name);
	values[1] = CStringGetTextDatum(letter->operation);
	values[2] = PointerGetDatum(letter->tags);
	values[3] = CStringGetTextDatum(cost);
	llm_spi_execute(&wasted_statement, values, nulls, false);
}
