/*-------------------------------------------------------------------------
 *
 * writeback_check.h
 *	  Are answers as the user's own conditions want them?
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_CHECK_H
#define LLM_WRITEBACK_CHECK_H

#include "base/llm_enrich.h"

#include "writeback/writeback_queue.h"

/*
 * As the role that asked, before any row is locked: rows whose answers are not are to be asked again, or have failed
 * as check_failed; where the conditions cannot be read any more all fail as not_writable, and keep their answers.
 */
extern void llm_writeback_check(LlmWriteJob *job);

#endif /* LLM_WRITEBACK_CHECK_H */
