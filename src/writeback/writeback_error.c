/*-------------------------------------------------------------------------
 *
 * writeback_error.c
 *	  What an error of a write-back means for its row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/error.h"
#include "writeback/writeback_error.h"

/* The explanation of a failed row is cut there. */
#define EXPLANATION_BYTES 500

/* So is what llm.progress says of one that waits. */
#define WHY_BYTES 200

bool
llm_writeback_is_lock_error(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		   sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		   sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

bool
llm_writeback_is_said_lock(const ErrorData *error)
{
	return llm_writeback_is_lock_error(error->sqlerrcode) && llm_error_is_said(error);
}

bool
llm_writeback_is_full_disk(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_DISK_FULL && !llm_error_is_said(error);
}

char *
llm_writeback_why_put_off(const ErrorData *error)
{
	const char *message = error->message ? error->message : "unknown error";

	return psprintf("the write-back was put off: %.*s", pg_mbcliplen(message, strlen(message), WHY_BYTES), message);
}

/* Relation and column were there, under a lock: what else an error says is gone is missed by a trigger or the like. */
void
llm_writeback_fail_by_error(LlmWriteRow *row, ErrorData *error)
{
	const char *message = error->message ? error->message : "unknown error";
	char *explanation = psprintf("%s: %.*s", unpack_sql_state(error->sqlerrcode),
								 pg_mbcliplen(message, strlen(message), EXPLANATION_BYTES), message);

	llm_writeback_fail(row, error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ? "forbidden" : "not_writable",
					   explanation);
}
