/*-------------------------------------------------------------------------
 *
 * letter_row.c
 *	  llm.letter: requests of immediate calls that are under way.
 *
 * Such a call has no row of the queue: nobody but the backend that waits has a use for
 * its answer.  But its bill is owed whatever dies, so all that a row of the ledger needs
 * stands here while the request is under way.  The input does not.
 *
 * unnest() of several arrays is a form of the grammar, not a function that could
 * be qualified: the parser resolves it to pg_catalog by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "tables/letter_row.h"

/* As llm.task_id's INCREMENT says. */
#define IDS_PER_DRAW 64

static LlmStatement next_task_statement = {
	.sql = "SELECT pg_catalog.nextval('llm.task_id')"};

static LlmStatement add_statement = {
	.sql = "INSERT INTO llm.letter AS l (request, task, attempt, role, role_name, application_name, server, model,"
		   "  price, operation, input_tokens, output_tokens, tags, reserved)"
		   " SELECT CASE WHEN v.carried THEN pg_catalog.currval('llm.request_id')"
		   "   ELSE pg_catalog.nextval('llm.request_id') END, v.task, v.attempt, v.role, v.role_name, v.application_name,"
		   "  v.server, v.model, v.price, v.operation, v.input_tokens, v.output_tokens, v.tags,"
		   "  v.reserved::numeric * 0.000000001"
		   " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) AS v(task, attempt, role, role_name,"
		   "  application_name, server, model, price, operation, input_tokens, output_tokens, tags, reserved,"
		   "  carried)"
		   " RETURNING l.task, l.request",
	.nargs = 14,
	.args = {INT8ARRAYOID, INT4ARRAYOID, OIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
			 INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, JSONBARRAYOID, INT8ARRAYOID, BOOLARRAYOID}};

static LlmStatement remove_statement = {
	.sql = "DELETE FROM llm.letter l WHERE l.request = ANY ($1)",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

static LlmStatement orphans_statement = {
	.sql = "SELECT l.request, l.task, l.attempt, l.role_name, l.application_name, l.server, l.model,"
		   "  COALESCE(l.price, 0), l.operation, l.input_tokens, l.output_tokens, l.tags,"
		   "  l.role, l.sent_at, COALESCE((l.reserved * 1000000000::numeric)::int8, 0)"
		   " FROM llm.letter l ORDER BY l.request, l.task LIMIT $1",
	.nargs = 1,
	.args = {INT4OID}};

/* Numbers drawn and not given yet.  The sender's life, which ends before the sequence does. */
static int64 next_task = 0;
static int tasks_left = 0;

int64
llm_letter_row_next_task(void)
{
	bool isnull;

	if (tasks_left == 0)
	{
		(void) llm_spi_execute(&next_task_statement, NULL, NULL, false);
		next_task = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		tasks_left = IDS_PER_DRAW;
		SPI_freetuptable(SPI_tuptable);
	}
	tasks_left--;
	return next_task++;
}

/* A nullable text as an element of an array. */
static void
set_text(Datum *value, bool *isnull, const char *string)
{
	*isnull = (string == NULL);
	*value = string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}

/* The row as elements number "i" of the arrays. */
static void
set_row(Datum **columns, bool **nulls, int i, const LlmLetterRow *row)
{
	columns[0][i] = Int64GetDatum(row->task);
	columns[1][i] = Int32GetDatum(row->attempt);
	columns[2][i] = ObjectIdGetDatum(row->role);
	set_text(&columns[3][i], &nulls[3][i], row->facts->role_name);
	set_text(&columns[4][i], &nulls[4][i], row->facts->application);
	set_text(&columns[5][i], &nulls[5][i], row->server);
	set_text(&columns[6][i], &nulls[6][i], row->model);
	columns[7][i] = Int64GetDatum(row->price);
	nulls[7][i] = (row->price == 0);
	set_text(&columns[8][i], &nulls[8][i], row->facts->operation);
	columns[9][i] = Int64GetDatum(row->input_tokens);
	columns[10][i] = Int64GetDatum(row->output_tokens);
	columns[11][i] = PointerGetDatum(row->facts->tags);
	nulls[11][i] = (row->facts->tags == NULL);
	columns[12][i] = Int64GetDatum(row->reserved);
	nulls[12][i] = (row->reserved == 0);
	columns[13][i] = BoolGetDatum(row->carried);
}

void
llm_letter_row_add(LlmLetterRow *rows, int n)
{
	static const Oid types[] = {INT8OID, INT4OID, OIDOID, TEXTOID, TEXTOID, TEXTOID,
								TEXTOID, INT8OID, TEXTOID, INT8OID, INT8OID, JSONBOID, INT8OID,
								BOOLOID};
	Datum *columns[lengthof(types)];
	bool *nulls[lengthof(types)];
	Datum values[lengthof(types)];
	bool isnull;

	for (int c = 0; c < lengthof(types); c++)
	{
		columns[c] = palloc0(sizeof(Datum) * Max(n, 1));
		nulls[c] = palloc0(sizeof(bool) * Max(n, 1));
	}
	for (int i = 0; i < n; i++)
		set_row(columns, nulls, i, &rows[i]);
	for (int c = 0; c < lengthof(types); c++)
		values[c] = llm_spi_array(types[c], columns[c], nulls[c], n);
	if (llm_spi_execute(&add_statement, values, NULL, false) != n)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rows of llm.letter were suppressed"),
				 errhint("Drop the triggers and rules on llm.letter.")));
	for (int i = 0; i < n; i++)
	{
		/* a scan of unnest() gives its rows in their order */
		Assert(DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)) == rows[i].task);
		rows[i].request = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

void
llm_letter_row_remove(const int64 *requests, int n)
{
	Datum *ids = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[1];

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(requests[i]);
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	(void) llm_spi_execute(&remove_statement, values, NULL, false);
}

/* One column of row "i" of the current result as a C string. */
static char *
get_text(uint64 i, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, column);
}

static int64
get_int64(uint64 i, int column)
{
	bool isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, column, &isnull));
}

/* Row "i" of the current result: nothing more will be known of its request. */
static LlmSettlement *
read_orphan(uint64 i)
{
	LlmSettlement *s = palloc0(sizeof(LlmSettlement));
	LlmLetterFacts *facts = palloc0(sizeof(LlmLetterFacts));
	bool isnull;
	Datum value;

	s->letter = facts;
	s->lane = LLM_LANE_IMMEDIATE;
	s->request = get_int64(i, 1);
	s->task = get_int64(i, 2);
	s->attempt = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
	facts->role_name = get_text(i, 4);
	facts->application = get_text(i, 5);
	s->server = get_text(i, 6);
	s->model = get_text(i, 7);
	s->price = get_int64(i, 8);
	facts->operation = get_text(i, 9);
	s->usage.input = get_int64(i, 10);
	s->usage.output = get_int64(i, 11);
	value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 12, &isnull);
	facts->tags = isnull ? NULL : (Jsonb *) PG_DETOAST_DATUM_COPY(value);
	s->spender = (LlmSpender){.server = s->server, .model = s->model, .tags = facts->tags};
	s->spender.role = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 13, &isnull));
	s->sent_at = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 14, &isnull));
	s->reserved = get_int64(i, 15);
	s->outcome = "unknown";
	s->error = "the sender ended before the answer came";
	s->estimated = true;
	return s;
}

int
llm_letter_row_orphans(int limit, LlmSettlement ***settlements)
{
	Datum values[1];
	int n;

	values[0] = Int32GetDatum(limit);
	n = (int) llm_spi_execute(&orphans_statement, values, NULL, false);
	*settlements = palloc(sizeof(LlmSettlement *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*settlements)[i] = read_orphan(i);
	SPI_freetuptable(SPI_tuptable);
	return n;
}
