/*-------------------------------------------------------------------------
 *
 * writeback_sql.h
 *	  The statements that find, lock and write cells of a job.
 *
 * Only writeback*.c call these.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_SQL_H
#define LLM_WRITEBACK_SQL_H

#include "base/llm_enrich.h"

#include "writeback/writeback_queue.h"

/* Where a job's cells are, by the names of today. */
typedef struct LlmWriteTarget
{
	Oid relation;
	char *name; /* qualified and quoted */
	Oid column_type;
	bool is_quiet;
	bool is_leaf; /* a partition of the job's relation, whose rights hold: writeback_leaf.c */
	char *stands; /* is the cell still the task's?  Over t, the relation, and v, the task */
	char *value; /* what the cell becomes */
	char *found; /* the task that is in the cell, 0: none */
	char *column; /* quoted */
	char *match; /* t's key = v's key */
	int nkeys;
} LlmWriteTarget;

/*
 * Describe column and keys of a relation; false when a column is missing or
 * unfit, with *reason and *explanation.  The caller holds a lock on the relation.
 */
extern bool llm_writeback_describe(LlmWriteTarget *target, Oid relation, const LlmWriteJob *job,
								   const char *column, char **keys,
								   const char **reason, char **explanation);

/*
 * Put the names that a job's columns have now in *column and "keys" (room for job->nkeys);
 * false when one was dropped.  The caller holds a lock on the relation.
 */
extern bool llm_writeback_follow_names(const LlmWriteJob *job, char **column, char **keys,
									   const char **reason, char **explanation);

/* Lock as many rows as nobody else holds, where key and marker stand; sets row->locked. */
extern void llm_writeback_lock(LlmWriteTarget *target, LlmWriteRow **rows, int n, bool as_asker);

/* Both in one statement, for a partition whose plans are not used again; not of quiet cells. */
extern void llm_writeback_lock_and_write(LlmWriteTarget *target, LlmWriteRow **rows, int n, bool *written);

/* Write locked rows' outcome; sets *written for each row that was. */
extern void llm_writeback_write(LlmWriteTarget *target, LlmWriteRow **rows, int n, bool *written);

/* The task in the cell that each row's key finds: 0 none; -1 no such row. */
extern void llm_writeback_look(LlmWriteTarget *target, LlmWriteRow **rows, int n, int64 *found);

/* Once, in the writer: see strip_select(). */
extern void llm_writeback_sql_init(void);

#endif /* LLM_WRITEBACK_SQL_H */
