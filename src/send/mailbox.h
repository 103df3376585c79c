/*-------------------------------------------------------------------------
 *
 * mailbox.h
 *	  One backend at a time asks its database's sender for one call outside of
 *	  any table (llm.check) and waits for the answer, without a commit.
 *
 *	  backend:  ask()                          interruptible; everything else follows from it
 *	  sender:   take()  then  answer()
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_MAILBOX_H
#define LLM_MAILBOX_H

#include "base/shmem.h"

#define LLM_MAILBOX_MODEL_BYTES NAMEDATALEN
#define LLM_MAILBOX_ANSWER_BYTES 1024

extern const LlmShmemPart llm_mailbox_memory;

/*
 * Have the sender of this database check a model (NULL: the default) as "role".
 * The answer is palloc'ed; NULL when none came within timeout_ms.
 */
extern char *llm_mailbox_ask(const char *model, Oid role, long timeout_ms);

/* A question for this database's sender that nobody has taken; model "" is the default. */
extern bool llm_mailbox_take(char *model, Oid *role, uint64 *ticket);
extern void llm_mailbox_answer(uint64 ticket, const char *answer);

#endif /* LLM_MAILBOX_H */
