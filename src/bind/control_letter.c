/*-------------------------------------------------------------------------
 *
 * control_letter.c
 *	  What users do to dead letters: retry, discard.
 *
 * A cell that got another value since is nobody's to ask for: what came back would be paid and
 * dropped.  So before a letter is queued again its cell is looked at, by its key, as the table's
 * owner, so that row security hides no row that is there, and in a restricted operation: does it
 * show the task still, or is a quiet one as it was, by its fence?  One that is asked about again
 * meanwhile moved on, too.
 * Where that fails, because the table or the column is gone or for whatever reason, nothing is known
 * of the cells, and the letters are queued: the writer finds out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"

#include "base/guc.h"
#include "base/wake.h"
#include "bind/control.h"
#include "bind/enqueue.h"
#include "tables/recipe.h"
#include "tables/transition.h"

/* Names of today of a job's key columns. */
#define KEYS_NOW                                                                                             \
	"(SELECT pg_catalog.array_agg(a.attname::text ORDER BY n.place)"                                         \
	"  FROM unnest(j.column_numbers[2:]) WITH ORDINALITY AS n(number, place) JOIN pg_catalog.pg_attribute a" \
	"  ON a.attrelid = j.relation AND a.attnum = n.number AND NOT a.attisdropped)"

/*
 * Letters of a selection by column: relation, column, keys, tasks, their keys, the keys' names of
 * today; and of quiet cells, whose job must be there to tell what it read, the fences and the names
 * of the columns that were read.
 */
static LlmStatement columns_statement = {
	.sql = "SELECT g.relation, g.column_name, g.key_columns, pg_catalog.array_agg(g.task),"
		   "  pg_catalog.array_agg(g.key), g.names, pg_catalog.array_agg(g.fence), g.is_quiet, g.reads"
		   " FROM (SELECT COALESCE(j.relation, m.relation) AS relation,"
		   "  COALESCE(" LLM_COLUMN_NOW ", m.column_name) AS column_name,"
		   "  " LLM_LETTER_KEYS " AS key_columns, COALESCE(" KEYS_NOW ", " LLM_LETTER_KEYS ") AS names,"
		   "  m.task, m.key, m.fence, m.fence IS NOT NULL AS is_quiet,"
		   "  ARRAY(SELECT r.name FROM pg_catalog.jsonb_array_elements_text(CASE WHEN m.fence IS NOT NULL THEN j.cell -> 'reads' END)"
		   "   WITH ORDINALITY AS r(name, place) ORDER BY r.place) AS reads"
		   "  FROM (SELECT d.* FROM llm.dead_letter d WHERE " LLM_LETTERS ") m"
		   "  LEFT JOIN llm.job j ON j.id = m.job"
		   "  WHERE CASE WHEN m.fence IS NULL THEN COALESCE(j.cell_kind, 'marker') = 'marker'"
		   "   ELSE j.cell_kind = 'quiet' END) g"
		   " GROUP BY g.relation, g.column_name, g.key_columns, g.names, g.is_quiet, g.reads",
	.nargs = 7,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID, TEXTARRAYOID},
	.planning = LLM_WHOLE};

/* Letters of a selection, of quiet cells with a task that is not over. */
static LlmStatement asked_statement = {
	.sql = "SELECT d.task FROM llm.dead_letter d WHERE " LLM_LETTERS " AND d.cell IS NOT NULL"
		   " AND EXISTS (SELECT FROM llm.queue q WHERE q.cell = d.cell AND q.key = d.key"
		   "  AND q.state <> ALL ('{cancelled,superseded,failed}') AND COALESCE(q.outcome, '') <> ALL ('{cancelled,superseded,failed}'))",
	.nargs = 7,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID, TEXTARRAYOID},
	.planning = LLM_WHOLE};

static LlmStatement recipes_statement = {
	.sql = "SELECT r.id, r.operation, r.spec FROM llm.recipe r"
		   " WHERE r.id IN (SELECT d.recipe FROM llm.dead_letter d WHERE " LLM_LETTERS ")",
	.nargs = 7,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID, TEXTARRAYOID},
	.planning = LLM_WHOLE};

/* One row of columns_statement. */
typedef struct LetterColumn
{
	Oid relation;
	char *column_name;
	Datum keys; /* text[] */
	Datum tasks; /* bigint[] */
	Datum values; /* jsonb[] */
	Datum names; /* text[]: of the keys' columns now */
	Datum fences; /* bytea[] */
	bool is_quiet;
	Datum reads; /* text[] */
} LetterColumn;

/* An array of the current result, in the current context. */
static Datum
copy_array(uint64 row, int column)
{
	bool isnull;

	return PointerGetDatum(PG_DETOAST_DATUM_COPY(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
															   column, &isnull)));
}

/* Rows of the current result, in the current context. */
static List *
read_columns(void)
{
	List *columns = NIL;
	TupleDesc desc = SPI_tuptable->tupdesc;
	bool isnull;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		LetterColumn *column = palloc(sizeof(LetterColumn));

		column->relation = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
		column->column_name = SPI_getvalue(row, desc, 2);
		column->keys = copy_array(i, 3);
		column->tasks = copy_array(i, 4);
		column->values = copy_array(i, 5);
		column->names = copy_array(i, 6);
		column->fences = copy_array(i, 7);
		column->is_quiet = DatumGetBool(SPI_getbinval(row, desc, 8, &isnull));
		column->reads = copy_array(i, 9);
		columns = lappend(columns, column);
	}
	SPI_freetuptable(SPI_tuptable);
	return columns;
}

/* Append that the cell of a row "t" is that of the letter "v": what the write-back asks. */
static void
append_stands(StringInfo sql, const LetterColumn *column)
{
	Datum *reads;
	int nreads;

	if (!column->is_quiet)
	{
		appendStringInfo(sql, "llm.marker_task(t.%s) OPERATOR(pg_catalog.=) v.task", quote_identifier(column->column_name));
		return;
	}
	appendStringInfo(sql, "llm.cell_stands(v.fence, t.%s, %s", quote_identifier(column->column_name),
					 get_rel_relkind(column->relation) == RELKIND_VIEW ? "NULL::pg_catalog.xid" : "t.xmin");
	deconstruct_array(DatumGetArrayTypeP(column->reads), TEXTOID, -1, false, TYPALIGN_INT, &reads, NULL, &nreads);
	for (int i = 0; i < nreads; i++)
	{
		char *name = TextDatumGetCString(reads[i]);

		if (get_attnum(column->relation, name) > 0)
			appendStringInfo(sql, ", t.%s", quote_identifier(name));
		else
			appendStringInfoString(sql, ", NULL::pg_catalog.bool"); /* it is gone, and so not as it was */
	}
	appendStringInfoString(sql, nreads == 0 ? ", NULL::pg_catalog.bool)" : ")");
}

/* The query that finds which tasks $1 of keys $2, fences $3, stand in no cell any more; NULL: a key column is gone. */
static char *
look_query(const LetterColumn *column)
{
	StringInfoData sql;
	Datum *keys;
	Datum *names;
	int nkeys;
	int nnames;

	deconstruct_array(DatumGetArrayTypeP(column->keys), TEXTOID, -1, false, TYPALIGN_INT, &keys, NULL, &nkeys);
	deconstruct_array(DatumGetArrayTypeP(column->names), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &nnames);
	if (nnames != nkeys)
		return NULL;
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT v.task FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
						   " AS v(task, key, fence) WHERE NOT EXISTS (SELECT FROM %s t WHERE ",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(column->relation)),
												get_rel_name(column->relation)));
	append_stands(&sql, column);
	for (int k = 0; k < nkeys; k++)
	{
		char *name = TextDatumGetCString(names[k]);
		AttrNumber number = get_attnum(column->relation, name);

		if (number == InvalidAttrNumber)
			return NULL;
		appendStringInfo(&sql, " AND t.%s = (v.key OPERATOR(pg_catalog.->>) %s)::%s", quote_identifier(name),
						 quote_literal_cstr(TextDatumGetCString(keys[k])),
						 format_type_extended(get_atttype(column->relation, number), -1,
											  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	}
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/* Append the tasks in the first column of the current result, in the current context. */
static List *
append_tasks(List *found)
{
	bool isnull;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int64 *copy = palloc(sizeof(int64));

		*copy = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		found = lappend(found, copy);
	}
	return found;
}

/* Append the tasks that the look finds. */
static List *
look(const LetterColumn *column, List *found)
{
	Oid types[3] = {INT8ARRAYOID, JSONBARRAYOID, BYTEAARRAYOID};
	Datum values[3];
	char *sql = look_query(column);
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;

	if (sql == NULL)
		return found;
	values[0] = column->tasks;
	values[1] = column->values;
	values[2] = column->fences;
	SPI_connect();
	if (SPI_execute_with_args(sql, 3, types, values, NULL, true, 0) == SPI_OK_SELECT)
	{
		spi = MemoryContextSwitchTo(caller);
		found = append_tasks(found);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return found;
}

/* As the owner, in a subtransaction: what fails there tells nothing. */
static List *
look_as_owner(const LetterColumn *column, List *found)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	Oid owner = llm_relation_owner(column->relation);
	int before = list_length(found);
	List *volatile result = found;
	Oid user;
	int security;

	if (!OidIsValid(owner))
		return found;
	GetUserIdAndSecContext(&user, &security);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION |
										  SECURITY_NOFORCE_RLS);
		(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
		result = look(column, result);
		SetUserIdAndSecContext(user, security);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = resources;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = resources;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		result = list_truncate(result, before);
	}
	PG_END_TRY();
	return result;
}

/* Tasks of the selection, by its arguments, whose cells moved on: a list of int64 pointers. */
static List *
moved_on(Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	LlmOwnScope scope;
	List *columns;
	List *found = NIL;
	ListCell *cell;
	MemoryContext saved;

	llm_spi_own_begin(&scope);
	SPI_connect();
	(void) llm_spi_execute(&columns_statement, values, nulls, false);
	saved = MemoryContextSwitchTo(caller);
	columns = read_columns();
	MemoryContextSwitchTo(saved);
	(void) llm_spi_execute(&asked_statement, values, nulls, false);
	saved = MemoryContextSwitchTo(caller);
	found = append_tasks(found);
	MemoryContextSwitchTo(saved);
	SPI_freetuptable(SPI_tuptable);
	SPI_finish();
	llm_spi_own_end(&scope);
	foreach(cell, columns)
		found = look_as_owner(lfirst(cell), found);
	return found;
}

/* Recipes of the selection, and what they are with other instructions.  SPI is connected, as our tables' owner. */
static void
change_recipes(Datum *values, const char *nulls, text *instructions, Datum *old, Datum *new)
{
	Jsonb *change = llm_enqueue_instructions(instructions);
	SPITupleTable *found;
	uint64 n = llm_spi_execute(&recipes_statement, values, nulls, false);
	Datum *olds = palloc(sizeof(Datum) * Max(n, 1));
	Datum *news = palloc(sizeof(Datum) * Max(n, 1));
	bool isnull;

	found = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		Datum spec = SPI_getbinval(found->vals[i], found->tupdesc, 3, &isnull);

		olds[i] = SPI_getbinval(found->vals[i], found->tupdesc, 1, &isnull);
		spec = DirectFunctionCall2(jsonb_concat, spec, JsonbPGetDatum(change));
		news[i] = Int64GetDatum(llm_recipe_find_or_add(SPI_getvalue(found->vals[i], found->tupdesc, 2),
													   DatumGetJsonbP(spec)));
	}
	SPI_freetuptable(found);
	*old = llm_spi_array(INT8OID, olds, NULL, (int) n);
	*new = llm_spi_array(INT8OID, news, NULL, (int) n);
}

/* The new jobs are the session's to wait for. */
static void
note_jobs(Datum array)
{
	Datum *ids;
	int n;

	deconstruct_array(DatumGetArrayTypeP(array), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, NULL, &n);
	for (int i = 0; i < n; i++)
		llm_session_note_job(DatumGetInt64(ids[i]));
}

static LlmStatement reasons_statement = {
	.sql = "SELECT pg_catalog.string_agg(DISTINCT d.reason, ', ') FROM llm.dead_letter d WHERE " LLM_LETTERS,
	.nargs = 7,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID, TEXTARRAYOID},
	.planning = LLM_WHOLE};

/* A NOTICE with the reasons that dead letters of the selection have, if it has any. */
static void
tell_reasons(const LlmSelection *selection)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum values[7] = {0};
	char nulls[7];
	LlmOwnScope scope;
	char *reasons;

	llm_control_selection_values(selection, values, nulls);
	nulls[6] = 'n';
	llm_spi_own_begin(&scope);
	SPI_connect();
	(void) llm_spi_execute(&reasons_statement, values, nulls, false);
	reasons = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (reasons != NULL)
		reasons = MemoryContextStrdup(caller, reasons);
	SPI_finish();
	llm_spi_own_end(&scope);
	if (reasons != NULL)
		ereport(NOTICE,
				(errmsg("no dead letter has such a reason"),
				 errhint("Reasons of those that the other arguments mean: %s.", reasons)));
}

void
llm_control_tell_nothing(const LlmSelection *selection)
{
	LlmAwaited awaited = {.job = selection->job};
	LlmJobStand stand;

	if (!llm_guc_notices)
		return;
	if (selection->job != 0)
	{
		llm_control_stand(&awaited, llm_session_shares(selection->job), false, &stand);
		if (!stand.found)
		{
			ereport(NOTICE,
					(errmsg("there is no job " INT64_FORMAT, selection->job),
					 errhint("See llm.progress.")));
			return;
		}
	}
	if (selection->reasons != (Datum) 0)
		tell_reasons(selection);
}

/* Answers that were NULL, by the arguments of a selection. */
static LlmStatement forget_none_statement = {
	.sql = "DELETE FROM llm.none_answer a WHERE ($1 IS NULL OR a.job = $1) AND ($2 IS NULL OR a.task = $2)"
		   " AND ($3 IS NULL OR a.relation = $3 OR EXISTS (SELECT FROM llm.job o WHERE o.id = a.job AND o.relation = $3))"
		   " AND ($5 OR a.role = $4) AND ($6 IS NULL OR " LLM_COLUMN_OF("a") " = $6)",
	.nargs = 6,
	.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID},
	.planning = LLM_WHOLE};

int64
llm_control_forget_none(const LlmSelection *selection)
{
	Datum values[6];
	char nulls[6];

	llm_control_selection_values(selection, values, nulls);
	return llm_control_count(&forget_none_statement, values, nulls);
}

int64
llm_control_retry(const LlmSelection *selection, const LlmRetryChange *change)
{
	Datum values[13];
	char nulls[13];
	LlmOwnScope scope;
	List *moved;
	Datum *tasks;
	ListCell *cell;
	bool isnull;
	int64 count;

	memset(nulls, ' ', sizeof(nulls));
	llm_control_selection_values(selection, values, nulls);
	values[6] = selection->reasons;
	nulls[6] = selection->reasons == (Datum) 0 ? 'n' : ' ';
	moved = change->discard ? NIL : moved_on(values, nulls);
	tasks = palloc(sizeof(Datum) * (list_length(moved) + 1));
	foreach(cell, moved)
		tasks[foreach_current_index(cell)] = Int64GetDatum(*(int64 *) lfirst(cell));
	values[11] = JsonbPGetDatum(llm_enqueue_carried_settings(false));
	llm_spi_own_begin(&scope);
	SPI_connect();
	values[7] = llm_spi_array(INT8OID, tasks, NULL, list_length(moved));
	values[8] = change->model == NULL ? (Datum) 0 : CStringGetTextDatum(change->model);
	nulls[8] = change->model == NULL ? 'n' : ' ';
	values[9] = values[10] = llm_spi_array(INT8OID, NULL, NULL, 0);
	if (change->instructions != NULL)
		change_recipes(values, nulls, change->instructions, &values[9], &values[10]);
	values[12] = BoolGetDatum(change->discard);
	(void) llm_transition(LLM_EVENT_RETRY, values, nulls);
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	note_jobs(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	SPI_finish();
	llm_spi_own_end(&scope);
	if (count > 0)
	{
		llm_wake_at_commit(LLM_WORKER_SENDER);
		llm_wake_at_commit(LLM_WORKER_WRITER);
	}
	return count;
}
