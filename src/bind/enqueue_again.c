/*-------------------------------------------------------------------------
 *
 * enqueue_again.c
 *	  A quiet cell is asked about again.
 *
 * Nothing in the cell tells that it was asked about before.  So a task has the number of
 * its cell, by which the task that is on its way, and the one that failed, are found:
 *
 *	  the same question is on its way    that task stays; nothing is queued
 *	  the same question has failed       nothing is queued, and one NOTICE says so: else a
 *	                                     statement that comes each night would pay its
 *	                                     failures each night
 *	  the answer to it was NULL          the same, which leaves no trace in the cell either
 *	  another question is on its way     it is superseded: at once, if it was not sent yet;
 *	                                     else word is left for the writer, which looks for it
 *	                                     when it has locked the row
 *
 * The row is locked by the statement that asks: so the session that asked about the cell before has
 * committed, and the next one that asks will find this.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "base/spi.h"
#include "base/spi_plan.h"
#include "base/wake.h"
#include "bind/enqueue.h"
#include "bind/notice.h"
#include "cell/image.h"
#include "tables/transition.h"

/* Tasks that are compared in one statement: their inputs are decompressed for it. */
#define COMPARE_ROWS 500

/* Ranges of numbers of cells that are told apart. */
#define MAX_RANGES 32

/*
 * Which of these ranges have anything that a cell could have been asked by?  Mostly none has, and
 * then nothing is looked up.
 */
static LlmStatement any_statement = {
	.sql = "SELECT v.n FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS v(low, high, n)"
		   " WHERE EXISTS (SELECT FROM llm.queue q WHERE q.cell >= v.low AND q.cell <= v.high)"
		   "  OR EXISTS (SELECT FROM llm.dead_letter d WHERE d.cell >= v.low AND d.cell <= v.high)"
		   "  OR EXISTS (SELECT FROM llm.none_answer a WHERE a.cell >= v.low AND a.cell <= v.high)",
	.nargs = 2,
	.args = {INT8ARRAYOID, INT8ARRAYOID},
	.fresh = true};

/* Which of these cells has a task, a dead letter or NULL for an answer: the index from 1, the task, which of these. */
static LlmStatement find_statement = {
	.sql = "SELECT v.n, f.id, f.kind FROM pg_catalog.unnest($1) WITH ORDINALITY AS v(cell, n)"
		   " CROSS JOIN LATERAL (SELECT q.id, 0 AS kind FROM llm.queue q"
		   "   WHERE q.cell = v.cell"
		   "   AND q.state <> ALL ('{cancelled,superseded,failed}')"
		   "  UNION ALL SELECT d.task, 1 FROM llm.dead_letter d WHERE d.cell = v.cell"
		   "  UNION ALL SELECT a.task, 2 FROM llm.none_answer a WHERE a.cell = v.cell) f",
	.nargs = 1,
	.args = {INT8ARRAYOID},
	.fresh = true};

/*
 * Is it the same cell, and the same question?  Of a task that is on its way the fence must
 * stand, too: the transaction that stored the row decides only where nothing was read.
 * Bytes of a fence: see cell/image.c.
 */
static LlmStatement compare_statement = {
	.sql = "SELECT v.n, v.task, f.job, f.is_same AND f.role = w.role"
		   "  AND j.relation = w.relation AND j.model IS NOT DISTINCT FROM w.model"
		   "  AND CASE WHEN f.is_dead THEN j.cell - 'settings'"
		   "    = w.description - 'settings'"
		   "   ELSE j.cell = w.description END"
		   "  AND r.operation = w.operation AND r.spec = w.spec,"
		   " f.is_unsent AND j.state = 'paused'"
		   " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
		   "  pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7))"
		   "  AS v(n, task, question, key, input, leaves, fence)"
		   " JOIN ROWS FROM (pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11),"
		   "  pg_catalog.unnest($12), pg_catalog.unnest($13))"
		   "  WITH ORDINALITY AS w(role, relation, model, operation, spec, description, number)"
		   "  ON w.number = v.question"
		   " CROSS JOIN LATERAL (SELECT q.job, q.recipe, q.role, q.key, false AS is_dead,"
		   "   q.input = v.input AND q.leaves IS NOT DISTINCT FROM v.leaves"
		   "   AND q.state IN ('ready', 'waiting', 'claimed', 'answered')"
		   "   AND (q.outcome IS NULL OR q.outcome = 'answered')"
		   "   AND pg_catalog.substr(q.fence, 1, 8) = pg_catalog.substr(v.fence, 1, 8)"
		   "   AND pg_catalog.substr(q.fence, 17) = pg_catalog.substr(v.fence, 17)"
		   "   AND (pg_catalog.substr(v.fence, 17, 8) <> '\\x0000000000000000'"
		   "    OR pg_catalog.substr(q.fence, 9, 4) = pg_catalog.substr(v.fence, 9, 4))"
		   "   AND NOT EXISTS (SELECT FROM llm.cancellation c WHERE c.task = q.id) AS is_same,"
		   "   q.state IN ('ready', 'waiting') AS is_unsent"
		   "   FROM llm.queue q WHERE q.id = v.task"
		   "  UNION ALL SELECT d.job, d.recipe, d.role, d.key, true, d.input = v.input"
		   "   AND d.leaves IS NOT DISTINCT FROM v.leaves, false"
		   "   FROM llm.dead_letter d WHERE d.task = v.task) f"
		   " JOIN llm.job j ON j.id = f.job"
		   " JOIN llm.recipe r ON r.id = f.recipe"
		   " WHERE f.key = v.key",
	.nargs = 13,
	.args = {INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, JSONBARRAYOID, BYTEAARRAYOID,
			 OIDARRAYOID, OIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID},
	.fresh = true};

/* Was the answer NULL to the same question?  The same arguments. */
static LlmStatement none_statement = {
	.sql = "SELECT v.n FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
		   "  pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7))"
		   "  AS v(n, task, question, key, input, leaves, fence)"
		   " JOIN ROWS FROM (pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11),"
		   "  pg_catalog.unnest($12), pg_catalog.unnest($13))"
		   "  WITH ORDINALITY AS w(role, relation, model, operation, spec, description, number)"
		   "  ON w.number = v.question"
		   " JOIN llm.none_answer a ON a.task = v.task"
		   "  AND a.question = " LLM_NONE_QUESTION("w.role", "w.relation", "w.model", "w.description", "w.operation",
												   "w.spec", "v.key", "v.input", "v.leaves"),
	.nargs = 13,
	.args = {INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, JSONBARRAYOID, BYTEAARRAYOID,
			 OIDARRAYOID, OIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID},
	.fresh = true};

/* Where something was found. */
typedef enum FoundKind
{
	FOUND_TASK,
	FOUND_DEAD,
	FOUND_NONE
} FoundKind;

/* A task of the set and what was found for its cell. */
typedef struct Found
{
	int index; /* of the task */
	int64 task;
	FoundKind kind;
} Found;

/* Ranges of numbers of cells, both ends included. */
typedef struct CellRanges
{
	int n;
	int64 low[MAX_RANGES];
	int64 high[MAX_RANGES];
} CellRanges;

static Datum
result(uint64 row, int n)
{
	bool is_null;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, n, &is_null);
}

static uint64
block_of(int64 cell)
{
	return (uint64) cell >> LLM_CELL_NEAR_BITS;
}

/* Widen the range that has the cell's neighbours; "last" is the one that was widened before.  Gives which it is. */
static int
widen_range(CellRanges *ranges, int64 cell, int last)
{
	int i = last;

	if (i >= ranges->n || block_of(ranges->low[i]) != block_of(cell))
	{
		for (i = 0; i < ranges->n && block_of(ranges->low[i]) != block_of(cell); i++)
			;
	}
	if (i == MAX_RANGES)
		return -1;
	if (i == ranges->n)
	{
		ranges->n++;
		ranges->low[i] = ranges->high[i] = cell;
	}
	ranges->low[i] = Min(ranges->low[i], cell);
	ranges->high[i] = Max(ranges->high[i], cell);
	return i;
}

/*
 * The ranges that the numbers of the cells lie in: those of neighbours have one.  Where there
 * are too many, as those of keys that are no integers are, one range has all there could be.
 */
static void
find_ranges(const LlmNewTask *tasks, int ntasks, CellRanges *ranges)
{
	int last = 0;

	ranges->n = 0;
	for (int i = 0; i < ntasks && last >= 0; i++)
	{
		if (tasks[i].cell != 0)
			last = widen_range(ranges, tasks[i].cell, last);
	}
	if (last >= 0)
		return;
	ranges->n = 1;
	ranges->low[0] = PG_INT64_MIN;
	ranges->high[0] = PG_INT64_MAX;
}

/* Keep those ranges that have anything. */
static void
keep_used(CellRanges *ranges)
{
	Datum low[MAX_RANGES];
	Datum high[MAX_RANGES];
	Datum values[2];
	CellRanges all = *ranges;

	for (int i = 0; i < all.n; i++)
	{
		low[i] = Int64GetDatum(all.low[i]);
		high[i] = Int64GetDatum(all.high[i]);
	}
	values[0] = llm_spi_array(INT8OID, low, NULL, all.n);
	values[1] = llm_spi_array(INT8OID, high, NULL, all.n);
	ranges->n = (int) llm_spi_execute(&any_statement, values, NULL, false);
	for (int i = 0; i < ranges->n; i++)
	{
		int from = (int) DatumGetInt64(result(i, 1)) - 1;

		ranges->low[i] = all.low[from];
		ranges->high[i] = all.high[from];
	}
	SPI_freetuptable(SPI_tuptable);
}

static bool
is_in(const CellRanges *ranges, int64 cell)
{
	for (int i = 0; i < ranges->n; i++)
	{
		if (cell >= ranges->low[i] && cell <= ranges->high[i])
			return true;
	}
	return false;
}

/* What there is for the cells of these tasks, where there may be anything; *nfound is how many. */
static Found *
find_by_cell(const LlmNewTask *tasks, int ntasks, const CellRanges *ranges, int *nfound)
{
	Datum *cells = palloc(ntasks * sizeof(Datum));
	bool *nulls = palloc(ntasks * sizeof(bool));
	Datum values[1];
	Found *found;

	for (int i = 0; i < ntasks; i++)
	{
		cells[i] = Int64GetDatum(tasks[i].cell);
		nulls[i] = tasks[i].cell == 0 || !is_in(ranges, tasks[i].cell);
	}
	values[0] = llm_spi_array(INT8OID, cells, nulls, ntasks);
	*nfound = (int) llm_spi_execute(&find_statement, values, NULL, false);
	found = palloc(Max(*nfound, 1) * sizeof(Found));
	for (int i = 0; i < *nfound; i++)
	{
		found[i].index = (int) DatumGetInt64(result(i, 1)) - 1;
		found[i].task = DatumGetInt64(result(i, 2));
		found[i].kind = (FoundKind) DatumGetInt32(result(i, 3));
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* The questions of the statement: arguments 8 to 13. */
static void
question_values(List *jobs, Datum *values)
{
	static const Oid types[] = {OIDOID, OIDOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID};
	int n = list_length(jobs);
	Datum *columns[lengthof(types)];
	bool *nulls[lengthof(types)];
	ListCell *cell;

	for (int c = 0; c < lengthof(types); c++)
	{
		columns[c] = palloc(Max(n, 1) * sizeof(Datum));
		nulls[c] = palloc0(Max(n, 1) * sizeof(bool));
	}
	foreach(cell, jobs)
	{
		const LlmNewJob *job = lfirst(cell);
		int i = foreach_current_index(cell);

		columns[0][i] = ObjectIdGetDatum(job->role);
		columns[1][i] = ObjectIdGetDatum(job->relation);
		nulls[2][i] = job->model == NULL;
		columns[2][i] = job->model == NULL ? (Datum) 0 : CStringGetTextDatum(job->model);
		columns[3][i] = CStringGetTextDatum(job->op->name);
		columns[4][i] = JsonbPGetDatum(job->spec);
		nulls[5][i] = job->kept == NULL;
		columns[5][i] = job->kept == NULL ? (Datum) 0 : JsonbPGetDatum(job->cell);
	}
	for (int c = 0; c < lengthof(types); c++)
		values[c] = llm_spi_array(types[c], columns[c], nulls[c], n);
}

/* The tasks, and what was found for them: arguments 1 to 7. */
static void
task_values(const LlmNewTask *tasks, const Found *found, int nfound, Datum *values)
{
	static const Oid types[] = {INT4OID, INT8OID, INT8OID, JSONBOID, TEXTOID, JSONBOID, BYTEAOID};
	Datum *columns[lengthof(types)];
	bool *no_leaves = palloc(nfound * sizeof(bool));

	for (int c = 0; c < lengthof(types); c++)
		columns[c] = palloc(nfound * sizeof(Datum));
	for (int i = 0; i < nfound; i++)
	{
		const LlmNewTask *task = &tasks[found[i].index];

		columns[0][i] = Int32GetDatum(i);
		columns[1][i] = Int64GetDatum(found[i].task);
		columns[2][i] = Int64GetDatum(task->job->number);
		columns[3][i] = JsonbPGetDatum(task->key);
		columns[4][i] = PointerGetDatum(task->input);
		columns[5][i] = PointerGetDatum(task->leaves);
		columns[6][i] = PointerGetDatum(task->fence);
		no_leaves[i] = task->leaves == NULL;
	}
	for (int c = 0; c < lengthof(types); c++)
		values[c] = llm_spi_array(types[c], columns[c], c == 5 ? no_leaves : NULL, nfound);
}

/* The question has failed for that cell: it is counted, to be told at the end of the statement. */
static void
note_failed(LlmNewJob *job, int64 failed_job)
{
	job->not_asked++;
	job->failed_job = job->failed_job == 0 || job->failed_job == failed_job ? failed_job : -1;
}

/* Compare some of the findings; adds to "dropped" and "old" what is to be left out and to be superseded. */
static void
compare(const LlmNewTask *tasks, const Found *found, int nfound, Datum *values, bool *dropped, List **old)
{
	uint64 n;

	task_values(tasks, found, nfound, values);
	n = llm_spi_execute(&compare_statement, values, NULL, false);
	for (uint64 i = 0; i < n; i++)
	{
		const Found *hit = &found[DatumGetInt32(result(i, 1))];
		bool is_null;
		Datum same = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 4, &is_null);
		bool is_same = !is_null && DatumGetBool(same);

		if (is_same && !dropped[hit->index])
		{
			dropped[hit->index] = true;
			if (hit->kind == FOUND_DEAD)
				note_failed(tasks[hit->index].job, DatumGetInt64(result(i, 3)));
			else if (DatumGetBool(result(i, 5)))
				llm_notice_kept(tasks[hit->index].job, DatumGetInt64(result(i, 3)));
			else
				tasks[hit->index].job->asked_rows++;
		}
		else if (!is_same && hit->kind == FOUND_TASK)
		{
			int64 *task = palloc(sizeof(int64));

			*task = hit->task;
			*old = lappend(*old, task);
		}
	}
	SPI_freetuptable(SPI_tuptable);
}

/* The same for those whose answer was NULL. */
static void
compare_none(const LlmNewTask *tasks, const Found *found, int nfound, Datum *values, bool *dropped)
{
	uint64 n = 0;
	bool any = false;

	for (int i = 0; i < nfound; i++)
		any = any || found[i].kind == FOUND_NONE;
	if (!any)
		return;
	n = llm_spi_execute(&none_statement, values, NULL, false);
	for (uint64 i = 0; i < n; i++)
	{
		const Found *hit = &found[DatumGetInt32(result(i, 1))];

		if (!dropped[hit->index])
			tasks[hit->index].job->none_rows++;
		dropped[hit->index] = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
supersede(List *old)
{
	Datum *tasks = palloc(list_length(old) * sizeof(Datum));
	Datum values[1];
	ListCell *cell;

	foreach(cell, old)
		tasks[foreach_current_index(cell)] = Int64GetDatum(*(int64 *) lfirst(cell));
	values[0] = llm_spi_array(INT8OID, tasks, NULL, list_length(old));
	(void) llm_transition(LLM_EVENT_OVERTAKE, values, NULL);
	SPI_freetuptable(SPI_tuptable);
	llm_wake_at_commit(LLM_WORKER_WRITER);
}

bool *
llm_enqueue_find_asked(const LlmNewTask *tasks, int ntasks, List *jobs)
{
	MemoryContext caller = CurrentMemoryContext;
	bool *dropped = NULL;
	LlmOwnScope scope;
	CellRanges ranges;
	List *old = NIL;

	find_ranges(tasks, ntasks, &ranges);
	if (ranges.n == 0)
		return NULL;
	SPI_connect();
	llm_spi_own_begin(&scope);
	keep_used(&ranges);
	if (ranges.n > 0)
	{
		Datum values[13];
		int nfound;
		Found *found = find_by_cell(tasks, ntasks, &ranges, &nfound);

		if (nfound > 0)
		{
			dropped = MemoryContextAllocZero(caller, ntasks * sizeof(bool));
			question_values(jobs, values + 7);
		}
		for (int first = 0; first < nfound; first += COMPARE_ROWS)
		{
			compare(tasks, found + first, Min(COMPARE_ROWS, nfound - first), values, dropped, &old);
			compare_none(tasks, found + first, Min(COMPARE_ROWS, nfound - first), values, dropped);
		}
		if (old != NIL)
			supersede(old);
	}
	llm_spi_own_end(&scope);
	SPI_finish();
	return dropped;
}

static void
tell_none(LlmNewJob *job, const char *relation)
{
	if (job->none_rows == 0)
		return;
	ereport(NOTICE,
			(errmsg_plural("%lld row was not asked again: the answer to the same question was NULL",
						   "%lld rows were not asked again: the answer to the same question was NULL",
						   (unsigned long) job->none_rows, (long long) job->none_rows),
			 errdetail("Column \"%s\" of %s; llm.none_answer remembers them.", job->column_name, relation),
			 errhint("To ask them again: SELECT llm.discard(%s, '%s', reason => '{none}');", quote_literal_cstr(relation),
					 job->column_name)));
	job->none_rows = 0;
}

void
llm_enqueue_tell_failed(List *jobs)
{
	foreach_ptr(LlmNewJob, job, jobs)
	{
		const char *relation;

		if (job->not_asked == 0 && job->none_rows == 0)
			continue;
		relation = quote_qualified_identifier(get_namespace_name(get_rel_namespace(job->relation)),
											  get_rel_name(job->relation));
		tell_none(job, relation);
		if (job->not_asked == 0)
			continue;
		ereport(NOTICE,
				(errmsg_plural("%lld row was not asked again: the same question has failed for it",
							   "%lld rows were not asked again: the same question has failed for them",
							   (unsigned long) job->not_asked, (long long) job->not_asked),
				 errdetail("Column \"%s\" of %s; llm.dead_letter says why.", job->column_name, relation),
				 job->failed_job > 0
					 ? errhint("SELECT llm.retry(job => %lld);", (long long) job->failed_job)
					 : errhint("SELECT llm.retry(relation => %s);", quote_literal_cstr(relation))));
		job->not_asked = 0;
	}
}
