/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  llm.answer: checked answers that are given again to the same question.
 *
 * Only the sender writes here, so its rows are in the order of their numbers, and each can say
 * how many bytes were stored up to it: what the table holds is the difference between its
 * last row and its first.  So neither age nor size needs a count, or a look at more than the
 * oldest rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/spi.h"
#include "base/store.h"
#include "tables/answer.h"

/* What a row takes beside its answer, with its entries in both indexes. */
#define ROW_BYTES 320

typedef enum AnswerColumn
{
	ANSWER_AT,
	ANSWER_KEY,
	ANSWER_ROLE,
	ANSWER_OPERATION,
	ANSWER_RECIPE,
	ANSWER_SERVER,
	ANSWER_MODEL,
	ANSWER_TASK,
	ANSWER_BYTES,
	ANSWER_ANSWER,
	ANSWER_COLUMNS
} AnswerColumn;

static const LlmStoreColumn answer_columns[] = {
	{"at", TIMESTAMPTZOID},
	{"key", BYTEAOID},
	{"role", OIDOID},
	{"operation", TEXTOID},
	{"recipe", INT8OID},
	{"server", TEXTOID},
	{"model", TEXTOID},
	{"task", INT8OID},
	{"bytes_so_far", INT8OID},
	{"answer", JSONBOID},
};

StaticAssertDecl(lengthof(answer_columns) == ANSWER_COLUMNS, "a name for each column");

static LlmStatement last_statement = {
	.sql = "SELECT a.bytes_so_far FROM llm.answer a ORDER BY a.id DESC LIMIT 1"};

/* Sorted by an expression, or the primary key would be walked for the order. */
static LlmStatement find_statement = {
	.sql = "SELECT v.place, a.answer, a.task FROM pg_catalog.unnest($1) WITH ORDINALITY AS v(key, place)"
		   " CROSS JOIN LATERAL (SELECT o.answer, o.task FROM llm.answer o WHERE o.key = v.key AND o.at > $2"
		   "  ORDER BY o.id + 0 DESC LIMIT 1) AS a",
	.nargs = 2,
	.args = {BYTEAARRAYOID, TIMESTAMPTZOID}};

static LlmStatement look_statement = {
	.sql = "SELECT v.place FROM pg_catalog.unnest($1) WITH ORDINALITY AS v(key, place)"
		   " CROSS JOIN LATERAL (SELECT FROM llm.answer o WHERE o.key = v.key AND o.at > $2 LIMIT 1) AS a",
	.nargs = 2,
	.args = {BYTEAARRAYOID, TIMESTAMPTZOID}};

/* Of those above $3, at most $4: how many were looked at and deleted, and up to which. */
static LlmStatement drop_statement = {
	.sql = "WITH seen AS MATERIALIZED (SELECT a.id, a.at < $1 OR a.bytes_so_far <= $2 AS old FROM llm.answer a"
		   "  WHERE a.id > $3 ORDER BY a.id LIMIT $4),"
		   " gone AS (DELETE FROM llm.answer a USING seen s WHERE a.id = s.id AND s.old RETURNING a.id)"
		   " SELECT (SELECT count(*) FROM seen), count(*), COALESCE(max(g.id), 0::int8) FROM gone g",
	.nargs = 4,
	.args = {TIMESTAMPTZOID, INT8OID, INT8OID, INT4OID}};

/* All static: the sender's life. */
static int64 bytes_so_far = -1; /* as the last row says; -1: not known */
static int64 dropped_up_to = 0; /* no row has a lower number, as far as known */
static int64 dropping_up_to = 0; /* the same when the transaction commits */

/* Column of the first row of the current result, 0 for NULL. */
static int64
get_int64(int column)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/* Bytes of all that was ever added. */
static int64
get_bytes_so_far(void)
{
	if (bytes_so_far >= 0)
		return bytes_so_far;
	bytes_so_far = llm_spi_execute(&last_statement, NULL, NULL, false) > 0 ? get_int64(1) : 0;
	SPI_freetuptable(SPI_tuptable);
	return bytes_so_far;
}

bool
llm_answer_exists(void)
{
	bool exists = llm_spi_execute(&last_statement, NULL, NULL, false) > 0;

	SPI_freetuptable(SPI_tuptable);
	return exists;
}

static Datum
make_key(const LlmAnswerKey *key)
{
	bytea *value = palloc(VARHDRSZ + LLM_ANSWER_KEY_BYTES);

	SET_VARSIZE(value, VARHDRSZ + LLM_ANSWER_KEY_BYTES);
	memcpy(VARDATA(value), key->bytes, LLM_ANSWER_KEY_BYTES);
	return PointerGetDatum(value);
}

void
llm_answer_add(const LlmNewAnswer *answers, int n)
{
	int columns[ANSWER_COLUMNS];
	int64 bytes = get_bytes_so_far();
	TimestampTz now = llm_clock_now();
	LlmStore *store = llm_store_begin("answer", CMD_INSERT, answer_columns, ANSWER_COLUMNS, columns);

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *slot = llm_store_next(store);
		Datum values[ANSWER_COLUMNS];

		bytes += ROW_BYTES + (int64) VARSIZE_ANY(answers[i].answer);
		values[ANSWER_AT] = TimestampTzGetDatum(now);
		values[ANSWER_KEY] = make_key(answers[i].key);
		values[ANSWER_ROLE] = ObjectIdGetDatum(answers[i].role);
		values[ANSWER_OPERATION] = CStringGetTextDatum(answers[i].operation);
		values[ANSWER_RECIPE] = Int64GetDatum(answers[i].recipe);
		values[ANSWER_SERVER] = CStringGetTextDatum(answers[i].server);
		values[ANSWER_MODEL] = CStringGetTextDatum(answers[i].model);
		values[ANSWER_TASK] = Int64GetDatum(answers[i].task);
		values[ANSWER_BYTES] = Int64GetDatum(bytes);
		values[ANSWER_ANSWER] = JsonbPGetDatum(answers[i].answer);
		for (int c = 0; c < ANSWER_COLUMNS; c++)
		{
			slot->tts_values[columns[c]] = values[c];
			slot->tts_isnull[columns[c]] = false;
		}
		llm_store_put(store, VARSIZE_ANY(answers[i].answer));
	}
	llm_store_end(store);
	bytes_so_far = bytes;
}

/* Keys and the oldest time, as both statements that look for answers take them. */
static void
set_keys(const LlmAnswerKey *keys, int n, TimestampTz since, Datum *values)
{
	Datum *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = make_key(&keys[i]);
	values[0] = llm_spi_array(BYTEAOID, elements, NULL, n);
	values[1] = TimestampTzGetDatum(since);
}

int
llm_answer_find(const LlmAnswerKey *keys, int n, TimestampTz since, LlmKeptAnswer *found)
{
	Datum values[2];
	uint64 nfound;

	for (int i = 0; i < n; i++)
		found[i] = (LlmKeptAnswer){NULL, 0};
	set_keys(keys, n, since, values);
	nfound = llm_spi_execute(&find_statement, values, NULL, false);
	for (uint64 i = 0; i < nfound; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		int64 place = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
		Datum answer = SPI_getbinval(row, desc, 2, &isnull);

		found[place - 1].answer = (Jsonb *) PG_DETOAST_DATUM_COPY(answer);
		found[place - 1].task = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return (int) nfound;
}

void
llm_answer_look(const LlmAnswerKey *keys, int n, TimestampTz since, bool *found)
{
	Datum values[2];
	uint64 nfound;

	memset(found, 0, sizeof(*found) * n);
	set_keys(keys, n, since, values);
	nfound = llm_spi_execute(&look_statement, values, NULL, true);
	for (uint64 i = 0; i < nfound; i++)
	{
		bool isnull;

		found[DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)) - 1] = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

int
llm_answer_drop(TimestampTz since, int64 most_bytes, int limit, int *seen)
{
	Datum values[4];
	int dropped;

	values[0] = TimestampTzGetDatum(since);
	values[1] = Int64GetDatum(get_bytes_so_far() - most_bytes);
	values[2] = Int64GetDatum(dropped_up_to);
	values[3] = Int32GetDatum(limit);
	(void) llm_spi_execute(&drop_statement, values, NULL, false);
	*seen = (int) get_int64(1);
	dropped = (int) get_int64(2);
	dropping_up_to = Max(dropped_up_to, get_int64(3));
	SPI_freetuptable(SPI_tuptable);
	return dropped;
}

void
llm_answer_dropped(void)
{
	dropped_up_to = Max(dropped_up_to, dropping_up_to);
}

void
llm_answer_forget(void)
{
	bytes_so_far = -1;
	dropping_up_to = dropped_up_to;
}
