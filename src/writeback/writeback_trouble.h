/*-------------------------------------------------------------------------
 *
 * writeback_trouble.h
 *	  What becomes of jobs and rows whose write-back was undone.
 *
 * Plain arithmetic: no clock, no database.  Only writeback.c calls these, and keeps
 * an LlmTrouble of each job and each row that is in trouble.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_TROUBLE_H
#define LLM_WRITEBACK_TROUBLE_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"

/* So long a row waits at least for a lock. */
#define LLM_LOCK_DELAY_MS 50

/* So many time-outs or failed commits, of one row alone or of a job in a row, are no accident. */
#define LLM_MAX_STRIKES 20

/* A job's or a row's. */
typedef struct LlmTrouble
{
	int64 key; /* hash key: must be first */
	int count; /* in a row, without a success */
	int failures; /* of a job: those of them that no lock has caused */
	int singles; /* of a job: rows yet to go alone, to find the one that fails */
	TimestampTz until; /* of a job: leave it alone */
} LlmTrouble;

typedef struct LlmTroubleVerdict
{
	int job_ms; /* leave the job alone for so long */
	int row_ms; /* its rows wait so long at least */
	bool final; /* the row fails for good */
} LlmTroubleVerdict;

extern void llm_trouble_init(LlmTrouble *trouble);

/* Somebody held a lock: so long the job waits. */
extern int llm_trouble_locked(LlmTrouble *job);

/* The disk is full, which is no row's fault and never final: so long the job and its rows wait. */
extern int llm_trouble_no_room(LlmTrouble *job);

/*
 * A transaction of so many rows was undone; "row": it was of this one alone, otherwise NULL.  "soon": for
 * what a function of the user's called a lock, which may be over soon.
 */
extern void llm_trouble_failed(LlmTrouble *job, LlmTrouble *row, int nrows, bool soon, LlmTroubleVerdict *verdict);

/* A transaction was committed, with success or without a row that could have had any.  True when all is well again. */
extern bool llm_trouble_committed(LlmTrouble *job, int nrows, bool success);

#endif /* LLM_WRITEBACK_TROUBLE_H */
