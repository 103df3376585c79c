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
#include "catalog/pg_class.h"
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
#include "base/json.h"
#include "base/spi.h"
#include "base/spi_plan.h"
#include "cell/marker.h"
#include "writeback/writeback_sql.h"
#include "writeback/writeback_value.h"

/* Statements of some dozens of jobs that run at the same time. */
#define KEPT_PLANS 128

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
static bool strips_update = false; /* of a partition: the right was asked for where it counts */
static planner_hook_type next_planner_hook = NULL;

/*
 * Do not ask for SELECT on the relation that is written: our conditions read key and
 * marker, which the statement that asked did not have to read, and they tell the role
 * nothing.  UPDATE is asked for, row security has been applied, as ever.  On a partition
 * the role needs no right: it has that on the partitioned table.
 */
static void
strip_select(Query *query, Oid relation)
{
	foreach_ptr(LlmPermission, permission, llm_query_permissions(query))
	{
		if (permission->relid == relation && !OidIsValid(permission->checkAsUser))
		{
			permission->requiredPerms &= ~(strips_update ? ACL_SELECT | ACL_UPDATE : ACL_SELECT);
			permission->selectedCols = NULL;
		}
	}
	foreach_ptr(RangeTblEntry, entry, query->rtable)
	{
		if (entry->rtekind == RTE_SUBQUERY)
			strip_select(entry->subquery, relation);
	}
	foreach_ptr(CommonTableExpr, cte, query->cteList)
		strip_select(castNode(Query, cte->ctequery), relation);
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

/* A cell that shows a marker: the marker is the proof. */
static bool
describe_marker(LlmWriteTarget *target, const LlmWriteJob *job)
{
	static const char *const types[] = {
		[LLM_CELL_JSONB] = "pg_catalog.jsonb",
		[LLM_CELL_JSON] = "pg_catalog.json",
		[LLM_CELL_TEXT] = "pg_catalog.text",
	};
	LlmCellType kind = llm_marker_cell_type(target->column_type);
	char *cell;

	if (kind == LLM_CELL_OTHER)
		return false;
	cell = psprintf("t.%s::%s", target->column, types[kind]);
	target->stands = psprintf("llm.marker_task(%s) OPERATOR(pg_catalog.=) v.task", cell);
	target->value = psprintf("llm.resolve(%s, v.outcome, v.task, v.answer, v.error, v.message)", cell);
	target->found = psprintf("COALESCE(llm.marker_task(%s), 0)", cell);
	return true;
}

/* A quiet cell: its value, and its row, are those that were asked about. */
static bool
describe_quiet(LlmWriteTarget *target, const LlmWriteJob *job)
{
	bool is_view = get_rel_relkind(target->relation) == RELKIND_VIEW;
	StringInfoData stands;
	JsonbValue tree;
	JsonbValue *reads = NULL;

	initStringInfo(&stands);
	appendStringInfo(&stands, "llm.cell_stands(v.fence, t.%s, %s", target->column,
					 is_view ? "NULL::pg_catalog.xid" : "t.xmin");
	if (job->cell != NULL && llm_json_tree(job->cell, &tree))
		reads = llm_json_get(&tree, "reads");
	for (int i = 0; reads != NULL && reads->type == jbvArray && i < reads->val.array.nElems; i++)
	{
		char *name = llm_json_cstring(&reads->val.array.elems[i]);
		Oid type;

		appendStringInfoString(&stands, ", ");
		if (find_column(target->relation, name, &type))
			appendStringInfo(&stands, "t.%s", quote_identifier(name));
		else
			appendStringInfoString(&stands, "NULL::pg_catalog.bool"); /* it is gone, and so not as it was */
	}
	if (reads == NULL || reads->val.array.nElems == 0)
		appendStringInfoString(&stands, ", NULL::pg_catalog.bool"); /* VARIADIC wants one */
	appendStringInfoChar(&stands, ')');
	target->stands = stands.data;
	target->value = psprintf("llm.cell_value(t.%s, v.number)", target->column);
	target->found = psprintf("CASE WHEN %s THEN v.task ELSE 0 END", target->stands);
	target->is_quiet = true;
	return true;
}

bool
llm_writeback_describe(LlmWriteTarget *target, Oid relation, const LlmWriteJob *job,
					   const char *column, char **keys, const char **reason, char **explanation)
{
	char *relname = get_rel_name(relation);

	if (relname == NULL)
	{
		*reason = "relation_gone";
		*explanation = psprintf("the table was dropped");
		return false;
	}
	target->relation = relation;
	target->name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), relname);
	target->nkeys = job->nkeys;
	if (!find_column(relation, column, &target->column_type))
	{
		*reason = "column_gone";
		*explanation = psprintf("column \"%s\" of %s does not exist", column, target->name);
		return false;
	}
	target->column = pstrdup(quote_identifier(column));
	if (!(job->is_quiet ? describe_quiet : describe_marker)(target, job))
	{
		*reason = "not_writable";
		*explanation = psprintf("column \"%s\" of %s cannot hold an answer any more", column, target->name);
		return false;
	}
	return describe_keys(target, keys, reason, explanation);
}

/* Arguments that stand before the keys. */
static int
fixed_args(const LlmWriteTarget *target)
{
	return target->is_quiet ? 4 : 2;
}

/* "unnest($1), unnest($2), ..." named task, leaf, of quiet cells fence and number, k1, k2, ... and whatever follows. */
static void
append_rows(StringInfo sql, LlmWriteTarget *target, const char *more, int nmore)
{
	int nargs = fixed_args(target) + target->nkeys + nmore;

	appendStringInfoString(sql, "ROWS FROM (");
	for (int i = 1; i <= nargs; i++)
		appendStringInfo(sql, "%spg_catalog.unnest($%d)", i > 1 ? ", " : "", i);
	appendStringInfo(sql, ") AS v(task, leaf%s", target->is_quiet ? ", fence, number" : "");
	for (int k = 1; k <= target->nkeys; k++)
		appendStringInfo(sql, ", k%d", k);
	appendStringInfo(sql, "%s)", more);
}

/*
 * Run for a set of rows: tasks, leaves, of quiet cells fences and indexes of rows, and keys
 * are the first arguments, the caller's follow.  "stripped": see strip_select().
 */
static void
run_over(LlmWriteTarget *target, const char *sql, bool stripped, LlmWriteRow **rows, int n,
		 MoreArguments *more)
{
	int before = fixed_args(target);
	int first = before + target->nkeys;
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
	if (target->is_quiet)
	{
		for (int i = 0; i < n; i++)
			column[i] = PointerGetDatum(rows[i]->fence);
		values[2] = llm_spi_array(BYTEAOID, column, NULL, n);
		types[2] = BYTEAARRAYOID;
		for (int i = 0; i < n; i++)
			column[i] = Int32GetDatum(i);
		values[3] = llm_spi_array(INT4OID, column, NULL, n);
		types[3] = INT4ARRAYOID;
	}
	for (int k = 0; k < target->nkeys; k++)
	{
		for (int i = 0; i < n; i++)
			column[i] = CStringGetTextDatum(rows[i]->key[k]);
		values[before + k] = llm_spi_array(TEXTOID, column, NULL, n);
		types[before + k] = TEXTARRAYOID;
	}
	for (int i = first; i < nargs; i++)
	{
		values[i] = more->values[i - first];
		types[i] = more->types[i - first];
	}
	plan = find_plan(sql, nargs, types);
	own_query = ((CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan)))->query_string;
	stripped_relation = stripped ? target->relation : InvalidOid;
	strips_update = stripped && target->is_leaf;
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

/* A plan that asks for no right is not to be found for a job that names the partition itself. */
static const char *
name_of_task(const LlmWriteTarget *target)
{
	return target->is_leaf ? " AS of_a_partition" : "";
}

void
llm_writeback_lock(LlmWriteTarget *target, LlmWriteRow **rows, int n, bool as_asker)
{
	StringInfoData sql;

	initStringInfo(&sql);
	/* The owner's text differs: a plan with the asker's row security in it must not be found; see name_of_task(), too. */
	appendStringInfo(&sql, "SELECT v.task%s FROM ", as_asker ? name_of_task(target) : " AS seen_by_owner");
	append_rows(&sql, target, "", 0);
	appendStringInfo(&sql, " JOIN %s AS t ON %s WHERE %s FOR NO KEY UPDATE OF t SKIP LOCKED",
					 target->name, target->match, target->stands);
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

/* Arguments of llm.resolve(). */
static void
resolve_arguments(LlmWriteRow **rows, int n, MoreArguments *more)
{
	static Oid types[] = {TEXTARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID};

	more->types = types;
	more->n = lengthof(types);
	more->values = palloc(sizeof(Datum) * more->n);
	more->values[0] = text_column(rows, n, offsetof(LlmWriteRow, outcome));
	more->values[1] = answer_column(rows, n);
	more->values[2] = text_column(rows, n, offsetof(LlmWriteRow, error));
	more->values[3] = text_column(rows, n, offsetof(LlmWriteRow, message));
}

void
llm_writeback_write(LlmWriteTarget *target, LlmWriteRow **rows, int n, bool *written)
{
	StringInfoData sql;
	MoreArguments more = {NULL, NULL, 0};

	if (target->is_quiet)
		llm_cell_value_offer(rows, n, target->column_type);
	else
		resolve_arguments(rows, n, &more);
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s AS t SET %s = %s FROM ", target->name, target->column, target->value);
	append_rows(&sql, target, target->is_quiet ? "" : ", outcome, answer, error, message", more.n);
	appendStringInfo(&sql, " WHERE %s AND %s RETURNING v.task%s", target->match, target->stands, name_of_task(target));
	run_over(target, sql.data, true, rows, n, &more);
	memset(written, 0, sizeof(bool) * n);
	for (uint64 i = 0; i < SPI_processed; i++)
		written[find_row(rows, n, i)] = true;
	SPI_freetuptable(SPI_tuptable);
	llm_cell_value_offer(NULL, 0, InvalidOid);
}

void
llm_writeback_lock_and_write(LlmWriteTarget *target, LlmWriteRow **rows, int n, bool *written)
{
	StringInfoData sql;
	MoreArguments more = {NULL, NULL, 0};
	bool isnull;

	Assert(target->is_leaf && !target->is_quiet);
	resolve_arguments(rows, n, &more);
	initStringInfo(&sql);
	appendStringInfoString(&sql, "WITH v AS MATERIALIZED (SELECT v.*, t.ctid AS place FROM ");
	append_rows(&sql, target, ", outcome, answer, error, message", more.n);
	appendStringInfo(&sql, " JOIN %s AS t ON %s WHERE %s FOR NO KEY UPDATE OF t SKIP LOCKED),", target->name,
					 target->match, target->stands);
	appendStringInfo(&sql, " w AS (UPDATE %s AS t SET %s = %s FROM v", target->name, target->column, target->value);
	appendStringInfoString(&sql, " WHERE t.ctid OPERATOR(pg_catalog.=) v.place RETURNING v.task)"
								 " SELECT v.task, w.task IS NOT NULL FROM v LEFT JOIN w"
								 " ON w.task OPERATOR(pg_catalog.=) v.task");
	run_over(target, sql.data, true, rows, n, &more);
	memset(written, 0, sizeof(bool) * n);
	for (int i = 0; i < n; i++)
		rows[i]->locked = false;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int r = find_row(rows, n, i);

		rows[r]->locked = true;
		written[r] = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

void
llm_writeback_look(LlmWriteTarget *target, LlmWriteRow **rows, int n, int64 *found)
{
	StringInfoData sql;
	bool isnull;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT v.task, %s FROM ", target->found);
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
