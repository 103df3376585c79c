/*-------------------------------------------------------------------------
 *
 * ahead.h
 *	  Tasks that were claimed before there is room for their requests.
 *
 *	  wanted()       as a claim is planned: so many more of a route
 *	  add()          after the claim has committed; then filled()
 *	  next()         whenever there may be room: one that may leave now
 *	  call_back()    inside a transaction: what has waited for too long is ready again
 *	  next_called_back(), until NULL, when that has committed; or undo()
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_AHEAD_H
#define LLM_AHEAD_H

#include "base/llm_enrich.h"

#include "send/flight.h"

/* The route had an answer. */
extern void llm_ahead_note_answer(LlmRoute *route, TimestampTz now);

extern int llm_ahead_wanted(const LlmRoute *route);
extern void llm_ahead_add(LlmRequest *request, TimestampTz now);

/* No more are added by this claim: what is there now counts as full. */
extern void llm_ahead_filled(void);

/* Granted by its limiter, and the caller's from here on; or NULL. */
extern LlmRequest *llm_ahead_next(int slots, int in_flight, TimestampTz now);

/*
 * All of them, or those that have waited for too long, and those of routes that are out of
 * use.  How many that followed them are to ask for themselves: llm_queue_wake() finds them.
 */
extern uint64 llm_ahead_call_back(bool all, TimestampTz now);

/* The caller's from here on; or NULL. */
extern LlmRequest *llm_ahead_next_called_back(void);

/* Instead; after the questions of the transaction are gone. */
extern void llm_ahead_undo(void);

/* When a limit lets the next one out; DT_NOEND when none waits for that. */
extern TimestampTz llm_ahead_wake_at(int slots, int in_flight);

/* When the first one has waited for too long; DT_NOEND when there is none. */
extern TimestampTz llm_ahead_due(void);
extern bool llm_ahead_is_empty(void);

/* Will they do until a larger claim is worth its while? */
extern bool llm_ahead_suffices(void);

#endif /* LLM_AHEAD_H */
