/*-------------------------------------------------------------------------
 *
 * confirm.c
 *	  What a statement has bound is estimated, and waits where it is dear
 *	  (llm_enrich.confirm_above).
 *
 * The inputs are there, so all that is needed is added up as they are queued: tasks that will
 * be asked, and their bytes.  A statement that may cost more than the setting queues its jobs
 * paused.  That is settled in its own transaction: nothing has been sent before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/guc.h"
#include "base/spi.h"
#include "bind/confirm.h"
#include "money/dollars.h"
#include "money/forecast.h"

/* Smaller statements are estimated only where they may have to wait. */
#define LEAST_ROWS 20

/* So many jobs of a statement are estimated, which may have one for each row; the rest is as dear. */
#define MOST_JOBS 50

/* Jobs that are named in a message. */
#define NAMED_JOBS 5

/* Inputs are looked at so far for the script that they are in, one of so many. */
#define LOOK_BYTES 256
#define LOOK_AT_ONE_OF 16

/*
 * Kept answers that are looked up before some stand for others: more where the statement may wait, since else
 * the estimate is only shown.
 */
#define LOOK_UP 128
#define LOOK_UP_TO_CONFIRM 2048

/* Quotes, new lines and the like are longer within a body. */
#define ESCAPES 1.02

static LlmStatement settle_statement = {
	.sql = "UPDATE llm.job j SET estimated_cost = v.cost,"
		   "  state = CASE WHEN v.waits THEN 'paused' ELSE j.state END,"
		   "  reason = CASE WHEN v.waits THEN $4 || j.id::text || ')' ELSE j.reason END"
		   " FROM unnest($1, $2, $3) AS v(job, cost, waits) WHERE j.id = v.job",
	.nargs = 4,
	.args = {INT8ARRAYOID, NUMERICARRAYOID, BOOLARRAYOID, TEXTOID}};

/* Is there anything to do for this statement? */
static bool
is_wanted(List *jobs, double *calls)
{
	*calls = 0;
	foreach_ptr(LlmNewJob, job, jobs)
		*calls += job->calls;
	return *calls > 0 && (*calls >= LEAST_ROWS || llm_guc_confirm_above >= 0 || llm_guc_max_cost > 0);
}

/* Bytes that so many of an input are billed by: within a body it is escaped, and a vector is made of it as it is. */
static double
billed_bytes(const LlmNewJob *job, double bytes)
{
	return job->op->kind == LLM_REQUEST_EMBED ? bytes : bytes * ESCAPES;
}

/* A leader, which asks. */
static bool
asks(const LlmNewTask *task)
{
	return task->same_as == 0 && !task->is_blank;
}

static LlmKeptShare *
get_kept_share(LlmNewJob *job)
{
	LlmKeptAsker asker = {job->op, job->spec, job->model, job->role};
	MemoryContext saved;

	if (job->is_kept_known || job->number > MOST_JOBS)
		return job->kept_share;
	saved = MemoryContextSwitchTo(GetMemoryChunkContext(job));
	job->kept_share = llm_kept_share_make(&asker, llm_guc_confirm_above >= 0 ? LOOK_UP_TO_CONFIRM : LOOK_UP);
	job->is_kept_known = true;
	MemoryContextSwitchTo(saved);
	return job->kept_share;
}

/* Add up what is asked. */
static void
count(const LlmNewTask *task)
{
	LlmNewJob *job = task->job;

	job->calls++;
	job->input_bytes += toast_raw_datum_size(PointerGetDatum(task->input)) - VARHDRSZ;
	if (job->calls % LOOK_AT_ONE_OF == 1 && !VARATT_IS_COMPRESSED(task->input))
	{
		const char *text_at = VARDATA_ANY(task->input);
		int len = Min(VARSIZE_ANY_EXHDR(task->input), LOOK_BYTES);

		job->looked += len;
		for (int i = 0; i < len; i++)
			job->ascii += (unsigned char) text_at[i] < 0x80;
	}
}

void
llm_confirm_look(const LlmNewTask *tasks, int ntasks, List *jobs)
{
	double calls;

	for (int i = 0; i < ntasks; i++)
	{
		if (asks(&tasks[i]))
			count(&tasks[i]);
	}
	if (llm_guc_keep_answers_s == 0 || !is_wanted(jobs, &calls))
		return;
	for (int i = 0; i < ntasks; i++)
	{
		LlmKeptShare *share = asks(&tasks[i]) ? get_kept_share(tasks[i].job) : NULL;
		uint32 dice = murmurhash32((uint32) tasks[i].id);
		text *input;
		int len;

		if (share == NULL || !llm_kept_share_wants(share, dice))
			continue;
		input = (text *) PG_DETOAST_DATUM_PACKED(PointerGetDatum(tasks[i].input));
		len = VARSIZE_ANY_EXHDR(input);
		llm_kept_share_tell(share, dice, VARDATA_ANY(input), len, billed_bytes(tasks[i].job, len));
	}
}

static void
estimate_job(LlmForecast *forecast, LlmNewJob *job, LlmEstimate *estimate)
{
	LlmForecastAsk ask = {.op = job->op, .spec = job->spec, .model = job->model, .role = job->role};

	ask.calls = job->calls;
	ask.input_bytes = billed_bytes(job, job->input_bytes);
	ask.ascii_share = job->looked > 0 ? (double) job->ascii / job->looked : 1;
	ask.kept = llm_kept_share_count(job->kept_share);
	job->kept_calls = Min(rint(ask.kept.calls.typical), job->calls);
	llm_forecast_add(forecast, &ask, estimate);
	if (llm_guc_max_cost > 0 && estimate->reserve > llm_guc_max_cost)
		ereport(WARNING,
				(errmsg("\"llm_enrich.max_cost\" is smaller than what any request of %s() may cost", job->op->function),
				 errdetail("%.2g US dollars are reserved before it is sent, so that none of these rows is asked about.",
						   estimate->reserve),
				 errhint("Set a larger one. Calls with a small max_tokens reserve less: options => '{\"max_tokens\": 20}'.")));
	job->is_estimated = estimate->is_priced;
	job->estimated_cost = estimate->cost;
}

void
llm_confirm_estimate(List *jobs)
{
	MemoryContext scratch;
	MemoryContext caller;
	LlmForecast forecast;
	double estimated = 0;
	double calls;
	int n = 0;

	if (!is_wanted(jobs, &calls))
		return;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich confirm", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(scratch);
	llm_forecast_begin(&forecast);
	foreach_ptr(LlmNewJob, job, jobs)
	{
		LlmEstimate estimate;

		if (job->calls == 0 || n >= MOST_JOBS)
			continue;
		n++;
		estimate_job(&forecast, job, &estimate);
		estimated += job->calls;
	}
	foreach_ptr(LlmNewJob, job, jobs)
	{
		job->statement_low = forecast.sum.cost_low * calls / estimated;
		job->statement_high = forecast.sum.cost_high * calls / estimated;
		job->statement_is_priced = forecast.sum.is_priced;
		job->is_unconfirmed = llm_guc_confirm_above >= 0 &&
							  (!forecast.sum.is_priced || job->statement_high > llm_guc_confirm_above);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}

/* What the role types to let them go on. */
static char *
resume_text(List *jobs)
{
	StringInfoData text_to_type;
	int named = 0;

	initStringInfo(&text_to_type);
	foreach_ptr(const LlmNewJob, job, jobs)
	{
		if (job->id == 0 || job->queued == 0)
			continue;
		if (named++ == NAMED_JOBS)
			return psprintf("SELECT llm.resume(relation => %s);",
							quote_literal_cstr(quote_qualified_identifier(
								get_namespace_name(get_rel_namespace(job->relation)), get_rel_name(job->relation))));
		appendStringInfo(&text_to_type, "%s llm.resume(job => %lld)", named == 1 ? "SELECT" : ",", (long long) job->id);
	}
	appendStringInfoChar(&text_to_type, ';');
	return text_to_type.data;
}

static void
tell(List *jobs)
{
	const LlmNewJob *first = linitial(jobs);
	long long rows = 0;
	long long calls = 0;
	long long kept = 0;

	foreach_ptr(LlmNewJob, job, jobs)
	{
		rows += job->queued;
		calls += (long long) job->calls;
		kept += (long long) job->kept_calls;
	}
	calls -= kept;
	ereport(NOTICE,
			(first->statement_is_priced
				 ? errmsg_plural("rows queued and paused: %lld, with %lld call, for %s to %s US dollars",
								 "rows queued and paused: %lld, with %lld calls, for %s to %s US dollars",
								 (unsigned long) calls, rows, calls, llm_dollars(first->statement_low),
								 llm_dollars(first->statement_high))
				 : errmsg_plural("rows queued and paused: %lld, with %lld call of a model whose price is not known",
								 "rows queued and paused: %lld, with %lld calls of a model whose price is not known",
								 (unsigned long) calls, rows, calls),
			 kept > 0
				 ? errdetail_plural("\"llm_enrich.confirm_above\" is %g. Kept answers serve %lld call more, which costs"
									" nothing.",
									"\"llm_enrich.confirm_above\" is %g. Kept answers serve %lld calls more, which cost"
									" nothing.",
									(unsigned long) kept, llm_guc_confirm_above, kept)
				 : errdetail("\"llm_enrich.confirm_above\" is %g.", llm_guc_confirm_above),
			 errhint("%s", resume_text(jobs))));
}

void
llm_confirm_settle(List *jobs)
{
	int n = 0;
	Datum *columns[3];
	bool *nulls;
	Datum values[4];
	LlmOwnScope scope;
	bool waits = false;

	for (int c = 0; c < lengthof(columns); c++)
		columns[c] = palloc(sizeof(Datum) * list_length(jobs));
	nulls = palloc(sizeof(bool) * list_length(jobs));
	foreach_ptr(const LlmNewJob, job, jobs)
	{
		if (job->id == 0 || job->queued == 0 || job->shared || !(job->is_estimated || job->is_unconfirmed))
			continue;
		columns[0][n] = Int64GetDatum(job->id);
		columns[1][n] = DirectFunctionCall1(float8_numeric, Float8GetDatum(job->estimated_cost));
		columns[2][n] = BoolGetDatum(job->is_unconfirmed);
		nulls[n++] = !job->is_estimated;
		waits = waits || job->is_unconfirmed;
	}
	if (n == 0)
		return;
	SPI_connect();
	llm_spi_own_begin(&scope);
	values[0] = llm_spi_array(INT8OID, columns[0], NULL, n);
	values[1] = llm_spi_array(NUMERICOID, columns[1], nulls, n);
	values[2] = llm_spi_array(BOOLOID, columns[2], NULL, n);
	values[3] = CStringGetTextDatum("paused: it waits to be confirmed, SELECT llm.resume(job => ");
	(void) llm_spi_execute(&settle_statement, values, NULL, false);
	llm_spi_own_end(&scope);
	SPI_finish();
	if (waits)
		tell(jobs);
}
