/*-------------------------------------------------------------------------
 *
 * recipe.c
 *	  The recipes that were made, by the bytes of schema and prompt.
 *
 * The rows of a job share schema and prompt, so reading them once is enough.
 * When there are too many, all are dropped: simple, and rare.  Called by chat.c.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_SLOTS 256
#define CACHE_MOST 1024
#define CACHE_MOST_BYTES (32 * 1024 * 1024)

static Recipe *cache[CACHE_SLOTS];
static size_t cached = 0;
static size_t cached_bytes = 0;

static void
recipe_free(Recipe *recipe)
{
	for (size_t i = 0; i < recipe->regex_count; i++)
	{
		regfree(recipe->regexes[i]);
		free(recipe->regexes[i]);
	}
	free(recipe->regexes);
	arena_free(&recipe->arena);
	free(recipe);
}

void
recipes_free(void)
{
	for (size_t i = 0; i < CACHE_SLOTS; i++)
	{
		while (cache[i] != NULL)
		{
			Recipe *next = cache[i]->next;

			recipe_free(cache[i]);
			cache[i] = next;
		}
	}
	cached = 0;
	cached_bytes = 0;
}

/*
 * Find or make a recipe.  It is good until the next call.
 */
const Recipe *
recipe_find(Span schema, Span hints, bool strict)
{
	uint64_t hash = hash_bytes(hints.at, hints.len, hash_bytes(schema.at, schema.len, strict));
	Recipe **slot = &cache[hash % CACHE_SLOTS];
	Recipe *recipe;

	for (recipe = *slot; recipe != NULL; recipe = recipe->next)
	{
		if (recipe->hash == hash && recipe->strict == strict && recipe->schema.len == schema.len &&
			recipe->hints.len == hints.len &&
			memcmp(recipe->schema.at, schema.at, schema.len) == 0 &&
			memcmp(recipe->hints.at, hints.at, hints.len) == 0)
			return recipe;
	}
	if (cached >= CACHE_MOST || cached_bytes >= CACHE_MOST_BYTES)
		recipes_free();
	recipe = schema_read(schema, hints, strict, hash);
	recipe->next = *slot;
	*slot = recipe;
	cached++;
	cached_bytes += recipe->arena.bytes;
	return recipe;
}

/*
 * Find a schema that stands in a prompt, for providers that know no
 * json_schema; empty if there is none.
 */
Span
schema_in_text(Span text)
{
	const char *end = text.at + text.len;
	const char *at = memchr(text.at, '{', text.len);

	for (int tries = 0; at != NULL && tries < 20; tries++)
	{
		json_error_t error;
		json_t *value = json_loadb(at, (size_t) (end - at), JSON_DISABLE_EOF_CHECK, &error);
		bool found = json_is_object(json_object_get(value, "properties"));

		json_decref(value);
		if (found)
			return (Span){at, (size_t) error.position};
		at = memchr(at + 1, '{', (size_t) (end - at - 1));
	}
	return (Span){0};
}
