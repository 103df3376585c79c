/*-------------------------------------------------------------------------
 *
 * writeback_value.h
 *	  From an answer to the value of a quiet cell.
 *
 *	  prepare()   once for a job's set of rows: parse what is around the call
 *	  evaluate()  for some of the rows
 *	  offer()     while the statement runs that writes them: llm.cell_value() gives them
 *
 * prepare() and evaluate() run as the role that asked, and may raise whatever users' code
 * does.  Only writeback*.c call these.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_VALUE_H
#define LLM_WRITEBACK_VALUE_H

#include "base/llm_enrich.h"

#include "writeback/writeback_queue.h"

typedef struct LlmCellValue LlmCellValue;

/*
 * "cell" is llm.job.cell; the values will be assigned to that column of the relation.  In the
 * current context, which must outlive the values.
 */
extern LlmCellValue *llm_cell_value_prepare(Jsonb *cell, Oid relation, const char *column);

/* Set value and value_is_null of each row, from its answer. */
extern void llm_cell_value_evaluate(LlmCellValue *cell, LlmWriteRow **rows, int n);

/* llm.cell_value(…, i) is rows[i]'s value from now on; NULL: nobody's.  Forgotten at the end of a transaction. */
extern void llm_cell_value_offer(LlmWriteRow **rows, int n, Oid type);

#endif /* LLM_WRITEBACK_VALUE_H */
