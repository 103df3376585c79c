/*-------------------------------------------------------------------------
 *
 * writeback_cells.c
 *	  Write the cells of claimed rows as the current user, and give each row its fate.
 *
 * First all in one subtransaction.  When that fails, each row in its own, so that
 * a bad row costs only itself.  A row that was not written although nothing failed
 * is asked for the reason (writeback_diag.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/resowner.h"

#include "base/spi.h"
#include "cell/image.h"
#include "writeback/writeback_cells.h"
#include "writeback/writeback_check.h"
#include "writeback/writeback_diag.h"
#include "writeback/writeback_error.h"
#include "writeback/writeback_leaf.h"
#include "writeback/writeback_session.h"
#include "writeback/writeback_sql.h"
#include "writeback/writeback_value.h"

/* Each row that has to wait for a lock costs the lock time-out: after so many the others go first. */
#define MAX_LOCK_WAITS 4

/* Work in a subtransaction; raises. */
typedef void (*Work)(void *arg);

/* A set of rows to write, for try_work(). */
typedef struct Attempt
{
	LlmWriteTarget *target;
	LlmWriteRow **rows;
	int n;
	bool *written;
	bool locking; /* still at the lock statement */
} Attempt;

/* Rows whose values are evaluated, for try_work(). */
typedef struct Evaluation
{
	LlmWriteJob *job;
	const char *column; /* by its name of today */
	LlmCellValue *cell;
	LlmWriteRow **rows;
	int n;
} Evaluation;

/* Rows to explain, for try_work(). */
typedef struct Diagnosis
{
	LlmWriteJob *job;
	LlmWriteRow **rows;
	int n;
} Diagnosis;

/* Errors that end the transaction, and are counted: of no row, or like those of none (writeback_trouble.c). */
static bool
ends_transaction(const ErrorData *error)
{
	if (llm_writeback_is_said_lock(error))
		return true;
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_SYSTEM_ERROR:
			return true;
		default:
			return false;
	}
}

/*
 * Run work in a subtransaction, ended by SET CONSTRAINTS ALL IMMEDIATE, so that
 * deferred triggers fire here and as the role.  Settings changed within are put
 * back.  NULL, or the error, in the current context.
 */
static ErrorData *
try_work(Work work, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		ConstraintsSetStmt immediate = {.type = T_ConstraintsSetStmt, .constraints = NIL, .deferred = false};
		int nest = NewGUCNestLevel();

		work(arg);
		AfterTriggerSetState(&immediate);
		AtEOXact_GUC(false, nest);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ends_transaction(error))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/* The outcome is in the cell. */
static void
note_written(LlmWriteRow *row)
{
	if (strcmp(row->outcome, "answered") == 0)
		row->fate = LLM_FATE_DONE;
	else if (strcmp(row->outcome, "cancelled") == 0)
		row->fate = LLM_FATE_CANCELLED;
	else
	{
		row->fate = LLM_FATE_FAILED;
		row->reason = row->error ? row->error : "failed";
		row->explanation = row->message;
	}
}

/* Of locked rows, those whose quiet cells were not asked about again since; the others are superseded. */
static int
pass_over_asked(LlmWriteRow **locked, int n)
{
	int kept = 0;

	llm_writeback_pass_over_asked(locked, n);
	for (int i = 0; i < n; i++)
	{
		if (locked[i]->fate == LLM_FATE_OPEN)
			locked[kept++] = locked[i];
		else
			locked[i]->locked = false;
	}
	return kept;
}

/* Lock and write; for try_work(). */
static void
write_rows(void *arg)
{
	Attempt *attempt = arg;
	LlmWriteRow **locked = palloc(sizeof(LlmWriteRow *) * attempt->n);
	int n = 0;

	if (attempt->target->is_leaf && !attempt->target->is_quiet)
	{
		llm_writeback_lock_and_write(attempt->target, attempt->rows, attempt->n, attempt->written);
		return;
	}
	attempt->locking = true;
	llm_writeback_lock(attempt->target, attempt->rows, attempt->n, true);
	attempt->locking = false;
	for (int i = 0; i < attempt->n; i++)
		if (attempt->rows[i]->locked)
			locked[n++] = attempt->rows[i];
	if (attempt->target->is_quiet)
		n = pass_over_asked(locked, n);
	if (n == 0)
		return;
	llm_writeback_write(attempt->target, locked, n, attempt->written);
	/* From the order of the locked rows to that of all. */
	for (int i = attempt->n - 1; i >= 0; i--)
		attempt->written[i] = attempt->rows[i]->locked ? attempt->written[--n] : false;
}

static ErrorData *
try_rows(Attempt *attempt)
{
	ErrorData *error = try_work(write_rows, attempt);

	if (error != NULL)
		return error;
	for (int i = 0; i < attempt->n; i++)
		if (attempt->written[i])
			note_written(attempt->rows[i]);
	return NULL;
}

/* The write-back failed: leave at least a failed marker, if the cell can be written at all. */
static void
leave_failed_marker(LlmWriteTarget *target, LlmWriteRow *row)
{
	LlmWriteRow copy = *row;
	LlmWriteRow *rows[1] = {&copy};
	bool written[1];
	Attempt attempt = {.target = target, .rows = rows, .n = 1, .written = written};

	if (target->is_quiet)
		return;
	copy.outcome = "failed";
	copy.error = pstrdup(row->reason);
	copy.message = row->explanation;
	copy.answer = NULL;
	(void) try_work(write_rows, &attempt);
}

/*
 * Each row alone.  Stops when half of the time is over, or when too many had to wait
 * for a lock: what is left comes again.
 */
static void
write_one_by_one(LlmWriteJob *job, Attempt *all)
{
	int waits = 0;

	for (int i = 0; i < all->n; i++)
	{
		Attempt attempt = {.target = all->target, .rows = &all->rows[i], .n = 1, .written = &all->written[i]};
		ErrorData *error;

		if (waits == MAX_LOCK_WAITS || (i > 0 && llm_writeback_half_time_is_over()))
		{
			for (int later = i; later < all->n; later++)
				all->rows[later] = NULL;
			job->blocked = waits == MAX_LOCK_WAITS;
			return;
		}
		all->written[i] = false;
		error = try_rows(&attempt);
		if (error == NULL)
			continue;
		if (llm_writeback_is_lock_error(error->sqlerrcode))
		{
			all->rows[i]->fate = LLM_FATE_WAITING;
			waits++;
			continue;
		}
		llm_writeback_fail_by_error(all->rows[i], error);
		leave_failed_marker(all->target, all->rows[i]);
	}
}

static int
compare_tasks(const void *a, const void *b)
{
	const LlmWriteRow *left = *(LlmWriteRow *const *) a;
	const LlmWriteRow *right = *(LlmWriteRow *const *) b;

	return left->task < right->task ? -1 : left->task > right->task;
}

static int
compare_places(const void *a, const void *b)
{
	const LlmWriteRow *left = *(LlmWriteRow *const *) a;
	const LlmWriteRow *right = *(LlmWriteRow *const *) b;

	if (left->leaf != right->leaf)
		return left->leaf < right->leaf ? -1 : 1;
	return compare_tasks(a, b);
}

/* Rows of one partition, in order of their tasks. */
static void
write_partition(LlmWriteJob *job, const Attempt *all, LlmWriteRow **rows, int n, const char *column, char **keys)
{
	LlmWriteTarget target;
	Attempt attempt = {.target = &target, .rows = rows, .n = n, .written = all->written};
	LlmLeafWay way = llm_writeback_leaf_way(all->target, job, rows[0]->leaf, column, keys, &target);

	bool undone;

	memset(attempt.written, 0, sizeof(bool) * n);
	/* what an error has undone goes by the partitioned table, where it has its full meaning */
	undone = way != LLM_LEAF_WRITE || try_rows(&attempt) != NULL;
	for (int i = 0; undone && i < n; i++)
		rows[i]->locked = false;
	for (int i = 0; way == LLM_LEAF_LOCKED && i < n; i++)
		rows[i]->fate = LLM_FATE_WAITING;
}

/*
 * Partition by partition, each row in the one that it was bound in.  What could not be written
 * so is left in "all"; behind it stands what a trigger has suppressed, which is not tried again,
 * and how many these are is returned.  What half of the time was not enough for comes again.
 */
static int
write_by_partition(LlmWriteJob *job, Attempt *all, const char *column, char **keys)
{
	LlmWriteRow **sorted = palloc(sizeof(LlmWriteRow *) * all->n);
	int done = 0;
	int left = 0;
	int suppressed = 0;

	memcpy(sorted, all->rows, sizeof(LlmWriteRow *) * all->n);
	qsort(sorted, all->n, sizeof(LlmWriteRow *), compare_places);
	while (done < all->n && (done == 0 || !llm_writeback_half_time_is_over()))
	{
		int end = done + 1;

		while (end < all->n && sorted[end]->leaf == sorted[done]->leaf)
			end++;
		write_partition(job, all, sorted + done, end - done, column, keys);
		done = end;
	}
	qsort(sorted, done, sizeof(LlmWriteRow *), compare_tasks);
	for (int i = 0; i < done; i++)
	{
		if (sorted[i]->fate == LLM_FATE_OPEN && !sorted[i]->locked)
			all->rows[left++] = sorted[i];
	}
	all->n = left;
	for (int i = 0; i < done; i++)
	{
		if (sorted[i]->fate == LLM_FATE_OPEN && sorted[i]->locked)
			all->rows[left + suppressed++] = sorted[i];
	}
	return suppressed;
}

/* For try_work(). */
static void
diagnose_rows(void *arg)
{
	Diagnosis *diagnosis = arg;

	llm_writeback_diagnose(diagnosis->job, diagnosis->rows, diagnosis->n);
}

/* Rows that were tried and not written, without an error: why? */
static void
explain_rows(LlmWriteJob *job, Attempt *all)
{
	Diagnosis diagnosis = {.job = job, .rows = palloc(sizeof(LlmWriteRow *) * all->n)};
	ErrorData *error;

	for (int i = 0; i < all->n; i++)
		if (all->rows[i] != NULL && all->rows[i]->fate == LLM_FATE_OPEN)
			diagnosis.rows[diagnosis.n++] = all->rows[i];
	if (diagnosis.n == 0)
		return;
	qsort(diagnosis.rows, diagnosis.n, sizeof(LlmWriteRow *), compare_tasks);
	error = try_work(diagnose_rows, &diagnosis);
	for (int i = 0; error != NULL && i < diagnosis.n; i++)
	{
		if (llm_writeback_is_lock_error(error->sqlerrcode))
			diagnosis.rows[i]->fate = LLM_FATE_WAITING;
		else
			llm_writeback_fail_by_error(diagnosis.rows[i], error);
	}
}

/* For try_work(). */
static void
lock_again(void *arg)
{
	Attempt *attempt = arg;

	llm_writeback_lock(attempt->target, attempt->rows, attempt->n, true);
}

/*
 * Somebody may have let a row go between the role's look, which passed over it, and the
 * owner's, which found it free: what the role sees now is not hidden from it, and comes again.
 */
static void
look_for_let_go(Attempt *all)
{
	Attempt hidden = {.target = all->target, .rows = palloc(sizeof(LlmWriteRow *) * all->n)};

	for (int i = 0; i < all->n; i++)
	{
		LlmWriteRow *row = all->rows[i];

		if (row != NULL && row->fate == LLM_FATE_FAILED && strcmp(row->reason, "not_visible") == 0)
			hidden.rows[hidden.n++] = row;
	}
	if (hidden.n == 0 || try_work(lock_again, &hidden) != NULL)
		return;
	for (int i = 0; i < hidden.n; i++)
	{
		if (hidden.rows[i]->locked)
			hidden.rows[i]->fate = LLM_FATE_WAITING;
	}
}

void
llm_writeback_decide(LlmWriteJob *job, LlmFate fate, const char *reason, char *explanation)
{
	for (int i = 0; i < job->nrows; i++)
	{
		LlmWriteRow *row = &job->rows[i];

		if (row->fate != LLM_FATE_OPEN)
			continue;
		if (strcmp(row->outcome, "superseded") == 0)
			row->fate = LLM_FATE_SUPERSEDED;
		else if (fate == LLM_FATE_FAILED)
			llm_writeback_fail(row, reason, explanation);
		else
			row->fate = fate;
	}
}

/* The table itself is locked: all wait, and the job with them. */
static void
block(LlmWriteJob *job)
{
	job->blocked = true;
	llm_writeback_decide(job, LLM_FATE_WAITING, NULL, NULL);
}

static bool
may_write(LlmWriteJob *job)
{
	LlmOwnScope scope;
	bool may;

	llm_spi_own_begin(&scope);
	may = llm_writeback_may_write(job);
	llm_spi_own_end(&scope);
	return may;
}

static bool
take_job(LlmWriteJob *job)
{
	LlmOwnScope scope;
	bool taken;

	llm_spi_own_begin(&scope);
	taken = llm_writeback_take_job(job);
	llm_spi_own_end(&scope);
	return taken;
}

/* What was cancelled, of a job that may not write, ends and leaves the cells as they are: to change them is a write. */
static void
give_up(LlmWriteJob *job)
{
	for (int i = 0; i < job->nrows; i++)
		job->rows[i].fate =
			strcmp(job->rows[i].outcome, "superseded") == 0 ? LLM_FATE_SUPERSEDED : LLM_FATE_CANCELLED;
}

/* For try_work(). */
static void
prepare_values(void *arg)
{
	Evaluation *evaluation = arg;

	LlmWriteJob *job = evaluation->job;

	evaluation->cell = llm_cell_value_prepare(job->cell, job->relation, evaluation->column);
}

/* For try_work(). */
static void
evaluate_rows(void *arg)
{
	Evaluation *evaluation = arg;

	llm_cell_value_evaluate(evaluation->cell, evaluation->rows, evaluation->n);
}

/* The value cannot be made, and the answer is kept: also where a right was lost, which may come back. */
static void
fail_value(LlmWriteRow *row, ErrorData *error)
{
	if (llm_writeback_is_lock_error(error->sqlerrcode))
	{
		row->fate = LLM_FATE_WAITING;
		return;
	}
	llm_writeback_fail_by_error(row, error);
	row->reason = "not_writable";
}

/* Halves, until those that fail stand alone. */
static void
evaluate_by_halves(Evaluation *all)
{
	Evaluation half = *all;
	ErrorData *error = all->n == 0 ? NULL : try_work(evaluate_rows, all);

	if (error == NULL)
		return;
	if (all->n == 1)
	{
		fail_value(all->rows[0], error);
		return;
	}
	half.n = all->n / 2;
	evaluate_by_halves(&half);
	half.rows += half.n;
	half.n = all->n - half.n;
	evaluate_by_halves(&half);
}

/* Was the column given another type since?  A value of the old one is not overwritten. */
static bool
is_retyped(const LlmWriteTarget *target, const LlmWriteRow *row)
{
	LlmCellFence fence;

	llm_cell_fence_read(row->fence, &fence);
	return fence.type != target->column_type && !fence.was_null;
}

/*
 * Quiet cells: what was not answered is not written, since nothing shows in the cell; the
 * others' values are evaluated before any row is locked.
 */
static void
make_values(LlmWriteJob *job, const LlmWriteTarget *target, const char *column)
{
	Evaluation all = {.job = job, .column = column, .rows = palloc(sizeof(LlmWriteRow *) * Max(job->nrows, 1))};
	ErrorData *error;

	for (int i = 0; i < job->nrows; i++)
	{
		LlmWriteRow *row = &job->rows[i];

		if (row->fate != LLM_FATE_OPEN)
			continue;
		if (strcmp(row->outcome, "answered") != 0 || row->fence == NULL)
			note_written(row);
		else if (is_retyped(target, row))
			llm_writeback_fail(row, "not_writable",
							   psprintf("column \"%s\" of %s has another type than when it was asked about",
										column, target->name));
		else
			all.rows[all.n++] = row;
	}
	if (all.n == 0)
		return;
	error = try_work(prepare_values, &all);
	if (error == NULL)
		evaluate_by_halves(&all);
	for (int i = 0; error != NULL && i < all.n; i++)
		fail_value(all.rows[i], error);
}

void
llm_writeback_cells(LlmWriteJob *job)
{
	LlmWriteTarget target = {0};
	Attempt all = {.target = &target};
	char **keys = palloc(sizeof(char *) * job->nkeys);
	char *column;
	const char *reason = NULL;
	char *explanation = NULL;
	ErrorData *error;
	int suppressed = 0;

	/* Not waited for: an open ALTER TABLE costs nothing but this job's turn. */
	if (!ConditionalLockRelationOid(job->relation, RowExclusiveLock))
	{
		block(job);
		return;
	}
	if (!may_write(job))
	{
		if (!job->withheld || !take_job(job))
			job->nrows = 0; /* all stay as they are */
		give_up(job);
		return;
	}
	if (!llm_writeback_follow_names(job, &column, keys, &reason, &explanation) ||
		!llm_writeback_describe(&target, job->relation, job, column, keys, &reason, &explanation))
	{
		llm_writeback_decide(job, LLM_FATE_FAILED, reason, explanation);
		return;
	}
	llm_writeback_decide(job, LLM_FATE_OPEN, NULL, NULL);
	if (job->spec != NULL)
		llm_writeback_check(job);
	if (job->is_quiet)
		make_values(job, &target, column);
	all.rows = palloc(sizeof(LlmWriteRow *) * Max(job->nrows, 1));
	all.written = palloc0(sizeof(bool) * Max(job->nrows, 1));
	for (int i = 0; i < job->nrows; i++)
		if (job->rows[i].fate == LLM_FATE_OPEN)
			all.rows[all.n++] = &job->rows[i];
	if (all.n > 0 && llm_writeback_leaf_may(&target, column))
		suppressed = write_by_partition(job, &all, column, keys);
	error = all.n > 0 ? try_rows(&all) : NULL;
	if (error != NULL && all.locking && llm_writeback_is_lock_error(error->sqlerrcode))
	{
		block(job);
		return;
	}
	if (error != NULL)
		write_one_by_one(job, &all);
	all.n += suppressed;
	explain_rows(job, &all);
	look_for_let_go(&all);
}
