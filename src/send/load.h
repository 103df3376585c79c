/*-------------------------------------------------------------------------
 *
 * load.h
 *	  Which claimed tasks go in one request.
 *
 *	  width()   how many may, of a recipe and route
 *	  make()    claims → loads, in the order of their first tasks; in the claim's transaction
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LOAD_H
#define LLM_LOAD_H

#include "base/llm_enrich.h"

#include "send/joblist.h"
#include "send/question.h"
#include "send/route.h"
#include "tables/queue.h"

/* Inputs of one request: below the 300,000 tokens that OpenAI takes, whatever the script. */
#define LLM_LOAD_BYTES ((Size) 256 * 1024)

/* Tasks or letters that one request is to carry: of one route, recipe and part (split.h). */
typedef struct LlmLoad
{
	LlmRoute *route;
	int64 recipe;
	uint64 part;
	int room; /* so many, at most */
	Size bytes; /* of their inputs */
	bool is_full; /* of bytes, before it had so many */
	bool ahead; /* there was no grant for it yet */
	int n;
	LlmClaim **claims;
	LlmQuestion **questions; /* beside each claim; or NULL */
	struct LlmLetter **letters; /* or the letter that it is made of */
} LlmLoad;

/* Tasks that a request of this kind may carry on the route; 1 where it takes no more. */
extern int llm_load_width(const LlmRoute *route, LlmRequestKind kind);

/*
 * Tasks to claim for so many requests; "carried": tasks that one has had room for, where the inputs are long; 0:
 * there was room for all.
 */
extern int llm_load_tasks(const LlmRoute *route, LlmRequestKind kind, int carried, int requests);

/*
 * Those of the claims that do not follow another task, with the questions beside them: a list of LlmLoad, in the
 * current context.  The tasks of a load have the number of its first one's request then.
 */
extern List *llm_load_make(List *claims, List *questions);

/*
 * One more, with an input of so many bytes, joins the newest of the loads that has room, or a new one of at most "room"
 * behind them, in the current context.  The caller fills its place, at n - 1.
 */
extern LlmLoad *llm_load_join(List **loads, LlmRoute *route, int64 recipe, int64 task, int room, Size bytes);

/* A flight of the job's is over, whatever became of its task. */
extern void llm_load_flown(LlmJob *job, const LlmFlight *flight);

#endif /* LLM_LOAD_H */
