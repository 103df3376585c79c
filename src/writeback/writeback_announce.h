/*-------------------------------------------------------------------------
 *
 * writeback_announce.h
 *	  Say that a job has ended, was paused, goes on or has met a budget: NOTIFY and the log.
 *
 *	  wanted()    inside a transaction of ours: is anything to be said?
 *	  announce()  outside of any: say it
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_ANNOUNCE_H
#define LLM_WRITEBACK_ANNOUNCE_H

#include "base/llm_enrich.h"

/* SPI must be connected. */
extern bool llm_writeback_announce_wanted(void);

/*
 * In a transaction of its own; raises nothing.  Where NOTIFY fails, the log alone has it.
 * False when that failed, too, which the log says, or more is to be said.
 */
extern bool llm_writeback_announce(void);

#endif /* LLM_WRITEBACK_ANNOUNCE_H */
