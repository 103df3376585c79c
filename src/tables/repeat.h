/*-------------------------------------------------------------------------
 *
 * repeat.h
 *	  Tasks that ask what another task asks already: the same question is paid once.
 *
 *	  follow()   a task that was just claimed waits for one that is under way
 *	  settled()  tasks with followers were settled: hand on what they got, if anything
 *	  go_on()    some have more followers than one transaction serves
 *	  sweep()    now and then: followers that nobody will serve any more
 *	  promote()  the writer, too: tasks leave the queue, their followers ask
 *
 * All inside a transaction of a worker, as the owner of our tables (spi.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_REPEAT_H
#define LLM_REPEAT_H

#include "base/llm_enrich.h"

/* A task and the one that it followed before it was asked itself; 0: none. */
typedef struct LlmRepeatLead
{
	int64 task;
	int64 same_as;
	int64 job;
} LlmRepeatLead;

/* What one call did. */
typedef struct LlmRepeatResult
{
	uint64 served; /* tasks that are answered, or failed, without a request: the writer's */
	uint64 promoted; /* tasks to ask: llm_queue_wake() finds them at once */
	bool more; /* followers are left: go_on() in another transaction */
} LlmRepeatResult;

/* Claimed tasks wait for others; each leader is under way and followed from now on. */
extern void llm_repeat_follow(const int64 *tasks, const int64 *leaders, int n);

/*
 * Adds to *result.  Of leads that are to be asked again only those of other jobs are freed,
 * since nobody knows when that will be.
 */
extern void llm_repeat_settled(const LlmRepeatLead *leads, int n, LlmRepeatResult *result);
extern void llm_repeat_go_on(LlmRepeatResult *result);

/* Look at some groups of followers above *after, and set it; false at the end of them all. */
extern bool llm_repeat_sweep(int64 *after, LlmRepeatResult *result);

/*
 * Of those that follow tasks that ended without an answer, or are about to, the first of the
 * same job will ask, and those of other jobs; how many.
 */
extern uint64 llm_repeat_promote(const LlmRepeatLead *leads, int n);

#endif /* LLM_REPEAT_H */
