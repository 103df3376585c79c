/*-------------------------------------------------------------------------
 *
 * flight.h
 *	  A flight is one request on its way: from a claimed task to a settlement.
 *
 *	  make()    after the claim has committed: build the body
 *	  (http.h)  submit, wait
 *	  land()    read and check the answer, decide what becomes of the task
 *	  free()    when the settlement has committed
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FLIGHT_H
#define LLM_FLIGHT_H

#include "base/llm_enrich.h"

#include "catalog/habit.h"
#include "http/http.h"
#include "send/question.h"
#include "send/route.h"
#include "tables/queue.h"

/* A recipe, and its frames by dialect and model; shared by many flights. */
typedef struct LlmSharedRecipe
{
	int64 id; /* hash key: must be first */
	MemoryContext context;
	LlmRecipe *recipe;
	List *frames; /* of SharedFrame */
	int users;
} LlmSharedRecipe;

typedef struct LlmFlight
{
	dlist_node node;
	MemoryContext context; /* everything of the flight, and this struct */
	LlmHttpExchange exchange;
	Size bytes; /* of the body, as long as the flight lives */
	LlmRoute *route;
	LlmSharedRecipe *recipe;
	int64 task;
	int64 job;
	int64 request;
	int attempt;
	int tries;
	int outages;
	int64 same_as; /* task that it followed before; 0: none */
	bool followed; /* as it was claimed, others waited for its answer */
	LlmQuestion *question; /* for others that ask the same meanwhile; or NULL */
	struct LlmLetter *letter; /* of an immediate call, which waits for the answer; or NULL (letters.h) */
	LlmErrorClass class; /* set by land() */
	Jsonb *key;
	LlmLearned learned; /* the host's answer taught us that; a name of NULL: nothing */
	const char *lesson; /* its sentence */
	char *input; /* the beginning of the row's text; NULL when nothing was sent */
	int64 input_tokens; /* estimate of this request's input */
	int64 granted_tokens; /* what the limiter was told */
	uint32 generation; /* of the limiter then */
	dlist_node ahead_node; /* in route->ahead_list */
	TimestampTz ahead_since; /* claimed then, and has not left (ahead.c) */
	TimestampTz landed_at;
	LlmSettlement settlement; /* filled by land() */
} LlmFlight;

/* The recipe by id, NULL when it is gone.  Loaded at first use, which is inside a transaction. */
extern LlmSharedRecipe *llm_flight_recipe(int64 id);

/* Drop recipes that no flight uses, when there are many. */
extern void llm_flight_trim_recipes(void);

/* The route was just granted what this flight uses, or the task is claimed ahead and asks for it as it leaves. */
extern LlmFlight *llm_flight_make(const LlmClaim *claim, LlmRoute *route, LlmSharedRecipe *recipe);

/* Bodies of all flights there are. */
extern Size llm_flight_bytes(void);

/* It was not sent after all: the limiter gets back what it granted. */
extern void llm_flight_give_back(LlmFlight *flight);

/* Read the finished exchange; fills flight->settlement and tells the limiter. */
extern LlmErrorClass llm_flight_land(LlmFlight *flight, TimestampTz now);

/*
 * A task that a dead sender left claimed, as a flight of which nothing more will
 * be known: settled at once.  Inside a transaction.
 */
extern LlmFlight *llm_flight_orphan(const LlmClaim *claim, TimestampTz now);

extern void llm_flight_free(LlmFlight *flight);

#endif /* LLM_FLIGHT_H */
