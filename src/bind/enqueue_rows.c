/*-------------------------------------------------------------------------
 *
 * enqueue_rows.c
 *	  Rows of llm.queue, many at a time.
 *
 * Half of what deferring added to an UPDATE was one INSERT ... SELECT unnest(...):
 * arrays made and taken apart, each row formed four times, inputs decompressed and
 * compressed again.  So rows go to the table by store.c, as COPY brings them, an input
 * that is compressed as it is; by SQL only where somebody has added to the table what
 * an INSERT would do besides.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/spi.h"
#include "base/store.h"
#include "bind/enqueue_rows.h"

/* Inputs of one statement of SQL, decompressed. */
#define STATEMENT_BYTES (16 * 1024 * 1024)

#define QUEUE "queue"
#define STATE_READY "ready"
#define STATE_WAITING "waiting"
#define REASON_SAME "same_question"

/* Columns that are written; the others have their defaults. */
typedef enum QueueColumn
{
	QUEUE_ID,
	QUEUE_JOB,
	QUEUE_RECIPE,
	QUEUE_ROLE,
	QUEUE_RELATION,
	QUEUE_STATE,
	QUEUE_REASON,
	QUEUE_SAME_AS,
	QUEUE_APPLICATION,
	QUEUE_KEY,
	QUEUE_INPUT,
	QUEUE_COLUMNS
} QueueColumn;

static const LlmStoreColumn queue_columns[] = {
	{"id", INT8OID},
	{"job", INT8OID},
	{"recipe", INT8OID},
	{"role", OIDOID},
	{"relation", OIDOID},
	{"state", TEXTOID},
	{"reason", TEXTOID},
	{"same_as", INT8OID},
	{"application_name", TEXTOID},
	{"key", JSONBOID},
	{"input", TEXTOID},
};

StaticAssertDecl(lengthof(queue_columns) == QUEUE_COLUMNS, "a name for each column");

static LlmStatement add_tasks_statement = {
	.sql = "INSERT INTO llm.queue (id, job, recipe, role, relation, state, reason, same_as,"
		   "  application_name, key, input)"
		   " SELECT t.id, t.job, t.recipe, t.role, t.relation,"
		   " CASE WHEN t.same_as IS NULL THEN '" STATE_READY "' ELSE '" STATE_WAITING "' END,"
		   " CASE WHEN t.same_as IS NOT NULL THEN '" REASON_SAME "' END, t.same_as, t.application_name,"
		   " t.key, t.input"
		   " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
		   " pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8),"
		   " pg_catalog.unnest($9))"
		   " AS t(id, job, recipe, role, relation, same_as, application_name, key, input)",
	.nargs = 9,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, OIDARRAYOID, OIDARRAYOID, INT8ARRAYOID, TEXTARRAYOID,
			 JSONBARRAYOID, TEXTARRAYOID}};

/* Store the tasks without SQL; false, and nothing done, where only SQL will do. */
static bool
write_directly(const LlmNewTask *tasks, int ntasks)
{
	int columns[QUEUE_COLUMNS];
	LlmStore *store = llm_store_begin(QUEUE, CMD_INSERT, queue_columns, QUEUE_COLUMNS, columns);
	Datum ready = CStringGetTextDatum(STATE_READY);
	Datum waiting = CStringGetTextDatum(STATE_WAITING);
	Datum same = CStringGetTextDatum(REASON_SAME);

	if (store == NULL)
		return false;
	for (int i = 0; i < ntasks; i++)
	{
		const LlmNewTask *task = &tasks[i];
		TupleTableSlot *slot = llm_store_next(store);
		Datum *values = slot->tts_values;
		bool is_leader = task->same_as == 0;

		for (int c = 0; c < QUEUE_COLUMNS; c++)
			slot->tts_isnull[columns[c]] = is_leader && (c == QUEUE_REASON || c == QUEUE_SAME_AS);
		slot->tts_isnull[columns[QUEUE_APPLICATION]] = task->job->application == NULL;
		values[columns[QUEUE_ID]] = Int64GetDatum(task->id);
		values[columns[QUEUE_JOB]] = Int64GetDatum(task->job->id);
		values[columns[QUEUE_RECIPE]] = Int64GetDatum(task->job->recipe);
		values[columns[QUEUE_ROLE]] = ObjectIdGetDatum(task->job->role);
		values[columns[QUEUE_RELATION]] = ObjectIdGetDatum(task->leaf);
		values[columns[QUEUE_STATE]] = is_leader ? ready : waiting;
		values[columns[QUEUE_REASON]] = is_leader ? (Datum) 0 : same;
		values[columns[QUEUE_SAME_AS]] = Int64GetDatum(task->same_as);
		values[columns[QUEUE_APPLICATION]] = PointerGetDatum(task->job->application);
		values[columns[QUEUE_KEY]] = JsonbPGetDatum(task->key);
		values[columns[QUEUE_INPUT]] = PointerGetDatum(task->input);
		llm_store_put(store, VARSIZE_ANY(task->input));
	}
	llm_store_end(store);
	return true;
}

/* One statement of SQL. */
static void
write_statement(const LlmNewTask *tasks, int ntasks)
{
	static const Oid types[] = {INT8OID, INT8OID, INT8OID, OIDOID, OIDOID, INT8OID, TEXTOID, JSONBOID, TEXTOID};
	Datum *columns[lengthof(types)];
	bool *is_leader = palloc(ntasks * sizeof(bool));
	bool *is_nameless = palloc(ntasks * sizeof(bool));
	Datum values[lengthof(types)];
	int i;

	for (i = 0; i < lengthof(types); i++)
		columns[i] = palloc(ntasks * sizeof(Datum));
	for (i = 0; i < ntasks; i++)
	{
		columns[0][i] = Int64GetDatum(tasks[i].id);
		columns[1][i] = Int64GetDatum(tasks[i].job->id);
		columns[2][i] = Int64GetDatum(tasks[i].job->recipe);
		columns[3][i] = ObjectIdGetDatum(tasks[i].job->role);
		columns[4][i] = ObjectIdGetDatum(tasks[i].leaf);
		columns[5][i] = Int64GetDatum(tasks[i].same_as);
		columns[6][i] = PointerGetDatum(tasks[i].job->application);
		columns[7][i] = JsonbPGetDatum(tasks[i].key);
		columns[8][i] = PointerGetDatum(tasks[i].input);
		is_leader[i] = tasks[i].same_as == 0;
		is_nameless[i] = tasks[i].job->application == NULL;
	}
	for (i = 0; i < lengthof(types); i++)
		values[i] = llm_spi_array(types[i], columns[i], i == 5 ? is_leader : i == 6 ? is_nameless
																					: NULL,
								  ntasks);
	(void) llm_spi_execute(&add_tasks_statement, values, NULL, false);
}

/* By SQL, in parts, since inputs grow when they are decompressed. */
static void
write_by_sql(const LlmNewTask *tasks, int ntasks)
{
	int first = 0;
	int i;
	Size bytes = 0;

	for (i = 0; i < ntasks; i++)
	{
		bytes += toast_raw_datum_size(PointerGetDatum(tasks[i].input));
		if (bytes >= STATEMENT_BYTES || i == ntasks - 1)
		{
			write_statement(tasks + first, i + 1 - first);
			first = i + 1;
			bytes = 0;
		}
	}
}

void
llm_enqueue_write_rows(const LlmNewTask *tasks, int ntasks)
{
	if (write_directly(tasks, ntasks))
		return;
	write_by_sql(tasks, ntasks);
	CommandCounterIncrement();
}

text **
llm_enqueue_read_inputs(const int64 *ids, int n)
{
	text **inputs = palloc0(n * sizeof(text *));

	llm_store_read(QUEUE, queue_columns[QUEUE_INPUT].name, ids, n, (struct varlena **) inputs);
	return inputs;
}
