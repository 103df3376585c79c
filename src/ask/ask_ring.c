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
llm_ask_ring_enter(LlmAskRing *ring)
{
	llm_ask_ring_leave(ring); /* an error left it entered, and was caught */
	ring->outer = current_ring;
	ring->entered = true;
	current_ring = ring;
}

static void
free_ahead(LlmAskRing *ring, LlmAhead *ahead)
{
	if (!ahead->counted)
		llm_ask_tally_give_up(&ring->tally);
	dlist_delete(&ahead->node);
	ring->open--;
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
	MemoryContext saved;

	if (ahead != NULL)
	{
		ahead->users++;
		return ahead;
	}
	saved = MemoryContextSwitchTo(ring->context);
	ahead = palloc0(sizeof(LlmAhead));
	ahead->users = 1;
	ahead->shares = shares;
	ahead->hash = hash;
	initStringInfo(&ahead->bytes);
	appendBinaryStringInfo(&ahead->bytes, bytes->data, bytes->len);
	MemoryContextSwitchTo(saved);
	ahead->posted = llm_mailbox_post(bytes->data, bytes->len, true);
	if (ahead->posted == NULL)
	{
		ring->is_full = true;
		pfree(ahead->bytes.data);
		pfree(ahead);
		return NULL;
	}
	dlist_push_tail(&ring->letters, &ahead->node);
	ring->open++;
	ring->most_open = Max(ring->most_open, ring->open);
	return ahead;
}

void
llm_ask_ring_release(LlmAskRing *ring, LlmAhead *ahead)
{
	if (ahead != NULL && --ahead->users == 0)
		free_ahead(ring, ahead);
}
