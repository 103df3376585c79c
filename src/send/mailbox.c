/*-------------------------------------------------------------------------
 *
 * mailbox.c
 *	  Questions from backends to the sender of their database.
 *
 * A fixed number of letters for all databases.  A letter is free, asked, taken
 * or answered; its ticket changes whenever it is asked, so that an answer to a
 * question whose asker has left falls on nothing.  The asker frees it, also on
 * error and exit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/spin.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "base/shmem.h"
#include "send/mailbox.h"

#define LETTERS 16

typedef enum LetterState
{
	LETTER_FREE = 0, /* -> ASKED, by a backend */
	LETTER_ASKED, /* -> TAKEN, by the sender; -> FREE, by the asker */
	LETTER_TAKEN, /* -> ANSWERED, by the sender; -> FREE, by the asker */
	LETTER_ANSWERED /* -> FREE, by the asker */
} LetterState;

typedef struct Letter
{
	LetterState state;
	uint64 ticket;
	Oid database;
	Oid role;
	char model[LLM_MAILBOX_MODEL_BYTES];
	char answer[LLM_MAILBOX_ANSWER_BYTES];
} Letter;

typedef struct Mailbox
{
	slock_t mutex;
	uint64 next_ticket;
	ConditionVariable changed;
	Letter letters[LETTERS];
} Mailbox;

static Mailbox *mailbox = NULL; /* shared memory, set once per process */
static Letter *my_letter = NULL; /* asked by this backend and not freed yet */

static Size
memory_size(void)
{
	return MAXALIGN(sizeof(Mailbox));
}

static void
memory_init(bool found, void *memory)
{
	mailbox = memory;
	if (found)
		return;
	memset(mailbox, 0, sizeof(Mailbox));
	SpinLockInit(&mailbox->mutex);
	ConditionVariableInit(&mailbox->changed);
	mailbox->next_ticket = 1;
}

const LlmShmemPart llm_mailbox_memory = {LLM_LIBRARY " mailbox", 0, memory_size, memory_init};

/* Give the letter back; also as an exit callback. */
static void
free_letter(int code, Datum arg)
{
	if (my_letter == NULL)
		return;
	SpinLockAcquire(&mailbox->mutex);
	my_letter->state = LETTER_FREE;
	SpinLockRelease(&mailbox->mutex);
	my_letter = NULL;
	ConditionVariableBroadcast(&mailbox->changed);
}

/* Write the question into a free letter; false when all are in use. */
static bool
post(const char *model, Oid role)
{
	SpinLockAcquire(&mailbox->mutex);
	for (int i = 0; i < LETTERS && my_letter == NULL; i++)
	{
		Letter *letter = &mailbox->letters[i];

		if (letter->state != LETTER_FREE)
			continue;
		letter->state = LETTER_ASKED;
		letter->ticket = mailbox->next_ticket++;
		letter->database = MyDatabaseId;
		letter->role = role;
		strlcpy(letter->model, model == NULL ? "" : model, sizeof(letter->model));
		my_letter = letter;
	}
	SpinLockRelease(&mailbox->mutex);
	return my_letter != NULL;
}

static bool
is_answered(void)
{
	bool answered;

	SpinLockAcquire(&mailbox->mutex);
	answered = (my_letter->state == LETTER_ANSWERED);
	SpinLockRelease(&mailbox->mutex);
	return answered;
}

/* Sleep until "done" or the deadline; false then. */
static bool
sleep_until(bool (*done)(void), TimestampTz deadline)
{
	bool ok = true;

	ConditionVariablePrepareToSleep(&mailbox->changed);
	while (ok && !done())
	{
		long left = TimestampDifferenceMilliseconds(llm_clock_steady(), deadline);

		if (left <= 0)
			ok = false;
		else
			ConditionVariableTimedSleep(&mailbox->changed, left, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return ok;
}

static const char *asked_model; /* arguments of the ask() under way, for try_post() */
static Oid asked_role;

static bool
try_post(void)
{
	return post(asked_model, asked_role);
}

char *
llm_mailbox_ask(const char *model, Oid role, long timeout_ms)
{
	static bool exit_registered = false;
	TimestampTz deadline = TimestampTzPlusMilliseconds(llm_clock_steady(), timeout_ms);
	char *answer = NULL;

	if (!exit_registered)
	{
		before_shmem_exit(free_letter, (Datum) 0);
		exit_registered = true;
	}
	asked_model = model;
	asked_role = role;
	PG_TRY();
	{
		if (sleep_until(try_post, deadline))
		{
			llm_shmem_wake(MyDatabaseId, LLM_WORKER_SENDER);
			if (sleep_until(is_answered, deadline))
				answer = pstrdup(my_letter->answer);
		}
	}
	PG_FINALLY();
	{
		free_letter(0, (Datum) 0);
	}
	PG_END_TRY();
	return answer;
}

bool
llm_mailbox_take(char *model, Oid *role, uint64 *ticket)
{
	bool taken = false;

	SpinLockAcquire(&mailbox->mutex);
	for (int i = 0; i < LETTERS && !taken; i++)
	{
		Letter *letter = &mailbox->letters[i];

		if (letter->state != LETTER_ASKED || letter->database != MyDatabaseId)
			continue;
		letter->state = LETTER_TAKEN;
		strlcpy(model, letter->model, LLM_MAILBOX_MODEL_BYTES);
		*role = letter->role;
		*ticket = letter->ticket;
		taken = true;
	}
	SpinLockRelease(&mailbox->mutex);
	return taken;
}

void
llm_mailbox_answer(uint64 ticket, const char *answer)
{
	SpinLockAcquire(&mailbox->mutex);
	for (int i = 0; i < LETTERS; i++)
	{
		Letter *letter = &mailbox->letters[i];

		if (letter->ticket != ticket || letter->state != LETTER_TAKEN)
			continue;
		strlcpy(letter->answer, answer, sizeof(letter->answer));
		letter->state = LETTER_ANSWERED;
	}
	SpinLockRelease(&mailbox->mutex);
	ConditionVariableBroadcast(&mailbox->changed);
}
