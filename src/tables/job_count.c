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

/* Are all final?  Then since the last llm.resume(): failed ones, all; and is the deadline over? */
static LlmStatement count_statement = {
	.sql = "UPDATE llm.job j SET done = j.done + $2, failed = j.failed + $3, superseded = j.superseded + $4,"
		   "  cancelled = j.cancelled + $5, row_gone = j.row_gone + $6 WHERE j.id = $1"
		   " RETURNING COALESCE(j.done + j.failed + j.superseded + j.cancelled + j.row_gone >= j.total, false),"
		   "  j.failed - j.resumed_failed,"
		   "  j.done + j.failed + j.superseded + j.cancelled + j.row_gone - j.resumed_final,"
		   "  COALESCE(j.deadline <= llm.clock(), false)",
	.nargs = 6,
	.args = {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID}};

static LlmStatement finish_statement = {
	.sql = "UPDATE llm.job j SET state = 'finished', reason = NULL, finished_at = llm.clock()"
		   " WHERE j.id = $1",
	.nargs = 1,
	.args = {INT8OID}};

static LlmStatement pause_statement = {
	.sql = "UPDATE llm.job j SET state = 'paused', reason = $2 WHERE j.id = $1",
	.nargs = 2,
	.args = {INT8OID, TEXTOID}};

static void
pause_job(int64 job, int64 failed, int64 final)
{
	Datum values[2];

	values[0] = Int64GetDatum(job);
	values[1] = CStringGetTextDatum(psprintf("paused: " INT64_FORMAT " of the last " INT64_FORMAT
											 " tasks failed; see llm.dead_letter, then llm.resume(" INT64_FORMAT ")",
											 failed, final, job));
	llm_spi_execute(&pause_statement, values, NULL, false);
}

bool
llm_job_count(int64 job, const LlmJobCounts *counts)
{
	Datum values[6];
	Datum row[4];
	bool isnull;

	values[0] = Int64GetDatum(job);
	values[1] = Int64GetDatum(counts->done);
	values[2] = Int64GetDatum(counts->failed);
	values[3] = Int64GetDatum(counts->superseded);
	values[4] = Int64GetDatum(counts->cancelled);
	values[5] = Int64GetDatum(counts->row_gone);
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
	if (DatumGetInt64(row[1]) >= BREAKER_FAILURES && DatumGetInt64(row[1]) * 2 > DatumGetInt64(row[2]) &&
		!DatumGetBool(row[3]))
		pause_job(job, DatumGetInt64(row[1]), DatumGetInt64(row[2]));
	return false;
}
