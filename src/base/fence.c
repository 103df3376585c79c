/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  One sender and one writer for a database, whatever shared memory says, and
 *	  nothing written by one that has been replaced (ADR 23).
 *
 * Shared memory says which worker serves a database (shmem_worker.c), and could be wrong: an
 * entry is given to another database while a process that is stopped or slow still
 * believes in it.  So a worker also holds a lock of PostgreSQL's for as long as it
 * lives, on an object that does not exist: no SQL reaches that lock, not even a trigger
 * that releases all advisory locks.
 *
 * A transaction that is undone takes the locks of its session along.  The next one
 * takes the lock again; whether another worker had it meanwhile shows by the number of
 * the last to enter, which is kept in a sequence.  As long as the lock is held, a
 * check looks into a table of locks in this process only.
 *
 * Called by worker.c (enter), scheduler.c and writeback.c (check).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/snapmgr.h"

#include "base/fence.h"
#include "base/spi.h"

/* As of enter(), for the life of the process. */
static LlmWorkerKind my_kind;
static LOCKTAG my_tag;
static int64 my_number = 0; /* 0: not entered */
static Oid my_schema = InvalidOid; /* goes with the extension */

static LlmStatement take_statements[LLM_WORKER_KINDS] = {
	{.sql = "SELECT pg_catalog.nextval('llm.sender_number')"},
	{.sql = "SELECT pg_catalog.nextval('llm.writer_number')"}};

static LlmStatement last_statements[LLM_WORKER_KINDS] = {
	{.sql = "SELECT s.last_value FROM llm.sender_number s"},
	{.sql = "SELECT s.last_value FROM llm.writer_number s"}};

static int64
run(LlmStatement *statement)
{
	bool isnull;
	int64 number;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	llm_spi_execute(statement, NULL, NULL, false);
	PopActiveSnapshot();
	number = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return number;
}

/* There is no extension number 0, so nothing else locks its parts. */
static LockAcquireResult
lock(void)
{
	return LockAcquire(&my_tag, ExclusiveLock, true, true);
}

/*
 * PostgreSQL releases the locks of a session with its last transaction, and a worker that
 * is told to end has none open: the lock would stay with the process that gets its PGPROC
 * next.
 */
static void
release_at_exit(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	LockReleaseAll(DEFAULT_LOCKMETHOD, true);
}

bool
llm_fence_enter(LlmWorkerKind kind)
{
	my_kind = kind;
	SET_LOCKTAG_OBJECT(my_tag, MyDatabaseId, ExtensionRelationId, InvalidOid, kind + 1);
	if (lock() == LOCKACQUIRE_NOT_AVAIL)
		return false;
	before_shmem_exit(release_at_exit, (Datum) 0);
	my_schema = llm_spi_schema();
	my_number = run(&take_statements[kind]);
	return true;
}

static bool
is_replaced(void)
{
	switch (lock())
	{
		case LOCKACQUIRE_ALREADY_HELD:
		case LOCKACQUIRE_ALREADY_CLEAR:
			(void) LockRelease(&my_tag, ExclusiveLock, true); /* held once is enough */
			return llm_spi_schema() != my_schema;
		case LOCKACQUIRE_OK:
			return llm_spi_schema() != my_schema || run(&last_statements[my_kind]) != my_number;
		case LOCKACQUIRE_NOT_AVAIL:
			break;
	}
	return true;
}

bool
llm_fence_check(void)
{
	Assert(my_number != 0);
	if (!llm_spi_extension_exists())
		return false;
	if (is_replaced())
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this %s of \"%s\" has been replaced",
						my_kind == LLM_WORKER_SENDER ? "sender" : "writer", LLM_LIBRARY),
				 errdetail("Number " INT64_FORMAT " of its kind is not the last any more; nothing was written.",
						   my_number)));
	return true;
}
