/*-------------------------------------------------------------------------
 *
 * store_trouble.c
 *	  A sender that cannot store what has come is shown in llm.health.
 *
 * Nothing is lost, and nothing is sent meanwhile, so that a user who waits sees a job
 * that stands still.  One failure is nothing to tell: it may have met a lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/shmem.h"
#include "send/store_trouble.h"

/* So many in a row are shown. */
#define FAILURES_SHOWN 2

#define SUBJECT "store"

/* In a row; no more than are shown. */
static int failures = 0;

void
llm_store_trouble_note(const char *failure)
{
	if (failure == NULL)
	{
		if (failures >= FAILURES_SHOWN)
			llm_shmem_report_problem(SUBJECT, NULL, NULL);
		failures = 0;
		return;
	}
	failures = Min(failures + 1, FAILURES_SHOWN);
	if (failures >= FAILURES_SHOWN)
		llm_shmem_report_problem(SUBJECT, psprintf("answers cannot be stored: %s", failure),
								 "The server's log says more. What has come is kept, and nothing new is sent, until it can be stored.");
}
