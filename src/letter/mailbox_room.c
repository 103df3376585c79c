/*-------------------------------------------------------------------------
 *
 * mailbox_room.c
 *	  Who may have how much of the memory for letters.
 *
 * A letter is there until its request has ended, also when its backend has left: a role
 * whose provider is silent would have all of the memory, and those who ask another one none.
 * A share for each session is no use, since letters outlive them, and who connects once may
 * connect often.  Places are found by hash, so that there is no table of roles to fill up.
 *
 * Two that take at the same time may both be refused where one would have fitted, and try again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "letter/mailbox_room.h"

/* A DSA area has classes of sizes, a quarter apart, up to this; and pages above. */
#define SMALL_BYTES 8192
#define PAGE_BYTES 4096

Size
llm_room_weight(Size size)
{
	return size <= SMALL_BYTES ? size + size / 4 : TYPEALIGN(PAGE_BYTES, size);
}

static pg_atomic_uint64 *
role_place(LlmRoom *room, const LlmLetterOwner *owner)
{
	return &room->of_role[owner->role % LLM_ROOM_PLACES];
}

static pg_atomic_uint64 *
model_place(LlmRoom *room, const LlmLetterOwner *owner)
{
	return &room->of_model[hash_combine(owner->role, owner->model) % LLM_ROOM_PLACES];
}

void
llm_room_init(LlmRoom *room, Size whole)
{
	room->whole = whole;
	pg_atomic_init_u64(&room->used, 0);
	for (int i = 0; i < LLM_ROOM_PLACES; i++)
	{
		pg_atomic_init_u64(&room->of_role[i], 0);
		pg_atomic_init_u64(&room->of_model[i], 0);
	}
}

/* Three quarters of what the others leave of so much; those who share a place are none of them. */
static uint64
most(uint64 whole, uint64 all, uint64 own)
{
	uint64 others = all > own ? all - own : 0;

	return whole > others ? (whole - others) / 4 * 3 : 0;
}

bool
llm_room_take(LlmRoom *room, const LlmLetterOwner *owner, Size bytes)
{
	uint64 used = pg_atomic_add_fetch_u64(&room->used, bytes);
	uint64 of_role = pg_atomic_add_fetch_u64(role_place(room, owner), bytes);
	uint64 of_model = pg_atomic_add_fetch_u64(model_place(room, owner), bytes);
	uint64 most_of_role = most(room->whole, used, of_role);

	if (of_role <= most_of_role && of_model <= most(most_of_role, of_role, of_model))
		return true;
	llm_room_give_back(room, owner, bytes);
	return false;
}

void
llm_room_give_back(LlmRoom *room, const LlmLetterOwner *owner, Size bytes)
{
	(void) pg_atomic_sub_fetch_u64(model_place(room, owner), bytes);
	(void) pg_atomic_sub_fetch_u64(role_place(room, owner), bytes);
	(void) pg_atomic_sub_fetch_u64(&room->used, bytes);
}
