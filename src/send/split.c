/*-------------------------------------------------------------------------
 *
 * split.c
 *	  Tasks of requests that were refused as a whole: they go again in parts.
 *
 * A provider that refuses one input refuses the request that carried it, and seldom says
 * which input it was.  So the tasks go again in two requests, and so on until the one stands
 * alone: of 128 tasks it takes fifteen requests, which cost nothing where they are refused,
 * and only that one is charged.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "send/split.h"

/* Tasks in mind; the longest ago is forgotten first. */
#define MOST_SPLIT 65536

typedef struct SplitTask
{
	int64 task; /* hash key: must be first */
	dlist_node node; /* in the order of their splits */
	uint64 part;
} SplitTask;

/* All static: the sender's life. */
static HTAB *by_task = NULL;
static dlist_head in_order = DLIST_STATIC_INIT(in_order);
static uint64 last_part = 0;

static void
make_table(void)
{
	HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(SplitTask)};

	by_task = hash_create("llm_enrich split tasks", 256, &ctl, HASH_ELEM | HASH_BLOBS);
}

static void
forget(SplitTask *split)
{
	dlist_delete(&split->node);
	hash_search(by_task, &split->task, HASH_REMOVE, NULL);
}

static void
put_into(int64 task, uint64 part)
{
	SplitTask *split;
	bool found;

	if (hash_get_num_entries(by_task) >= MOST_SPLIT)
		forget(dlist_container(SplitTask, node, dlist_head_node(&in_order)));
	split = hash_search(by_task, &task, HASH_ENTER, &found);
	if (found)
		dlist_delete(&split->node);
	dlist_push_tail(&in_order, &split->node);
	split->part = part;
}

void
llm_split(const LlmRequest *request)
{
	if (by_task == NULL)
		make_table();
	for (int i = 0; i < request->nflights; i++)
		put_into(request->flights[i].task, last_part + (i < request->nflights / 2 ? 1 : 2));
	last_part += 2;
}

uint64
llm_split_part(int64 task)
{
	SplitTask *split = by_task == NULL ? NULL : hash_search(by_task, &task, HASH_FIND, NULL);

	return split == NULL ? 0 : split->part;
}

void
llm_split_forget(int64 task)
{
	SplitTask *split = by_task == NULL ? NULL : hash_search(by_task, &task, HASH_FIND, NULL);

	if (split != NULL)
		forget(split);
}
