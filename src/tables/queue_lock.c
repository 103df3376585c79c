/*-------------------------------------------------------------------------
 *
 * queue_lock.c
 *	  How a user's transaction locks a task: only the version that it sees, and only
 *	  when that is still the newest.
 *
 * SELECT ... FOR UPDATE SKIP LOCKED goes on to the newest version of a row, locks
 * that and only then looks whether the row is still wanted: a task that was claimed
 * since the statement's snapshot was taken is left out of the result, and locked all
 * the same until the user commits.  The sender settles what it has claimed without
 * skipping, so one open transaction stopped it for everybody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/spi.h"

PG_FUNCTION_INFO_V1(llm_enrich_lock_task);

/* Does the snapshot show a task there?  To lock another place would write into whatever is there. */
static bool
is_task(Relation queue, ItemPointer place, TupleTableSlot *slot)
{
	bool found = ItemPointerIsValid(place) && ItemPointerGetBlockNumber(place) < RelationGetNumberOfBlocks(queue) &&
				 table_tuple_fetch_row_version(queue, place, GetActiveSnapshot(), slot);

	ExecClearTuple(slot);
	return found;
}

/*
 * SQL: llm.lock_task(ctid) → true when the task is now locked as FOR NO KEY UPDATE locks it;
 * false, and nothing is locked, when it has changed since the statement's snapshot was taken
 * or somebody else holds it.  The place must come from that snapshot.
 */
Datum
llm_enrich_lock_task(PG_FUNCTION_ARGS)
{
	ItemPointer place = (ItemPointer) PG_GETARG_POINTER(0);
	Relation queue = table_open(llm_spi_relation("queue"), RowShareLock);
	TupleTableSlot *slot = table_slot_create(queue, NULL);
	TM_FailureData failure;
	TM_Result result = TM_Invisible;

	if (is_task(queue, place, slot))
		result = table_tuple_lock(queue, place, GetActiveSnapshot(), slot, GetCurrentCommandId(false),
								  LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure);
	ExecDropSingleTupleTableSlot(slot);
	table_close(queue, NoLock);
	PG_RETURN_BOOL(result == TM_Ok);
}
