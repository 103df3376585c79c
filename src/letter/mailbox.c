/*-------------------------------------------------------------------------
 *
 * mailbox.c
 *	  Letters of backends to the sender of their database, in shared memory.
 *
 * Each process that may run SQL has a box, with the letters that it has posted and
 * nobody has taken yet, first in, first out.  The sender goes over the boxes in turn, so
 * that a session that posts a thousand letters holds up none that posts one.  The letters lie
 * in a DSA area, which grows as they do and is bounded in bytes.
 *
 * A letter belongs to the box while it is posted, then to both sides: the side that leaves last
 * frees it.  One LWLock guards boxes and states, held for a few loads and stores; bytes
 * are written before a letter is posted, or its reply given, and only read afterwards.  Who may
 * have how much of the area is in mailbox_room.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/dsa.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "letter/mailbox.h"

/* All letters together, and those of one backend beside which it may have one more ahead. */
#define AREA_BYTES ((Size) 512 * 1024 * 1024)
#define BACKEND_BYTES ((Size) 128 * 1024 * 1024)

typedef enum LetterState
{
	LETTER_POSTED = 0, /* in its box; -> TAKEN, by the sender; freed by its backend */
	LETTER_TAKEN, /* -> REPLIED or -> POSTED, by the sender */
	LETTER_REPLIED, /* freed by its backend */
	LETTER_DRAFT /* in no box yet; -> POSTED, or freed, by its backend */
} LetterState;

typedef struct Letter
{
	LetterState state;
	bool dropped; /* its backend has left: the sender frees it */
	int box;
	dsa_pointer next; /* in the box, while posted */
	dsa_pointer reply; /* InvalidDsaPointer: it is in "brief" */
	Size reply_len;
	Size len;
	LlmLetterOwner owner; /* whose room it takes */
	char brief[LLM_MAILBOX_SHORT];
	char bytes[FLEXIBLE_ARRAY_MEMBER];
} Letter;

typedef struct Box
{
	Oid database; /* of the letters in it */
	int held; /* letters of its backend that are taken, and not dropped */
	dsa_pointer first; /* InvalidDsaPointer: it is empty */
	dsa_pointer last;
} Box;

typedef struct Mailbox
{
	LWLock *lock;
	int nboxes;
	Size area_offset; /* of the place where the area begins, from here */
	LlmRoom room; /* of the area, to share it out */
	Box boxes[FLEXIBLE_ARRAY_MEMBER];
} Mailbox;

struct LlmPosted
{
	dlist_node node; /* in my_posted */
	dlist_node draft_node; /* in my_drafts, while it is one */
	dsa_pointer at;
	Letter *letter;
	Size bytes;
};

typedef struct LlmTakenEntry
{
	dlist_node node; /* in my_taken */
	dsa_pointer at;
	Letter *letter;
	bool sent;
} LlmTakenEntry;

/* All static: the life of the process. */
static Mailbox *mailbox = NULL; /* shared memory; NULL unless preloaded */
static dsa_area *area = NULL; /* attached at first use */
static dlist_head my_posted = DLIST_STATIC_INIT(my_posted);
static dlist_head my_drafts = DLIST_STATIC_INIT(my_drafts); /* of these, those in no box yet */
static Size my_bytes = 0; /* of all */
static dlist_head my_taken = DLIST_STATIC_INIT(my_taken);
static int next_box = 0; /* the sender's turn */
static char farewell[LLM_MAILBOX_SHORT];
static Size farewell_len = 0;

static Size
area_offset(void)
{
	return MAXALIGN(offsetof(Mailbox, boxes) + mul_size(MaxBackends, sizeof(Box)));
}

static Size
memory_size(void)
{
	return add_size(area_offset(), MAXALIGN(dsa_minimum_size()));
}

static void *
area_place(void)
{
	return (char *) mailbox + mailbox->area_offset;
}

static void
memory_init(bool found, void *memory)
{
	dsa_area *made;

	mailbox = memory;
	if (found)
		return;
	mailbox->lock = &GetNamedLWLockTranche(llm_mailbox_memory.name)->lock;
	mailbox->nboxes = MaxBackends;
	mailbox->area_offset = area_offset();
	llm_room_init(&mailbox->room, AREA_BYTES);
	for (int i = 0; i < mailbox->nboxes; i++)
	{
		mailbox->boxes[i].database = InvalidOid;
		mailbox->boxes[i].held = 0;
		mailbox->boxes[i].first = InvalidDsaPointer;
		mailbox->boxes[i].last = InvalidDsaPointer;
	}
	made = dsa_create_in_place(area_place(), dsa_minimum_size(), mailbox->lock->tranche, NULL);
	dsa_pin(made);
	dsa_set_size_limit(made, AREA_BYTES);
	dsa_detach(made);
}

const LlmShmemPart llm_mailbox_memory = {LLM_LIBRARY " mailbox", 1, memory_size, memory_init};

static void let_go(LlmPosted *posted);

/* Exit callback: this process leaves, whatever it holds. */
static void
leave(int code, Datum arg)
{
	/* their holder may still drop them: the transaction is undone after this */
	while (!dlist_is_empty(&my_posted))
		let_go(dlist_container(LlmPosted, node, dlist_head_node(&my_posted)));
	while (!dlist_is_empty(&my_taken))
	{
		LlmTakenEntry *entry = dlist_container(LlmTakenEntry, node, dlist_tail_node(&my_taken));
		LlmTaken taken = {entry, entry->letter->bytes, entry->letter->len};

		if (entry->sent)
			llm_mailbox_reply_to(&taken, farewell, farewell_len, farewell, farewell_len);
		else
			llm_mailbox_put_back(&taken);
	}
}

static void
detach(int code, Datum arg)
{
	dsa_release_in_place(area_place());
}

/* The area stays attached for the life of the process. */
static void
attach(void)
{
	MemoryContext caller;

	if (area != NULL)
		return;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	area = dsa_attach_in_place(area_place(), NULL);
	MemoryContextSwitchTo(caller);
	dsa_pin_mapping(area);
	on_shmem_exit(detach, (Datum) 0);
	before_shmem_exit(leave, (Datum) 0);
}

static Letter *
letter_at(dsa_pointer at)
{
	return dsa_get_address(area, at);
}

/*
 * Room for so many bytes; InvalidDsaPointer when there is none, which is no error here.  Where the operating
 * system refuses more shared memory, the area raises with its own locks held: they are released, and no caller
 * may hold a lock of that kind.  The area is no resource of a transaction, nor is what it did not get.
 */
static dsa_pointer
allocate(Size len)
{
	volatile dsa_pointer at = InvalidDsaPointer;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	uint32 holdoff = InterruptHoldoffCount;

	CurrentResourceOwner = NULL;
	PG_TRY();
	{
		at = dsa_allocate_extended(area, len, DSA_ALLOC_HUGE | DSA_ALLOC_NO_OOM);
	}
	PG_CATCH();
	{
		LWLockReleaseAll();
		InterruptHoldoffCount = holdoff; /* raising has set it to zero */
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	return at;
}

static Size
letter_size(Size len)
{
	return offsetof(Letter, bytes) + len;
}

/* Free a letter that neither side holds any more. */
static void
free_letter(dsa_pointer at)
{
	Letter *letter = letter_at(at);
	LlmLetterOwner owner = letter->owner;
	Size size = letter_size(letter->len);

	if (DsaPointerIsValid(letter->reply))
		dsa_free(area, letter->reply);
	dsa_free(area, at);
	llm_room_give_back(&mailbox->room, &owner, size);
}

/* The lock is held.  Behind the others, or before them. */
static void
put_into_box(dsa_pointer at, Letter *letter, bool first)
{
	Box *box = &mailbox->boxes[letter->box];

	letter->state = LETTER_POSTED;
	letter->next = first ? box->first : InvalidDsaPointer;
	if (!DsaPointerIsValid(box->first))
		box->first = box->last = at;
	else if (first)
		box->first = at;
	else
	{
		letter_at(box->last)->next = at;
		box->last = at;
	}
}

/* The lock is held. */
static void
take_out_of_box(dsa_pointer at, Letter *letter)
{
	Box *box = &mailbox->boxes[letter->box];
	dsa_pointer before = InvalidDsaPointer;

	for (dsa_pointer p = box->first; p != at; p = letter_at(p)->next)
		before = p;
	if (DsaPointerIsValid(before))
		letter_at(before)->next = letter->next;
	else
		box->first = letter->next;
	if (box->last == at)
		box->last = before;
}

/* All at once: the sender finds all of them or none, and may put them into one request. */
static void
put_drafts_into_box(void)
{
	if (dlist_is_empty(&my_drafts))
		return;
	LWLockAcquire(mailbox->lock, LW_EXCLUSIVE);
	while (!dlist_is_empty(&my_drafts))
	{
		LlmPosted *posted = dlist_container(LlmPosted, draft_node, dlist_pop_head_node(&my_drafts));

		mailbox->boxes[posted->letter->box].database = MyDatabaseId;
		put_into_box(posted->at, posted->letter, false);
	}
	LWLockRelease(mailbox->lock);
}

LlmPosted *
llm_mailbox_post(const char *bytes, Size len, const LlmLetterOwner *owner, bool ahead)
{
	Size size = letter_size(len);
	LlmPosted *posted;
	Letter *letter;
	dsa_pointer at;

	attach();
	if (size > BACKEND_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a question of %zu bytes is too long", len),
				 errdetail("With its arguments it may have %zu bytes at most.", BACKEND_BYTES)));
	/* a letter that is waited for is not behind those that are dropped only after it */
	if (ahead && my_bytes > 0 && my_bytes + size > BACKEND_BYTES)
		return NULL;
	posted = MemoryContextAlloc(TopMemoryContext, sizeof(LlmPosted));
	if (!llm_room_take(&mailbox->room, owner, size))
	{
		pfree(posted);
		return NULL;
	}
	at = allocate(size);
	if (!DsaPointerIsValid(at))
	{
		llm_room_give_back(&mailbox->room, owner, size);
		pfree(posted);
		return NULL;
	}
	letter = letter_at(at);
	letter->dropped = false;
	letter->box = llm_process_number();
	letter->reply = InvalidDsaPointer;
	letter->reply_len = 0;
	letter->len = len;
	letter->owner = *owner;
	memcpy(letter->bytes, bytes, len);
	posted->at = at;
	posted->letter = letter;
	posted->bytes = size;
	letter->state = LETTER_DRAFT;
	my_bytes += size;
	dlist_push_tail(&my_posted, &posted->node);
	dlist_push_tail(&my_drafts, &posted->draft_node);
	if (!ahead)
		put_drafts_into_box();
	return posted;
}

bool
llm_mailbox_has_drafts(void)
{
	return !dlist_is_empty(&my_drafts);
}

void
llm_mailbox_wake_sender(void)
{
	put_drafts_into_box();
	llm_shmem_wake(MyDatabaseId, LLM_WORKER_SENDER);
}

const char *
llm_mailbox_reply(LlmPosted *posted, Size *len)
{
	Letter *letter = posted->letter;
	LetterState state;

	LWLockAcquire(mailbox->lock, LW_SHARED);
	state = letter->state;
	LWLockRelease(mailbox->lock);
	if (state != LETTER_REPLIED)
		return NULL;
	*len = letter->reply_len;
	return DsaPointerIsValid(letter->reply) ? dsa_get_address(area, letter->reply) : letter->brief;
}

bool
llm_mailbox_is_taken(LlmPosted *posted)
{
	LetterState state;

	LWLockAcquire(mailbox->lock, LW_SHARED);
	state = posted->letter->state;
	LWLockRelease(mailbox->lock);
	return state != LETTER_POSTED && state != LETTER_DRAFT;
}

/* The backend does not hold it any more. */
static void
let_go(LlmPosted *posted)
{
	bool is_last = true;

	LWLockAcquire(mailbox->lock, LW_EXCLUSIVE);
	if (posted->letter->state == LETTER_DRAFT)
		dlist_delete(&posted->draft_node);
	else if (posted->letter->state == LETTER_POSTED)
		take_out_of_box(posted->at, posted->letter);
	else if (posted->letter->state == LETTER_TAKEN)
	{
		posted->letter->dropped = true;
		mailbox->boxes[posted->letter->box].held--;
		is_last = false;
	}
	LWLockRelease(mailbox->lock);
	if (is_last)
		free_letter(posted->at);
	posted->letter = NULL;
	my_bytes -= posted->bytes;
	dlist_delete(&posted->node);
}

void
llm_mailbox_drop(LlmPosted *posted)
{
	if (posted == NULL)
		return;
	if (posted->letter != NULL) /* else this process is about to exit, and has left */
		let_go(posted);
	pfree(posted);
}

void
llm_mailbox_wait(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* May letters be taken from it, of which fewer than "most" are held?  The lock is held. */
static bool
is_to_be_taken(const Box *box, int most)
{
	return box->database == MyDatabaseId && DsaPointerIsValid(box->first) && box->held < most;
}

/* The lock is held: the box whose turn it is; -1: none has letters that may be taken. */
static int
find_box(int most)
{
	for (int i = 0; i < mailbox->nboxes; i++)
	{
		int number = (next_box + i) % mailbox->nboxes;

		if (is_to_be_taken(&mailbox->boxes[number], most))
			return number;
	}
	return -1;
}

bool
llm_mailbox_take(LlmTaken *taken, int most)
{
	LlmTakenEntry *entry;
	int number;

	attach();
	entry = MemoryContextAlloc(TopMemoryContext, sizeof(LlmTakenEntry));
	LWLockAcquire(mailbox->lock, LW_EXCLUSIVE);
	number = find_box(most);
	if (number >= 0)
	{
		entry->at = mailbox->boxes[number].first;
		entry->letter = letter_at(entry->at);
		take_out_of_box(entry->at, entry->letter);
		entry->letter->state = LETTER_TAKEN;
		mailbox->boxes[number].held++;
		next_box = (number + 1) % mailbox->nboxes;
	}
	LWLockRelease(mailbox->lock);
	if (number < 0)
	{
		pfree(entry);
		return false;
	}
	entry->sent = false;
	dlist_push_tail(&my_taken, &entry->node);
	taken->entry = entry;
	taken->bytes = entry->letter->bytes;
	taken->len = entry->letter->len;
	return true;
}

bool
llm_mailbox_is_wanted(const LlmTaken *taken)
{
	bool wanted;

	LWLockAcquire(mailbox->lock, LW_SHARED);
	wanted = !taken->entry->letter->dropped;
	LWLockRelease(mailbox->lock);
	return wanted;
}

/* The sender does not hold it any more. */
static void
forget_taken(LlmTakenEntry *entry, bool dropped)
{
	if (dropped)
		free_letter(entry->at);
	dlist_delete(&entry->node);
	pfree(entry);
}

/* Its backend may exit at any time; its latch stays where it is. */
static void
wake_owner(int box)
{
	SetLatch(&ProcGlobal->allProcs[box].procLatch);
}

bool
llm_mailbox_reply_to(LlmTaken *taken, const char *bytes, Size len, const char *instead, Size instead_len)
{
	LlmTakenEntry *entry = taken->entry;
	Letter *letter = entry->letter;
	dsa_pointer at = len <= sizeof(letter->brief) ? InvalidDsaPointer : allocate(len);
	bool fits = len <= sizeof(letter->brief) || DsaPointerIsValid(at);
	int box = letter->box;
	bool dropped;

	Assert(instead_len <= sizeof(letter->brief));
	if (DsaPointerIsValid(at))
		memcpy(dsa_get_address(area, at), bytes, len);
	else
		memcpy(letter->brief, fits ? bytes : instead, fits ? len : instead_len);
	letter->reply = at;
	letter->reply_len = fits ? len : instead_len;
	LWLockAcquire(mailbox->lock, LW_EXCLUSIVE);
	dropped = letter->dropped;
	if (!dropped)
		mailbox->boxes[box].held--;
	letter->state = LETTER_REPLIED; /* from here on it is the backend's, unless that has left */
	LWLockRelease(mailbox->lock);
	forget_taken(entry, dropped);
	taken->entry = NULL;
	if (!dropped)
		wake_owner(box);
	return fits;
}

void
llm_mailbox_put_back(LlmTaken *taken)
{
	LlmTakenEntry *entry = taken->entry;
	bool dropped;

	LWLockAcquire(mailbox->lock, LW_EXCLUSIVE);
	dropped = entry->letter->dropped;
	if (!dropped)
	{
		mailbox->boxes[entry->letter->box].held--;
		put_into_box(entry->at, entry->letter, true);
	}
	LWLockRelease(mailbox->lock);
	forget_taken(entry, dropped);
	taken->entry = NULL;
}

void
llm_mailbox_set_sent(LlmTaken *taken, bool sent)
{
	taken->entry->sent = sent;
}

void
llm_mailbox_set_farewell(const char *bytes, Size len)
{
	Assert(len <= sizeof(farewell));
	memcpy(farewell, bytes, len);
	farewell_len = len;
}
