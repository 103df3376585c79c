/*-------------------------------------------------------------------------
 *
 * notice.h
 *	  What a statement tells about the jobs that it has queued (llm_enrich.notices).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_NOTICE_H
#define LLM_NOTICE_H

#include "bind/enqueue.h"

/* A row keeps the task of an earlier statement, which is not sent since its job is paused. */
extern void llm_notice_kept(LlmNewJob *job, int64 paused_job);

/*
 * The statement is over: one NOTICE for each job of several rows, and one each for the rows
 * that stay with paused jobs, with those that ask, and that have nothing to ask about.  "jobs"
 * are all LlmNewJob of the statement; "blank_rows" cells say at once that their input was blank.
 */
extern void llm_notice_tell(List *jobs, int64 blank_rows);

#endif /* LLM_NOTICE_H */
