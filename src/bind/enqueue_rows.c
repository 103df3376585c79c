/*-------------------------------------------------------------------------
 *
 * enqueue_rows.c
 *	  Rows of llm.queue, many at a time.
 *
 * Half of what deferring added to an UPDATE was one INSERT ... SELECT unnest(...):
 * arrays made and taken apart, each row formed four times, inputs decompressed and
 * compressed again.  So rows go to the table by store.c, as COPY brings them, an input
 * that is compressed as it is.
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
#include "tables/transition.h"

#define QUEUE "queue"
#define REASON_SAME "same_question"
#define ERROR_BLANK "empty_input"
#define MESSAGE_BLANK "The input is empty or only white space."

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
	QUEUE_OUTCOME,
	QUEUE_ERROR,
	QUEUE_MESSAGE,
	QUEUE_APPLICATION,
	QUEUE_KEY,
	QUEUE_INPUT,
	QUEUE_CELL,
	QUEUE_FENCE,
	QUEUE_LEAVES,
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
	{"outcome", TEXTOID},
	{"error", TEXTOID},
	{"message", TEXTOID},
	{"application_name", TEXTOID},
	{"key", JSONBOID},
	{"input", TEXTOID},
	{"cell", INT8OID},
	{"fence", BYTEAOID},
	{"leaves", JSONBOID},
};

StaticAssertDecl(lengthof(queue_columns) == QUEUE_COLUMNS, "a name for each column");

/* Has the task nothing to say in that column? */
static bool
is_null(const LlmNewTask *task, QueueColumn column)
{
	switch (column)
	{
		case QUEUE_REASON:
		case QUEUE_SAME_AS:
			return task->same_as == 0;
		case QUEUE_OUTCOME:
		case QUEUE_ERROR:
		case QUEUE_MESSAGE:
			return !task->is_blank;
		case QUEUE_APPLICATION:
			return task->job->application == NULL;
		case QUEUE_CELL:
		case QUEUE_FENCE:
			return task->cell == 0;
		case QUEUE_LEAVES:
			return task->leaves == NULL;
		default:
			return false;
	}
}

void
llm_enqueue_write_rows(const LlmNewTask *tasks, int ntasks)
{
	int columns[QUEUE_COLUMNS];
	LlmStore *store = llm_store_begin(QUEUE, CMD_INSERT, queue_columns, QUEUE_COLUMNS, columns);
	Datum ready = CStringGetTextDatum(llm_task_state_name(LLM_TASK_READY));
	Datum waiting = CStringGetTextDatum(llm_task_state_name(LLM_TASK_WAITING));
	Datum failed = CStringGetTextDatum(llm_task_state_name(LLM_TASK_FAILED));
	Datum same = CStringGetTextDatum(REASON_SAME);
	Datum blank = CStringGetTextDatum(ERROR_BLANK);
	Datum why_blank = CStringGetTextDatum(MESSAGE_BLANK);

	for (int i = 0; i < ntasks; i++)
	{
		const LlmNewTask *task = &tasks[i];
		TupleTableSlot *slot = llm_store_next(store);
		Datum *values = slot->tts_values;
		bool is_leader = task->same_as == 0;

		for (int c = 0; c < QUEUE_COLUMNS; c++)
			slot->tts_isnull[columns[c]] = is_null(task, c);
		values[columns[QUEUE_ID]] = Int64GetDatum(task->id);
		values[columns[QUEUE_JOB]] = Int64GetDatum(task->job->id);
		values[columns[QUEUE_RECIPE]] = Int64GetDatum(task->job->recipe);
		values[columns[QUEUE_ROLE]] = ObjectIdGetDatum(task->job->role);
		values[columns[QUEUE_RELATION]] = ObjectIdGetDatum(task->leaf);
		values[columns[QUEUE_STATE]] = task->is_blank ? failed : is_leader ? ready
																		   : waiting;
		values[columns[QUEUE_REASON]] = is_leader ? (Datum) 0 : same;
		values[columns[QUEUE_OUTCOME]] = failed;
		values[columns[QUEUE_ERROR]] = blank;
		values[columns[QUEUE_MESSAGE]] = why_blank;
		values[columns[QUEUE_CELL]] = Int64GetDatum(task->cell);
		values[columns[QUEUE_FENCE]] = PointerGetDatum(task->fence);
		values[columns[QUEUE_LEAVES]] = PointerGetDatum(task->leaves);
		values[columns[QUEUE_SAME_AS]] = Int64GetDatum(task->same_as);
		values[columns[QUEUE_APPLICATION]] = PointerGetDatum(task->job->application);
		values[columns[QUEUE_KEY]] = JsonbPGetDatum(task->key);
		values[columns[QUEUE_INPUT]] = PointerGetDatum(task->input);
		llm_store_put(store, VARSIZE_ANY(task->input));
	}
	llm_store_end(store);
}

text **
llm_enqueue_read_inputs(const int64 *ids, int n)
{
	text **inputs = palloc0(n * sizeof(text *));

	llm_store_read(QUEUE, queue_columns[QUEUE_INPUT].name, ids, n, (struct varlena **) inputs);
	return inputs;
}
