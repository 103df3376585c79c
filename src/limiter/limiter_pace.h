/*-------------------------------------------------------------------------
 *
 * limiter_pace.h
 *	  The rate that a target accepts, learned where none is told.
 *
 * For limiter.c alone, which holds the limiter's lock and says when:
 *
 *	  note_answer()   at each answer but a probe's
 *	  note_refusal()  at a 429 that ended a generation, after its cool-down was
 *	                  fixed; not at a probe's
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LIMITER_PACE_H
#define LLM_LIMITER_PACE_H

#include "limiter/limiter.h"

extern void llm_pace_note_answer(LlmLimiter *limiter);

/* accepted: answers of the generation that the refusal ended; told: it told a time to wait. */
extern void llm_pace_note_refusal(LlmLimiter *limiter, int accepted, bool told, TimestampTz now);

#endif /* LLM_LIMITER_PACE_H */
