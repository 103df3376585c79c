/*-------------------------------------------------------------------------
 *
 * flight_usage.h
 *	  What a request has taken: tokens, as told or estimated, and each flight's part.
 *	  For flight.c alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FLIGHT_USAGE_H
#define LLM_FLIGHT_USAGE_H

#include "base/llm_enrich.h"

#include "send/flight.h"

/* Each flight has its part of what the request took. */
extern void llm_flight_divide_usage(LlmRequest *request, const LlmUsage *whole, bool estimated);

/* Tokens that are written in answer to such a request, as far as known; a vector is not. */
extern int64 llm_flight_usual_output(const LlmRequest *request);

/*
 * Tokens as told, or estimated where the provider may have billed and told nothing, or nothing that can be:
 * then the reply has no usage any more, and a sentence that says so is returned, in the current context; likewise
 * of what it may cost in a class of service that has no price.
 */
extern const char *llm_flight_fill_usage(LlmRequest *request, LlmErrorClass class, LlmReply *reply);

/* All tokens of a known usage, or as many as the limiter is to believe at a time. */
extern int64 llm_flight_believed_tokens(const LlmRequest *request, const LlmUsage *usage);

#endif /* LLM_FLIGHT_USAGE_H */
