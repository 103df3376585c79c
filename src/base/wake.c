/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Wake a worker of this database when the current transaction has committed.
 *
 * Not from the callback of a commit: it is called when others see the rows already, but before
 * they are told of changed catalogs, for which a worker would have to wait (committing.c).  The
 * release of the locks is the last thing of a commit that lets us know.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "base/committing.h"
#include "base/wake.h"

/* What wakes more wins when both are wanted. */
typedef enum Wanted
{
	WANTED_NOT,
	WANTED_WHERE_KNOWN, /* where the extension is known to be */
	WANTED
} Wanted;

static Wanted wanted[LLM_WORKER_KINDS]; /* by this transaction */
static bool any_wanted = false;
static bool committed = false; /* it has; what remains is to release its locks */
static bool registered = false; /* the callbacks, for the life of the session */

static void
forget_wanted(void)
{
	memset(wanted, 0, sizeof(wanted));
	any_wanted = false;
	committed = false;
	llm_committing_end();
}

static void
follow_commit(XactEvent event, void *arg)
{
	if (!any_wanted)
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		llm_committing_begin();
	else if (event == XACT_EVENT_COMMIT)
		committed = true;
	else if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		forget_wanted();
}

static void
wake_wanted(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (!committed || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level)
		return;
	llm_committing_end(); /* now, so that the process that is woken does not look at it */
	for (int kind = 0; kind < LLM_WORKER_KINDS; kind++)
	{
		if (wanted[kind] == WANTED)
			llm_shmem_wake(MyDatabaseId, kind);
		else if (wanted[kind] == WANTED_WHERE_KNOWN)
			llm_shmem_wake_known(MyDatabaseId, kind);
	}
	forget_wanted();
}

static void
want(LlmWorkerKind kind, Wanted how)
{
	if (!registered)
	{
		RegisterXactCallback(follow_commit, NULL);
		RegisterResourceReleaseCallback(wake_wanted, NULL);
		registered = true;
	}
	wanted[kind] = Max(wanted[kind], how);
	any_wanted = true;
}

void
llm_wake_at_commit(LlmWorkerKind kind)
{
	want(kind, WANTED);
}

void
llm_wake_known_at_commit(LlmWorkerKind kind)
{
	want(kind, WANTED_WHERE_KNOWN);
}
