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

/*
 * A token has a byte at least.  What nobody sees, since the provider puts it into the question or the model
 * thinks it, comes to no more than the widest window of a model: a usage of more is none.
 */
#define MOST_UNSEEN 2000000

/*
 * The averages and the limiter believe in less at a time, or one wild number would hold up a model for a
 * minute: so much beside the bytes where the answer has no cap, and so many times what was usual.
 */
#define USUAL_UNSEEN 32768
#define TIMES_USUAL 4

static int64
input_of(const LlmUsage *usage)
{
	return usage->input + usage->cached + usage->cache_write;
}

static bool
is_plausible(const LlmRequest *request, const LlmUsage *usage)
{
	return input_of(usage) <= (int64) request->exchange.body_len + MOST_UNSEEN &&
		   usage->output <= (int64) request->exchange.answer_len + MOST_UNSEEN;
}

/* As many tokens as are believed of a part of the request with so many bytes. */
static int64
believed(const LlmRequest *request, int64 tokens, int64 bytes, double usual)
{
	int64 unseen = request->cap > 0 ? request->cap : USUAL_UNSEEN;

	return Min(tokens, bytes + unseen + (int64) (TIMES_USUAL * usual));
}

int64
llm_flight_believed_tokens(const LlmRequest *request, const LlmUsage *usage)
{
	int64 bytes = (int64) request->exchange.body_len + request->exchange.answer_len;

	return believed(request, input_of(usage) + usage->output, bytes, request->granted_tokens);
}

/* What the next requests of the route are expected to use. */
static void
note_usage(const LlmRequest *request, const LlmUsage *usage)
{
	LlmRoute *route = request->route;
	double input = believed(request, input_of(usage), request->exchange.body_len, route->input_tokens);
	double output = believed(request, usage->output, request->exchange.answer_len, route->output_tokens);

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

const char *
llm_flight_fill_usage(LlmRequest *request, LlmErrorClass class, LlmReply *reply)
{
	const LlmUsage *usage = &reply->usage;
	LlmRoute *route = request->route;
	LlmUsage guess = {0};
	const char *remark = NULL;
	const char *tier_remark = NULL;

	if (usage->known && !is_plausible(request, usage))
	{
		remark = psprintf("The provider told a usage of " INT64_FORMAT " tokens, which cannot be; it is estimated.",
						  input_of(usage) + usage->output);
		reply->usage.known = false;
	}
	if (usage->known)
	{
		if (reply->tier != NULL)
			tier_remark = psprintf("It was answered in service tier \"%s\", of which no price is known: the cost is an estimate.",
								   reply->tier);
		llm_flight_divide_usage(request, usage, reply->tier != NULL);
		for (int i = 0; i < request->nflights; i++)
		{
			LlmSettlement *s = &request->flights[i].settlement;

			s->cheap = llm_dialect_tier(reply->tier) == LLM_TIER_CHEAPER;
			s->tier = reply->tier;
			s->tier_remark = tier_remark;
		}
		route->reasons = route->reasons || usage->reasoning > 0;
		request->over_cap = request->cap > 0 && usage->output > request->cap;
		if (class == LLM_OK)
			note_usage(request, usage);
	}
	else if (remark != NULL || llm_retry_may_be_billed(class) || reply->may_be_billed)
	{
		guess.input = request->input_tokens;
		guess.output = llm_flight_usual_output(request);
		/* what came says more than what came before it */
		if (reply->content != NULL && reply->content_len > 0)
			guess.output = llm_dialect_estimate_tokens(reply->content, reply->content_len);
		llm_flight_divide_usage(request, &guess, true);
	}
	return remark;
}
