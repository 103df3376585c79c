/*-------------------------------------------------------------------------
 *
 * siphash.c
 *	  SipHash-1-3 of 128 bits, after Aumasson and Bernstein: one round for each
 *	  eight bytes, three at the end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bswap.h"

#include "base/siphash.h"

static inline uint64
rotate_left(uint64 word, int n)
{
	return (word << n) | (word >> (64 - n));
}

static inline void
mix(uint64 *v)
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate_left(v[1], 13) ^ v[0];
	v[3] = rotate_left(v[3], 16) ^ v[2];
	v[0] = rotate_left(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate_left(v[1], 17) ^ v[2];
	v[3] = rotate_left(v[3], 21) ^ v[0];
	v[2] = rotate_left(v[2], 32);
}

static inline void
absorb(uint64 *v, uint64 word)
{
	v[3] ^= word;
	mix(v);
	v[0] ^= word;
}

static inline uint64
finish(uint64 *v)
{
	mix(v);
	mix(v);
	mix(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Eight bytes as a little-endian number. */
static inline uint64
load_word(const unsigned char *bytes)
{
	uint64 word;

	memcpy(&word, bytes, sizeof(word));
#ifdef WORDS_BIGENDIAN
	word = pg_bswap64(word);
#endif
	return word;
}

LlmSipHash
llm_siphash(const LlmSipKey *key, const void *data, Size len)
{
	const unsigned char *next = data;
	const unsigned char *end = next + (len & ~(Size) 7);
	unsigned char tail[8] = {0};
	uint64 v[4];
	LlmSipHash hash;

	v[0] = key->first ^ UINT64CONST(0x736f6d6570736575);
	v[1] = key->second ^ UINT64CONST(0x646f72616e646f6d) ^ 0xee;
	v[2] = key->first ^ UINT64CONST(0x6c7967656e657261);
	v[3] = key->second ^ UINT64CONST(0x7465646279746573);
	for (; next < end; next += 8)
		absorb(v, load_word(next));
	memcpy(tail, end, len & 7);
	tail[7] = (unsigned char) len;
	absorb(v, load_word(tail));
	v[2] ^= 0xee;
	hash.low = finish(v);
	v[1] ^= 0xdd;
	hash.high = finish(v);
	return hash;
}
