/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Wake a worker of this database when the current transaction commits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "wake.h"

static bool wanted[LLM_WORKER_KINDS]; /* by this transaction */
static bool registered = false; /* the callback, for the life of the session */

static void
wake_wanted(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
	{
		for (int kind = 0; kind < LLM_WORKER_KINDS; kind++)
		{
			if (wanted[kind])
				llm_shmem_wake(MyDatabaseId, kind);
		}
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		memset(wanted, 0, sizeof(wanted));
}

void
llm_wake_at_commit(LlmWorkerKind kind)
{
	if (!registered)
	{
		RegisterXactCallback(wake_wanted, NULL);
		registered = true;
	}
	wanted[kind] = true;
}
