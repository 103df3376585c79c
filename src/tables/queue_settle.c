/*-------------------------------------------------------------------------
 *
 * queue_settle.c
 *	  Give each task that was claimed its next state.
 *
 * Rows are replaced by store.c, found by their key.  One that has changed since the
 * snapshot, though nobody should, is looked at again by a later one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "base/store.h"
#include "tables/queue.h"

/* Columns that are looked at or changed; the first is the primary key. */
typedef enum QueueColumn
{
	QUEUE_ID,
	QUEUE_STATE,
	QUEUE_REASON,
	QUEUE_TRIES,
	QUEUE_OUTAGES,
	QUEUE_NOT_BEFORE,
	QUEUE_REQUEST,
	QUEUE_LANDED,
	QUEUE_OUTCOME,
	QUEUE_ERROR,
	QUEUE_MESSAGE,
	QUEUE_LAST_ANSWER,
	QUEUE_ANSWER,
	QUEUE_FALLBACK,
	QUEUE_RESERVED,
	QUEUE_COLUMNS
} QueueColumn;

static const LlmStoreColumn queue_columns[] = {
	{"id", INT8OID},
	{"state", TEXTOID},
	{"reason", TEXTOID},
	{"tries", INT4OID},
	{"outages", INT4OID},
	{"not_before", TIMESTAMPTZOID},
	{"request", INT8OID},
	{"landed", INT8OID},
	{"outcome", TEXTOID},
	{"error", TEXTOID},
	{"message", TEXTOID},
	{"last_answer", TEXTOID},
	{"answer", JSONBOID},
	{"fallback", BOOLOID},
	{"reserved", NUMERICOID},
};

StaticAssertDecl(lengthof(queue_columns) == QUEUE_COLUMNS, "a name for each column");

/*
 * Which of the tasks that are to be asked again were cancelled: their places in $1, from 1, and
 * whether another took the cell.
 */
static LlmStatement cancelled_statement = {
	.sql = "SELECT v.place, (SELECT true FROM llm.cancellation c WHERE c.task = v.task AND c.superseded LIMIT 1)"
		   " FROM pg_catalog.unnest($1) WITH ORDINALITY AS v(task, place)"
		   " WHERE (SELECT true FROM llm.cancellation c WHERE c.task = v.task LIMIT 1)",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

/* A nullable text as an array element. */
static void
set_text(Datum *value, bool *isnull, const char *string)
{
	*isnull = (string == NULL);
	*value = string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}

/* What word was left for a task while it was under way. */
typedef enum Word
{
	WORD_NONE,
	WORD_CANCELLED,
	WORD_SUPERSEDED
} Word;

/* Which of these are to be asked again and were cancelled meanwhile; NULL: none. */
static Word *
find_cancelled(LlmSettlement **settlements, int n)
{
	Datum *tasks = palloc(sizeof(Datum) * n);
	int *places = palloc(sizeof(int) * n);
	Word *cancelled = NULL;
	Datum values[1];
	int nagain = 0;

	for (int i = 0; i < n; i++)
	{
		if (!llm_task_is_open(settlements[i]->state))
			continue;
		places[nagain] = i;
		tasks[nagain++] = Int64GetDatum(settlements[i]->task);
	}
	if (nagain == 0)
		return NULL;
	values[0] = llm_spi_array(INT8OID, tasks, NULL, nagain);
	if (llm_spi_execute(&cancelled_statement, values, NULL, true) > 0)
		cancelled = palloc0(sizeof(Word) * n);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		int64 place = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		(void) SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);
		cancelled[places[place - 1]] = isnull ? WORD_CANCELLED : WORD_SUPERSEDED;
	}
	SPI_freetuptable(SPI_tuptable);
	return cancelled;
}

/* Is it the task as this request left it? */
static bool
is_claimed_for(const TupleTableSlot *row, const int *columns, int64 request)
{
	text *state = DatumGetTextPP(row->tts_values[columns[QUEUE_STATE]]);

	return VARSIZE_ANY_EXHDR(state) == strlen("claimed") &&
		   memcmp(VARDATA_ANY(state), "claimed", strlen("claimed")) == 0 &&
		   !row->tts_isnull[columns[QUEUE_REQUEST]] &&
		   DatumGetInt64(row->tts_values[columns[QUEUE_REQUEST]]) == request;
}

static void
set_column(TupleTableSlot *row, int column, Datum value, bool isnull)
{
	row->tts_values[column] = isnull ? (Datum) 0 : value;
	row->tts_isnull[column] = isnull;
}

static void
set_text_column(TupleTableSlot *row, int column, const char *string)
{
	set_text(&row->tts_values[column], &row->tts_isnull[column], string);
}

static void
add_to_column(TupleTableSlot *row, int column, int32 more)
{
	row->tts_values[column] = Int32GetDatum(DatumGetInt32(row->tts_values[column]) + more);
}

/*
 * A task that would be sent again but was cancelled meanwhile is cancelled here; the writer
 * takes care of its cell.
 */
static void
change_row(TupleTableSlot *row, const int *columns, const LlmSettlement *s, Word word, int64 transaction)
{
	const char *state = llm_task_state_name(word == WORD_SUPERSEDED	 ? LLM_TASK_SUPERSEDED
											: word == WORD_CANCELLED ? LLM_TASK_CANCELLED
																	 : s->state);
	bool settled = word != WORD_NONE || !llm_task_is_open(s->state);

	set_text_column(row, columns[QUEUE_STATE], state);
	set_text_column(row, columns[QUEUE_OUTCOME], settled ? state : NULL);
	set_text_column(row, columns[QUEUE_REASON], s->reason);
	set_column(row, columns[QUEUE_NOT_BEFORE], TimestampTzGetDatum(s->not_before), s->not_before == 0);
	add_to_column(row, columns[QUEUE_TRIES], s->charged ? 1 : 0);
	add_to_column(row, columns[QUEUE_OUTAGES], s->outage ? 1 : 0);
	set_column(row, columns[QUEUE_ANSWER], PointerGetDatum(s->answer), s->answer == NULL);
	set_column(row, columns[QUEUE_LANDED], Int64GetDatum(transaction), !settled);
	if (s->elsewhere)
		set_column(row, columns[QUEUE_FALLBACK], BoolGetDatum(true), false);
	set_column(row, columns[QUEUE_RESERVED], (Datum) 0, true);
	if (s->failure != NULL)
	{
		set_text_column(row, columns[QUEUE_ERROR], s->failure);
		set_text_column(row, columns[QUEUE_MESSAGE], s->message);
	}
	if (s->last_answer != NULL)
		set_text_column(row, columns[QUEUE_LAST_ANSWER], s->last_answer);
}

/*
 * Settle those that are as the snapshot shows them; how many are not, which are at the front
 * then.  *any_cancelled becomes true where one is the writer's now.
 */
static int
settle_once(LlmSettlement **settlements, int n, Snapshot snapshot, bool *any_cancelled)
{
	int columns[QUEUE_COLUMNS];
	int64 transaction = llm_spi_transaction();
	Word *cancelled;
	LlmStore *store;
	int left = 0;

	PushActiveSnapshot(snapshot);
	cancelled = find_cancelled(settlements, n);
	store = llm_store_begin("queue", CMD_UPDATE, queue_columns, QUEUE_COLUMNS, columns);
	for (int i = 0; i < n; i++)
	{
		LlmSettlement *s = settlements[i];
		Word word = cancelled == NULL ? WORD_NONE : cancelled[i];
		TupleTableSlot *row = llm_store_find(store, s->task);

		if (row == NULL || !is_claimed_for(row, columns, s->request))
			continue; /* it is not ours any more */
		change_row(llm_store_copy(store), columns, s, word, transaction);
		if (!llm_store_replace(store))
			settlements[left++] = s;
		else if (word != WORD_NONE)
			*any_cancelled = true;
	}
	llm_store_end(store);
	PopActiveSnapshot();
	return left;
}

bool
llm_queue_settle(LlmSettlement **settlements, int n)
{
	LlmSettlement **left = palloc(sizeof(LlmSettlement *) * Max(n, 1));
	bool cancelled = false;
	int nleft = 0;

	for (int i = 0; i < n; i++)
	{
		if (settlements[i]->letter == NULL)
			left[nleft++] = settlements[i];
	}
	/* what changed a row has committed by the time that replacing it fails: a later snapshot shows it */
	while (nleft > 0)
		nleft = settle_once(left, nleft, GetLatestSnapshot(), &cancelled);
	return cancelled;
}
