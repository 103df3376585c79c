/*-------------------------------------------------------------------------
 *
 * writeback_sql.c
 *	  The statements that find, lock and write cells of a job.
 *
 * All work on sets: arrays of tasks and of key values as text, each value cast to
 * its column's type, so that a row is found by the index of its key.  Every name
 * is quoted and qualified, every operator, too.  A row is touched only where key
 * and marker both stand.
 *
 *	  describe()  under a lock on the relation
 *	  lock()      then, as the role that asked
 *	  write()     the rows that lock() got
 *	  look()      for the diagnosis, as the table's owner
 *
 * The plans of the last few statements are kept: jobs of one row each would spend
 * most of their time in the planner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/ilist.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/spi.h"
#include "base/spi_plan.h"
#include "cell/marker.h"
#include "writeback/writeback_sql.h"

/* Statements of some dozens of jobs that run at the same time. */
#define KEPT_PLANS 64

/* A plan that was kept, the last one used first in the list. */
typedef struct KeptPlan
{
	dlist_node node;
	char *sql;
	SPIPlanPtr plan;
} KeptPlan;

/* Arguments of a statement that follow the rows' keys. */
typedef struct MoreArguments
{
	Datum *values;
	Oid *types;
	int n;
} MoreArguments;

/* Written by find_plan(); live as long as the process. */
static dlist_head kept_plans = DLIST_STATIC_INIT(kept_plans);
static int kept_count = 0;

/*
 * The text of the plan that is about to run, by its address, and the relation whose
 * SELECT right it need not ask for, if any; see strip_select().  Written by run_over().
 * A trigger's query, which has another address, can never pass for ours.
 */
static const char *own_query = NULL;
static Oid stripped_relation = InvalidOid;
static planner_hook_type next_planner_hook = NULL;

/*
 * Do not ask for SELECT on the relation that is written: our conditions read key and
 * marker, which the statement that asked did not have to read, and they tell the role
 * nothing.  UPDATE is asked for, row security has been applied, as ever.
 */
static void
strip_select(Query *query, Oid relation)
{
	ListCell *lc;

	foreach(lc, llm_query_permissions(query))
	{
		LlmPermission *permission = lfirst(lc);

		if (permission->relid == relation && !OidIsValid(permission->checkAsUser))
		{
			permission->requiredPerms &= ~ACL_SELECT;
			permission->selectedCols = NULL;
		}
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *entry = lfirst(lc);

		if (entry->rtekind == RTE_SUBQUERY)
			strip_select(entry->subquery, relation);
	}
}

/* planner_hook */
static PlannedStmt *
plan_writeback(LLM_PLANNER_PARAMS)
{
	if (query_string != NULL && query_string == own_query && OidIsValid(stripped_relation))
		strip_select(query, stripped_relation);
	if (next_planner_hook)
		return next_planner_hook(LLM_PLANNER_ARGS);
	return standard_planner(LLM_PLANNER_ARGS);
}

void
llm_writeback_sql_init(void)
{
	next_planner_hook = planner_hook;
	planner_hook = plan_writeback;
}

static void
forget_plan(KeptPlan *kept)
{
	dlist_delete(&kept->node);
	kept_count--;
	own_query = NULL;
	SPI_freeplan(kept->plan);
	pfree(kept->sql);
	pfree(kept);
}

static SPIPlanPtr
find_plan(const char *sql, int nargs, Oid *argtypes)
{
	dlist_iter iter;
	KeptPlan *kept;
	SPIPlanPtr plan;

	dlist_foreach(iter, &kept_plans)
	{
		kept = dlist_container(KeptPlan, node, iter.cur);
		if (strcmp(kept->sql, sql) != 0)
			continue;
		dlist_move_head(&kept_plans, &kept->node);
		return kept->plan;
	}
	/* it finds its rows by the index of the key, however short the table is now */
	plan = SPI_prepare_cursor(sql, nargs, argtypes, CURSOR_OPT_GENERIC_PLAN | LLM_PLAN_ANY);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	kept = MemoryContextAlloc(TopMemoryContext, sizeof(KeptPlan));
	kept->sql = MemoryContextStrdup(TopMemoryContext, sql);
	kept->plan = plan;
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep the plan of \"%s\"", sql);
	dlist_push_head(&kept_plans, &kept->node);
	if (++kept_count > KEPT_PLANS)
		forget_plan(dlist_container(KeptPlan, node, dlist_tail_node(&kept_plans)));
	return plan;
}

/* The column's number in the relation and its type; false when there is none of that name. */
static bool
find_column(Oid relation, const char *column, Oid *type)
{
	AttrNumber attnum = get_attnum(relation, column);

	if (attnum <= 0)
		return false;
	*type = get_atttype(relation, attnum);
	return true;
}

/*
 * The name that a column has now, in *name.  Where it was dropped, one that has its name now
 * may hold the markers: nothing is written where none stands.  False when there is none.
 */
static bool
follow_name(Oid relation, AttrNumber number, char **name)
{
	HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relation), Int16GetDatum(number));
	Form_pg_attribute attribute;
	bool found;

	if (!HeapTupleIsValid(tuple))
		return get_attnum(relation, *name) > 0;
	attribute = (Form_pg_attribute) GETSTRUCT(tuple);
	found = !attribute->attisdropped;
	if (found)
		*name = pstrdup(NameStr(attribute->attname));
	ReleaseSysCache(tuple);
	return found || get_attnum(relation, *name) > 0;
}

bool
llm_writeback_follow_names(const LlmWriteJob *job, char **column, char **keys,
						   const char **reason, char **explanation)
{
	*column = job->column;
	memcpy(keys, job->keys, sizeof(char *) * job->nkeys);
	/* llm_writeback_describe() will say that a table is gone */
	if (job->numbers == NULL || get_rel_name(job->relation) == NULL)
		return true;
	for (int k = 0; k <= job->nkeys; k++)
	{
		if (follow_name(job->relation, job->numbers[k], k == 0 ? column : &keys[k - 1]))
			continue;
		*reason = "column_gone";
		*explanation = psprintf("%s \"%s\" of %s was dropped", k == 0 ? "column" : "key column",
								k == 0 ? job->column : job->keys[k - 1], job->relation_name);
		return false;
	}
	return true;
}

/* Type as it is written in a cast, whatever search_path says. */
static char *
type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/*
 * Append "t.column = v.kN" with the equality that the type's btree indexes use; false
 * when there is none.  Where the column is of a domain, both sides are taken for what
 * lies below it: an operator for the domain itself, which anybody may have put into
 * that operator's schema, would be preferred.
 */
static bool
append_equality(StringInfo sql, const char *column, int k, Oid type)
{
	Oid base = getBaseType(type);
	TypeCacheEntry *entry = lookup_type_cache(base, TYPECACHE_EQ_OPR);
	HeapTuple tuple;
	Form_pg_operator form;

	if (!OidIsValid(entry->eq_opr))
		return false;
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(entry->eq_opr));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_operator) GETSTRUCT(tuple);
	appendStringInfo(sql, "t.%s%s%s OPERATOR(%s.%s) v.k%d::%s", quote_identifier(column),
					 base == type ? "" : "::", base == type ? "" : type_name(base),
					 quote_identifier(get_namespace_name(form->oprnamespace)), NameStr(form->oprname),
					 k, type_name(base));
	ReleaseSysCache(tuple);
	return true;
}

/* "t.a OPERATOR(..) v.k1::type AND ..." */
static bool
describe_keys(LlmWriteTarget *target, char **keys, const char **reason, char **explanation)
{
	StringInfoData match;

	initStringInfo(&match);
	for (int k = 0; k < target->nkeys; k++)
	{
		Oid type;

		if (!find_column(target->relation, keys[k], &type))
		{
			*reason = "column_gone";
			*explanation = psprintf("key column \"%s\" of %s does not exist", keys[k], target->name);
			return false;
		}
		if (k > 0)
			appendStringInfoString(&match, " AND ");
		if (!append_equality(&match, keys[k], k + 1, type))
		{
			*reason = "not_writable";
			*explanation = psprintf("key column \"%s\" of %s has a type without equality", keys[k], target->name);
			return false;
		}
	}
	/* Children of plain inheritance have keys of their own: the same key may be in several. */
	if (get_rel_relkind(target->relation) == RELKIND_RELATION && has_subclass(target->relation))
		appendStringInfoString(&match, " AND t.tableoid OPERATOR(pg_catalog.=) v.leaf");
	target->match = match.data;
	return true;
}

bool
llm_writeback_describe(LlmWriteTarget *target, Oid relation, const char *column, char **keys, int nkeys,
					   const char **reason, char **explanation)
{
	char *relname = get_rel_name(relation);
	Oid type;
	const char *cell_type;

	if (relname == NULL)
	{
		*reason = "relation_gone";
		*explanation = psprintf("the table was dropped");
		return false;
	}
	target->relation = relation;
	target->name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), relname);
	target->nkeys = nkeys;
	if (!find_column(relation, column, &type))
	{
		*reason = "column_gone";
		*explanation = psprintf("column \"%s\" of %s does not exist", column, target->name);
		return false;
	}
	switch (llm_marker_cell_type(type))
	{
		case LLM_CELL_JSONB:
			cell_type = "pg_catalog.jsonb";
			break;
		case LLM_CELL_JSON:
			cell_type = "pg_catalog.json";
			break;
		case LLM_CELL_TEXT:
			cell_type = "pg_catalog.text";
			break;
		default:
			*reason = "not_writable";
			*explanation = psprintf("column \"%s\" of %s cannot hold an answer any more", column, target->name);
			return false;
	}
	target->column = pstrdup(quote_identifier(column));
	target->cell = psprintf("t.%s::%s", target->column, cell_type);
	return describe_keys(target, keys, reason, explanation);
}

/* "unnest($1), unnest($2), ..." named task, leaf, k1, k2, ... and whatever follows. */
static void
append_rows(StringInfo sql, LlmWriteTarget *target, const char *more, int nmore)
{
	int nargs = 2 + target->nkeys + nmore;

	appendStringInfoString(sql, "ROWS FROM (");
	for (int i = 1; i <= nargs; i++)
		appendStringInfo(sql, "%spg_catalog.unnest($%d)", i > 1 ? ", " : "", i);
	appendStringInfoString(sql, ") AS v(task, leaf");
	for (int k = 1; k <= target->nkeys; k++)
		appendStringInfo(sql, ", k%d", k);
	appendStringInfo(sql, "%s)", more);
}

/*
 * Run for a set of rows: tasks, leaves and keys are arguments 1 to 2 + nkeys, the
 * caller's follow.  "stripped": see strip_select().
 */
static void
run_over(LlmWriteTarget *target, const char *sql, bool stripped, LlmWriteRow **rows, int n,
		 MoreArguments *more)
{
	int first = 2 + target->nkeys;
	int nargs = first + (more ? more->n : 0);
	Datum *values = palloc(sizeof(Datum) * nargs);
	Oid *types = palloc(sizeof(Oid) * nargs);
	Datum *column = palloc(sizeof(Datum) * n);
	MemoryContext context = CurrentMemoryContext;
	SPIPlanPtr plan;
	int rc;

	for (int i = 0; i < n; i++)
		column[i] = Int64GetDatum(rows[i]->task);
	values[0] = llm_spi_array(INT8OID, column, NULL, n);
	types[0] = INT8ARRAYOID;
	for (int i = 0; i < n; i++)
		column[i] = ObjectIdGetDatum(rows[i]->leaf);
	values[1] = llm_spi_array(OIDOID, column, NULL, n);
	types[1] = OIDARRAYOID;
	for (int k = 0; k < target->nkeys; k++)
	{
		for (int i = 0; i < n; i++)
			column[i] = CStringGetTextDatum(rows[i]->key[k]);
		values[2 + k] = llm_spi_array(TEXTOID, column, NULL, n);
		types[2 + k] = TEXTARRAYOID;
	}
	for (int i = first; i < nargs; i++)
	{
		values[i] = more->values[i - first];
		types[i] = more->types[i - first];
	}
	plan = find_plan(sql, nargs, types);
	own_query = ((CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan)))->query_string;
	stripped_relation = stripped ? target->relation : InvalidOid;
	rc = SPI_execute_plan(plan, values, NULL, false, 0);
	MemoryContextSwitchTo(context); /* SPI leaves us in its own */
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(rc));
}

/*
 * For each row of the current result, the index in "rows" of the task in its first
 * column.  Rows are in order of their tasks.
 */
static int
find_row(LlmWriteRow **rows, int n, uint64 result)
{
	bool isnull;
	int64 task = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[result], SPI_tuptable->tupdesc, 1, &isnull));
	int low = 0;
	int high = n - 1;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (rows[middle]->task < task)
			low = middle + 1;
		else
			high = middle;
	}
	Assert(rows[low]->task == task);
	return low;
}

void
llm_writeback_lock(LlmWriteTarget *target, LlmWriteRow **rows, int n, bool as_asker)
{
	StringInfoData sql;

	initStringInfo(&sql);
	/* The owner's text differs: a plan with the asker's row security in it must not be found. */
	appendStringInfo(&sql, "SELECT v.task%s FROM ", as_asker ? "" : " AS seen_by_owner");
	append_rows(&sql, target, "", 0);
	appendStringInfo(&sql, " JOIN %s AS t ON %s WHERE llm.marker_task(%s) OPERATOR(pg_catalog.=) v.task"
						   " FOR NO KEY UPDATE OF t SKIP LOCKED",
					 target->name, target->match, target->cell);
	run_over(target, sql.data, as_asker, rows, n, NULL);
	for (int i = 0; i < n; i++)
		rows[i]->locked = false;
	for (uint64 i = 0; i < SPI_processed; i++)
		rows[find_row(rows, n, i)]->locked = true;
	SPI_freetuptable(SPI_tuptable);
}

static Datum
text_column(LlmWriteRow **rows, int n, size_t offset)
{
	Datum *values = palloc(sizeof(Datum) * n);
	bool *nulls = palloc(sizeof(bool) * n);

	for (int i = 0; i < n; i++)
	{
		const char *string = *(char **) ((char *) rows[i] + offset);

		nulls[i] = (string == NULL);
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(string);
	}
	return llm_spi_array(TEXTOID, values, nulls, n);
}

static Datum
answer_column(LlmWriteRow **rows, int n)
{
	Datum *values = palloc(sizeof(Datum) * n);
	bool *nulls = palloc(sizeof(bool) * n);

	for (int i = 0; i < n; i++)
	{
		nulls[i] = (rows[i]->answer == NULL);
		values[i] = nulls[i] ? (Datum) 0 : JsonbPGetDatum(rows[i]->answer);
	}
	return llm_spi_array(JSONBOID, values, nulls, n);
}

void
llm_writeback_write(LlmWriteTarget *target, LlmWriteRow **rows, int n, bool *written)
{
	StringInfoData sql;
	Datum values[4];
	Oid types[4] = {TEXTARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	MoreArguments more = {values, types, 4};

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s AS t SET %s = llm.resolve(%s, v.outcome, v.task, v.answer, v.error, v.message) FROM ",
					 target->name, target->column, target->cell);
	append_rows(&sql, target, ", outcome, answer, error, message", 4);
	appendStringInfo(&sql, " WHERE %s AND llm.marker_task(%s) OPERATOR(pg_catalog.=) v.task RETURNING v.task",
					 target->match, target->cell);
	values[0] = text_column(rows, n, offsetof(LlmWriteRow, outcome));
	values[1] = answer_column(rows, n);
	values[2] = text_column(rows, n, offsetof(LlmWriteRow, error));
	values[3] = text_column(rows, n, offsetof(LlmWriteRow, message));
	run_over(target, sql.data, true, rows, n, &more);
	memset(written, 0, sizeof(bool) * n);
	for (uint64 i = 0; i < SPI_processed; i++)
		written[find_row(rows, n, i)] = true;
	SPI_freetuptable(SPI_tuptable);
}

void
llm_writeback_look(LlmWriteTarget *target, LlmWriteRow **rows, int n, int64 *found)
{
	StringInfoData sql;
	bool isnull;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT v.task, COALESCE(llm.marker_task(%s), 0) FROM ", target->cell);
	append_rows(&sql, target, "", 0);
	appendStringInfo(&sql, " JOIN %s AS t ON %s", target->name, target->match);
	run_over(target, sql.data, false, rows, n, NULL);
	for (int i = 0; i < n; i++)
		found[i] = -1;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int r = find_row(rows, n, i);

		/* Should the key find several rows, the one with the marker counts. */
		if (found[r] != rows[r]->task)
			found[r] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}
