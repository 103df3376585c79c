/*-------------------------------------------------------------------------
 *
 * enqueue_rows.h
 *	  Rows of llm.queue, many at a time.
 *
 * Only enqueue.c calls this.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ENQUEUE_ROWS_H
#define LLM_ENQUEUE_ROWS_H

#include "llm_enrich.h"

#include "enqueue.h"

/*
 * Insert the tasks, whose jobs are written, and make them visible to what comes next in
 * the transaction.  Within llm_spi_own_begin() and with SPI connected.  Leaks into the
 * current memory context no more than a multiple of what the tasks have themselves.
 */
extern void llm_enqueue_write_rows(const LlmNewTask *tasks, int ntasks);

#endif /* LLM_ENQUEUE_ROWS_H */
