/*-------------------------------------------------------------------------
 *
 * json_sort.c
 *	  Sorting of lists that somebody else has written.
 *
 * The server's qsort() takes its pivots from certain places of the list, so that its
 * writer can choose an order for which it takes n² comparisons (McIlroy, A Killer
 * Adversary for Quicksort, Software: Practice and Experience 29, 1999).  After a
 * shuffle no order is bad.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "base/json.h"

/* Fewer elements are sorted as they come. */
#define SHUFFLE_FROM 64

void
llm_json_sort(void *base, int n, size_t size, int (*compare)(const void *, const void *))
{
	char *elements = base;
	char held[sizeof(JsonbPair)];

	Assert(size <= sizeof(held));
	for (int i = n > SHUFFLE_FROM ? n - 1 : 0; i > 0; i--)
	{
		char *one = elements + i * size;
		char *other = elements + pg_prng_uint64_range(&pg_global_prng_state, 0, i) * size;

		memcpy(held, one, size);
		memmove(one, other, size);
		memcpy(other, held, size);
	}
	qsort(base, n, size, compare);
}
