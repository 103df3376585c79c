/*-------------------------------------------------------------------------
 *
 * limiter_bucket.h
 *	  Requests and tokens per minute: told by options, told by answers, or learned.
 *
 * For limiter.c alone, which holds the limiter's lock and says when:
 *
 *	  tell()            at each grant, before the others
 *	  fit()             at a grant, for requests and then for tokens
 *	  debit()           when something leaves, or comes back
 *	  uncount()         at a 429
 *	  learn()           when an answer told limits
 *	  keep_for_probe()  at a 429 that starts a cool-down, after its pace was noted
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LIMITER_BUCKET_H
#define LLM_LIMITER_BUCKET_H

#include "limiter/limiter.h"

typedef enum LlmBucketKind
{
	LLM_BUCKETS_OF_REQUESTS,
	LLM_BUCKETS_OF_TOKENS
} LlmBucketKind;

/* Was it told so recently that it still applies? */
extern bool llm_bucket_told_lately(TimestampTz told_at, TimestampTz now);

/* A route with these rates in its options is about to ask. */
extern void llm_bucket_tell(LlmLimiter *limiter, const LlmLimits *limits, TimestampTz now);

/*
 * How many of "want" units of size "each" may leave for a route with these limits.  When
 * fewer, *wake_at is when the next may.  A unit larger than a bucket needs a full one.
 */
extern int llm_bucket_fit(LlmLimiter *limiter, const LlmLimits *limits, LlmBucketKind kind,
						  int want, double each, TimestampTz now, TimestampTz *wake_at);

/* Takes an amount out of the buckets of a route with these limits; a negative amount puts it back. */
extern void llm_bucket_debit(LlmLimiter *limiter, const LlmLimits *limits, LlmBucketKind kind,
							 double amount, TimestampTz now);

/* A request was refused: buckets that follow the provider's own count get it back. */
extern void llm_bucket_uncount(LlmLimiter *limiter, LlmBucketKind kind, double amount, TimestampTz now);

extern void llm_bucket_learn(LlmLimiter *limiter, LlmBucketKind kind, const LlmToldLimit *told, TimestampTz now);

/* Makes sure that the pace allows the probe when the cool-down that begins now ends. */
extern void llm_bucket_keep_for_probe(LlmLimiter *limiter, TimestampTz now);

#endif /* LLM_LIMITER_BUCKET_H */
