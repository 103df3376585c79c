/*-------------------------------------------------------------------------
 *
 * shmem_problem.c
 *	  Problems that need somebody's attention, kept where llm.health finds them.
 *
 * They live in shared memory and not in a table, since one of them may be that
 * nothing can be written.  When there are too many the oldest gives way: a
 * problem is reported again and again while it lasts.
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
static LlmProblemEntry *
find_problem(const char *stored_subject)
{
	int i;

	for (i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		LlmProblemEntry *entry = &llm_shared->problems[i];

		if (entry->database == MyDatabaseId && strcmp(entry->subject, stored_subject) == 0)
			return entry;
	}
	return NULL;
}

/* A free entry, else the oldest one. */
static LlmProblemEntry *
choose_entry(void)
{
	LlmProblemEntry *chosen = &llm_shared->problems[0];
	int i;

	for (i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		LlmProblemEntry *entry = &llm_shared->problems[i];

		if (!OidIsValid(entry->database))
			return entry;
		if (entry->since < chosen->since)
			chosen = entry;
	}
	return chosen;
}

void
llm_shmem_report_problem(const char *subject, const char *problem, const char *hint)
{
	char stored_subject[sizeof(llm_shared->problems[0].subject)];
	LlmProblemEntry *entry;

	if (llm_shared == NULL)
		return;
	copy_text(stored_subject, subject, sizeof(stored_subject));
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = find_problem(stored_subject);
	if (problem == NULL)
	{
		if (entry != NULL)
			entry->database = InvalidOid;
	}
	else
	{
		if (entry == NULL)
		{
			entry = choose_entry();
			entry->database = MyDatabaseId;
			entry->since = llm_clock_steady();
			memcpy(entry->subject, stored_subject, sizeof(entry->subject));
		}
		copy_text(entry->problem, problem, sizeof(entry->problem));
		copy_text(entry->hint, hint, sizeof(entry->hint));
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
