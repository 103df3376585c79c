/*-------------------------------------------------------------------------
 *
 * flight_body.h
 *	  What is sent: the exchange of a request, made of the texts of its tasks.
 *	  For flight.c alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FLIGHT_BODY_H
#define LLM_FLIGHT_BODY_H

#include "base/llm_enrich.h"

#include "send/flight.h"

/*
 * Method, URL, headers and body, and what is kept of the texts, in the current context, which is the
 * request's.  No body where the dialect has no words for such a request.
 */
extern void llm_flight_fill_body(LlmRequest *request, LlmClaim *const *claims);

/* What such a request has that a host may not take: LLM_USED_... bits. */
extern int llm_flight_used(const LlmRecipe *recipe, const LlmHabits *habits);

#endif /* LLM_FLIGHT_BODY_H */
