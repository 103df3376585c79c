/*-------------------------------------------------------------------------
 *
 * shmem_problem.c
 *	  Conditions that somebody must mend, kept where llm.health finds them.
 *
 * They live in shared memory and not in a table, since one of them may be that
 * nothing can be written.  When there are too many the oldest gives way: who
 * reports a condition reports it again while it lasts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/clock.h"
#include "base/shmem_layout.h"

/* Copy what fits, without cutting a character in two. */
static void
copy_text(char *to, const char *from, size_t size)
{
	int length = (from == NULL) ? 0 : strlen(from);

	length = pg_mbcliplen((from == NULL) ? "" : from, length, size - 1);
	if (length > 0)
		memcpy(to, from, length);
	to[length] = '\0';
}

/* Slot of a subject in this database, by its text as stored; NULL when there is none. */
static LlmProblemSlot *
find_problem(const char *stored_subject)
{
	int i;

	for (i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		LlmProblemSlot *slot = &llm_shared->problems[i];

		if (slot->database == MyDatabaseId && strcmp(slot->subject, stored_subject) == 0)
			return slot;
	}
	return NULL;
}

/* A free slot, else the oldest one. */
static LlmProblemSlot *
choose_slot(void)
{
	LlmProblemSlot *chosen = &llm_shared->problems[0];
	int i;

	for (i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		LlmProblemSlot *slot = &llm_shared->problems[i];

		if (!OidIsValid(slot->database))
			return slot;
		if (slot->since < chosen->since)
			chosen = slot;
	}
	return chosen;
}

void
llm_shmem_report_problem(const char *subject, const char *problem, const char *hint)
{
	char stored_subject[sizeof(llm_shared->problems[0].subject)];
	LlmProblemSlot *slot;

	if (llm_shared == NULL)
		return;
	copy_text(stored_subject, subject, sizeof(stored_subject));
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	slot = find_problem(stored_subject);
	if (problem == NULL)
	{
		if (slot != NULL)
			slot->database = InvalidOid;
	}
	else
	{
		if (slot == NULL)
		{
			slot = choose_slot();
			slot->database = MyDatabaseId;
			slot->since = llm_clock_steady();
			memcpy(slot->subject, stored_subject, sizeof(slot->subject));
		}
		copy_text(slot->problem, problem, sizeof(slot->problem));
		copy_text(slot->hint, hint, sizeof(slot->hint));
	}
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_clear_problems(void)
{
	int i;

	if (llm_shared == NULL)
		return;
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		if (llm_shared->problems[i].database == MyDatabaseId)
			llm_shared->problems[i].database = InvalidOid;
	}
	LWLockRelease(llm_shared->lock);
}
