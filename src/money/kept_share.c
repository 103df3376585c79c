/*-------------------------------------------------------------------------
 *
 * kept_share.c
 *	  How many of the questions that a statement would ask have a kept answer, and so
 *	  cost nothing.
 *
 * The sender finds answers by a hash of the request (tables/answer_key.c); the same hash is made
 * here and looked up, many at a time.  Where there are many questions some stand for others: which,
 * is decided by dice, so that what comes first does not count for more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/guc.h"
#include "base/spi.h"
#include "catalog/catalog_target.h"
#include "dialect/dialect.h"
#include "money/kept_share.h"
#include "tables/answer_key.h"
#include "utils/timestamp.h"

/* Looked up in one statement. */
#define BATCH 500

/* Every 2^20th question is the least that is looked up. */
#define MOST_LEVEL 20

/* Deviations of the interval: 99 of 100. */
#define DEVIATIONS 2.58

struct LlmKeptShare
{
	LlmAnswerAsker asker;
	uint8 fingerprint[LLM_ANSWER_KEY_BYTES];
	int most; /* that are looked up at a level */

	/* not looked up yet, all of the level below */
	int n;
	LlmAnswerKey keys[BATCH];
	double bytes[BATCH];

	int level; /* one of 2^level questions is looked up */
	double looked; /* at this level */
	double found; /* of these */

	/* sums over the levels before, and this one as far as add_level() came */
	double kept;
	double kept_bytes;
	double variance;
};

/* Where the question goes, as the sender would ask it; false: nowhere, or its answer is never kept. */
static bool
find_asker(LlmKeptShare *share, const LlmKeptAsker *asker)
{
	LlmRecipe *recipe = asker->spec == NULL ? NULL : llm_operation_load(0, asker->op->name, asker->spec);
	LlmTarget *target;
	const LlmDialect *dialect;
	LlmAddress address;

	/* what many rows are made into is another text than theirs */
	if (recipe == NULL || asker->op->is_aggregate || !llm_answer_is_kept(recipe))
		return false;
	target = llm_catalog_target(asker->model, asker->role);
	dialect = target->problem != NULL ? NULL : llm_dialect_find(target->dialect);
	if (dialect == NULL || (recipe->op->kind == LLM_REQUEST_EMBED && dialect->embed == NULL))
		return false;
	llm_answer_fingerprint(recipe, dialect, &target->endpoint, dialect->prepare(recipe, &target->endpoint),
						   share->fingerprint);
	llm_dialect_address(dialect, &target->endpoint, recipe->op->kind, &address);
	share->asker.fingerprint = share->fingerprint;
	share->asker.role = asker->role;
	share->asker.server = target->server;
	share->asker.url = address.url;
	return true;
}

/* Is any answer kept at all? */
static bool
any_kept(void)
{
	LlmOwnScope scope;
	bool exists;

	if (llm_guc_keep_answers_s == 0)
		return false;
	SPI_connect();
	llm_spi_own_begin(&scope);
	exists = llm_answer_exists();
	llm_spi_own_end(&scope);
	SPI_finish();
	return exists;
}

LlmKeptShare *
llm_kept_share_make(const LlmKeptAsker *asker, int most)
{
	LlmKeptShare *share;

	if (!any_kept())
		return NULL;
	share = palloc0(sizeof(LlmKeptShare));
	share->most = most;
	if (find_asker(share, asker))
		return share;
	pfree(share);
	return NULL;
}

/* Look up what has been told. */
static void
look_up(LlmKeptShare *share)
{
	TimestampTz oldest = llm_clock_now() - llm_guc_keep_answers_s * USECS_PER_SEC;
	bool found[BATCH];
	LlmOwnScope scope;

	if (share->n == 0)
		return;
	SPI_connect();
	llm_spi_own_begin(&scope);
	llm_answer_look(share->keys, share->n, oldest, found);
	llm_spi_own_end(&scope);
	SPI_finish();
	for (int i = 0; i < share->n; i++)
	{
		if (!found[i])
			continue;
		share->found++;
		share->kept_bytes += ldexp(share->bytes[i], share->level);
	}
	share->looked += share->n;
	share->n = 0;
}

/* What a level has found counts for those that were passed over, too: as well as so many tell. */
static void
add_level(const LlmKeptShare *share, double *kept, double *variance)
{
	double weight = ldexp(1, share->level);
	double chance = (share->found + 1) / (share->looked + 2);

	*kept += weight * share->found;
	if (share->level > 0)
		*variance += weight * weight * share->looked * chance * (1 - chance) * (1 - 1 / weight);
}

static void
next_level(LlmKeptShare *share)
{
	look_up(share);
	add_level(share, &share->kept, &share->variance);
	share->looked = share->found = 0;
	share->level++;
}

bool
llm_kept_share_wants(const LlmKeptShare *share, uint32 dice)
{
	return (dice & ((1u << share->level) - 1)) == 0;
}

void
llm_kept_share_tell(LlmKeptShare *share, uint32 dice, const char *input, size_t len, double bytes)
{
	if (!llm_kept_share_wants(share, dice))
		return;
	llm_answer_make_key(&share->asker, input, len, &share->keys[share->n]);
	share->bytes[share->n++] = bytes;
	if (share->looked + share->n >= share->most && share->level < MOST_LEVEL)
		next_level(share);
	else if (share->n == BATCH)
		look_up(share);
}

LlmKeptCount
llm_kept_share_count(LlmKeptShare *share)
{
	LlmKeptCount count = {{0, 0, 0}, 0};
	double variance;
	double error;

	if (share == NULL)
		return count;
	look_up(share);
	count.calls.typical = share->kept;
	variance = share->variance;
	add_level(share, &count.calls.typical, &variance);
	error = DEVIATIONS * sqrt(variance);
	count.calls.low = Max(count.calls.typical - error, 0);
	count.calls.high = count.calls.typical + error;
	count.bytes = share->kept_bytes;
	return count;
}
