/*-------------------------------------------------------------------------
 *
 * flight.h
 *	  A request on its way, and its flights: one for each task that it carries, from
 *	  its claim to its settlement.
 *
 *	  make()    after the claim has committed: build the body
 *	  (http.h)  submit, wait
 *	  land()    read and check the answer, decide what becomes of each task
 *	  free()    of each flight, when its settlement has committed; the request goes with the last
 *
 * What is sent, limited and answered is the request's.  What is asked, checked, settled and
 * booked is the flight's: its row of the ledger has its part of what the request took, and
 * the parts add up to the whole.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FLIGHT_H
#define LLM_FLIGHT_H

#include "base/llm_enrich.h"

#include "catalog/habit.h"
#include "http/http.h"
#include "send/flight_recipe.h"
#include "send/question.h"
#include "send/route.h"
#include "tables/queue.h"

typedef struct LlmRequest LlmRequest;

typedef struct LlmFlight
{
	dlist_node node; /* among what has landed (air.c) */
	LlmRequest *request;
	MemoryContext context; /* the request's: no flight's memory goes before the others' */
	LlmRoute *route; /* the request's */
	LlmSharedRecipe *recipe; /* likewise */
	int64 task;
	int64 job;
	int attempt;
	int tries;
	int outages;
	int64 same_as; /* task that it followed before; 0: none */
	bool followed; /* as it was claimed, others waited for its answer */
	bool elsewhere; /* its model's target has refused it before */
	bool hopped; /* it goes to the fallback of its model, whose own fallback does not count */
	LlmQuestion *question; /* for others that ask the same meanwhile; or NULL */
	struct LlmLetter *letter; /* of an immediate call, which waits for the answer; or NULL (letters.h) */
	dlist_node all_node; /* of all flights */
	LlmErrorClass class; /* set by land() */
	const char *fault; /* what is wrong with its part of an answer that has others; or NULL */
	Jsonb *key;
	size_t input_len; /* of the row's text: its weight in the request */
	char *input; /* that text, where the check of an answer reads it; else NULL */
	const char *shortened; /* what is said of a text that was cut; or NULL */
	struct LlmAnswerKey *answer_key; /* the answer is to be kept by it; NULL: it is not */
	TimestampTz landed_at;
	LlmSettlement settlement; /* filled by land() */
} LlmFlight;

struct LlmRequest
{
	dlist_node node; /* among those in flight, or claimed ahead */
	MemoryContext context; /* everything of the request and its flights, and this struct */
	int64 id; /* llm.ledger.request */
	const char *lane; /* llm.ledger.lane */
	LlmRoute *route;
	LlmSharedRecipe *recipe; /* all of its tasks are of this one; NULL: it is gone */
	int64 price; /* llm.price.id, 0: none known */
	LlmHttpExchange exchange;
	Size bytes; /* of the body and the rows' texts, as long as the request lives */
	char *input; /* the beginnings of its rows' texts; NULL when nothing was sent */
	int64 input_tokens; /* estimate of its input */
	int64 granted_tokens; /* what the limiter was told */
	uint32 generation; /* of the limiter then */
	dlist_node ahead_node; /* in route->ahead_list */
	TimestampTz ahead_since; /* claimed then, and has not left (ahead.c) */
	LlmLearned learned; /* the host's answer taught us that; a name of NULL: nothing */
	const char *lesson; /* its sentence */
	int cap; /* tokens that its answer may have; 0: as the call says */
	bool over_cap; /* it has more: set by land() */
	bool is_split; /* refused as a whole: its tasks go again in parts at once, set by land() */
	int nflights;
	int nheld; /* of these, not freed */
	LlmFlight *flights; /* an array */
};

/*
 * One request for all of these tasks, n of them, which are of this route and recipe; the first
 * one's claim has its number.  The route was just granted what it uses, or it is claimed ahead
 * and asks for that as it leaves.
 */
extern LlmRequest *llm_request_make(LlmClaim *const *claims, int n, LlmRoute *route, LlmSharedRecipe *recipe);

/* All flights there are, by all_node. */
extern dlist_head *llm_flight_all(void);

/* It was not sent after all: the limiter gets back what it granted. */
extern void llm_request_give_back(LlmRequest *request);

/* Read the finished exchange; fills the settlements of the flights and tells the limiter. */
extern LlmErrorClass llm_request_land(LlmRequest *request, TimestampTz now);

/* All of its flights at once. */
extern void llm_request_free(LlmRequest *request);

/* One; the request goes with the last, and the flight with it. */
extern void llm_flight_free(LlmFlight *flight);

/* May it go to the fallback of its model, which can be asked now? */
extern bool llm_flight_may_hop(const LlmFlight *flight, TimestampTz now);

/* Is it the first of its request, by which what is done once per request is done? */
static inline bool
llm_flight_is_first(const LlmFlight *flight)
{
	return flight == flight->request->flights;
}

#endif /* LLM_FLIGHT_H */
