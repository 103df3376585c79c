/*-------------------------------------------------------------------------
 *
 * writeback_error.h
 *	  What an error of a write-back means for its row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_ERROR_H
#define LLM_WRITEBACK_ERROR_H

#include "base/llm_enrich.h"

#include "writeback/writeback_queue.h"

/* Somebody else was faster; nothing is wrong. */
extern bool llm_writeback_is_lock_error(int sqlerrcode);

/* Does a function of the user's say so?  There need not be a lock that somebody lets go. */
extern bool llm_writeback_is_said_lock(const ErrorData *error);

/* Is there no room for the row, which is no fault of its own and gets better by itself? */
extern bool llm_writeback_is_full_disk(const ErrorData *error);

/* What llm.progress says of rows that wait for that error; palloc'ed in the current context. */
extern char *llm_writeback_why_put_off(const ErrorData *error);

/* Short name and sentence for an error that cost a row its write-back. */
extern void llm_writeback_fail_by_error(LlmWriteRow *row, ErrorData *error);

#endif /* LLM_WRITEBACK_ERROR_H */
