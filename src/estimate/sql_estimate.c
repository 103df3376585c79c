/*-------------------------------------------------------------------------
 *
 * sql_estimate.c
 *	  llm.estimate: what a statement will cost, before it runs.
 *
 * The statement is planned, which raises whatever it would raise itself, and then read:
 * a copy that writes nothing runs with the rights of the role that asks (reading.c).  All of it
 * happens in a subtransaction that is undone, so that it leaves no lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "bind/planner.h"
#include "estimate/by_plan.h"
#include "estimate/measure.h"
#include "estimate/reading.h"
#include "money/forecast.h"

/* What rows by plan and statistics may be off by, either way. */
#define PLAN_FACTOR 2.5

/* Deviations of a sample's interval: 99 of 100. */
#define DEVIATIONS 2.58

/* With fewer rows in a sample all is read. */
#define LEAST_SAMPLE 50

/* A call site, as it is shown. */
typedef struct Site
{
	int location;
	Oid function;
	double tasks;
	double calls;
	double input_tokens;
	double output_tokens;
	double cost_low;
	double cost_high;
	double seconds;
	double kept; /* calls that are not made, since their answers are kept */
	bool is_priced;
} Site;

/* How a statement was read. */
typedef struct Sample
{
	double share; /* of its rows; 1: all */
	double per_page; /* rows of a page */
} Sample;

/* An estimate while it is made; lives in the caller's context. */
typedef struct Work
{
	const char *source;
	MemoryContext result;
	List *sites; /* of Site */
	const char *by_plan; /* why the plan alone was asked; NULL: it was read */
	bool has_dependent;
	double share; /* that was read, the least of all */
} Work;

PG_FUNCTION_INFO_V1(llm_enrich_estimate);

static RawStmt *
parse(const char *source)
{
	List *statements = pg_parse_query(source);

	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot estimate %d statements at once", list_length(statements)),
				 errhint("Call llm.estimate() with one statement.")));
	return linitial_node(RawStmt, statements);
}

/* The statement after rules, views and row security. */
static List *
rewrite(const char *source)
{
	RawStmt *raw = parse(source);
	List *queries;

	if (!analyze_requires_snapshot(raw) || IsA(raw->stmt, ExplainStmt) || IsA(raw->stmt, CreateTableAsStmt) ||
		IsA(raw->stmt, DeclareCursorStmt) || IsA(raw->stmt, CallStmt))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot estimate %s", GetCommandTagName(CreateCommandTag(raw->stmt))),
				 errhint("Give the SELECT, INSERT, UPDATE, DELETE or MERGE itself.")));
	queries = pg_analyze_and_rewrite_fixedparams(raw, source, NULL, 0, NULL);
	/* what it is shows only now */
	if (queries != NIL && linitial_node(Query, queries)->utilityStmt != NULL &&
		IsA(linitial_node(Query, queries)->utilityStmt, CreateTableAsStmt))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot estimate SELECT INTO"),
				 errhint("Give the SELECT without INTO.")));
	return queries;
}

static Site *
find_site(Work *work, int location, Oid function)
{
	MemoryContext saved;
	ListCell *cell;
	Site *site;

	foreach(cell, work->sites)
	{
		site = lfirst(cell);
		if (site->location == location && site->function == function)
			return site;
	}
	saved = MemoryContextSwitchTo(work->result);
	site = palloc0(sizeof(Site));
	site->location = location;
	site->function = function;
	site->is_priced = true;
	work->sites = lappend(work->sites, site);
	MemoryContextSwitchTo(saved);
	return site;
}

static void
add_part(Site *site, LlmForecast *forecast, const LlmForecastAsk *ask, double low, double high, double tasks)
{
	double before = forecast->seconds;
	LlmEstimate estimate;

	llm_forecast_add(forecast, ask, &estimate);
	site->tasks += tasks;
	site->calls += estimate.calls;
	site->input_tokens += estimate.input_tokens;
	site->output_tokens += estimate.output_tokens;
	site->cost_low += estimate.cost_low * low;
	site->cost_high += estimate.cost_high * high;
	site->seconds += forecast->seconds - before;
	site->kept += ask->kept.calls.typical;
	site->is_priced = site->is_priced && estimate.is_priced;
}

/*
 * Different texts among all rows, from those in a sample: the estimator of Haas and Stokes that ANALYZE
 * uses, too.  *error is what it may be off by, as a share.
 */
static double
distinct_in_all(const LlmMeasuredPart *part, double share, double *error)
{
	double n = part->asked;
	double once = Min(part->once, part->calls);
	double all = n / share;
	double found = n * part->calls / (n - once + once * share);

	*error = 0;
	if (once < part->calls)
		*error = 0.3 * once / part->calls;
	return Min(Max(found, part->calls), all);
}

/* Kept answers among so many calls, from those that a sample has found among its own. */
static LlmKeptCount
kept_in_all(const LlmMeasuredPart *part, const LlmKeptCount *found, double calls, double pages, double share)
{
	double chance = (found->calls.typical + 1) / (part->calls + 2);
	double error = DEVIATIONS * sqrt((1 - share) * chance * (1 - chance) / Max(pages, 1));
	double times = calls / part->calls;
	LlmKeptCount kept = *found;

	kept.calls.low = Max(times * found->calls.low - error * calls, 0);
	kept.calls.typical = Min(times * found->calls.typical, calls);
	kept.calls.high = Min(times * found->calls.high + error * calls, calls);
	kept.bytes = times * found->bytes;
	return kept;
}

/* What was measured at one call site, with what a sample is worth. */
static void
add_measured(Work *work, LlmForecast *forecast, const LlmMeasuredSite *measured, const Sample *sample)
{
	Site *site = find_site(work, measured->location, measured->function);

	foreach_ptr(const LlmMeasuredPart, part, measured->parts)
	{
		LlmForecastAsk ask = {.op = part->question->op, .spec = part->question->spec, .role = GetUserId()};
		double error = 0;

		ask.model = part->question->model[0] == '\0' ? NULL : part->question->model;
		ask.calls = part->calls;
		ask.input_bytes = part->bytes;
		ask.ascii_share = part->bytes > 0 ? part->ascii / part->bytes : 1;
		ask.kept = llm_kept_share_count(part->kept);
		if (sample->share < 1 && part->calls > 0)
		{
			double pages = part->tasks / sample->per_page;

			ask.calls = distinct_in_all(part, sample->share, &error);
			ask.input_bytes = part->bytes * ask.calls / part->calls;
			error += DEVIATIONS * sqrt((1 - sample->share) / Max(pages, 1));
			if (part->kept != NULL)
				ask.kept = kept_in_all(part, &ask.kept, ask.calls, pages, sample->share);
		}
		add_part(site, forecast, &ask, Max(1 - error, 0), 1 + error, part->tasks / sample->share);
	}
}

/* Read the statement and note what its calls ask; false: too few rows were in the sample. */
static bool
read_statement(Work *work, Query *query, LlmReadingConditions conditions, double rows, bool may_sample,
			   LlmForecast *forecast)
{
	LlmMeasure *measure = llm_measure_make();
	LlmMeasuring measuring = {llm_measure_tell, measure, NULL};
	Sample sample = {1, 1};
	const char *why;
	Query *reading = llm_reading_make(query, conditions, &why);
	ListCell *cell;

	if (may_sample && !llm_reading_sample(reading, rows, &sample.share, &sample.per_page))
		sample.share = 1;
	llm_ask_measure_begin(&measuring);
	PG_TRY();
	{
		llm_reading_run(reading, work->source);
	}
	PG_FINALLY();
	{
		llm_ask_measure_end(&measuring);
	}
	PG_END_TRY();
	if (sample.share < 1 && measure->rows < LEAST_SAMPLE)
		return false;
	foreach(cell, measure->sites)
		add_measured(work, forecast, lfirst(cell), &sample);
	work->share = Min(work->share, sample.share);
	return true;
}

/* The sites of one reading. */
static List *
read_all(Work *work, Query *query, LlmReadingConditions conditions, double rows)
{
	List *before = work->sites;
	LlmForecast forecast;
	List *found;

	work->sites = NIL;
	llm_forecast_begin(&forecast);
	if (!read_statement(work, query, conditions, rows, true, &forecast))
		(void) read_statement(work, query, conditions, rows, false, &forecast);
	found = work->sites;
	work->sites = before;
	return found;
}

/* The average of two readings, and the interval of both. */
static void
merge(Work *work, List *one, List *other)
{
	List *lists[2] = {one, other};

	foreach_ptr(Site, site, work->sites)
	{
		double low[2] = {0, 0};

		for (int i = 0; i < lengthof(lists); i++)
		{
			foreach_ptr(const Site, part, lists[i])
			{
				if (part->location != site->location || part->function != site->function)
					continue;
				site->tasks += part->tasks / 2;
				site->calls += part->calls / 2;
				site->input_tokens += part->input_tokens / 2;
				site->output_tokens += part->output_tokens / 2;
				site->seconds += part->seconds / 2;
				site->kept += part->kept / 2;
				site->cost_high = Max(site->cost_high, part->cost_high);
				site->is_priced = site->is_priced && part->is_priced;
				low[i] = part->cost_low;
			}
		}
		site->cost_low = Min(low[0], low[1]);
	}
}

/* By the plan alone. */
static void
guess(Work *work, Query *query, List *calls, List *aggregates, const PlannedStmt *plan)
{
	double rows = llm_by_plan_rows(plan);
	LlmForecast forecast;

	llm_forecast_begin(&forecast);
	foreach_node(FuncExpr, call, calls)
	{
		LlmForecastAsk ask;

		llm_by_plan_ask(query, call, rows, &ask);
		add_part(find_site(work, call->location, call->funcid), &forecast, &ask, 1 / PLAN_FACTOR, PLAN_FACTOR, rows);
	}
	foreach_node(Aggref, aggref, aggregates)
	{
		LlmForecastAsk ask;
		double groups = llm_by_plan_ask_aggregate(query, plan, aggref, &ask);

		add_part(find_site(work, aggref->location, aggref->aggfnoid), &forecast, &ask, 1 / PLAN_FACTOR, PLAN_FACTOR,
				 groups);
	}
}

static void
estimate_query(Work *work, Query *query)
{
	const char *why = NULL;
	List *calls;
	List *aggregates;
	List *failing;
	ListCell *cell;
	PlannedStmt *plan;
	double rows;

	if (query->commandType == CMD_UTILITY || llm_planner_calls() == NULL)
		return;
	calls = llm_reading_calls(query);
	aggregates = llm_reading_aggregates(query);
	if (calls == NIL && aggregates == NIL)
		return;
	/* raises what the statement would, as EXPLAIN does: the plan tells what statistics know of its tables */
	plan = llm_plan_query(copyObject(query), work->source);
	llm_check_plan_rights(plan);
	rows = llm_by_plan_rows(plan);
	if (llm_reading_make(query, LLM_CONDITIONS_FAIL, &why) == NULL)
	{
		work->by_plan = MemoryContextStrdup(work->result, why);
		guess(work, query, calls, aggregates, plan);
		return;
	}
	foreach_node(FuncExpr, call, calls)
		(void) find_site(work, call->location, call->funcid);
	foreach(cell, aggregates)
		(void) find_site(work, lfirst_node(Aggref, cell)->location, lfirst_node(Aggref, cell)->aggfnoid);
	work->has_dependent = work->has_dependent || llm_reading_has_dependent(query);
	failing = read_all(work, query, LLM_CONDITIONS_FAIL, rows);
	if (llm_reading_has_conditions(query))
		merge(work, failing, read_all(work, query, LLM_CONDITIONS_HOLD, rows));
	else
		merge(work, failing, failing);
}

/* All of it, in a subtransaction that is undone, and the result in the caller's context. */
static void
estimate_undone(Work *work)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext scratch = AllocSetContextCreate(caller, "llm_enrich estimate", ALLOCSET_DEFAULT_SIZES);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(scratch);
	PG_TRY();
	{
		ListCell *cell;

		PushActiveSnapshot(GetTransactionSnapshot());
		foreach(cell, rewrite(work->source))
			estimate_query(work, lfirst_node(Query, cell));
		PopActiveSnapshot();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		/* a place in the statement that is estimated, not in the one that calls */
		if (error->cursorpos > 0)
		{
			error->internalpos = error->cursorpos;
			error->internalquery = pstrdup(work->source);
			error->cursorpos = 0;
		}
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	MemoryContextDelete(scratch);
}

/* What the figures do not tell. */
static void
tell(const Work *work)
{
	bool is_priced = true;
	double kept = 0;

	foreach_ptr(const Site, site, work->sites)
	{
		is_priced = is_priced && site->is_priced;
		kept += site->kept;
	}
	if (work->by_plan != NULL)
		ereport(NOTICE,
				(errmsg("estimated by plan and statistics alone, since %s", work->by_plan),
				 errdetail("Nothing was read; run ANALYZE for better figures.")));
	if (work->share < 1)
		ereport(NOTICE,
				(errmsg("estimated from a sample of %.2g%% of the rows", work->share * 100)));
	if (kept >= 0.5)
		ereport(NOTICE,
				(errmsg("kept answers serve %.0f calls more, which cost nothing", kept),
				 errdetail("See llm_enrich.keep_answers.")));
	if (work->has_dependent)
		ereport(NOTICE,
				(errmsg("calls that depend on the answer of another call are not in the estimate")));
	if (!is_priced)
		ereport(NOTICE,
				(errmsg("no price is known of a model that would be asked"),
				 errhint("See llm.set_price().")));
}

/* Dollars without digits that nobody can know. */
static Datum
money(double dollars)
{
	int digits = dollars > 0 ? Min(Max(6 - (int) ceil(log10(dollars)), 2), 12) : 2;
	Datum exact = DirectFunctionCall1(float8_numeric, Float8GetDatum(dollars));

	return DirectFunctionCall1(numeric_trim_scale, DirectFunctionCall2(numeric_round, exact, Int32GetDatum(digits)));
}

/*
 * SQL: llm.estimate(statement) → a row per call site: tasks, calls, input_tokens,
 * output_tokens, cost_low, cost_high, seconds
 */
Datum
llm_enrich_estimate(PG_FUNCTION_ARGS)
{
	Work work = {0};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	llm_shmem_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	work.source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	work.result = CurrentMemoryContext;
	work.share = 1;
	estimate_undone(&work);
	tell(&work);
	foreach_ptr(const Site, site, work.sites)
	{
		Datum values[7];
		bool nulls[7] = {0};

		values[0] = Int64GetDatum((int64) rint(site->tasks));
		values[1] = Int64GetDatum((int64) rint(site->calls));
		values[2] = Int64GetDatum((int64) rint(site->input_tokens));
		values[3] = Int64GetDatum((int64) rint(site->output_tokens));
		nulls[4] = nulls[5] = !site->is_priced;
		values[4] = money(site->cost_low);
		values[5] = money(site->cost_high);
		values[6] = Float8GetDatum(rint(site->seconds * 10) / 10);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
