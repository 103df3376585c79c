/*-------------------------------------------------------------------------
 *
 * writeback_slice.h
 *	  How long a write-back may take, so that a slow table holds up no other.
 *
 * Plain arithmetic: no clock, no database.  Only writeback.c calls these:
 *
 *	  look()      at each look at the queue
 *	  admit()     may a set of this table be tried now, and on what terms?
 *	  then one of these
 *	  served()    the set of an ordinary table was written
 *	  fitted()    the set of a slow table was written
 *	  stopped()   the set was stopped before llm_enrich.writeback_timeout
 *
 * A table is ordinary until a set of it does not fit a slice; for ordinary tables
 * there is no LlmSlice.  Times are microseconds of a clock that never jumps.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITEBACK_SLICE_H
#define LLM_WRITEBACK_SLICE_H

#include "base/llm_enrich.h"

/* Rows of one transaction: enough to make its fixed cost small, few enough to commit within some 10 ms. */
#define LLM_SET_SIZE 500

/* What a set may take while others have work, at first: ms. */
#define LLM_SLICE_MS 250

/* What all tables of a database share.  All zero at first. */
typedef struct LlmSliceClock
{
	int64 busy_us; /* how long ordinary tables have kept the writer busy */
	int64 served_at; /* when it wrote for one of them last; 0: never */
	int deaf_ms; /* a slow row is not called off before: answers that came were of other slow tables */
	bool called_off; /* since the last look */
} LlmSliceClock;

/* A slow table. */
typedef struct LlmSlice
{
	Oid relation; /* hash key: must be first */
	int rows; /* of its next set */
	bool small; /* that many are known to be written soon */
	int slice_ms; /* what a row may take while others have work */
	int64 paid_at; /* busy_us when it last took time from others */
	int64 need_us; /* what its next try is expected to take */
	int64 turn_at; /* its last turn; 0: none */
	int64 turn_job; /* the job that had it; 0: none */
	int64 one_us; /* what a row took that went alone; 0: not known */
	bool dear; /* and each further one as much */
} LlmSlice;

/* Terms of one try. */
typedef struct LlmSliceTerms
{
	int rows;
	int sure_ms; /* so long it runs whatever comes */
	int most_ms; /* then it is stopped; between the two, when others' answers come */
} LlmSliceTerms;

extern void llm_slice_init(LlmSlice *slice);

/* Of two jobs of the table, which take turns by their ids: does "job" come before "other"? */
extern bool llm_slice_before(const LlmSlice *slice, int64 job, int64 other);

/* "others": ordinary tables have work now. */
extern void llm_slice_look(LlmSliceClock *clock, bool others);

/*
 * Slice NULL: an ordinary table, which is always admitted.  False: not before busy_us has
 * gone on or llm_slice_quiet_at().
 */
extern bool llm_slice_admit(const LlmSliceClock *clock, const LlmSlice *slice, bool others, int64 now,
							int timeout_ms, LlmSliceTerms *terms);

/* When it is quiet enough for a row that may take long, if nothing of an ordinary table comes before. */
extern int64 llm_slice_quiet_at(const LlmSliceClock *clock);

extern void llm_slice_served(LlmSliceClock *clock, int64 from, int64 to);

/* So many rows of at most "limit" were written in "elapsed".  False when the table is ordinary again. */
extern bool llm_slice_fitted(LlmSlice *slice, LlmSliceClock *clock, int rows, int limit, int64 elapsed);

/* called_off: for others, not since it had used its slice. */
extern void llm_slice_stopped(LlmSlice *slice, LlmSliceClock *clock, int rows, int64 elapsed, int timeout_ms,
							  bool called_off);

#endif /* LLM_WRITEBACK_SLICE_H */
