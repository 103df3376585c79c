/*-------------------------------------------------------------------------
 *
 * flight_recipe.c
 *	  Recipes of what is on its way, each loaded once, and the bytes that their
 *	  requests share.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "money/reserve.h"
#include "send/flight_recipe.h"
#include "tables/answer_key.h"
#include "tables/job.h"

/* Recipes kept although no request uses them. */
#define IDLE_RECIPES 64

typedef struct SharedFrame
{
	const LlmDialect *dialect;
	LlmEndpoint endpoint; /* what of it is in the bytes */
	int cap; /* tokens that an answer may have; 0: as the call says */
	LlmFrame *frame; /* NULL: of vectors, of which nothing is written */
	uint8 *fingerprint; /* NULL: not made yet */
	int64 overhead; /* bytes of a body with nothing of a row in it; -1: not known yet */
} SharedFrame;

static HTAB *recipes = NULL; /* LlmSharedRecipe by id; sender's life */

static void
create_recipe_table(void)
{
	HASHCTL ctl = {0};

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(LlmSharedRecipe);
	recipes = hash_create("llm_enrich recipes", IDLE_RECIPES, &ctl, HASH_ELEM | HASH_BLOBS);
}

LlmSharedRecipe *
llm_flight_recipe(int64 id)
{
	LlmSharedRecipe *shared;
	MemoryContext context,
		saved;
	LlmRecipe *recipe;

	if (recipes == NULL)
		create_recipe_table();
	shared = hash_search(recipes, &id, HASH_FIND, NULL);
	if (shared != NULL || !IsTransactionState())
		return shared;

	context = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich recipe", ALLOCSET_SMALL_SIZES);
	saved = MemoryContextSwitchTo(context);
	recipe = llm_job_recipe(id);
	MemoryContextSwitchTo(saved);
	if (recipe == NULL)
	{
		MemoryContextDelete(context);
		return NULL;
	}
	MemoryContextSetParent(context, TopMemoryContext);
	shared = hash_search(recipes, &id, HASH_ENTER, NULL);
	shared->context = context;
	shared->recipe = recipe;
	shared->frames = NIL;
	shared->users = 0;
	return shared;
}

bool
llm_recipe_is_of_model(const LlmRecipe *recipe)
{
	/* vectors of two models do not compare */
	return recipe != NULL && recipe->op->kind == LLM_REQUEST_EMBED;
}

void
llm_flight_trim_recipes(void)
{
	HASH_SEQ_STATUS scan;
	LlmSharedRecipe *shared;

	if (recipes == NULL || hash_get_num_entries(recipes) <= IDLE_RECIPES)
		return;
	hash_seq_init(&scan, recipes);
	while ((shared = hash_seq_search(&scan)) != NULL)
	{
		if (shared->users > 0)
			continue;
		MemoryContextDelete(shared->context);
		hash_search(recipes, &shared->id, HASH_REMOVE, NULL);
	}
}

static char *
copy_word(const char *word)
{
	return word == NULL ? NULL : pstrdup(word);
}

/* Those parts of an endpoint that are in the bytes of a body. */
static void
copy_endpoint(LlmEndpoint *to, const LlmEndpoint *from)
{
	*to = (LlmEndpoint){.model = pstrdup(from->model), .habits = from->habits};
	to->habits.max_tokens_field = copy_word(from->habits.max_tokens_field);
	to->habits.system_role = copy_word(from->habits.system_role);
	to->habits.extra_body = copy_word(from->habits.extra_body);
}

/* Is an answer written?  Vectors are not. */
static bool
writes(const LlmSharedRecipe *shared)
{
	return shared->recipe->op->kind != LLM_REQUEST_EMBED;
}

static SharedFrame *
get_frame(LlmSharedRecipe *shared, const LlmRoute *route, int cap)
{
	ListCell *lc;
	SharedFrame *shared_frame;
	MemoryContext saved;
	LlmRecipe *recipe = shared->recipe;

	foreach(lc, shared->frames)
	{
		shared_frame = lfirst(lc);
		if (shared_frame->dialect == route->dialect && shared_frame->cap == cap &&
			llm_dialect_same_body(&shared_frame->endpoint, &route->endpoint))
			return shared_frame;
	}
	saved = MemoryContextSwitchTo(shared->context);
	shared_frame = palloc0(sizeof(SharedFrame));
	shared_frame->dialect = route->dialect;
	copy_endpoint(&shared_frame->endpoint, &route->endpoint);
	shared_frame->cap = cap;
	shared_frame->overhead = -1;
	if (cap > 0)
	{
		recipe = palloc(sizeof(LlmRecipe));
		*recipe = *shared->recipe;
		recipe->params.max_tokens = cap;
	}
	if (writes(shared))
		shared_frame->frame = route->dialect->prepare(recipe, &shared_frame->endpoint);
	shared->frames = lappend(shared->frames, shared_frame);
	MemoryContextSwitchTo(saved);
	return shared_frame;
}

LlmFrame *
llm_flight_frame(LlmSharedRecipe *shared, const LlmRoute *route, int cap)
{
	return get_frame(shared, route, cap)->frame;
}

const uint8 *
llm_flight_fingerprint(LlmSharedRecipe *shared, const LlmRoute *route)
{
	SharedFrame *frame = get_frame(shared, route, 0);
	uint8 *fingerprint;

	if (frame->fingerprint == NULL)
	{
		fingerprint = MemoryContextAlloc(shared->context, LLM_ANSWER_KEY_BYTES);
		llm_answer_fingerprint(shared->recipe, route->dialect, &route->endpoint, frame->frame, fingerprint);
		frame->fingerprint = fingerprint;
	}
	return frame->fingerprint;
}

int
llm_flight_cap(const LlmSharedRecipe *shared, const LlmRoute *route)
{
	const LlmParams *params = &shared->recipe->params;
	const char *effort = params->reasoning_effort;
	bool reasons = effort == NULL ? route->reasons : strcmp(effort, "none") != 0;

	if (!writes(shared))
		return 0;
	return llm_reserve_cap(shared->recipe->output_tokens, reasons, params->max_tokens,
						   route->target->max_output_tokens);
}

/* Also of a second asking, which has more words of ours.  For vectors nothing is read but the rows' texts. */
int64
llm_flight_overhead(LlmSharedRecipe *shared, const LlmRoute *route, int cap)
{
	SharedFrame *frame;
	LlmChat first = {{"", 0}, NULL, NULL};
	LlmChat second = {{"", 0}, "", ""};
	StringInfoData body;

	if (!writes(shared))
		return 0;
	frame = get_frame(shared, route, cap);
	if (frame->overhead >= 0)
		return frame->overhead;
	initStringInfo(&body);
	route->dialect->body(frame->frame, &first, &body);
	frame->overhead = body.len;
	resetStringInfo(&body);
	route->dialect->body(frame->frame, &second, &body);
	frame->overhead = Max(frame->overhead, body.len);
	pfree(body.data);
	return frame->overhead;
}
