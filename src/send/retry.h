/*-------------------------------------------------------------------------
 *
 * retry.h
 *	  What a failed request means for its task: asked again (when, and whether
 *	  it is charged) or final (with which reason).  Pure.
 *
 *	  class                     charged  again                      final with reason
 *	  TRANSIENT                 no       back-off by outages        provider_error, after 50 of them
 *	  LOCAL, DROPPED            no       back-off by outages        never
 *	  RATE_LIMITED, OVERLOADED  no       at once                    never
 *	  AUTH, QUOTA,
 *	  UNKNOWN_MODEL, CONFIG     no       at once                    never
 *	  TIMEOUT                   yes      back-off by tries          timeout, at max_tries
 *	  UNKNOWN                   yes      back-off by tries          lost, at max_tries
 *	  INVALID                   yes      at once                    invalid_output, at max_tries
 *	  TOO_LARGE                 yes      at once                    too_large, at max_tries (1 for a header)
 *	  REFUSED                   yes      -                          refused
 *	  TRUNCATED                 yes      -                          truncated
 *	  TOO_LONG                  yes      -                          too_long
 *	  BAD_REQUEST               yes      -                          rejected
 *	  WRONG_KIND                yes      -                          wrong_model; the writer pauses the job
 *
 * "At once": the task is ready, and its target's limiter does the waiting, for this
 * task as for all others.  Classes that are never charged and asked again at once are
 * refusals, and may be the task's own fault: see llm_retry_refused().  A back-off starts with the second failure and is the
 * task's own: a limiter cannot know that one input always gives a 500.  It grows to
 * a minute, and after 20 attempts to ten, so that 50 attempts take some
 * hours, even where a single task is all there is to probe with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_RETRY_H
#define LLM_RETRY_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "tables/ledger.h"

/* Why a task fails although it has tries left: see llm_retry_within_share(). */
#define LLM_RETRY_SHARE_REASON "retry_share"

typedef struct LlmVerdict
{
	bool final; /* the task is over, failed */
	bool charged; /* counts as a try */
	bool outage; /* counts as an outage */
	bool requeue_now; /* back to ready: the target's limiter does the waiting */
	TimestampTz not_before; /* else when to ask again; 0 when final or at once */
	const char *reason; /* failed reason (final) or wait reason; NULL at once */
} LlmVerdict;

/*
 * tries: charged failures before this one; outages: those of the classes that back off
 * by them; jitter in [0,1).  Not to be asked about LLM_OK.
 */
extern LlmVerdict llm_retry_decide(LlmErrorClass class, int tries, int outages, int max_tries,
								   double jitter, TimestampTz now);

/*
 * What a refusal means for the task that was refused.  It is the task's own fault when it
 * was refused so often, counting only refusals that others' passes have made the task's
 * (limiter_blame.h), that rows which are refused by chance would not be: one in so many
 * tasks, at the rate at which rows are refused.  Meanwhile it waits as it was told, and
 * longer each time.
 *
 *	  class                       at least  at most  odds  first wait, then  final with reason
 *	                                                       five times as long
 *	  RATE_LIMITED, OVERLOADED    5         24       1e-6  0.1 s             rejected
 *	  AUTH, QUOTA, UNKNOWN_MODEL,
 *	  CONFIG                      3         6        1e-4  1 s               rejected
 */
typedef struct LlmRefused
{
	int refusals; /* with this one */
	int counted; /* of these, against the task */
	double share; /* of rows that are refused, between 0 and 1 */
	int64 told_ms; /* Retry-After; -1 when not told */
} LlmRefused;

extern bool llm_retry_is_refusal(LlmErrorClass class);

/* not_before is 0 unless the verdict is not final.  Only for classes that are refusals. */
extern LlmVerdict llm_retry_refused(LlmErrorClass class, const LlmRefused *refused, double jitter, TimestampTz now);

/*
 * May a job afford one more retry, of about so many tokens?  It may while retries, those
 * on their way among them, take no more than "share" of what it spends with them; and
 * its first 20 anyhow, so that a job of a few rows is not bound by a share of nothing.
 * "together" tasks failed with one request, as vectors do: that many times 20 are free, since
 * one faulty answer early in a job would use them up and end the rest of its tasks.
 */
extern bool llm_retry_within_share(const LlmRetrySums *sums, int64 tokens, int together, double share);

/* Is the share one of dollars?  Else of tokens: no price is known, or it is zero. */
extern bool llm_retry_counts_dollars(const LlmRetrySums *sums);

/*
 * Whether the tasks of a request that carried several go again in parts, since the failure may
 * be that of one.  FREE: at once, and it is charged to none.  ALSO: when they are asked again.
 *
 *	  BAD_REQUEST, TOO_LONG, REFUSED, TOO_LARGE    free
 *	  TIMEOUT, UNKNOWN                             also
 *	  TRANSIENT                                    also, from the third time in a row on
 */
typedef enum LlmSplit
{
	LLM_SPLIT_NEVER = 0,
	LLM_SPLIT_FREE,
	LLM_SPLIT_ALSO
} LlmSplit;

extern LlmSplit llm_retry_split(LlmErrorClass class, int outages);

/*
 * Value of llm.ledger.outcome for a class.  What the provider's meter may count
 * although no usage came (TOO_LARGE among it) is "unknown" or "timeout"; "error"
 * and "rate_limited" cost nothing.
 */
extern const char *llm_retry_outcome(LlmErrorClass class);

/*
 * May the provider have billed a request of this class although it told no usage?
 * True for every answer that a model gave, and where none came back.
 */
extern bool llm_retry_may_be_billed(LlmErrorClass class);

#endif /* LLM_RETRY_H */
