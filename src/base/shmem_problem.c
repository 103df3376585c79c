/*-------------------------------------------------------------------------
 *
 * shmem_problem.c
 *	  Problems that need somebody's attention, kept where llm.health finds them.
 *
 * They live in shared memory and not in a table, since one of them may be that
 * nothing can be written.  A role has a few in each database; when there are too many, one
 * of the role that has most gives way.  A problem is reported again and again while it lasts.
 * Only who reports it knows when it is over, so it goes with that process, however that ends; its
 * successor finds out what is left of it.
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

/* Slot of a role's subject in this database, by its text as stored; NULL when there is none. */
static LlmProblemEntry *
find_problem(Oid role, const char *stored_subject)
{
	for (int i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		LlmProblemEntry *entry = &llm_shared->problems[i];

		if (entry->database == MyDatabaseId && entry->role == role && strcmp(entry->subject, stored_subject) == 0)
			return entry;
	}
	return NULL;
}

/* How many problems there are of a role in a database. */
static int
count_of(Oid database, Oid role)
{
	int n = 0;

	for (int i = 0; i < LLM_MAX_PROBLEMS; i++)
		n += llm_shared->problems[i].database == database && llm_shared->problems[i].role == role;
	return n;
}

/*
 * A free entry; or the oldest of the role's own, when it has so many; or else the oldest of those that have
 * most.
 */
static LlmProblemEntry *
choose_entry(Oid role)
{
	bool own_only = count_of(MyDatabaseId, role) >= LLM_MAX_PROBLEMS_OF_ROLE;
	LlmProblemEntry *chosen = NULL;
	int most = 0;

	for (int i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		LlmProblemEntry *entry = &llm_shared->problems[i];
		int n;

		if (!OidIsValid(entry->database))
		{
			if (own_only)
				continue;
			return entry;
		}
		if (own_only && (entry->database != MyDatabaseId || entry->role != role))
			continue;
		n = count_of(entry->database, entry->role);
		if (n > most || (n == most && entry->since < chosen->since))
		{
			chosen = entry;
			most = n;
		}
	}
	return chosen;
}

static void
report(Oid role, int pid, const char *subject, const char *problem, const char *hint)
{
	char stored_subject[sizeof(llm_shared->problems[0].subject)];
	LlmProblemEntry *entry;

	if (llm_shared == NULL)
		return;
	copy_text(stored_subject, subject, sizeof(stored_subject));
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	entry = find_problem(role, stored_subject);
	if (problem == NULL)
	{
		if (entry != NULL)
			entry->database = InvalidOid;
	}
	else
	{
		if (entry == NULL)
		{
			entry = choose_entry(role);
			entry->database = MyDatabaseId;
			entry->role = role;
			entry->since = llm_clock_steady();
			memcpy(entry->subject, stored_subject, sizeof(entry->subject));
		}
		entry->pid = pid;
		copy_text(entry->problem, problem, sizeof(entry->problem));
		copy_text(entry->hint, hint, sizeof(entry->hint));
	}
	LWLockRelease(llm_shared->lock);
}

void
llm_shmem_report_problem_of(Oid role, const char *subject, const char *problem, const char *hint)
{
	report(role, MyProcPid, subject, problem, hint);
}

void
llm_shmem_report_problem(const char *subject, const char *problem, const char *hint)
{
	report(InvalidOid, MyProcPid, subject, problem, hint);
}

void
llm_shmem_report_lasting_problem(const char *subject, const char *problem, const char *hint)
{
	report(InvalidOid, 0, subject, problem, hint);
}

void
llm_shmem_drop_problems_of(int pid)
{
	for (int i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		if (llm_shared->problems[i].pid == pid)
			llm_shared->problems[i].database = InvalidOid;
	}
}

void
llm_shmem_clear_problems(void)
{
	if (llm_shared == NULL)
		return;
	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		if (llm_shared->problems[i].database == MyDatabaseId)
			llm_shared->problems[i].database = InvalidOid;
	}
	LWLockRelease(llm_shared->lock);
}
