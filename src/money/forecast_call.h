/*-------------------------------------------------------------------------
 *
 * forecast_call.h
 *	  A call as it stands in a plan, as something to forecast.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FORECAST_CALL_H
#define LLM_FORECAST_CALL_H

#include "base/llm_enrich.h"

#include "money/forecast.h"
#include "nodes/primnodes.h"

/*
 * What "rows" rows with inputs of so many bytes each would ask by this call, as the current role; its arguments are
 * in their order, defaults filled in.  The recipe is known where they do not vary.  In the current context; raises
 * for arguments that the call would refuse.
 */
extern void llm_forecast_call(const FuncExpr *call, double rows, double bytes_each, LlmForecastAsk *ask);

#endif /* LLM_FORECAST_CALL_H */
