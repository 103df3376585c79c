/*-------------------------------------------------------------------------
 *
 * flight_usage.c
 *	  What a request has taken: tokens, as told or estimated, and each flight's part.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "send/flight_usage.h"
#include "send/part.h"
#include "send/retry.h"

/* Weight of a new answer in the moving averages of a route. */
#define AVERAGE_WEIGHT 0.05

/* A usage of more tokens is booked as told, but believed by no average: no model takes so many. */
#define MOST_TOKENS 1e8

/* What the next requests of the route are expected to use. */
static void
note_usage(LlmRoute *route, const LlmUsage *usage)
{
	double input = (double) usage->input + usage->cached + usage->cache_write;
	double output = usage->output;

	if (input + output > MOST_TOKENS)
		return;
	route->input_tokens += AVERAGE_WEIGHT * (input - route->input_tokens);
	route->output_tokens += AVERAGE_WEIGHT * (output - route->output_tokens);
}

void
llm_flight_divide_usage(LlmRequest *request, const LlmUsage *whole, bool estimated)
{
	int n = request->nflights;
	LlmUsage *parts = palloc(sizeof(LlmUsage) * n);
	int64 *weights = palloc(sizeof(int64) * n);

	for (int i = 0; i < n; i++)
		weights[i] = (int64) request->flights[i].input_len;
	llm_part_usage(whole, weights, n, parts);
	for (int i = 0; i < n; i++)
	{
		request->flights[i].settlement.usage = parts[i];
		request->flights[i].settlement.estimated = estimated;
	}
	pfree(parts);
	pfree(weights);
}

int64
llm_flight_usual_output(const LlmRequest *request)
{
	bool writes = request->recipe == NULL || request->recipe->recipe->op->kind != LLM_REQUEST_EMBED;

	return writes ? (int64) (request->route->output_tokens + 0.5) : 0;
}

void
llm_flight_fill_usage(LlmRequest *request, LlmErrorClass class, const LlmReply *reply)
{
	const LlmUsage *usage = &reply->usage;
	LlmRoute *route = request->route;
	LlmUsage guess = {0};

	if (usage->known)
	{
		llm_flight_divide_usage(request, usage, false);
		route->reasons = route->reasons || usage->reasoning > 0;
		request->over_cap = request->cap > 0 && usage->output > request->cap;
		if (class == LLM_OK)
			note_usage(route, usage);
	}
	else if (llm_retry_may_be_billed(class) || reply->may_be_billed)
	{
		guess.input = request->input_tokens;
		guess.output = llm_flight_usual_output(request);
		/* what came says more than what came before it */
		if (reply->content != NULL && reply->content_len > 0)
			guess.output = llm_dialect_estimate_tokens(reply->content, reply->content_len);
		llm_flight_divide_usage(request, &guess, true);
	}
}
