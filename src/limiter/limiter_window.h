/*-------------------------------------------------------------------------
 *
 * limiter_window.h
 *	  How many requests may be in flight to a target, found out from its answers.
 *
 * For limiter.c alone, which holds the limiter's lock and says when:
 *
 *	  begin()        at the first grant, and whenever the circuit opens
 *	  hear_silence() at a grant that the window holds back
 *	  note_answer()  at an answer, after limiter->accepted has counted it
 *	  narrow()       at the 429 that ends a generation, before begin()
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LIMITER_WINDOW_H
#define LLM_LIMITER_WINDOW_H

#include "limiter/limiter.h"

/* Start as for a new target. */
extern void llm_window_begin(LlmLimiter *limiter, TimestampTz now);

/*
 * A while without any answer counts as a good sign.  Returns when that will be the case
 * next; DT_NOEND when only an answer can widen the window.
 */
extern TimestampTz llm_window_hear_silence(LlmLimiter *limiter, TimestampTz now);

/* The target has dealt with one more request. */
extern void llm_window_note_answer(LlmLimiter *limiter);

/* The target refused a request; its place is still taken. */
extern void llm_window_narrow(LlmLimiter *limiter);

#endif /* LLM_LIMITER_WINDOW_H */
