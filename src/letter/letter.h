/*-------------------------------------------------------------------------
 *
 * letter.h
 *	  What a backend asks the sender, and what it hears: as structs, and as bytes.
 *
 *	  backend:  write_question()  …  read_reply()
 *	  sender:   read_question()   …  write_reply()
 *
 * Both sides are of one server and one library: bytes are as the structs lie in memory.
 * Nothing here raises for what the bytes hold.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LETTER_H
#define LLM_LETTER_H

#include "base/llm_enrich.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "letter/mailbox_room.h"

/* The operation of llm.check(): a call outside of anything, which may go where others wait. */
#define LLM_LETTER_TRIAL "check"

/* The client's command that asks, of which there may be many questions; no padding. */
typedef struct LlmLetterCommand
{
	int64 at; /* when it began */
	int64 pid; /* of its backend */
} LlmLetterCommand;

typedef struct LlmLetterQuestion
{
	Oid role; /* the one that asks */
	int patience_ms; /* how long it may wait for a limit or a cool-down */
	int64 spent; /* by the command so far, as its backend knows, in nanodollars */
	int64 max_cost; /* of the command, in nanodollars; -1: as much as there is */
	LlmLetterCommand command; /* where that is capped; else zeros */
	bool reuse; /* a kept answer will do, and its own may be kept */
	const char *model; /* alias, or NULL: the default model */
	const char *operation; /* as in llm.recipe.operation; or LLM_LETTER_TRIAL */
	const char *trial; /* then the operation that is tried; else NULL */
	Jsonb *spec; /* as in llm.recipe.spec */
	Jsonb *tags; /* or NULL */
	const char *application; /* of the session */
	const char *fault; /* of the second asking: what was wrong with the answer that came; or NULL */
	const char *last_answer; /* that answer, or NULL */
	const char *wasted; /* what that one cost, as a number; NULL: nothing, or nobody knows */
	bool over; /* nothing is asked any more: only "wasted" is told */
	const char *input;
	size_t input_len;
} LlmLetterQuestion;

/* What became of a question. */
typedef enum LlmLetterOutcome
{
	LLM_LETTER_ANSWERED, /* the answer is there, checked */
	LLM_LETTER_FAILED, /* asked, and failed for good: by the model or the provider */
	LLM_LETTER_IMPATIENT, /* a limit or a cool-down lasts longer than it may wait */
	LLM_LETTER_UNUSABLE, /* no such model, no right, no key, a refused key, a spent quota */
	LLM_LETTER_NOT_STORED, /* the sender could not store what it must */
	LLM_LETTER_LEFT /* the sender ended while the request was under way */
} LlmLetterOutcome;

typedef struct LlmLetterReply
{
	LlmLetterOutcome outcome;
	bool kept; /* an answer that was there: nothing was asked */
	bool estimated; /* tokens and cost are */
	int requests;
	int carried; /* of these, those that are another call's, too, which counts them */
	int latency_ms; /* of the last request */
	int http_status; /* of the last request, 0: none */
	LlmUsage usage; /* of all requests */
	Jsonb *answer; /* ANSWERED */
	const char *booked; /* outcome on the ledger of the last request, or NULL: none was sent */
	const char *reason; /* short name, as in llm.dead_letter.reason; or NULL */
	const char *message; /* one sentence; or NULL */
	const char *hint; /* or NULL */
	const char *server; /* the one that was asked, or would have been; or NULL */
	const char *model; /* the provider's name; or NULL */
	const char *cost; /* US dollars of all requests as a number; NULL: no price is known */
	const char *answer_cost; /* of the one that brought the answer; NULL: as above, or there was none */
} LlmLetterReply;

/*
 * The same question is the same bytes from here on: however long it may wait, whichever command of the client asks, and
 * whatever that has spent.
 */
#define LLM_LETTER_KEY ((int) (sizeof(int) + sizeof(LlmLetterCommand) + sizeof(int64)))

/* Are two questions, as they are written, of one command, or of commands without a cap? */
extern bool llm_letter_same_command(const char *one, const char *other);

/* Whose question it is, as it is written. */
extern LlmLetterOwner llm_letter_owner(const char *bytes, size_t len);

/* Fill in whose command it is, and what that may cost: this session's. */
extern void llm_letter_set_command(LlmLetterQuestion *question);

/* Bytes in the current context. */
extern void llm_letter_write_question(const LlmLetterQuestion *question, StringInfo bytes);
extern void llm_letter_write_reply(const LlmLetterReply *reply, StringInfo bytes);

/* Pointers into the bytes, but for jsonb, which is copied to the current context. */
extern void llm_letter_read_question(const char *bytes, size_t len, LlmLetterQuestion *question);
extern void llm_letter_read_reply(const char *bytes, size_t len, LlmLetterReply *reply);

#endif /* LLM_LETTER_H */
