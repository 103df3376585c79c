/*-------------------------------------------------------------------------
 *
 * letter_state.c
 *	  The letters that the sender holds: taken, told, ended, put back.
 *
 * A letter is here from the time that it is taken out of its box until it is freed.  While
 * it waits it is in the list; while a request for it is under way, that request's flight
 * has it.  A letter whose backend was told lives on while its bill may still come.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "send/command.h"
#include "send/letter_state.h"
#include "send/letters.h"
#include "send/split.h"

/* All static: the sender's life. */
static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static dlist_head owing = DLIST_STATIC_INIT(owing);
static int nheld = 0;

dlist_head *
llm_letters_waiting(void)
{
	return &waiting;
}

dlist_head *
llm_letters_owing(void)
{
	return &owing;
}

int
llm_letters_count_held(void)
{
	return nheld;
}

bool
llm_letters_is_trial(const LlmLetter *letter)
{
	return letter->question.trial != NULL;
}

const char *
llm_letters_operation(const LlmLetter *letter)
{
	return letter->question.trial != NULL ? letter->question.trial : letter->facts.operation;
}

static LlmRequestKind
kind_of(const LlmLetter *letter)
{
	const LlmOperation *op = llm_operation_find(llm_letters_operation(letter));

	return op == NULL ? LLM_REQUEST_CHAT : op->kind;
}

void
llm_letters_hold(LlmTaken *taken, TimestampTz now)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llm_enrich letter", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(context);
	LlmLetter *letter = palloc0(sizeof(LlmLetter));

	letter->context = context;
	letter->taken = *taken;
	llm_letter_read_question(taken->bytes, taken->len, &letter->question);
	letter->facts.operation = pstrdup(letter->question.operation);
	letter->facts.application = pstrdup(letter->question.application);
	letter->facts.tags = letter->question.tags;
	letter->kind = kind_of(letter);
	letter->fault = letter->question.fault;
	letter->last_answer = letter->question.last_answer;
	if (letter->question.wasted != NULL && !*taken->mark)
		letter->wasted = pstrdup(letter->question.wasted);
	letter->purse = llm_command_join(&letter->question);
	letter->cost = NumericGetDatum(int64_to_numeric(0));
	letter->waits_since = now;
	letter->wake_at = DT_NOBEGIN;
	MemoryContextSwitchTo(saved);
	dlist_push_tail(&waiting, &letter->node);
	nheld++;
}

void
llm_letters_wait_again(LlmLetter *letter)
{
	dlist_push_tail(&waiting, &letter->node);
}

void
llm_letters_free(LlmLetter *letter)
{
	nheld--;
	llm_split_forget(letter->task);
	llm_command_leave(letter->purse);
	MemoryContextDelete(letter->context);
}

/* What all replies tell. */
static void
fill_reply(const LlmLetter *letter, LlmLetterReply *reply)
{
	reply->requests = letter->attempt;
	reply->carried = letter->carried;
	reply->usage = letter->usage;
	reply->estimated = letter->estimated;
	if (!letter->cost_unknown)
		reply->cost = DatumGetCString(DirectFunctionCall1(numeric_out, letter->cost));
}

void
llm_letters_tell(LlmLetter *letter, LlmLetterReply *reply)
{
	LlmLetterReply instead = {.outcome = LLM_LETTER_NOT_STORED};
	StringInfoData bytes;
	StringInfoData brief;

	if (letter->told)
		return;
	fill_reply(letter, reply);
	fill_reply(letter, &instead);
	instead.message = "there is no shared memory for the answer";
	instead.hint = "It is kept, unless \"llm_enrich.keep_answers\" is 0: ask again when less is under way.";
	llm_letter_write_reply(reply, &bytes);
	llm_letter_write_reply(&instead, &brief);
	if (brief.len > LLM_MAILBOX_SHORT)
	{
		instead.cost = NULL; /* a price may have any number of digits */
		llm_letter_write_reply(&instead, &brief);
	}
	(void) llm_mailbox_reply_to(&letter->taken, bytes.data, bytes.len, brief.data, brief.len);
	letter->told = true;
}

void
llm_letters_end_waiting(LlmLetter *letter, LlmLetterOutcome outcome, const char *message, const char *hint)
{
	LlmLetterReply reply = {.outcome = outcome, .message = message, .hint = hint};

	if (letter->route != NULL && letter->route->target != NULL)
	{
		reply.server = letter->route->target->server;
		reply.model = letter->route->target->model;
	}
	llm_letters_tell(letter, &reply);
	dlist_delete(&letter->node);
	if (letter->wasted != NULL)
		dlist_push_tail(&owing, &letter->node);
	else
		llm_letters_free(letter);
}

bool
llm_letters_is_impatient(const LlmLetter *letter, TimestampTz now)
{
	return TimestampTzPlusMilliseconds(letter->waits_since, letter->question.patience_ms) <= now;
}

void
llm_letters_want_money(LlmLetter *letter, const char *why, bool wait, TimestampTz now)
{
	LlmLetterOutcome outcome = LLM_LETTER_UNUSABLE;
	const char *hint = "See llm.budget; llm.set_budget() raises one, and llm_enrich.max_cost is a session's own.";

	letter->troubled = letter->troubled || wait;
	if (wait && !llm_letters_is_impatient(letter, now))
	{
		letter->short_of_money = true;
		letter->wake_at = TimestampTzPlusMilliseconds(letter->waits_since, letter->question.patience_ms);
		return;
	}
	/* where more money is no help, the reason has what to type */
	if (strstr(why, "SELECT llm.") != NULL)
		hint = "Without a budget and llm_enrich.max_cost it would be asked.";
	llm_letters_end_waiting(letter, outcome, why, hint);
}

bool
llm_letters_are_waiting(void)
{
	return !dlist_is_empty(&waiting);
}

TimestampTz
llm_letters_wake_at(void)
{
	TimestampTz wake_at = dlist_is_empty(&owing) ? DT_NOEND : DT_NOBEGIN;
	dlist_iter iter;

	dlist_foreach(iter, &waiting)
		wake_at = Min(wake_at, dlist_container(LlmLetter, node, iter.cur)->wake_at);
	return wake_at;
}

bool
llm_letters_is_empty(void)
{
	return nheld == 0;
}

void
llm_letters_put_back(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &waiting)
	{
		LlmLetter *letter = dlist_container(LlmLetter, node, iter.cur);

		llm_mailbox_put_back(&letter->taken);
		dlist_delete(&letter->node);
		llm_letters_free(letter);
	}
}
