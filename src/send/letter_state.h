/*-------------------------------------------------------------------------
 *
 * letter_state.h
 *	  A letter that the sender holds.
 *
 * letters.c gets it sent, with what letters_load.c puts in one request; letters_reply.c
 * books and tells what came, letters_kept.c what was kept.  They call this, and it none of
 * them.
 *
 *	  hold()  →  waiting  →  a flight has it  →  wait_again(), or tell() and free()
 *	             waiting  →  end_waiting(), or the sender's end: llm_letters_put_back()
 *	             owing: has its reply, and what it says of waste is not stored for good
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LETTER_STATE_H
#define LLM_LETTER_STATE_H

#include "base/llm_enrich.h"

#include "letter/letter.h"
#include "letter/mailbox.h"
#include "money/budget.h"
#include "send/flight.h"

struct LlmLoad; /* load.h */

typedef struct LlmLetter
{
	dlist_node node; /* among those that wait, unless it is under way */
	MemoryContext context; /* everything here that is not in shared memory, and this struct */
	LlmTaken taken;
	bool told; /* its backend has its reply: only the bill is left */
	LlmLetterQuestion question;
	LlmLetterFacts facts;
	LlmRequestKind kind;
	int64 task;
	int64 recipe; /* llm.recipe.id; 0: not looked up yet */
	LlmPurse *purse; /* of its command, or NULL: that has no cap */

	const char *wasted; /* US dollars that its question tells of, and that are not booked yet; or NULL */
	bool stored_waste; /* they are, in the transaction under way */

	bool looked_up; /* among kept answers */
	Jsonb *kept; /* the one that was found; or NULL */
	const char *kept_server; /* and where it would have been asked: its route may be gone when it is told */
	const char *kept_model;

	int attempt; /* requests so far, the next one included once it is made */
	int tries;
	int outages;
	const char *fault; /* what was wrong with the last answer, or NULL */
	const char *last_answer;

	LlmRoute *home; /* of its model; good within a pass, as is the next one */
	LlmRoute *route; /* where it goes now: there, or to the fallback */
	bool probes; /* it goes there to try it */
	bool elsewhere; /* it was refused there */
	TimestampTz waits_since; /* by which patience counts */
	bool short_of_money; /* it waits for others' requests, which may give some back */
	bool troubled; /* it has come back since without being charged */
	TimestampTz not_before;
	TimestampTz wake_at;

	/* of all requests */
	int carried; /* of these, those that another letter counts: they were in it together */
	LlmUsage usage;
	bool estimated;
	Datum cost; /* numeric, while it is known */
	bool cost_unknown;
	Datum last_cost; /* of the flight that is being settled, in that flight's context */
	bool last_cost_unknown;
} LlmLetter;

/* A grant of the limiter of which not all has become requests yet. */
typedef struct LlmLetterGrant
{
	LlmRoute *route;
	int left;
	uint32 generation;
	int64 tokens;
} LlmLetterGrant;

/*
 * letter_state.c
 */

/* Take one over: it waits.  Of what it points to only spec, tags and facts are copies. */
extern void llm_letters_hold(LlmTaken *taken, TimestampTz now);

/* Those that wait, in the order of the boxes that they came from; and how many are held, under way or not. */
extern dlist_head *llm_letters_waiting(void);
extern int llm_letters_count_held(void);

/* Those that have ended, and have waste to be booked. */
extern dlist_head *llm_letters_owing(void);

/* Is it one of llm.check()?  And the operation that is asked for. */
extern bool llm_letters_is_trial(const LlmLetter *letter);
extern const char *llm_letters_operation(const LlmLetter *letter);

/* Its caller waits no longer for what keeps it. */
extern bool llm_letters_is_impatient(const LlmLetter *letter, TimestampTz now);

/* Its request was answered, and it is to be sent again: back to those that wait. */
extern void llm_letters_wait_again(LlmLetter *letter);

/* There is no money for the letter, and why: it stays, if some may come back while it waits for that. */
extern void llm_letters_want_money(LlmLetter *letter, const char *why, bool wait, TimestampTz now);

/* Give the reply, once; the letter stays the caller's. */
extern void llm_letters_tell(LlmLetter *letter, LlmLetterReply *reply);

/* The end of a letter that waits: it is told, and freed unless it has waste to be booked. */
extern void llm_letters_end_waiting(LlmLetter *letter, LlmLetterOutcome outcome, const char *message, const char *hint);

/* The letter is in no list, and no flight has it. */
extern void llm_letters_free(LlmLetter *letter);

/*
 * letters_load.c, letters_kept.c, letters_room.c, letters_reply.c
 */

/* Those of the route that may be sent now, trials or others: a list of LlmLoad (load.h). */
extern List *llm_letters_load(dlist_head *waiting, LlmRoute *route, bool trials, TimestampTz now);

/* They are in no list then, but for those that there is no money for; NULL: there is none for any. */
extern LlmRequest *llm_letters_make_request(struct LlmLoad *load, const LlmLetterGrant *from, TimestampTz now);

/*
 * Book those of the letters that wait whose answers are kept, and move them to the other list;
 * inside a transaction.
 */
extern void llm_letters_find_kept(dlist_head *waiting, dlist_head *kept);

/* Do rows wait for the route's target; and how many more letters may be in flight there meanwhile, of all routes? */
extern bool llm_letters_do_rows_wait(const LlmRoute *route);
extern int llm_letters_room_beside_rows(const LlmRoute *route);

/* Trials of the role that are in flight at the route's target, by whatever alias. */
extern int llm_letters_count_trials(const LlmRoute *route);

/* A request of letters is in flight no more: it leaves its route's counts.  Once for each. */
extern void llm_letters_leave(LlmRequest *request);

#endif /* LLM_LETTER_STATE_H */
