/*-------------------------------------------------------------------------
 *
 * letter_row.h
 *	  llm.letter: requests of immediate calls that are under way.
 *
 * A row is written before the request leaves and goes with its settlement, so that a crash
 * leaves what has to be booked.  All inside a transaction of the sender (spi.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LETTER_ROW_H
#define LLM_LETTER_ROW_H

#include "base/llm_enrich.h"

#include "tables/queue.h"

/* A request that is about to leave. */
typedef struct LlmLetterRow
{
	int64 request; /* set by add() */
	bool carried; /* it is in the request of the row before */
	int64 task;
	int attempt;
	Oid role;
	const LlmLetterFacts *facts;
	const char *server;
	const char *model;
	int64 price; /* llm.price.id, 0: none known */
	int64 input_tokens; /* estimates, for the bill if nobody ever knows better */
	int64 output_tokens;
	int64 reserved; /* nanodollars; 0: nothing bounds it */
} LlmLetterRow;

/* A number for a question, as tasks have them. */
extern int64 llm_letter_row_next_task(void);

extern void llm_letter_row_add(LlmLetterRow *rows, int n);
extern void llm_letter_row_remove(const int64 *requests, int n);

/*
 * What a dead sender left under way, as settlements of outcome "unknown", in the current
 * context: at most "limit" of them.
 */
extern int llm_letter_row_orphans(int limit, LlmSettlement ***settlements);

#endif /* LLM_LETTER_ROW_H */
