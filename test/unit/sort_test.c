/*-------------------------------------------------------------------------
 *
 * sort_test.c
 *	  A list in the worst order for the server's qsort() is sorted as fast as any (P10).
 *
 * The order is found as McIlroy did: by a comparison that makes up its mind as late as it
 * can, here always so that the second of two is less.  That is the pivot, or the next one
 * where qsort() looks whether all is in order already.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "base/json.h"
#include "tap.h"

#define ELEMENTS 4000
#define UNDECIDED ELEMENTS

static int order[ELEMENTS]; /* value of each element of the worst list */
static int decided;
static int64 comparisons;

static int
decide_late(const void *a, const void *b)
{
	int one = *(const int *) a;
	int other = *(const int *) b;

	if (order[one] == UNDECIDED && order[other] == UNDECIDED)
		order[other] = decided++;
	return order[one] - order[other];
}

static int
compare(const void *a, const void *b)
{
	comparisons++;
	return *(const int *) a - *(const int *) b;
}

/* Comparisons that the list in "order" takes; whether it is in order then. */
static int64
count(bool shuffled, bool *sorted)
{
	int list[ELEMENTS];

	memcpy(list, order, sizeof(list));
	comparisons = 0;
	if (shuffled)
		llm_json_sort(list, ELEMENTS, sizeof(int), compare);
	else
		qsort(list, ELEMENTS, sizeof(int), compare);
	*sorted = true;
	for (int i = 1; i < ELEMENTS; i++)
		*sorted = *sorted && list[i - 1] <= list[i];
	return comparisons;
}

int
main(void)
{
	int elements[ELEMENTS];
	bool sorted;
	int64 n;

	for (int i = 0; i < ELEMENTS; i++)
	{
		elements[i] = i;
		order[i] = UNDECIDED;
	}
	qsort(elements, ELEMENTS, sizeof(int), decide_late);
	pg_prng_seed(&pg_global_prng_state, 1); /* as the server does when a process begins */

	n = count(false, &sorted);
	printf("# %lld comparisons\n", (long long) n);
	ok(n > (int64) ELEMENTS * ELEMENTS / 20, "the order is a bad one for the server's qsort()");
	n = count(true, &sorted);
	printf("# %lld comparisons\n", (long long) n);
	ok(n < (int64) ELEMENTS * 12 * 4, "P10 and none for a list that is shuffled first");
	is(sorted, true, "which is in order then");
	return finish();
}
