/*-------------------------------------------------------------------------
 *
 * ask_tally.h
 *	  What calls have cost: of a plan node, and of the client's command.
 *
 *	  note()     for each reply
 *	  give_up()  a question whose reply nobody reads
 *	  tell()     when the outermost statement or command has ended
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_TALLY_H
#define LLM_ASK_TALLY_H

#include "base/llm_enrich.h"

#include "letter/letter.h"
#include "utils/numeric.h"

/* Zeros are an empty one. */
typedef struct LlmAskTally
{
	int64 calls; /* whose reply has come, those below among them */
	int64 kept; /* answers that were there */
	int64 failed; /* calls without an answer */
	int64 requests;
	int64 given_up; /* questions posted for rows that were not wanted after all */
	int64 input_tokens;
	int64 output_tokens;
	Numeric cost; /* US dollars, of what has a price; NULL: nothing yet */
	bool unpriced; /* there is more, whose price is not known */
	int64 waited_us;
} LlmAskTally;

/*
 * Count a reply, for which the caller has waited so long, in the command's tally and in the
 * node's (or NULL), whose memory is "context".
 */
extern void llm_ask_tally_note(LlmAskTally *node, MemoryContext context, const LlmLetterReply *reply,
							   int64 waited_us);
extern void llm_ask_tally_give_up(LlmAskTally *node);

/* What the replies have cost that the client's command has counted, in nanodollars. */
extern int64 llm_ask_tally_spent(void);

/* "0.0021", in the current context; NULL: no price is known of any. */
extern char *llm_ask_tally_cost(const LlmAskTally *tally);

/* Tell the client what its command has asked, once (llm_enrich.notices). */
extern void llm_ask_tally_tell(void);

#endif /* LLM_ASK_TALLY_H */
