/*-------------------------------------------------------------------------
 *
 * route_memory.c
 *	  What requests that are not over hold in memory, and how much of it a route may have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "send/route.h"

/*
 * Inputs of one claim together; a single larger one goes alone.  Where little is left, so many all the same, for
 * those whose share is not used up.
 */
#define CLAIM_BYTES (INT64CONST(16) * 1024 * 1024)
#define CLAIM_LEAST_BYTES (INT64CONST(1) * 1024 * 1024)

/*
 * Bodies of all requests that are not stored yet: a route gets at most three quarters of what the others leave, so
 * that a target that is silent holds up no other one.  Bodies are larger than inputs, up to six times, and known
 * after the claim only: at MOST nothing is claimed.
 */
#define MEMORY_BYTES (INT64CONST(64) * 1024 * 1024)
#define MEMORY_MOST_BYTES (INT64CONST(256) * 1024 * 1024)

static Size held = 0; /* by the requests of all routes; the sender's life */

void
llm_route_hold(LlmRoute *route, Size bytes)
{
	route->held += bytes;
	held += bytes;
}

void
llm_route_let_go(LlmRoute *route, Size bytes)
{
	route->held -= bytes;
	held -= bytes;
}

int64
llm_route_claim_bytes(void)
{
	if ((int64) held >= MEMORY_MOST_BYTES)
		return 0;
	return Max(Min(CLAIM_BYTES, MEMORY_BYTES - (int64) held), CLAIM_LEAST_BYTES);
}

bool
llm_route_has_memory(const LlmRoute *route)
{
	int64 left = MEMORY_BYTES - (int64) (held - route->held);

	return llm_route_claim_bytes() > 0 && (int64) route->held < Max(left / 4 * 3, CLAIM_LEAST_BYTES);
}
