/*-------------------------------------------------------------------------
 *
 * mailbox.c
 *	  Letters of backends to the sender of their database, in shared memory.
 *
 * Each process that may run SQL has a box, with the letters that it has posted and
 * nobody has taken yet, first in, first out.  The sender goes over the boxes in turn, so
 * that a session that posts a thousand letters holds up none that posts one.  The letters lie
 * in a DSA area, which grows as they do and is bounded in bytes (llm_enrich.immediate_memory).
 * Those that are posted ahead may have three quarters of it, divided among the sessions that
 * have some; a sixteenth is kept back for replies; so there is room for whatever is waited for.
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
#include "base/guc.h"
#include "base/shmem.h"
#include "letter/mailbox.h"

/*
 * In sixteenths of the area: letters that nobody waits for yet, and all letters.  One that is waited for has at most
 * what is between: whatever its own backend has ahead, there will be room.
 */
#define PARTS 16
#define AHEAD_PARTS 12
#define LETTER_PARTS 15

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
	bool ahead; /* it was posted before anybody waited for it */
	bool urgent; /* its backend waits for it: it is taken before the others, and however many are held */
	bool marked; /* by the sender that holds it, or by one before */
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
	int held; /* letters of its backend that are taken, not urgent, and not dropped */
	Size ahead; /* bytes of those that it has posted ahead */
	bool lacks_memory; /* its backend waits for some */
	dsa_pointer first; /* InvalidDsaPointer: it is empty */
	dsa_pointer last;
} Box;

typedef struct Mailbox
{
	LWLock *lock;
	int nboxes;
	Size most; /* bytes of the area */
	Size letters; /* of these, of letters */
	Size ahead; /* of these, of letters ahead */
	int askers; /* boxes that have some */
	Size area_offset; /* of the place where the area begins, from here */
	LlmRoom waited; /* of the letters that are waited for, to share it out */
	LlmRoom drafted; /* of those ahead */
	Box boxes[FLEXIBLE_ARRAY_MEMBER];
} Mailbox;

struct LlmPosted
{
	dlist_node node; /* in my_posted */
	dlist_node draft_node; /* in my_drafts, while it is one */
	dsa_pointer at;
	Letter *letter;
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

static Size
part_of_area(int parts)
{
	return mailbox->most / PARTS * parts;
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
	mailbox->most = (Size) llm_guc_immediate_mb * 1024 * 1024;
	mailbox->letters = mailbox->ahead = mailbox->askers = 0;
	mailbox->area_offset = area_offset();
	llm_room_init(&mailbox->waited, part_of_area(LETTER_PARTS));
	llm_room_init(&mailbox->drafted, part_of_area(AHEAD_PARTS));
	for (int i = 0; i < mailbox->nboxes; i++)
		mailbox->boxes[i] = (Box){.first = InvalidDsaPointer, .last = InvalidDsaPointer};
	made = dsa_create_in_place(area_place(), dsa_minimum_size(), mailbox->lock->tranche, NULL);
	dsa_pin(made);
	dsa_set_size_limit(made, mailbox->most);
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

static LlmRoom *
room_of(bool ahead)
{
	return ahead ? &mailbox->drafted : &mailbox->waited;
}

/* Count the letter's bytes, if there is room for them, and its owner may have it. */
static bool
take_room(int number, const LlmLetterOwner *owner, Size weight, bool ahead)
{
	Box *box = &mailbox->boxes[number];
	Size most = part_of_area(AHEAD_PARTS);
	bool fits;

	LWLockAcquire(mailbox->lock, LW_EXCLUSIVE);
	fits = mailbox->letters + weight <= part_of_area(LETTER_PARTS);
	if (ahead && box->ahead > 0)
		fits = fits && box->ahead + weight <= most / mailbox->askers;
	if (ahead)
		fits = fits && mailbox->ahead + weight <= most;
	fits = fits && llm_room_take(room_of(ahead), owner, weight);
	if (fits)
		mailbox->letters += weight;
	if (fits && ahead)
	{
		mailbox->askers += box->ahead == 0 ? 1 : 0;
		box->ahead += weight;
		mailbox->ahead += weight;
	}
	LWLockRelease(mailbox->lock);
	return fits;
}

static void
give_room(int number, const LlmLetterOwner *owner, Size weight, bool ahead)
{
	Box *box = &mailbox->boxes[number];

	llm_room_give_back(room_of(ahead), owner, weight);
	LWLockAcquire(mailbox->lock, LW_EXCLUSIVE);
	mailbox->letters -= weight;
	if (ahead)
	{
		box->ahead -= weight;
		mailbox->ahead -= weight;
		mailbox->askers -= box->ahead == 0 ? 1 : 0;
	}
	LWLockRelease(mailbox->lock);
}

/* Free a letter that neither side holds any more. */
static void
free_letter(dsa_pointer at)
{
	Letter *letter = letter_at(at);

	give_room(letter->box, &letter->owner, llm_room_weight(offsetof(Letter, bytes) + letter->len), letter->ahead);
	if (DsaPointerIsValid(letter->reply))
		dsa_free(area, letter->reply);
	dsa_free(area, at);
}

/* The lock is held.  Behind the others, or before them; but before no urgent one, unless it is one itself. */
static void
put_into_box(dsa_pointer at, Letter *letter, bool first)
{
	Box *box = &mailbox->boxes[letter->box];
	dsa_pointer *link = first || !DsaPointerIsValid(box->last) ? &box->first : &letter_at(box->last)->next;

	while (DsaPointerIsValid(*link) && letter_at(*link)->urgent && !letter->urgent)
		link = &letter_at(*link)->next;
	letter->state = LETTER_POSTED;
	letter->next = *link;
	*link = at;
	if (!DsaPointerIsValid(letter->next))
		box->last = at;
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
		put_into_box(posted->at, posted->letter, posted->letter->urgent);
	}
	LWLockRelease(mailbox->lock);
}

LlmPosted *
llm_mailbox_post(const char *bytes, Size len, const LlmLetterOwner *owner, bool ahead, bool *full)
{
	Size size = offsetof(Letter, bytes) + len;
	Size largest = part_of_area(LETTER_PARTS - AHEAD_PARTS);
	int box = llm_process_number();
	LlmPosted *posted;
	Letter *letter;
	dsa_pointer at;

	attach();
	if (llm_room_weight(size) > largest)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a question of %zu bytes is too long", len),
				 errdetail("With its arguments it may have %zu bytes at most.", largest - offsetof(Letter, bytes)),
				 errhint("Raise \"llm_enrich.immediate_memory\" and restart the server.")));
	posted = MemoryContextAlloc(TopMemoryContext, sizeof(LlmPosted));
	*full = !take_room(box, owner, llm_room_weight(size), ahead);
	if (*full)
	{
		pfree(posted);
		return NULL;
	}
	at = allocate(size);
	if (!DsaPointerIsValid(at))
	{
		give_room(box, owner, llm_room_weight(size), ahead);
		pfree(posted);
		return NULL;
	}
	letter = letter_at(at);
	letter->dropped = false;
	letter->marked = false;
	letter->ahead = ahead;
	letter->urgent = !ahead;
	letter->box = box;
	letter->reply = InvalidDsaPointer;
	letter->reply_len = 0;
	letter->len = len;
	letter->owner = *owner;
	memcpy(letter->bytes, bytes, len);
	posted->at = at;
	posted->letter = letter;
	letter->state = LETTER_DRAFT;
	dlist_push_tail(&my_posted, &posted->node);
	dlist_push_tail(&my_drafts, &posted->draft_node);
	if (!ahead)
		put_drafts_into_box();
	return posted;
}

void
llm_mailbox_hurry(LlmPosted *posted)
{
	Letter *letter = posted->letter;
	bool moved = false;

	if (letter->urgent)
		return;
	LWLockAcquire(mailbox->lock, LW_EXCLUSIVE);
	letter->urgent = (letter->state == LETTER_POSTED || letter->state == LETTER_DRAFT);
	if (letter->state == LETTER_POSTED)
	{
		take_out_of_box(posted->at, letter);
		put_into_box(posted->at, letter, true);
		moved = mailbox->boxes[letter->box].held > 0; /* else the sender leaves none there */
	}
	LWLockRelease(mailbox->lock);
	if (moved)
		llm_shmem_wake(MyDatabaseId, LLM_WORKER_SENDER);
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
		mailbox->boxes[posted->letter->box].held -= posted->letter->urgent ? 0 : 1;
		is_last = false;
	}
	LWLockRelease(mailbox->lock);
	if (is_last)
		free_letter(posted->at);
	posted->letter = NULL;
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

static void
wait_for(long timeout_ms, uint32 wait_event)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms, wait_event);
	ResetLatch(MyLatch);
}

void
llm_mailbox_wait(long timeout_ms)
{
	static uint32 number = 0;

	wait_for(timeout_ms, llm_wait_event(number, "LlmEnrichAnswer"));
	CHECK_FOR_INTERRUPTS();
}

void
llm_mailbox_wait_for_room(long timeout_ms)
{
	static uint32 number = 0;
	bool *lacks = &mailbox->boxes[llm_process_number()].lacks_memory;

	*lacks = true;
	wait_for(timeout_ms, llm_wait_event(number, "LlmEnrichMemory"));
	*lacks = false;
	CHECK_FOR_INTERRUPTS();
}

int
llm_mailbox_count_lacking(void)
{
	int lacking = 0;

	for (int i = 0; i < mailbox->nboxes; i++)
		lacking += mailbox->boxes[i].lacks_memory ? 1 : 0;
	return lacking;
}

int
llm_mailbox_count_askers(void)
{
	int askers = 0;

	LWLockAcquire(mailbox->lock, LW_SHARED);
	for (int i = 0; i < mailbox->nboxes; i++)
	{
		const Box *box = &mailbox->boxes[i];

		if (box->database == MyDatabaseId && (DsaPointerIsValid(box->first) || box->held > 0))
			askers++;
	}
	LWLockRelease(mailbox->lock);
	return askers;
}

/* May its first letter be taken, where fewer than "most" are held?  The lock is held. */
static bool
is_to_be_taken(const Box *box, int most)
{
	return box->database == MyDatabaseId && DsaPointerIsValid(box->first) &&
		   (box->held < most || letter_at(box->first)->urgent);
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
		mailbox->boxes[number].held += entry->letter->urgent ? 0 : 1;
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
	taken->mark = &entry->letter->marked;
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
	if (!dropped && !letter->urgent)
		mailbox->boxes[box].held--;
	letter->state = LETTER_REPLIED; /* from here on it is the backend's, unless that has left */
	LWLockRelease(mailbox->lock);
	forget_taken(entry, dropped);
	taken->entry = NULL;
	if (!dropped)
		SetLatch(&ProcGlobal->allProcs[box].procLatch); /* stays where it is, should it exit now */
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
		mailbox->boxes[entry->letter->box].held -= entry->letter->urgent ? 0 : 1;
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
