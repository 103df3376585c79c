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

#include "send/flight_recipe.h"
#include "send/kept.h"
#include "tables/job.h"

/* Recipes kept although no request uses them. */
#define IDLE_RECIPES 64

typedef struct SharedFrame
{
	const LlmDialect *dialect;
	LlmEndpoint endpoint; /* what of it is in the bytes */
	LlmFrame *frame;
	uint8 *fingerprint; /* NULL: not made yet */
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

static SharedFrame *
get_frame(LlmSharedRecipe *shared, const LlmRoute *route)
{
	ListCell *lc;
	SharedFrame *shared_frame;
	MemoryContext saved;

	foreach(lc, shared->frames)
	{
		shared_frame = lfirst(lc);
		if (shared_frame->dialect == route->dialect && llm_dialect_same_body(&shared_frame->endpoint, &route->endpoint))
			return shared_frame;
	}
	saved = MemoryContextSwitchTo(shared->context);
	shared_frame = palloc0(sizeof(SharedFrame));
	shared_frame->dialect = route->dialect;
	copy_endpoint(&shared_frame->endpoint, &route->endpoint);
	shared_frame->frame = route->dialect->prepare(shared->recipe, &shared_frame->endpoint);
	shared->frames = lappend(shared->frames, shared_frame);
	MemoryContextSwitchTo(saved);
	return shared_frame;
}

LlmFrame *
llm_flight_frame(LlmSharedRecipe *shared, const LlmRoute *route)
{
	return get_frame(shared, route)->frame;
}

const uint8 *
llm_flight_fingerprint(LlmSharedRecipe *shared, const LlmRoute *route)
{
	SharedFrame *frame = get_frame(shared, route);
	LlmChat chat = {{"", 0}, NULL, NULL};
	StringInfoData content;

	if (frame->fingerprint != NULL)
		return frame->fingerprint;
	initStringInfo(&content);
	appendBinaryStringInfo(&content, (const char *) shared->recipe->spec, VARSIZE(shared->recipe->spec));
	route->dialect->body(frame->frame, &chat, &content);
	frame->fingerprint = MemoryContextAlloc(shared->context, LLM_ANSWER_KEY_BYTES);
	llm_kept_hash(shared->recipe->op->name, content.data, content.len, frame->fingerprint);
	pfree(content.data);
	return frame->fingerprint;
}
