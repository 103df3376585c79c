/*-------------------------------------------------------------------------
 *
 * job_count.c
 *	  Count a job's tasks that are final, and see whether it ends or pauses with them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/spi.h"
#include "tables/job_count.h"

/*
 * A job is paused when so many of its tasks failed, and more than half of those that
 * are final: whatever is wrong, asking the rest would only cost.  After its deadline no
 * task is sent anyway.  llm.resume() begins to count again.
 */
#define BREAKER_FAILURES 20

/*
 * And when so many answers in a row could not be written, whatever was done before: a
 * trigger refuses every UPDATE, a right was taken away.  Begins again with each pause.
 */
#define BREAKER_REFUSALS 20

/* The writer notes so often how far a job is, and keeps the moment before: what llm.progress counts its rate from. */
#define PACE_S "30"
#define PACE_IS_OVER "(j.pace_at IS NULL OR j.pace_at < t.now - interval '" PACE_S " s' OR j.pace_at > t.now)"

/* Are all final?  Then since the last llm.resume(): failed ones, all; is the deadline over?  Refused in a row. */
static LlmStatement count_statement = {
	.sql = "UPDATE llm.job j SET done = j.done + $2, failed = j.failed + $3, superseded = j.superseded + $4,"
		   "  cancelled = j.cancelled + $5, row_gone = j.row_gone + $6, refused = CASE WHEN j.state <> 'open' THEN 0"
		   "   WHEN $2 > 0 THEN $7 ELSE j.refused + $7 END,"
		   "  pace_before_at = CASE WHEN " PACE_IS_OVER " THEN j.pace_at ELSE j.pace_before_at END,"
		   "  pace_before_final = CASE WHEN " PACE_IS_OVER " THEN j.pace_final ELSE j.pace_before_final END,"
		   "  pace_at = CASE WHEN " PACE_IS_OVER " THEN t.now ELSE j.pace_at END,"
		   "  pace_final = CASE WHEN " PACE_IS_OVER " THEN j.done + j.failed + j.superseded + j.cancelled + j.row_gone"
		   "   + $2 + $3 + $4 + $5 + $6 ELSE j.pace_final END"
		   " FROM (SELECT llm.clock() AS now OFFSET 0) t WHERE j.id = $1"
		   " RETURNING COALESCE(j.done + j.failed + j.superseded + j.cancelled + j.row_gone >= j.total, false),"
		   "  j.failed - j.resumed_failed,"
		   "  j.done + j.failed + j.superseded + j.cancelled + j.row_gone - j.resumed_final,"
		   "  COALESCE(j.deadline <= llm.clock(), false), j.refused",
	.nargs = 7,
	.args = {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID}};

static LlmStatement finish_statement = {
	.sql = "UPDATE llm.job j SET state = 'finished', reason = NULL, finished_at = llm.clock()"
		   " WHERE j.id = $1",
	.nargs = 1,
	.args = {INT8OID}};

static LlmStatement pause_statement = {
	.sql = "UPDATE llm.job j SET state = 'paused', reason = $2, refused = 0 WHERE j.id = $1",
	.nargs = 2,
	.args = {INT8OID, TEXTOID}};

static void
pause_job(int64 job, const char *why)
{
	Datum values[2];

	values[0] = Int64GetDatum(job);
	values[1] = CStringGetTextDatum(psprintf("paused: %s; SELECT * FROM llm.dead_letter WHERE job = " INT64_FORMAT
											 "; says why, and SELECT llm.resume(job => " INT64_FORMAT "); goes on",
											 why, job, job));
	llm_spi_execute(&pause_statement, values, NULL, false);
}

bool
llm_job_count(int64 job, const LlmJobCounts *counts)
{
	Datum values[7];
	Datum row[5];
	bool isnull;

	values[0] = Int64GetDatum(job);
	values[1] = Int64GetDatum(counts->done);
	values[2] = Int64GetDatum(counts->failed);
	values[3] = Int64GetDatum(counts->superseded);
	values[4] = Int64GetDatum(counts->cancelled);
	values[5] = Int64GetDatum(counts->row_gone);
	values[6] = Int64GetDatum(counts->refused);
	if (llm_spi_execute(&count_statement, values, NULL, false) == 0)
		return false; /* somebody has deleted it */
	for (int i = 0; i < lengthof(row); i++)
		row[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
	SPI_freetuptable(SPI_tuptable);
	if (DatumGetBool(row[0]))
	{
		llm_spi_execute(&finish_statement, values, NULL, false);
		return true;
	}
	if (counts->wrong_model != NULL && !DatumGetBool(row[3]))
		pause_job(job, counts->wrong_model);
	else if (DatumGetInt64(row[1]) >= BREAKER_FAILURES && DatumGetInt64(row[1]) * 2 > DatumGetInt64(row[2]) &&
			 !DatumGetBool(row[3]))
		pause_job(job, psprintf(INT64_FORMAT " of the last " INT64_FORMAT " tasks failed",
								DatumGetInt64(row[1]), DatumGetInt64(row[2])));
	else if (DatumGetInt64(row[4]) >= BREAKER_REFUSALS && !DatumGetBool(row[3]))
		pause_job(job, psprintf("the last " INT64_FORMAT " answers could not be written", DatumGetInt64(row[4])));
	return false;
}
