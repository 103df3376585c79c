/*-------------------------------------------------------------------------
 *
 * writeback_progress.c
 *	  How far the writer came in each job.
 *
 * The entries of rows that it has dealt with stay in the index of settled tasks until they
 * are vacuumed away, beneath an old snapshot for long.  A look that begins behind them, by
 * the transaction of the sender that settled a task, does not read them again and again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "base/compat.h"
#include "writeback/writeback_progress.h"

/* How far the writer came in a job. */
typedef struct Progress
{
	int64 job; /* hash key: must be first */
	int64 landed; /* nothing of an earlier transaction of the sender is left */
} Progress;

/* Jobs of which that is remembered; when full, all is forgotten, which costs a longer look each. */
#define MAX_PROGRESS 1024

/* The process's life; written by pass_over() and begin_again(). */
static HTAB *progress = NULL;

static Progress *
find_progress(int64 job, HASHACTION action, bool *found)
{
	if (progress == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(Progress)};

		progress = hash_create("llm_enrich write-back progress", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	return hash_search(progress, &job, action, found);
}

int64
llm_writeback_came_to(int64 job)
{
	Progress *entry = find_progress(job, HASH_FIND, NULL);

	return entry == NULL ? 0 : entry->landed;
}

void
llm_writeback_begin_again(void)
{
	if (progress != NULL)
		hash_destroy(progress);
	progress = NULL;
}

/* A row that was left settled, or dropped from the set, or not read, must be found again. */
void
llm_writeback_pass_over(const LlmWriteJob *job)
{
	int64 landed = 0;
	bool found;

	if (job->finished)
	{
		find_progress(job->id, HASH_REMOVE, &found);
		return;
	}
	if (job->nrows < job->nclaimed)
		return;
	for (int i = 0; i < job->nrows; i++)
	{
		if (job->rows[i].fate == LLM_FATE_OPEN)
			return;
		landed = Max(landed, job->rows[i].landed);
	}
	if (landed == 0)
		return;
	if (progress != NULL && hash_get_num_entries(progress) >= MAX_PROGRESS)
		llm_writeback_begin_again();
	find_progress(job->id, HASH_ENTER, &found)->landed = landed;
}

Datum
llm_writeback_progress(void)
{
	LlmJsonbState state = {0};
	HASH_SEQ_STATUS scan;
	Progress *entry;

	llm_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
	if (progress != NULL)
	{
		hash_seq_init(&scan, progress);
		while ((entry = hash_seq_search(&scan)) != NULL)
		{
			JsonbValue job = {.type = jbvString};
			JsonbValue landed = {.type = jbvNumeric};

			job.val.string.val = psprintf(INT64_FORMAT, entry->job);
			job.val.string.len = strlen(job.val.string.val);
			landed.val.numeric = int64_to_numeric(entry->landed);
			llm_jsonb_push(&state, WJB_KEY, &job);
			llm_jsonb_push(&state, WJB_VALUE, &landed);
		}
	}
	return JsonbPGetDatum(JsonbValueToJsonb(llm_jsonb_push(&state, WJB_END_OBJECT, NULL)));
}
