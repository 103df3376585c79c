/*-------------------------------------------------------------------------
 *
 * store.c
 *	  Rows of our tables without SQL: added as COPY adds them, replaced as UPDATE
 *	  replaces them; and read again by the transaction that has just added them.
 *
 * Where many rows are written again and again, most of what a statement over arrays
 * costs is arrays made and taken apart, an executor set up and taken down, and each row
 * formed four times.  Here a row is formed once, rows that are added are logged by the
 * page, and a value that is compressed stays as it is.
 *
 * What SQL would do besides, this does not: triggers, rules, row security of the owner.
 * Nobody but a superuser can put any on our tables, and llm.health names those there are
 * (ADR 37).  Columns that are not as ours are refused by name.  CHECK and NOT NULL are looked
 * at for each row, also those that a user added.  An identity column gets its next number.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/spi.h"
#include "base/store.h"

/* Rows that are formed before they are stored: so many, or so many bytes. */
#define GROUP_ROWS 500
#define GROUP_BYTES (64 * 1024)

struct LlmStore
{
	Relation relation;
	CmdType what;
	EState *estate;
	ResultRelInfo *target;

	/* to add */
	Datum *defaults; /* a row of them */
	bool *nulls;
	int identity; /* the identity column, from 0; -1: none */
	ExprState *number; /* its next number */
	TupleTableSlot *slots[GROUP_ROWS]; /* NULL until used */
	int nslots; /* of them filled */
	Size bytes; /* of these */

	/* to replace */
	Relation key; /* index of the primary key */
	IndexScanDesc scan; /* by primary key; NULL until used */
	TupleTableSlot *found;
	TupleTableSlot *changed;
};

static bool
is_named(int number, const int *numbers, int ncolumns)
{
	for (int i = 0; i < ncolumns; i++)
	{
		if (numbers[i] == number)
			return true;
	}
	return false;
}

/* Somebody has changed the table so that we cannot write it. */
pg_noreturn static void
refuse(Relation relation, const char *column, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("column \"%s\" of table \"%s.%s\" %s", column, LLM_SCHEMA, RelationGetRelationName(relation), what),
			 errdetail("The table belongs to extension \"%s\", which writes it.", LLM_LIBRARY),
			 errhint("Take back what was done to the column with ALTER TABLE.")));
}

/* Fill the row of defaults, for the columns that are not named. */
static void
read_defaults(LlmStore *store, const int *numbers, int ncolumns)
{
	TupleDesc desc = RelationGetDescr(store->relation);
	ExprContext *econtext = GetPerTupleExprContext(store->estate);

	store->identity = -1;
	store->defaults = palloc0(desc->natts * sizeof(Datum));
	store->nulls = palloc0(desc->natts * sizeof(bool));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Expr *expression;

		store->nulls[i] = true;
		if (attribute->attisdropped || is_named(i, numbers, ncolumns))
			continue;
		if (get_typtype(attribute->atttypid) == TYPTYPE_DOMAIN)
			refuse(store->relation, NameStr(attribute->attname), "is of a domain");
		if (attribute->attidentity == '\0' && !attribute->atthasdef)
			continue;
		expression = (Expr *) build_column_default(store->relation, i + 1);
		if (attribute->attidentity != '\0' && store->identity < 0)
		{
			store->identity = i;
			store->number = ExecPrepareExpr(expression, store->estate);
			continue;
		}
		if (attribute->attgenerated != '\0' || contain_volatile_functions((Node *) expression))
			refuse(store->relation, NameStr(attribute->attname), "has a value that differs from row to row");
		store->defaults[i] = ExecEvalExpr(ExecPrepareExpr(expression, store->estate), econtext, &store->nulls[i]);
	}
}

/* Find the columns by name, each of just the type that is meant here. */
static void
find_columns(Relation relation, const LlmStoreColumn *columns, int ncolumns, int *numbers)
{
	for (int i = 0; i < ncolumns; i++)
	{
		AttrNumber number = get_attnum(RelationGetRelid(relation), columns[i].name);
		Form_pg_attribute attribute;

		if (number <= 0)
			refuse(relation, columns[i].name, "is missing");
		attribute = TupleDescAttr(RelationGetDescr(relation), number - 1);
		if (attribute->atttypid != columns[i].type || attribute->atttypmod != -1)
			refuse(relation, columns[i].name, "is of another type");
		numbers[i] = number - 1;
	}
}

/* The index of the primary key, which is just this column (from 0). */
static Relation
find_primary_key(const ResultRelInfo *target, int column, const char *name)
{
	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		Relation index = target->ri_IndexRelationDescs[i];

		if (index->rd_index->indisprimary && index->rd_index->indisvalid && index->rd_index->indnkeyatts == 1 &&
			index->rd_index->indkey.values[0] == column + 1)
			return index;
	}
	refuse(target->ri_RelationDesc, name, "is not the primary key");
}

LlmStore *
llm_store_begin(const char *name, CmdType what, const LlmStoreColumn *columns, int ncolumns, int *numbers)
{
	Relation relation = table_open(llm_spi_relation(name), RowExclusiveLock);
	EState *estate = CreateExecutorState();
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	LlmStore *store = palloc0(sizeof(LlmStore));

	store->relation = relation;
	store->what = what;
	store->estate = estate;
	find_columns(relation, columns, ncolumns, numbers);
	if (what == CMD_INSERT)
		read_defaults(store, numbers, ncolumns);
	else
		CheckCmdReplicaIdentity(relation, what);
	store->target = makeNode(ResultRelInfo);
	InitResultRelInfo(store->target, relation, 0, NULL, 0);
	ExecOpenIndices(store->target, false);
	if (what == CMD_UPDATE)
		store->key = find_primary_key(store->target, numbers[0], columns[0].name);
	MemoryContextSwitchTo(caller);
	return store;
}

TupleTableSlot *
llm_store_next(LlmStore *store)
{
	TupleTableSlot **slot = &store->slots[store->nslots];
	MemoryContext caller = MemoryContextSwitchTo(store->estate->es_query_cxt);
	int natts = RelationGetDescr(store->relation)->natts;

	if (*slot == NULL)
		*slot = table_slot_create(store->relation, &store->estate->es_tupleTable);
	memcpy((*slot)->tts_values, store->defaults, natts * sizeof(Datum));
	memcpy((*slot)->tts_isnull, store->nulls, natts * sizeof(bool));
	if (store->identity >= 0)
		(*slot)->tts_values[store->identity] = ExecEvalExpr(store->number, GetPerTupleExprContext(store->estate),
															&(*slot)->tts_isnull[store->identity]);
	MemoryContextSwitchTo(caller);
	return *slot;
}

/* Store and index the rows that are complete. */
static void
store_group(LlmStore *store)
{
	EState *estate = store->estate;
	MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));

	CHECK_FOR_INTERRUPTS();
	/* it leaves behind the rows that it formed */
	table_multi_insert(store->relation, store->slots, store->nslots, GetCurrentCommandId(true), 0, NULL);
	ResetPerTupleExprContext(estate);
	for (int i = 0; i < store->nslots; i++)
	{
		(void) llm_insert_index_tuples(store->target, store->slots[i], estate);
		ResetPerTupleExprContext(estate);
		ExecClearTuple(store->slots[i]);
	}
	MemoryContextSwitchTo(caller);
	store->nslots = 0;
	store->bytes = 0;
}

void
llm_store_put(LlmStore *store, Size bytes)
{
	TupleTableSlot *slot = store->slots[store->nslots++];
	MemoryContext caller = MemoryContextSwitchTo(store->estate->es_query_cxt);

	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(store->relation);
	ExecConstraints(store->target, slot, store->estate);
	MemoryContextSwitchTo(caller);
	store->bytes += bytes;
	if (store->nslots == GROUP_ROWS || store->bytes >= GROUP_BYTES)
		store_group(store);
}

TupleTableSlot *
llm_store_find(LlmStore *store, int64 key)
{
	MemoryContext caller = MemoryContextSwitchTo(store->estate->es_query_cxt);
	ScanKeyData condition;
	bool found;

	if (store->scan == NULL)
	{
		store->scan = llm_index_beginscan(store->relation, store->key, GetActiveSnapshot(), 1);
		store->found = table_slot_create(store->relation, &store->estate->es_tupleTable);
		store->changed = llm_alloc_table_slot(&store->estate->es_tupleTable, RelationGetDescr(store->relation),
											  &TTSOpsVirtual);
	}
	ScanKeyInit(&condition, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
	index_rescan(store->scan, &condition, 1, NULL, 0);
	found = index_getnext_slot(store->scan, ForwardScanDirection, store->found);
	MemoryContextSwitchTo(caller);
	if (!found)
		return NULL;
	slot_getallattrs(store->found);
	return store->found;
}

TupleTableSlot *
llm_store_copy(LlmStore *store)
{
	TupleTableSlot *changed = store->changed;
	int natts = changed->tts_tupleDescriptor->natts;

	ExecClearTuple(changed);
	memcpy(changed->tts_values, store->found->tts_values, natts * sizeof(Datum));
	memcpy(changed->tts_isnull, store->found->tts_isnull, natts * sizeof(bool));
	return changed;
}

bool
llm_store_replace(LlmStore *store)
{
	EState *estate = store->estate;
	TupleTableSlot *changed = store->changed;
	MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
	TM_FailureData failure;
	LockTupleMode mode;
	LlmUpdateIndexes indexes;
	bool done;

	ExecStoreVirtualTuple(changed);
	changed->tts_tableOid = RelationGetRelid(store->relation);
	ExecConstraints(store->target, changed, estate);
	done = llm_tuple_update(store->relation, &store->found->tts_tid, changed, &failure, &mode, &indexes) == TM_Ok;
	if (done)
		llm_update_index_tuples(store->target, changed, estate, indexes);
	MemoryContextSwitchTo(caller);
	ResetPerTupleExprContext(estate);
	return done;
}

void
llm_store_end(LlmStore *store)
{
	EState *estate = store->estate;
	Relation relation = store->relation;

	if (store->nslots > 0)
		store_group(store);
	ExecResetTupleTable(estate->es_tupleTable, false);
	if (store->scan != NULL)
		index_endscan(store->scan);
	ExecCloseIndices(store->target);
	FreeExecutorState(estate);
	table_close(relation, NoLock);
	CommandCounterIncrement();
}

/* The value of a text-like column where the key leads to; NULL when there is no such row. */
static struct varlena *
read_value(IndexScanDesc scan, int64 key, AttrNumber column, TupleTableSlot *slot)
{
	ScanKeyData condition;
	Datum value;
	bool is_null;

	ScanKeyInit(&condition, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
	index_rescan(scan, &condition, 1, NULL, 0);
	if (!index_getnext_slot(scan, ForwardScanDirection, slot))
		return NULL;
	value = slot_getattr(slot, column, &is_null);
	return is_null ? NULL : (struct varlena *) DatumGetPointer(datumCopy(value, false, -1));
}

void
llm_store_read(const char *name, const char *column, const int64 *keys, int n, struct varlena **values)
{
	Relation relation = table_open(llm_spi_relation(name), AccessShareLock);
	AttrNumber number = get_attnum(RelationGetRelid(relation), column);
	Oid oid = llm_primary_key(relation);
	Relation index = OidIsValid(oid) ? index_open(oid, AccessShareLock) : NULL;

	if (index != NULL && number > 0 && TupleDescAttr(RelationGetDescr(relation), number - 1)->attlen == -1 &&
		index->rd_index->indnkeyatts == 1 && TupleDescAttr(RelationGetDescr(index), 0)->atttypid == INT8OID)
	{
		TupleTableSlot *slot = table_slot_create(relation, NULL);
		IndexScanDesc scan = llm_index_beginscan(relation, index, SnapshotSelf, 1);

		for (int i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			values[i] = read_value(scan, keys[i], number, slot);
		}
		index_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
	}
	if (index != NULL)
		index_close(index, AccessShareLock);
	table_close(relation, AccessShareLock);
}
