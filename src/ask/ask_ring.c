/*-------------------------------------------------------------------------
 *
 * ask_ring.c
 *	  Questions of rows ahead, which are on their way while earlier rows are given.
 *
 * A call does not know that its question is asked already: when it is evaluated it makes
 * its question as ever, and looks here for a letter with the same bytes.  So whatever is
 * posted ahead, a call gives the answer to its own question; a letter too many costs
 * money at worst, and no letter time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "ask/ask_ring.h"
#include "base/guc.h"
#include "letter/letter.h"

/* The ring of the row that is being evaluated; others are behind it.  Ends with the evaluation, or with the ring. */
static LlmAskRing *current_ring = NULL;

void
llm_ask_ring_leave(LlmAskRing *ring)
{
	if (!ring->entered)
		return;
	ring->entered = false;
	for (LlmAskRing **link = &current_ring; *link != NULL; link = &(*link)->outer)
	{
		if (*link == ring)
		{
			*link = ring->outer;
			break;
		}
	}
}

void
llm_ask_ring_enter(LlmAskRing *ring, const LlmAskRow *row)
{
	llm_ask_ring_leave(ring); /* an error left it entered, and was caught */
	ring->outer = current_ring;
	ring->entered = true;
	ring->evaluated = row;
	current_ring = ring;
}

static void
free_ahead(LlmAskRing *ring, LlmAhead *ahead)
{
	if (!ahead->counted)
		llm_ask_tally_give_up(&ring->tally);
	dlist_delete(&ahead->node);
	ring->open--;
	ring->idle -= ahead->idle ? 1 : 0;
	llm_mailbox_drop(ahead->posted);
	pfree(ahead->bytes.data);
	pfree(ahead);
}

/* Memory context callback: the statement is over, one way or another. */
static void
end_ring(void *arg)
{
	LlmAskRing *ring = arg;
	dlist_mutable_iter iter;

	llm_ask_ring_leave(ring);
	dlist_foreach_modify(iter, &ring->letters)
		llm_mailbox_drop(dlist_container(LlmAhead, node, iter.cur)->posted);
	dlist_init(&ring->letters);
}

LlmAskRing *
llm_ask_ring_make(MemoryContext context)
{
	MemoryContext own = AllocSetContextCreate(context, "llm_enrich ring", ALLOCSET_DEFAULT_SIZES);
	LlmAskRing *ring = MemoryContextAllocZero(own, sizeof(LlmAskRing));

	ring->context = own;
	dlist_init(&ring->letters);
	dlist_init(&ring->stages);
	ring->on_reset.func = end_ring;
	ring->on_reset.arg = ring;
	MemoryContextRegisterResetCallback(own, &ring->on_reset);
	return ring;
}

/* Not one whose only call has its answer. */
static LlmAhead *
find_in_ring(LlmAskRing *ring, const StringInfoData *bytes, uint32 hash)
{
	dlist_iter iter;

	dlist_foreach(iter, &ring->letters)
	{
		LlmAhead *ahead = dlist_container(LlmAhead, node, iter.cur);

		if (ahead->hash == hash && ahead->bytes.len == bytes->len && (ahead->shares || !ahead->counted) &&
			memcmp(ahead->bytes.data + LLM_LETTER_KEY, bytes->data + LLM_LETTER_KEY, bytes->len - LLM_LETTER_KEY) == 0)
			return ahead;
	}
	return NULL;
}

static uint32
hash_of(const StringInfoData *bytes)
{
	return hash_bytes((const unsigned char *) bytes->data + LLM_LETTER_KEY, bytes->len - LLM_LETTER_KEY);
}

LlmAhead *
llm_ask_ring_find(const StringInfoData *bytes)
{
	uint32 hash;

	if (current_ring == NULL)
		return NULL;
	hash = hash_of(bytes);
	for (LlmAskRing *ring = current_ring; ring != NULL; ring = ring->outer)
	{
		LlmAhead *ahead = find_in_ring(ring, bytes, hash);

		if (ahead != NULL)
			return ahead;
	}
	return NULL;
}

void
llm_ask_ring_count(const LlmLetterReply *reply, int64 waited_us)
{
	LlmAskRing *ring = current_ring;

	llm_ask_tally_note(ring == NULL ? NULL : &ring->tally, ring == NULL ? NULL : ring->context, reply, waited_us);
}

LlmAhead *
llm_ask_ring_post(LlmAskRing *ring, const StringInfoData *bytes, bool shares)
{
	uint32 hash = hash_of(bytes);
	LlmAhead *ahead = shares ? find_in_ring(ring, bytes, hash) : NULL;
	LlmLetterOwner owner;
	MemoryContext saved;
	bool full;

	if (ahead != NULL)
	{
		ahead->users++;
		return ahead;
	}
	saved = MemoryContextSwitchTo(ring->context);
	ahead = palloc0(sizeof(LlmAhead));
	ahead->ring = ring;
	ahead->users = 1;
	ahead->shares = shares;
	ahead->hash = hash;
	initStringInfo(&ahead->bytes);
	appendBinaryStringInfo(&ahead->bytes, bytes->data, bytes->len);
	MemoryContextSwitchTo(saved);
	owner = llm_letter_owner(bytes->data, bytes->len);
	ahead->posted = llm_mailbox_post(bytes->data, bytes->len, &owner, true, &full);
	if (ahead->posted == NULL)
	{
		ring->is_full = true;
		pfree(ahead->bytes.data);
		pfree(ahead);
		return NULL;
	}
	dlist_push_tail(&ring->letters, &ahead->node);
	ring->open++;
	ring->most_in_flight = Max(ring->most_in_flight, ring->open - ring->idle);
	return ahead;
}

void
llm_ask_ring_renew(LlmAhead *ahead, const StringInfoData *bytes, LlmPosted *posted)
{
	llm_mailbox_drop(ahead->posted);
	ahead->posted = posted;
	ahead->ring->idle -= ahead->idle ? 1 : 0;
	ahead->idle = false;
	memcpy(ahead->bytes.data, bytes->data, LLM_LETTER_KEY);
}

void
llm_ask_ring_release(LlmAskRing *ring, LlmAhead *ahead)
{
	if (ahead != NULL && --ahead->users == 0)
		free_ahead(ring, ahead);
}

void
llm_ask_ring_add(LlmAskRing *ring, LlmAskRow *row, LlmAhead *ahead)
{
	MemoryContext saved = MemoryContextSwitchTo(ring->context);

	row->letters = lappend(row->letters, ahead);
	MemoryContextSwitchTo(saved);
}

void
llm_ask_ring_release_row(LlmAskRing *ring, LlmAskRow *row)
{
	ListCell *cell;

	foreach(cell, row->stages)
	{
		LlmAskStages *stages = lfirst(cell);

		dlist_delete(&stages->node);
		MemoryContextDelete(stages->context);
	}
	list_free(row->stages);
	row->stages = NIL;
	foreach(cell, row->letters)
		llm_ask_ring_release(ring, lfirst(cell));
	list_free(row->letters);
	row->letters = NIL;
}

int
llm_ask_ring_room(const LlmAskRing *ring)
{
	return llm_guc_max_in_flight - (ring->open - ring->idle);
}

const char *
llm_ask_ring_reply(LlmAskRing *ring, LlmAhead *ahead, Size *len)
{
	const char *reply = llm_mailbox_reply(ahead->posted, len);

	if (reply != NULL && !ahead->idle)
	{
		ahead->idle = true;
		ring->idle++;
	}
	return reply;
}

LlmAskStages *
llm_ask_ring_follow(LlmAskRing *ring, LlmAskRow *row, Size size, void (*go_on)(LlmAskStages *stages))
{
	MemoryContext context = AllocSetContextCreate(ring->context, "llm_enrich stages", ALLOCSET_SMALL_SIZES);
	LlmAskStages *stages = MemoryContextAllocZero(context, size);
	MemoryContext saved = MemoryContextSwitchTo(ring->context);

	stages->ring = ring;
	stages->row = row;
	stages->context = context;
	stages->go_on = go_on;
	row->stages = lappend(row->stages, stages);
	MemoryContextSwitchTo(saved);
	dlist_push_tail(&ring->stages, &stages->node);
	return stages;
}

void
llm_ask_ring_go_on(void)
{
	LlmAskRing *ring = current_ring;
	dlist_iter iter;

	if (ring == NULL || dlist_is_empty(&ring->stages))
		return;
	ring->is_full = false;
	dlist_foreach(iter, &ring->stages)
	{
		LlmAskStages *stages = dlist_container(LlmAskStages, node, iter.cur);
		MemoryContext saved;

		if (stages->row == ring->evaluated)
			continue;
		saved = MemoryContextSwitchTo(stages->context);
		stages->go_on(stages);
		MemoryContextSwitchTo(saved);
	}
}
