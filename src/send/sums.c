/*-------------------------------------------------------------------------
 *
 * sums.c
 *	  The step of a pass that sums the ledger for the bill.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lmgr.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "send/sums.h"
#include "tables/sum.h"

/* The ledger is summed at most so often, so many rows at a time: a reader adds the rest. */
#define SUMS_MS 1000
#define SUMS_ROWS 500

/* All static: the sender's life. */
static TimestampTz sums_at = DT_NOBEGIN;
static bool sums_wanted = true; /* the ledger may have rows that are not summed */
static bool sums_behind = false; /* it has many */

TimestampTz
llm_sums_due(const LlmPass *pass)
{
	return sums_wanted ? sums_at : DT_NOEND;
}

/*
 * Any transaction may have written to the ledger: one more look follows the last.  Answers are stored in the same
 * transaction and do not wait until a REINDEX or VACUUM FULL of the sums ends: a reader adds what is not summed.
 */
void
llm_sums_run(LlmPass *pass)
{
	int64 summed;

	sums_wanted = true;
	if (sums_at > pass->now)
		return;
	if (!ConditionalLockRelationOid(llm_spi_relation("ledger_sum"), RowExclusiveLock))
	{
		sums_at = TimestampTzPlusMilliseconds(pass->now, SUMS_MS);
		return;
	}
	sums_behind = llm_sum_ledger(SUMS_ROWS, &summed);
	sums_wanted = (summed > 0);
	/* an old ledger is summed without a pause, a set in each pass */
	sums_at = sums_behind ? pass->now : TimestampTzPlusMilliseconds(pass->now, SUMS_MS);
}

bool
llm_sums_are_behind(void)
{
	return sums_behind;
}
