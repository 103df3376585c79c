/*-------------------------------------------------------------------------
 *
 * ask.h
 *	  A call is asked while the statement waits: the backend's half.
 *
 *	  prepare()   the question of a call as evaluated; raises on bad arguments
 *	  post()      on its way, then await() its result; or drop() it
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_H
#define LLM_ASK_H

#include "base/llm_enrich.h"

#include "fmgr.h"
#include "letter/letter.h"
#include "letter/mailbox.h"

/*
 * Wait for the reply to a letter that was posted, in the same way.  The letter stays the
 * caller's, also on an error.  "meanwhile" is called before each sleep; NULL: nothing is.
 */
extern void llm_ask_await(LlmPosted *posted, int patience_ms, void (*meanwhile)(void), LlmLetterReply *reply);

/*
 * Post a question that is waited for as soon as there is room.  Where others' letters have it, that may take
 * as long as they do; raises where the operating system gives none within "patience_ms".  Interruptible.
 */
extern LlmPosted *llm_ask_post(const StringInfoData *bytes, int patience_ms);

/*
 * Have the sender ask, and wait.  The reply's strings are good until release() of the
 * letter; raises when no sender takes it within "patience_ms".  Interruptible; on an error
 * the letter is dropped.
 */
extern LlmPosted *llm_ask_wait(const StringInfoData *bytes, int patience_ms, void (*meanwhile)(void),
							   LlmLetterReply *reply);

/*
 * Have the sender hear what is no question any more, and wait until it has.  Raises nothing where it does not within
 * "patience_ms": the call has an error of its own to tell.  Interruptible.
 */
extern void llm_ask_tell(const StringInfoData *bytes, int patience_ms, void (*meanwhile)(void));

/* What llm.check() shows of a reply, in the current context. */
extern char *llm_ask_trial_text(const LlmLetterReply *reply);

#endif /* LLM_ASK_H */
