/*-------------------------------------------------------------------------
 *
 * estimate.h
 *	  What calls will cost before they are made: arithmetic.
 *
 * Pure: no SQL, no clock.  forecast.h looks up what goes in here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ESTIMATE_H
#define LLM_ESTIMATE_H

#include "base/llm_enrich.h"

#include "tables/recipe_stat.h"

/* US dollars per million tokens. */
typedef struct LlmUnitPrices
{
	double input;
	double cached;
	double cache_write;
	double output;
} LlmUnitPrices;

/* A guess: not less than, most likely, not more than. */
typedef struct LlmGuess
{
	double low;
	double typical;
	double high;
} LlmGuess;

/* Calls that share a recipe and a model. */
typedef struct LlmEstimateAsk
{
	double calls; /* questions that differ, and are not blank */
	double input_bytes; /* of all their inputs, escaped as in a body */
	double frame_bytes; /* of the rest of each body */
	double ascii_share; /* of the bytes of inputs: those of other scripts make more tokens */
	LlmGuess message_tokens; /* of each call, of which no byte is in the body */
	LlmGuess answer_tokens; /* of one call, where nothing was learned yet */
	bool is_priced;
	LlmUnitPrices prices; /* of such requests */
	LlmRecipeStat stat; /* what was learned */
} LlmEstimateAsk;

typedef struct LlmEstimate
{
	double calls;
	double input_tokens; /* of all classes; asking again included */
	double output_tokens;
	double cost_low; /* US dollars */
	double cost;
	double cost_high;
	double reserve; /* US dollars that a request is held to under a cap, at least; 0: not known */
	bool is_priced; /* else the costs are 0 */
	bool is_learned; /* from requests with the same recipe and model */
} LlmEstimate;

extern void llm_estimate(const LlmEstimateAsk *ask, LlmEstimate *estimate);

/* Some of the calls are not made: of each, so large a share is; the highest cost stays. */
extern void llm_estimate_part(LlmEstimate *estimate, double typical, double least);

/* Add one estimate to another: their errors may go the same way. */
extern void llm_estimate_add(LlmEstimate *sum, const LlmEstimate *part);

/* How fast calls are made. */
typedef struct LlmEstimatePace
{
	double latency_ms; /* of a request; 0: not known */
	double in_flight; /* requests at a time */
	double calls_each; /* that one request carries; 0: one */
	double requests_per_minute; /* 0: no limit */
	double tokens_per_minute; /* 0: no limit */
} LlmEstimatePace;

/* Seconds that so many calls take. */
extern double llm_estimate_seconds(const LlmEstimate *estimate, const LlmEstimatePace *pace);

#endif /* LLM_ESTIMATE_H */
