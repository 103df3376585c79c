/*-------------------------------------------------------------------------
 *
 * mailbox.h
 *	  Letters of backends to the sender of their database, in shared memory.
 *
 *	  backend:  post()  then wait() and reply() until there is one  then drop()
 *	  sender:   take()  then exactly one of reply_to() and put_back()
 *
 * Both sides hold a letter by a handle of their own process.  A process that ends without drop(),
 * or without reply_to(), does it by an exit callback.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_MAILBOX_H
#define LLM_MAILBOX_H

#include "base/shmem.h"
#include "letter/mailbox_room.h"

extern const LlmShmemPart llm_mailbox_memory;

/* A letter as its backend holds it. */
typedef struct LlmPosted LlmPosted;

/* A letter as the sender holds it; its bytes stay where they are until it is answered. */
typedef struct LlmTaken
{
	struct LlmTakenEntry *entry;
	const char *bytes;
	Size len;
	bool *mark; /* of the sender's own, on the letter: the next sender finds it when it is put back */
} LlmTaken;

/*
 * Post these bytes; NULL when there is no room for its owner now: with "full", because of other letters, which
 * have to be answered, or dropped; else the operating system gives no memory.  "ahead": nobody waits for it
 * yet, so it has room only beside the others of this backend, as far as those that ask ahead share it, and the
 * sender finds it with those that are posted before the next wake_sender().
 * Raises 54000 when there can never be.
 */
extern LlmPosted *llm_mailbox_post(const char *bytes, Size len, const LlmLetterOwner *owner, bool ahead, bool *full);

/* Somebody waits for it now: it is taken next, however many of this backend the sender holds. */
extern void llm_mailbox_hurry(LlmPosted *posted);

/* Has this backend posted letters that the sender does not find before the next wake_sender()? */
extern bool llm_mailbox_has_drafts(void);

/* Wake the sender of this database, or have one started. */
extern void llm_mailbox_wake_sender(void);

/* The reply, which stays until drop(); NULL: there is none yet. */
extern const char *llm_mailbox_reply(LlmPosted *posted, Size *len);

/* Has the sender taken it? */
extern bool llm_mailbox_is_taken(LlmPosted *posted);

/* The letter and its reply are not needed any more.  NULL is fine. */
extern void llm_mailbox_drop(LlmPosted *posted);

/* Sleep until one of this backend's letters may have changed; interruptible. */
extern void llm_mailbox_wait(long timeout_ms);

/* The same, until there may be room; and how many backends, of all databases, do that now. */
extern void llm_mailbox_wait_for_room(long timeout_ms);
extern int llm_mailbox_count_lacking(void);

/* Backends that have letters to this database, posted or held. */
extern int llm_mailbox_count_askers(void);

/*
 * The next letter to this database, in turn over the backends that wait for theirs, or of which fewer than
 * "most" are held; false: there is none.
 */
extern bool llm_mailbox_take(LlmTaken *taken, int most);

/* Does anybody still wait for it? */
extern bool llm_mailbox_is_wanted(const LlmTaken *taken);

/*
 * Give the reply; the handle is gone then.  False when there was no room for it: "instead"
 * was given, which is at most LLM_MAILBOX_SHORT bytes.  Cannot fail.
 */
extern bool llm_mailbox_reply_to(LlmTaken *taken, const char *bytes, Size len, const char *instead, Size instead_len);

#define LLM_MAILBOX_SHORT 1024

/* What the backends get whose letters this sender holds when it ends; at most LLM_MAILBOX_SHORT bytes. */
extern void llm_mailbox_set_farewell(const char *bytes, Size len);

/* It was not sent: the next sender takes it.  The handle is gone then. */
extern void llm_mailbox_put_back(LlmTaken *taken);

/* From here on the sender's end puts the letter back, or (true) gives the farewell. */
extern void llm_mailbox_set_sent(LlmTaken *taken, bool sent);

#endif /* LLM_MAILBOX_H */
