/*-------------------------------------------------------------------------
 *
 * writeback_cells.h
 *	  Write the cells of claimed rows as the current user, and give each row its fate.
 *
 * Only writeback.c calls these.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_CELLS_H
#define LLM_WRITEBACK_CELLS_H

#include "base/llm_enrich.h"

#include "writeback/writeback_queue.h"

/*
 * Write what can be written.  SPI is connected.  Raises only what no row has caused:
 * time-outs, cancelling, lack of resources.  Sets job->blocked.
 */
extern void llm_writeback_cells(LlmWriteJob *job);

/* Without a look at any cell: rows that still have no fate get this one; superseded ones are superseded. */
extern void llm_writeback_decide(LlmWriteJob *job, LlmFate fate, const char *reason, char *explanation);

#endif /* LLM_WRITEBACK_CELLS_H */
