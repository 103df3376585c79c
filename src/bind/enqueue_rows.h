/*-------------------------------------------------------------------------
 *
 * enqueue_rows.h
 *	  Rows of llm.queue, many at a time.
 *
 * enqueue.c writes them; defer_same.c reads what its statement has written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ENQUEUE_ROWS_H
#define LLM_ENQUEUE_ROWS_H

#include "base/llm_enrich.h"

#include "bind/enqueue.h"

/*
 * Insert the tasks, whose jobs are written, and make them visible to what comes next in
 * the transaction.  Within llm_spi_own_begin() and with SPI connected.  Leaks into the
 * current memory context no more than a multiple of what the tasks have themselves.
 */
extern void llm_enqueue_write_rows(const LlmNewTask *tasks, int ntasks);

/*
 * Inputs of tasks that this transaction has written, in the order of their ids; NULL where
 * the task is there no more.  They may be compressed or out of line, each in memory of its
 * own in the current context.
 */
extern text **llm_enqueue_read_inputs(const int64 *ids, int n);

#endif /* LLM_ENQUEUE_ROWS_H */
