/*-------------------------------------------------------------------------
 *
 * ask_ring.h
 *	  Questions of rows ahead, which are on their way while earlier rows are given.
 *
 *	  node:  enter()  around the evaluation of a row, then leave()
 *	         ahead()  posts the question of a row ahead
 *	         release() when that row has been given
 *	  call:  find()   the letter of the question that it is about to ask
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_RING_H
#define LLM_ASK_RING_H

#include "base/llm_enrich.h"

#include "ask/ask_tally.h"
#include "fmgr.h"
#include "letter/mailbox.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

/* A letter on its way; shared by the calls that ask the same, where one answer may serve them. */
typedef struct LlmAhead
{
	dlist_node node;
	int users; /* rows that are not given yet */
	bool shares; /* its answer may serve more than one call */
	bool counted; /* its reply has been, by a call that has it */
	uint32 hash;
	StringInfoData bytes; /* the question, to be known by */
	LlmPosted *posted;
} LlmAhead;

typedef struct LlmAskRing
{
	struct LlmAskRing *outer; /* of the evaluation around this one */
	bool entered;
	MemoryContext context; /* of the letters */
	dlist_head letters; /* LlmAhead */
	int open;
	int most_open;
	bool is_full; /* a letter found no room; for the node to look at and to put back */
	LlmAskTally tally; /* of the node's calls */
	MemoryContextCallback on_reset;
} LlmAskRing;

/* The ring lives as long as the context, and its letters are dropped with it. */
extern LlmAskRing *llm_ask_ring_make(MemoryContext context);
extern void llm_ask_ring_enter(LlmAskRing *ring);
extern void llm_ask_ring_leave(LlmAskRing *ring);

/* Post the bytes, or share the letter that asks the same; NULL: there is no room now. */
extern LlmAhead *llm_ask_ring_post(LlmAskRing *ring, const StringInfoData *bytes, bool shares);
extern void llm_ask_ring_release(LlmAskRing *ring, LlmAhead *ahead);

/* The letter of this question, in the ring that is entered, for a call that is about to ask; NULL: there is none. */
extern LlmAhead *llm_ask_ring_find(const StringInfoData *bytes);

/* Count a reply for which a call has waited: for the command, and for the node that evaluates the call. */
extern void llm_ask_ring_count(const LlmLetterReply *reply, int64 waited_us);

/*
 * Evaluate a call of a public function so far as to post its questions (ask_call.c); their letters
 * are added to the list.  None where there is none to ask, or it has to be left to the call itself.
 */
extern void llm_ask_call_ahead(LlmAskRing *ring, FunctionCallInfo fcinfo, List **letters);

#endif /* LLM_ASK_RING_H */
