/*-------------------------------------------------------------------------
 *
 * command.c
 *	  What immediate commands may spend: llm_enrich.max_cost of each.
 *
 * A command asks many times, and its letters share a purse, in the sender's memory.  It is kept
 * for a while after the last of them, since the next one may come.  Each letter tells what its command
 * has paid for, so that the next sender knows it, too.  Should the sender die, the letters that were under
 * way fail, and a command with a cap with them (ask_call.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "send/command.h"

/* A purse that no letter has used for so long goes, when there are many. */
#define IDLE_MS 600000
#define MANY 256

typedef struct Command
{
	LlmLetterCommand key; /* hash key: must be first */
	LlmPurse purse;
	int users; /* letters */
	TimestampTz left_at;
} Command;

static HTAB *commands = NULL; /* the sender's life */

static void
create_table(void)
{
	HASHCTL ctl = {.keysize = sizeof(LlmLetterCommand), .entrysize = sizeof(Command)};

	commands = hash_create("llm_enrich commands", MANY, &ctl, HASH_ELEM | HASH_BLOBS);
}

static void
forget_idle(void)
{
	TimestampTz old = TimestampTzPlusMilliseconds(llm_clock_steady(), -IDLE_MS);
	HASH_SEQ_STATUS scan;
	Command *command;

	hash_seq_init(&scan, commands);
	while ((command = hash_seq_search(&scan)) != NULL)
	{
		if (command->users == 0 && command->left_at < old)
			hash_search(commands, &command->key, HASH_REMOVE, NULL);
	}
}

LlmPurse *
llm_command_join(const LlmLetterQuestion *question)
{
	Command *command;
	bool found;

	if (question->max_cost < 0)
		return NULL;
	if (commands == NULL)
		create_table();
	if (hash_get_num_entries(commands) > MANY)
		forget_idle();
	command = hash_search(commands, &question->command, HASH_ENTER, &found);
	if (!found)
	{
		command->purse = (LlmPurse){.open = true};
		command->users = 0;
	}
	command->users++;
	command->purse.amount = question->max_cost;
	command->purse.spent = Max(command->purse.spent, question->spent);
	return &command->purse;
}

void
llm_command_leave(LlmPurse *purse)
{
	Command *command;

	if (purse == NULL)
		return;
	command = (Command *) ((char *) purse - offsetof(Command, purse));
	command->users--;
	command->left_at = llm_clock_steady();
}

void
llm_command_open(void)
{
	HASH_SEQ_STATUS scan;
	Command *command;

	if (commands == NULL)
		return;
	hash_seq_init(&scan, commands);
	while ((command = hash_seq_search(&scan)) != NULL)
		command->purse.reserved = 0;
}
