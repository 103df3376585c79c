/*-------------------------------------------------------------------------
 *
 * bill_read.c
 *	  llm.bill(): reads the sums, in order of time where times are asked for.
 *
 * llm.bill_query() checks what is asked for and says what to read.  Its rows come with the
 * caller's rights and are added up as they come, by bill.h.  Where a time is asked for, the groups of one
 * are complete when the next one begins: there are never more in memory than one time has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/spi.h"
#include "tables/bill.h"

PG_FUNCTION_INFO_V1(llm_enrich_bill);

static const char *const dimensions[LLM_BILL_TIMES + LLM_BILL_WORDS] = {
	"hour", "day", "week", "month", "server", "model", "relation", "column", "role", "operation", "lane", "outcome"};

typedef struct Reader
{
	DestReceiver dest; /* first */
	LlmBillGroups *groups;
	bool asked[LLM_BILL_TIMES];
	bool by_time;
	bool started; /* "start" and "times" are set */
	TimestampTz start; /* of the last row */
	Datum times[LLM_BILL_TIMES]; /* of the groups */
	ReturnSetInfo *result;
} Reader;

static void
put_row(Datum *values, bool *nulls, void *arg)
{
	Reader *reader = arg;

	for (int i = 0; i < LLM_BILL_TIMES; i++)
	{
		nulls[i] = !reader->asked[i];
		values[i] = reader->times[i];
	}
	tuplestore_putvalues(reader->result->setResult, reader->result->setDesc, values, nulls);
}

/* Hour, day, week and month of a time, in the session's time zone. */
static void
take_times(Reader *reader, TimestampTz start, Datum *times)
{
	for (int i = 0; i < LLM_BILL_TIMES; i++)
	{
		times[i] = (Datum) 0;
		if (!reader->asked[i])
			continue;
		times[i] = DirectFunctionCall2(timestamptz_trunc, CStringGetTextDatum(dimensions[i]),
									   TimestampTzGetDatum(start));
		if (i > 0)
			times[i] = DirectFunctionCall1(timestamptz_date, times[i]);
	}
}

/* A row that is of another time than the ones before completes their groups. */
static void
turn(Reader *reader, TimestampTz start)
{
	Datum times[LLM_BILL_TIMES];

	if (reader->started && reader->start == start)
		return;
	take_times(reader, start, times);
	if (reader->started && memcmp(times, reader->times, sizeof(times)) != 0)
		llm_bill_emit(reader->groups, put_row, reader);
	memcpy(reader->times, times, sizeof(times));
	reader->start = start;
	reader->started = true;
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	Reader *reader = (Reader *) self;

	slot_getallattrs(slot);
	if (reader->by_time)
		turn(reader, DatumGetTimestampTz(slot->tts_values[0]));
	llm_bill_add(reader->groups, slot->tts_values + 1, slot->tts_isnull + 1);
	return true;
}

static void
start_up(DestReceiver *self, int operation, TupleDesc desc)
{
	(void) self;
	(void) operation;
	(void) desc;
}

static void
nothing(DestReceiver *self)
{
	(void) self;
}

static char **
read_names(Datum array, int *n)
{
	Datum *names;
	char **result;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, n);
	result = palloc_array(char *, *n + 1);
	for (int i = 0; i < *n; i++)
		result[i] = TextDatumGetCString(names[i]);
	return result;
}

static bool
is_asked(char *const *names, int n, const char *name)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

/* What llm.bill_query() says of the arguments: the query, which is returned, dimensions and tags. */
static char *
make_query(FunctionCallInfo fcinfo, Reader *reader)
{
	static LlmStatement query = {.sql = "SELECT b.query, b.dimensions, b.tags FROM llm.bill_query($1, $2, $3) b",
								 .nargs = 3,
								 .args = {TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
	Datum values[3];
	char nulls[3];
	Datum row[3];
	int words[LLM_BILL_WORDS];
	int nwords = 0;
	int nasked;
	int ntags;
	char **asked;
	char **tags;

	for (int i = 0; i < 3; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	if (llm_spi_execute(&query, values, nulls, true) != 1)
		elog(ERROR, "llm.bill_query() has no row");
	for (int i = 0; i < 3; i++)
	{
		bool isnull;

		row[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		if (isnull)
			elog(ERROR, "llm.bill_query() returned NULL");
	}
	asked = read_names(row[1], &nasked);
	tags = read_names(row[2], &ntags);
	for (int i = 0; i < LLM_BILL_TIMES + LLM_BILL_WORDS; i++)
	{
		if (!is_asked(asked, nasked, dimensions[i]))
			continue;
		if (i >= LLM_BILL_TIMES)
			words[nwords++] = i;
		else
			reader->asked[i] = reader->by_time = true;
	}
	reader->groups = llm_bill_create(words, nwords, tags, ntags);
	return TextDatumGetCString(row[0]);
}

/* SQL: llm.bill(by, since, until) */
Datum
llm_enrich_bill(PG_FUNCTION_ARGS)
{
	Reader reader = {.dest = {.receiveSlot = receive,
							  .rStartup = start_up,
							  .rShutdown = nothing,
							  .rDestroy = nothing,
							  .mydest = DestNone},
					 .result = (ReturnSetInfo *) fcinfo->resultinfo};
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich bill", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller;
	char *query;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	caller = MemoryContextSwitchTo(scratch);
	query = make_query(fcinfo, &reader);
	llm_spi_read(query, &reader.dest);
	llm_bill_emit(reader.groups, put_row, &reader);
	MemoryContextSwitchTo(caller);
	SPI_finish();
	MemoryContextDelete(scratch);
	return (Datum) 0;
}
