/*-------------------------------------------------------------------------
 *
 * writeback_leaf.h
 *	  Rows of a partitioned table are written to their partitions by name.
 *
 *	  may()    once for a job: does it come to the same?
 *	  next()   for each partition that rows are in
 *
 * Only writeback_cells.c calls these, in the writer's transaction and as the role.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_LEAF_H
#define LLM_WRITEBACK_LEAF_H

#include "base/llm_enrich.h"

#include "writeback/writeback_sql.h"

/*
 * May rows of the target be written to their partitions, with the same triggers, rights and
 * policies?  The caller holds a lock on the relation.
 */
extern bool llm_writeback_leaf_may(const LlmWriteTarget *target, const char *column);

/* What becomes of rows in one partition. */
typedef enum LlmLeafWay
{
	LLM_LEAF_WRITE, /* *leaf is filled in */
	LLM_LEAF_BY_PARENT, /* it is another's partition now, or has something of its own */
	LLM_LEAF_LOCKED /* by somebody: later */
} LlmLeafWay;

extern LlmLeafWay llm_writeback_leaf_way(const LlmWriteTarget *target, const LlmWriteJob *job, Oid relation,
										 const char *column, char **keys, LlmWriteTarget *leaf);

#endif /* LLM_WRITEBACK_LEAF_H */
