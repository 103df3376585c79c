/*-------------------------------------------------------------------------
 *
 * siphash.h
 *	  SipHash-1-3 of 128 bits: a keyed hash of bytes.
 *
 * Without the key nobody can find two texts with the same hash, or make a
 * hash table degenerate, at a tenth of what SHA-256 costs.
 *
 * Pure; needs no server.  Called by defer_same.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SIPHASH_H
#define LLM_SIPHASH_H

#include "base/llm_enrich.h"

typedef struct LlmSipKey
{
	uint64 first;
	uint64 second;
} LlmSipKey;

typedef struct LlmSipHash
{
	uint64 low;
	uint64 high;
} LlmSipHash;

/* Allocates nothing, raises nothing. */
extern LlmSipHash llm_siphash(const LlmSipKey *key, const void *data, Size len);

#endif /* LLM_SIPHASH_H */
