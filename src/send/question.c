/*-------------------------------------------------------------------------
 *
 * question.c
 *	  What is being asked now.
 *
 * Equal is what has the same route, recipe and bytes of input.  A route is of one role,
 * and rights end there: an answer never goes to another role.  It is also of one target:
 * after a change of server or model nobody waits for what was asked of the old one.  The
 * sender's memory holds one question for each request in flight, which keeps its route:
 * nothing grows with the backlog.
 *
 * The table finds a question by a hash of all that; what is there is compared in
 * full.  Of two questions with one hash only one is found, which costs a call at
 * worst.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "send/question.h"

/* Requests in flight, as far as the table is made for. */
#define QUESTIONS 256

typedef struct QuestionEntry
{
	uint64 hash; /* hash key: must be first */
	LlmQuestion *question;
} QuestionEntry;

/* All static: the sender's life. */
static HTAB *questions = NULL; /* QuestionEntry, of those that are open */
static dlist_head fresh = DLIST_STATIC_INIT(fresh); /* of the transaction that claims */

static QuestionEntry *
find_entry(uint64 hash, HASHACTION action, bool *found)
{
	if (questions == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(QuestionEntry)};

		questions = hash_create("llm_enrich questions", QUESTIONS, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	return hash_search(questions, &hash, action, found);
}

static bool
is_same(const LlmQuestion *a, const LlmQuestion *b)
{
	return a->route == b->route && a->recipe == b->recipe && a->input_len == b->input_len &&
		   memcmp(a->input, b->input, a->input_len) == 0;
}

static uint64
hash_of(const LlmQuestion *question)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) question->input, (int) question->input_len,
									  (uint64) (uintptr_t) question->route);

	return hash_combine64(hash, (uint64) question->recipe);
}

/* A copy in one piece of memory. */
static LlmQuestion *
copy_question(const LlmQuestion *from)
{
	LlmQuestion *question = MemoryContextAllocExtended(TopMemoryContext, sizeof(LlmQuestion) + from->input_len,
													   MCXT_ALLOC_HUGE);
	char *bytes = (char *) (question + 1);

	*question = *from;
	memcpy(bytes, from->input, from->input_len);
	question->input = bytes;
	return question;
}

LlmQuestion *
llm_question_ask(const LlmRoute *route, int64 recipe, const char *input, size_t input_len, int64 task)
{
	LlmQuestion asked = {.route = route, .recipe = recipe, .input = input, .input_len = input_len};
	LlmQuestion *question;
	QuestionEntry *entry;
	bool found;

	asked.task = task;
	asked.hash = hash_of(&asked);
	entry = find_entry(asked.hash, HASH_FIND, &found);
	if (found && is_same(entry->question, &asked))
		return entry->question;
	question = copy_question(&asked);
	dlist_push_tail(&fresh, &question->node);
	if (!found)
		find_entry(asked.hash, HASH_ENTER, &found)->question = question;
	return question;
}

void
llm_question_keep(void)
{
	dlist_init(&fresh);
}

void
llm_question_undo(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &fresh)
	{
		dlist_delete(iter.cur);
		llm_question_forget(dlist_container(LlmQuestion, node, iter.cur));
	}
}

void
llm_question_close(LlmQuestion *question)
{
	QuestionEntry *entry = find_entry(question->hash, HASH_FIND, NULL);

	if (entry != NULL && entry->question == question)
		find_entry(question->hash, HASH_REMOVE, NULL);
}

void
llm_question_reopen(LlmQuestion *question)
{
	QuestionEntry *entry;
	bool found;

	entry = find_entry(question->hash, HASH_ENTER, &found);
	if (!found)
		entry->question = question;
}

void
llm_question_forget(LlmQuestion *question)
{
	llm_question_close(question);
	pfree(question);
}
