/*-------------------------------------------------------------------------
 *
 * limiter_bucket.h
 *	  Requests and tokens per minute: what the options tell, what answers tell,
 *	  and what was found out.
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

/* Was it told so short a time ago that it must be believed to hold still? */
extern bool llm_bucket_told_lately(TimestampTz told_at, TimestampTz now);

/* Somebody asks whose options tell these rates. */
extern void llm_bucket_tell(LlmLimiter *limiter, const LlmLimits *limits, TimestampTz now);

/*
 * How many of "want" units of size "each" may leave for one with these limits; when
 * fewer, *wake_at is when the next may.  One that is larger than a bucket needs a full one.
 */
extern int llm_bucket_fit(LlmLimiter *limiter, const LlmLimits *limits, LlmBucketKind kind,
						  int want, double each, TimestampTz now, TimestampTz *wake_at);

/* So much leaves for one with these limits or, less than 0, comes back. */
extern void llm_bucket_debit(LlmLimiter *limiter, const LlmLimits *limits, LlmBucketKind kind,
							 double amount, TimestampTz now);

/* Refused, so that buckets which follow the provider's own count take it back. */
extern void llm_bucket_uncount(LlmLimiter *limiter, LlmBucketKind kind, double amount, TimestampTz now);

extern void llm_bucket_learn(LlmLimiter *limiter, LlmBucketKind kind, const LlmToldLimit *told, TimestampTz now);

/* The bucket of the pace has room for the probe when the cool-down that begins now ends. */
extern void llm_bucket_keep_for_probe(LlmLimiter *limiter, TimestampTz now);

#endif /* LLM_LIMITER_BUCKET_H */
