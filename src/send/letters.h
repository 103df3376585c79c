/*-------------------------------------------------------------------------
 *
 * letters.h
 *	  The sender's half of immediate calls: letters of backends become requests.
 *
 *	  take()     inside the transaction of a pass: requests that have been granted, and
 *	             whose rows are written; to be launched after its commit
 *	  settle()   inside the transaction that stores what has landed
 *	  deliver()  after that has committed, for each
 *	  undo()     instead of all that, when the transaction failed
 *	  recover()  once, before the first pass: what a dead sender left under way
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LETTERS_H
#define LLM_LETTERS_H

#include "base/llm_enrich.h"

#include "send/step.h"

/* Once, before anything else. */
extern void llm_letters_init(void);

/* "slots" places for requests in all, of which "in_flight" are taken.  A list of LlmRequest. */
extern List *llm_letters_take(int slots, int in_flight, TimestampTz now);

/* Those of the settlements that are of letters, and are on the ledger already. */
extern void llm_letters_settle(LlmSettlement **settlements, int n);

/* The flight is the caller's to free. */
extern void llm_letters_deliver(LlmFlight *flight, TimestampTz now);

/*
 * The transaction of take() has committed: those are told whose answers were kept, and what was wasted is stored for
 * good.
 */
extern void llm_letters_keep(LlmPass *pass);

/* They are about to be launched: from here on they may have been sent. */
extern void llm_letters_launched(List *requests);

/*
 * The transaction failed for this reason: those that it was to send, and those that wait
 * with them, are told; what has landed is still to be stored, but nobody waits for it any
 * more.  Frees the requests of take().
 */
extern void llm_letters_undo(dlist_head *landed, const char *why);

/* Book what a dead sender left: how many rows, at most a few hundred; inside a transaction. */
extern int llm_letters_recover(void);

/* Letters wait for a place, a limit or a time; and when to take() again, DT_NOEND: not by itself. */
extern bool llm_letters_are_waiting(void);
extern TimestampTz llm_letters_wake_at(void);

/* No letter is held. */
extern bool llm_letters_is_empty(void);

/* The sender ends: what has not left goes back, for the next one. */
extern void llm_letters_put_back(void);

#endif /* LLM_LETTERS_H */
