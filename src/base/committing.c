/*-------------------------------------------------------------------------
 *
 * committing.c
 *	  Transactions whose rows are visible before the rest of their commit is known.
 *
 * At a commit PostgreSQL first shows a transaction's rows, then sends word of the catalogs
 * that it changed, then releases its locks.  In between, a process finds rows beside what its
 * caches still hold of servers, rights and models.  That must not decide where the rows go
 * that were queued by the very transaction which has changed it.
 *
 * So a transaction that has queued something writes its number here before it commits, in the
 * entry of its process, and takes it away when its locks are released.  A process that has
 * read rows looks for numbers of transactions that are over: it may have seen rows of these, and
 * waits for their locks.  One that still runs is not among them.  The number is the top one, which a row
 * of a subtransaction does not tell.
 *
 * A number that stays behind costs a look at a lock that is free.  COMMIT PREPARED writes that of
 * the prepared transaction (utility.c); where a subscription applies one, it is not written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "port/atomics.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "base/committing.h"
#include "base/compat.h"

/* Of one process.  Written by it alone, the database first; read without a lock. */
typedef struct Entry
{
	pg_atomic_uint32 database;
	pg_atomic_uint32 transaction; /* InvalidTransactionId: none */
} Entry;

static Entry *entries = NULL; /* one for each process that may run SQL; NULL unless preloaded */

static Size
memory_size(void)
{
	return mul_size(MaxBackends, sizeof(Entry));
}

static void
memory_init(bool found, void *memory)
{
	entries = memory;
	if (found)
		return;
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u32(&entries[i].database, InvalidOid);
		pg_atomic_init_u32(&entries[i].transaction, InvalidTransactionId);
	}
}

const LlmShmemPart llm_committing_memory = {LLM_LIBRARY " committing", 0, memory_size, memory_init};

/* Of this process; NULL where there is none. */
static Entry *
own_entry(void)
{
	int number = llm_process_number();

	return entries != NULL && number >= 0 && number < MaxBackends ? &entries[number] : NULL;
}

static void
begin(TransactionId xid)
{
	Entry *entry = own_entry();

	if (entry == NULL)
		return;
	pg_atomic_write_u32(&entry->database, MyDatabaseId);
	pg_write_barrier();
	pg_atomic_write_u32(&entry->transaction, xid);
	pg_memory_barrier(); /* before anybody sees the commit */
}

void
llm_committing_begin(void)
{
	begin(GetTopTransactionIdIfAny());
}

/*
 * Number of a prepared transaction; invalid when there is none.  PostgreSQL tells it by a set-returning
 * function only.  No statement is run for it: that would need a snapshot, and at SERIALIZABLE, COMMIT
 * PREPARED would then take the predicate locks of the prepared transaction for those of its own.
 */
static TransactionId
prepared_transaction(const char *gid)
{
	ReturnSetInfo result = {.type = T_ReturnSetInfo,
							.allowedModes = SFRM_ValuePerCall,
							.returnMode = SFRM_ValuePerCall};
	LOCAL_FCINFO(fcinfo, 0);
	FmgrInfo function;
	TransactionId found = InvalidTransactionId;

	fmgr_info(F_PG_PREPARED_XACT, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 0, InvalidOid, NULL, (Node *) &result);
	result.econtext = CreateStandaloneExprContext();
	while (!TransactionIdIsValid(found))
	{
		Datum row = FunctionCallInvoke(fcinfo);
		bool isnull;

		if (result.isDone == ExprEndResult)
			break;
		if (strcmp(TextDatumGetCString(GetAttributeByNum(DatumGetHeapTupleHeader(row), 2, &isnull)), gid) == 0)
			found = DatumGetTransactionId(GetAttributeByNum(DatumGetHeapTupleHeader(row), 1, &isnull));
	}
	FreeExprContext(result.econtext, true);
	return found;
}

void
llm_committing_begin_prepared(const char *gid)
{
	begin(prepared_transaction(gid));
}

void
llm_committing_end(void)
{
	Entry *entry = own_entry();

	if (entry != NULL)
		pg_atomic_write_u32(&entry->transaction, InvalidTransactionId);
}

void
llm_committing_await(void)
{
	pg_memory_barrier(); /* after the statement that has read rows */
	for (int i = 0; entries != NULL && i < MaxBackends; i++)
	{
		TransactionId xid = pg_atomic_read_u32(&entries[i].transaction);

		if (!TransactionIdIsValid(xid))
			continue;
		pg_read_barrier();
		if (pg_atomic_read_u32(&entries[i].database) != MyDatabaseId || TransactionIdIsCurrentTransactionId(xid) ||
			TransactionIdIsInProgress(xid))
			continue;
		XactLockTableWait(xid, NULL, NULL, XLTW_None);
	}
	pg_read_barrier(); /* before it is looked for word of what is over */
}
