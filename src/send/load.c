/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Which claimed tasks go in one request.
 *
 * One each, but for vectors: of those a request carries as many as the dialect takes, up to a
 * bound of our own, and of about so many bytes.  Claims come in the order of their tasks,
 * and each joins the last load of its kind that has room, so that a table is sent from its
 * beginning to its end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"
#include "send/flight_recipe.h"
#include "send/joblist.h"
#include "send/load.h"
#include "send/split.h"

/* Tasks of one job that are claimed at a time. */
#define MOST_CLAIMED 1000

/* Loads that are looked at for room: a claim has few routes and recipes, but may have many parts. */
#define LOADS_BACK 64

int
llm_load_width(const LlmRoute *route, LlmRequestKind kind)
{
	return llm_dialect_width(route->dialect, kind);
}

int
llm_load_tasks(const LlmRoute *route, LlmRequestKind kind, int carried, int requests)
{
	int width = llm_load_width(route, kind);

	if (width == 1)
		return requests;
	/* more than there is room for would be claimed in vain */
	if (carried > 0)
		width = Min(width, carried + carried / 4 + 1);
	return Min(requests, Max(MOST_CLAIMED / width, 1)) * width;
}

static bool
has_room(LlmLoad *load, Size bytes)
{
	if (load->n >= load->room)
		return false;
	load->is_full = load->bytes + bytes > LLM_LOAD_BYTES;
	return !load->is_full;
}

/* The newest load that has room; NULL: none. */
static LlmLoad *
find_load(List *loads, const LlmRoute *route, int64 recipe, uint64 part, Size bytes)
{
	int first = Max(list_length(loads) - LOADS_BACK, 0);

	for (int i = list_length(loads) - 1; i >= first; i--)
	{
		LlmLoad *load = list_nth(loads, i);

		if (load->route == route && load->recipe == recipe && load->part == part && has_room(load, bytes))
			return load;
	}
	return NULL;
}

static LlmLoad *
start_load(LlmRoute *route, int64 recipe, uint64 part, int room)
{
	LlmLoad *load = palloc0(sizeof(LlmLoad));

	load->route = route;
	load->recipe = recipe;
	load->part = part;
	load->room = room;
	load->claims = palloc(sizeof(LlmClaim *) * room);
	load->questions = palloc(sizeof(LlmQuestion *) * room);
	return load;
}

LlmLoad *
llm_load_join(List **loads, LlmRoute *route, int64 recipe, int64 task, int room, Size bytes)
{
	uint64 part = room > 1 ? llm_split_part(task) : 0;
	LlmLoad *load = room > 1 ? find_load(*loads, route, recipe, part, bytes) : NULL;

	if (load == NULL)
	{
		load = start_load(route, recipe, part, room);
		*loads = lappend(*loads, load);
	}
	load->n++;
	load->bytes += bytes;
	return load;
}

static LlmRequestKind
kind_of(const LlmSharedRecipe *recipe)
{
	return recipe == NULL ? LLM_REQUEST_CHAT : recipe->recipe->op->kind;
}

/* Those that ride along are claimed for the request of the first. */
static void
join_tasks(List *loads)
{
	int64 *tasks;
	int64 *requests;
	int n = 0;
	ListCell *lc;

	foreach(lc, loads)
		n += ((LlmLoad *) lfirst(lc))->n - 1;
	if (n == 0)
		return;
	tasks = palloc(sizeof(int64) * n);
	requests = palloc(sizeof(int64) * n);
	n = 0;
	foreach_ptr(const LlmLoad, load, loads)
	{
		for (int i = 1; i < load->n; i++)
		{
			load->claims[i]->request = load->claims[0]->request;
			tasks[n] = load->claims[i]->task;
			requests[n++] = load->claims[0]->request;
		}
	}
	llm_queue_join(tasks, requests, n);
}

/* Should this process die, the bill of what goes to a fallback is to be that one's. */
static void
note_fallbacks(List *loads)
{
	int64 *tasks;
	const char **aliases;
	int n = 0;
	ListCell *lc;

	foreach(lc, loads)
		n += ((LlmLoad *) lfirst(lc))->n;
	tasks = palloc(sizeof(int64) * Max(n, 1));
	aliases = palloc(sizeof(char *) * Max(n, 1));
	n = 0;
	foreach(lc, loads)
	{
		const LlmLoad *load = lfirst(lc);

		for (int i = 0; i < load->n; i++)
		{
			if (llm_joblist_find(load->claims[i]->job)->home == load->route)
				continue;
			tasks[n] = load->claims[i]->task;
			aliases[n++] = load->route->target->alias;
		}
	}
	if (n > 0)
		llm_queue_divert(tasks, aliases, n);
}

List *
llm_load_make(List *claims, List *questions)
{
	List *loads = NIL;
	ListCell *lc,
		*lq;

	forboth(lc, claims, lq, questions)
	{
		LlmClaim *claim = lfirst(lc);
		LlmRoute *route;
		LlmLoad *load;
		int room;

		if (claim->follows || claim->kept)
			continue;
		route = llm_joblist_destination(llm_joblist_find(claim->job), claim);
		room = llm_load_width(route, kind_of(llm_flight_recipe(claim->recipe)));
		load = llm_load_join(&loads, route, claim->recipe, claim->task, room, claim->input_len);
		load->claims[load->n - 1] = claim;
		load->questions[load->n - 1] = lfirst(lq);
	}
	join_tasks(loads);
	note_fallbacks(loads);
	return loads;
}

void
llm_load_flown(LlmJob *job, const LlmFlight *flight)
{
	job->flights--;
	if (llm_flight_is_first(flight))
		job->requests--;
}
