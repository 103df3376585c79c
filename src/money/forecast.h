/*-------------------------------------------------------------------------
 *
 * forecast.h
 *	  What calls will cost before they are made: looked up and added up.
 *
 *	  begin()   once; then, for each recipe and model that is asked,
 *	  add()     and at the end the sums are in the struct
 *
 * In a backend, inside a transaction; with the rights of a role as in its calls.  Raises
 * nothing for a model that is unknown or paused: then there is no price.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FORECAST_H
#define LLM_FORECAST_H

#include "base/llm_enrich.h"

#include "money/estimate.h"
#include "money/kept_share.h"
#include "operation/operation.h"

/* Calls that share recipe, model and role. */
typedef struct LlmForecastAsk
{
	const LlmOperation *op;
	Jsonb *spec; /* as in llm.recipe.spec; NULL: not known */
	const char *model; /* alias, or NULL: the default one */
	Oid role;
	double calls;
	double input_bytes; /* of all inputs together, escaped as in a body; for vectors as they are */
	double ascii_share; /* of these */
	LlmKeptCount kept; /* of these calls, whose answers are kept (kept_share.h): they cost nothing */
} LlmForecastAsk;

typedef struct LlmForecast
{
	LlmEstimate sum;
	double seconds; /* of models one after the other */
	List *models; /* of LlmForecastModel: looked up so far */
} LlmForecast;

extern void llm_forecast_begin(LlmForecast *forecast);
extern void llm_forecast_add(LlmForecast *forecast, const LlmForecastAsk *ask, LlmEstimate *estimate);

/* The models that were looked up: a List of aliases (char *), each once; without those that do not exist. */
extern List *llm_forecast_aliases(const LlmForecast *forecast);

#endif /* LLM_FORECAST_H */
