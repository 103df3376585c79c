/*-------------------------------------------------------------------------
 *
 * writeback_diag.h
 *	  Find out why rows were not written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_DIAG_H
#define LLM_WRITEBACK_DIAG_H

#include "base/llm_enrich.h"

#include "writeback/writeback_queue.h"

/*
 * Give each of these rows a fate.  Reads the table with the rights of its owner,
 * which sees what row security hides from the role.  May raise: the caller has a
 * subtransaction around it.
 */
extern void llm_writeback_diagnose(const LlmWriteJob *job, LlmWriteRow **rows, int n);

#endif /* LLM_WRITEBACK_DIAG_H */
