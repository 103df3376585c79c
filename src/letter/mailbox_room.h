/*-------------------------------------------------------------------------
 *
 * mailbox_room.h
 *	  Who may have how much of the memory for letters.
 *
 * As slots are (ADR 15): a role has at most three quarters of what the others leave, and a
 * model as much of what its role may have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_MAILBOX_ROOM_H
#define LLM_MAILBOX_ROOM_H

#include "base/llm_enrich.h"

#include "port/atomics.h"

/* Those whose hashes leave the same remainder share. */
#define LLM_ROOM_PLACES 1021

/* Whose letter it is: hashes of the role, and of the model that it asks. */
typedef struct LlmLetterOwner
{
	uint32 role;
	uint32 model;
} LlmLetterOwner;

/* Bytes of letters that are there.  In shared memory; any process, without a lock. */
typedef struct LlmRoom
{
	Size whole; /* that there are */
	pg_atomic_uint64 used;
	pg_atomic_uint64 of_role[LLM_ROOM_PLACES];
	pg_atomic_uint64 of_model[LLM_ROOM_PLACES]; /* of a role and a model */
} LlmRoom;

/* What so many bytes take of the area, at most. */
extern Size llm_room_weight(Size size);

extern void llm_room_init(LlmRoom *room, Size whole);

/* Is there room for so many bytes of theirs?  Then they are taken, until they are given back. */
extern bool llm_room_take(LlmRoom *room, const LlmLetterOwner *owner, Size bytes);
extern void llm_room_give_back(LlmRoom *room, const LlmLetterOwner *owner, Size bytes);

#endif /* LLM_MAILBOX_ROOM_H */
