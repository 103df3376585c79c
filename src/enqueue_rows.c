/*-------------------------------------------------------------------------
 *
 * enqueue_rows.c
 *	  Rows of llm.queue, many at a time.
 *
 * Half of what deferring added to an UPDATE was one INSERT ... SELECT unnest(...):
 * arrays made and taken apart, each row formed four times, inputs decompressed and
 * compressed again.  So rows go to the table as COPY brings them: formed once,
 * logged by the page, an input that is compressed as it is.
 *
 * What an INSERT by SQL would do besides, this does not: triggers, rules, row
 * security of the owner, values that differ from row to row, types that are not ours.
 * The table has none that matter here; where somebody has added one, the rows go by SQL
 * as before.  CHECK and NOT NULL are looked at for each row, whoever added them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "compat.h"
#include "enqueue_rows.h"
#include "spi.h"

/* Rows that are formed before they are stored: so many, or so many bytes of inputs. */
#define GROUP_ROWS 500
#define GROUP_BYTES (64 * 1024)

/* Inputs of one statement of SQL, decompressed. */
#define STATEMENT_BYTES (16 * 1024 * 1024)

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
	QUEUE_KEY,
	QUEUE_INPUT,
	QUEUE_COLUMNS
} QueueColumn;

static const struct
{
	const char *name;
	Oid type;
} queue_columns[] = {
	{"id", INT8OID},
	{"job", INT8OID},
	{"recipe", INT8OID},
	{"role", OIDOID},
	{"relation", OIDOID},
	{"state", TEXTOID},
	{"reason", TEXTOID},
	{"same_as", INT8OID},
	{"key", JSONBOID},
	{"input", TEXTOID},
};

StaticAssertDecl(lengthof(queue_columns) == QUEUE_COLUMNS, "a name for each column");

/* The table while a set is written. */
typedef struct QueueTable
{
	Relation relation;
	EState *estate;
	ResultRelInfo *target;
	int columns[QUEUE_COLUMNS]; /* where each stands in a row, from 0 */
	Datum *defaults; /* a row of them */
	bool *nulls;
	Datum ready; /* words, as text */
	Datum waiting;
	Datum same;
	TupleTableSlot *slots[GROUP_ROWS]; /* NULL until used */
} QueueTable;

static LlmStatement add_tasks_statement = {
	.sql = "INSERT INTO llm.queue (id, job, recipe, role, relation, state, reason, same_as, key, input)"
		   " SELECT t.id, t.job, t.recipe, t.role, t.relation,"
		   " CASE WHEN t.same_as IS NULL THEN '" STATE_READY "' ELSE '" STATE_WAITING "' END,"
		   " CASE WHEN t.same_as IS NOT NULL THEN '" REASON_SAME "' END, t.same_as, t.key, t.input"
		   " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
		   " pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8))"
		   " AS t(id, job, recipe, role, relation, same_as, key, input)",
	.nargs = 8,
	.args = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, OIDARRAYOID, OIDARRAYOID, INT8ARRAYOID, JSONBARRAYOID,
			 TEXTARRAYOID}};

/*
 * Fill the row of defaults; false when one of them is for an INSERT by SQL to make: it
 * may differ from row to row, or is the domain's.
 */
static bool
read_defaults(QueueTable *table)
{
	TupleDesc desc = RelationGetDescr(table->relation);
	ExprContext *econtext = GetPerTupleExprContext(table->estate);
	int i;

	table->defaults = palloc0(desc->natts * sizeof(Datum));
	table->nulls = palloc0(desc->natts * sizeof(bool));
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Node *expression;

		table->nulls[i] = true;
		if (attribute->attisdropped)
			continue;
		if (attribute->attidentity != '\0' || get_typtype(attribute->atttypid) == TYPTYPE_DOMAIN)
			return false;
		if (!attribute->atthasdef)
			continue;
		expression = build_column_default(table->relation, i + 1);
		if (attribute->attgenerated != '\0' || contain_volatile_functions(expression))
			return false;
		table->defaults[i] = ExecEvalExpr(ExecPrepareExpr((Expr *) expression, table->estate), econtext,
										  &table->nulls[i]);
	}
	return true;
}

/* Would an INSERT in this session fire a trigger?  Ours fires in the apply workers of replication only. */
static bool
fires_triggers(const TriggerDesc *triggers)
{
	char sleeps = SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ? TRIGGER_FIRES_ON_ORIGIN
																			 : TRIGGER_FIRES_ON_REPLICA;
	int i;

	for (i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_INSERT(trigger->tgtype) && trigger->tgenabled != TRIGGER_DISABLED &&
			trigger->tgenabled != sleeps)
			return true;
	}
	return false;
}

/* Does the table ask nothing of an INSERT but to store rows and index them? */
static bool
takes_rows(Relation queue)
{
	return queue->rd_rel->relkind == RELKIND_RELATION && !queue->rd_rel->relhasrules &&
		   !fires_triggers(queue->trigdesc) &&
		   check_enable_rls(RelationGetRelid(queue), InvalidOid, true) != RLS_ENABLED;
}

/* Find the columns by name; false when one is not of the type that is written here. */
static bool
find_columns(QueueTable *table)
{
	int i;

	for (i = 0; i < QUEUE_COLUMNS; i++)
	{
		AttrNumber number = get_attnum(RelationGetRelid(table->relation), queue_columns[i].name);

		if (number <= 0)
			elog(ERROR, "table \"%s\" has no column \"%s\"", RelationGetRelationName(table->relation),
				 queue_columns[i].name);
		if (TupleDescAttr(RelationGetDescr(table->relation), number - 1)->atttypid != queue_columns[i].type)
			return false;
		table->columns[i] = number - 1;
	}
	return true;
}

/* One row as the executor has it. */
static void
fill_row(const QueueTable *table, const LlmNewTask *task, TupleTableSlot *slot)
{
	const int *columns = table->columns;
	int natts = slot->tts_tupleDescriptor->natts;
	Datum *values = slot->tts_values;
	bool is_leader = task->same_as == 0;
	int i;

	memcpy(values, table->defaults, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, table->nulls, natts * sizeof(bool));
	for (i = 0; i < QUEUE_COLUMNS; i++)
		slot->tts_isnull[columns[i]] = is_leader && (i == QUEUE_REASON || i == QUEUE_SAME_AS);
	values[columns[QUEUE_ID]] = Int64GetDatum(task->id);
	values[columns[QUEUE_JOB]] = Int64GetDatum(task->job->id);
	values[columns[QUEUE_RECIPE]] = Int64GetDatum(task->job->recipe);
	values[columns[QUEUE_ROLE]] = ObjectIdGetDatum(task->job->role);
	values[columns[QUEUE_RELATION]] = ObjectIdGetDatum(task->leaf);
	values[columns[QUEUE_STATE]] = is_leader ? table->ready : table->waiting;
	values[columns[QUEUE_REASON]] = is_leader ? (Datum) 0 : table->same;
	values[columns[QUEUE_SAME_AS]] = Int64GetDatum(task->same_as);
	values[columns[QUEUE_KEY]] = JsonbPGetDatum(task->key);
	values[columns[QUEUE_INPUT]] = PointerGetDatum(task->input);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(table->relation);
	ExecConstraints(table->target, slot, table->estate);
}

/* Store and index the rows in the first n slots. */
static void
store_group(QueueTable *table, int n)
{
	EState *estate = table->estate;
	MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
	int i;

	/* it leaves behind the rows that it formed */
	table_multi_insert(table->relation, table->slots, n, GetCurrentCommandId(true), 0, NULL);
	ResetPerTupleExprContext(estate);
	for (i = 0; i < n; i++)
	{
		(void) llm_insert_index_tuples(table->target, table->slots[i], estate);
		ResetPerTupleExprContext(estate);
		ExecClearTuple(table->slots[i]);
	}
	MemoryContextSwitchTo(caller);
}

static void
store_rows(QueueTable *table, const LlmNewTask *tasks, int ntasks)
{
	Size bytes = 0;
	int n = 0;
	int i;

	ExecOpenIndices(table->target, false);
	for (i = 0; i < ntasks; i++)
	{
		if (table->slots[n] == NULL)
			table->slots[n] = table_slot_create(table->relation, &table->estate->es_tupleTable);
		fill_row(table, &tasks[i], table->slots[n++]);
		bytes += VARSIZE_ANY(tasks[i].input);
		if (n == GROUP_ROWS || bytes >= GROUP_BYTES || i == ntasks - 1)
		{
			CHECK_FOR_INTERRUPTS();
			store_group(table, n);
			n = 0;
			bytes = 0;
		}
	}
	ExecResetTupleTable(table->estate->es_tupleTable, false);
	ExecCloseIndices(table->target);
}

/* Store the tasks without SQL; false, and nothing done, where only SQL will do. */
static bool
write_directly(Relation queue, const LlmNewTask *tasks, int ntasks)
{
	MemoryContext caller = CurrentMemoryContext;
	QueueTable *table;
	EState *estate;
	bool possible;

	if (!takes_rows(queue))
		return false;
	estate = CreateExecutorState();
	MemoryContextSwitchTo(estate->es_query_cxt);
	table = palloc0(sizeof(QueueTable));
	table->relation = queue;
	table->estate = estate;
	possible = read_defaults(table) && find_columns(table);
	if (possible)
	{
		table->ready = CStringGetTextDatum(STATE_READY);
		table->waiting = CStringGetTextDatum(STATE_WAITING);
		table->same = CStringGetTextDatum(REASON_SAME);
		table->target = makeNode(ResultRelInfo);
		InitResultRelInfo(table->target, queue, 0, NULL, 0);
		store_rows(table, tasks, ntasks);
	}
	MemoryContextSwitchTo(caller);
	FreeExecutorState(estate);
	return possible;
}

/* One statement of SQL. */
static void
write_statement(const LlmNewTask *tasks, int ntasks)
{
	static const Oid types[] = {INT8OID, INT8OID, INT8OID, OIDOID, OIDOID, INT8OID, JSONBOID, TEXTOID};
	Datum *columns[lengthof(types)];
	bool *is_leader = palloc(ntasks * sizeof(bool));
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
		columns[6][i] = JsonbPGetDatum(tasks[i].key);
		columns[7][i] = PointerGetDatum(tasks[i].input);
		is_leader[i] = tasks[i].same_as == 0;
	}
	for (i = 0; i < lengthof(types); i++)
		values[i] = llm_spi_array(types[i], columns[i], columns[i] == columns[5] ? is_leader : NULL, ntasks);
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
	Relation queue = table_open(llm_spi_relation("queue"), RowExclusiveLock);

	if (!write_directly(queue, tasks, ntasks))
		write_by_sql(tasks, ntasks);
	table_close(queue, NoLock);
	CommandCounterIncrement();
}
