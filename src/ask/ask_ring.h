/*-------------------------------------------------------------------------
 *
 * ask_ring.h
 *	  Questions of rows ahead, which are on their way while earlier rows are given.
 *
 *	  node:  enter()  around the evaluation of a row, then leave()
 *	         release_row() when a row has been given
 *	  call:  post()   the question of a row ahead, and add() it to that row
 *	         find()   the letter of the question that it is about to ask
 *	  aggregate:  follow()  with questions about answers that are still to come
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_RING_H
#define LLM_ASK_RING_H

#include "base/llm_enrich.h"

#include "ask/ask_tally.h"
#include "letter/mailbox.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

/* A letter on its way; shared by the calls that ask the same, where one answer may serve them. */
typedef struct LlmAhead
{
	dlist_node node;
	struct LlmAskRing *ring; /* which has it */
	int users; /* rows that are not given yet */
	bool shares; /* its answer may serve more than one call */
	bool counted; /* its reply has been, by a call that has it */
	bool idle; /* its reply is there, and was seen before its row's turn */
	uint32 hash;
	StringInfoData bytes; /* the question, to be known by */
	LlmPosted *posted;
} LlmAhead;

typedef struct LlmAskRow LlmAskRow;

typedef struct LlmAskRing
{
	struct LlmAskRing *outer; /* of the evaluation around this one */
	bool entered;
	const LlmAskRow *evaluated; /* the row at hand */
	MemoryContext context; /* of the letters */
	dlist_head letters; /* LlmAhead */
	dlist_head stages; /* LlmAskStages, in the order of the rows */
	int open;
	int idle; /* of these */
	int most_in_flight;
	bool is_full; /* a letter found no room; for the node to look at and to put back */
	LlmAskTally tally; /* of the node's calls */
	MemoryContextCallback on_reset;
} LlmAskRing;

/* What was posted for a row ahead. */
struct LlmAskRow
{
	List *letters; /* of LlmAhead */
	List *stages; /* of LlmAskStages */
};

/* Questions of a row ahead of which some are about the answers to others. */
typedef struct LlmAskStages
{
	dlist_node node;
	LlmAskRing *ring;
	LlmAskRow *row;
	MemoryContext context; /* deleted with the row */

	/* Look for answers, and post what is about them, without waiting; in this memory context. */
	void (*go_on)(struct LlmAskStages *stages);
} LlmAskStages;

/* The ring lives as long as the context, and its letters are dropped with it. */
extern LlmAskRing *llm_ask_ring_make(MemoryContext context);
extern void llm_ask_ring_enter(LlmAskRing *ring, const LlmAskRow *row);
extern void llm_ask_ring_leave(LlmAskRing *ring);

/* Post the bytes, or share the letter that asks the same; NULL: there is no room now. */
extern LlmAhead *llm_ask_ring_post(LlmAskRing *ring, const StringInfoData *bytes, bool shares);
extern void llm_ask_ring_release(LlmAskRing *ring, LlmAhead *ahead);

/* The same question, posted again by another command: for all that have the letter. */
extern void llm_ask_ring_renew(LlmAhead *ahead, const StringInfoData *bytes, LlmPosted *posted);

/* The letter is the row's from here on. */
extern void llm_ask_ring_add(LlmAskRing *ring, LlmAskRow *row, LlmAhead *ahead);
extern void llm_ask_ring_release_row(LlmAskRing *ring, LlmAskRow *row);

/* How many more letters may be in flight. */
extern int llm_ask_ring_room(const LlmAskRing *ring);

/* Has it been answered?  Then it is in flight no more. */
extern const char *llm_ask_ring_reply(LlmAskRing *ring, LlmAhead *ahead, Size *len);

/* A struct of so many bytes that begins with an LlmAskStages, in a context of its own; for a row of the ring. */
extern LlmAskStages *llm_ask_ring_follow(LlmAskRing *ring, LlmAskRow *row, Size size,
										 void (*go_on)(LlmAskStages *stages));

/*
 * Have go on what waits for answers, in the ring that is entered, but for the row at hand, which
 * asks for itself; who waits for an answer next wakes the sender.  Only from what its node evaluates: in a
 * function that this calls, roles and settings may be others.
 */
extern void llm_ask_ring_go_on(void);

/* The letter of this question, in the ring that is entered, for a call that is about to ask; NULL: there is none. */
extern LlmAhead *llm_ask_ring_find(const StringInfoData *bytes);

/* Count a reply for which a call has waited: for the command, and for the node that evaluates the call. */
extern void llm_ask_ring_count(const LlmLetterReply *reply, int64 waited_us);

#endif /* LLM_ASK_RING_H */
