/*-------------------------------------------------------------------------
 *
 * timers.c
 *	  A heap of timers.
 *
 * For answers that wait, pauses and played hangs; thousands may run at once.
 * Each timer is part of its connection, so that nothing is allocated here but
 * the heap itself.  Called by server.c only.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdlib.h>

/* The heap's element 0 is not used, so that 0 can mean "no timer". */
static Timer **heap = NULL;
static size_t heap_len = 0;
static size_t heap_room = 0;

static void
heap_put(size_t at, Timer *timer)
{
	heap[at] = timer;
	timer->at = at;
}

static void
heap_rise(size_t at)
{
	Timer *timer = heap[at];

	for (; at > 1 && timer->due < heap[at / 2]->due; at /= 2)
		heap_put(at, heap[at / 2]);
	heap_put(at, timer);
}

static void
heap_sink(size_t at)
{
	Timer *timer = heap[at];

	for (;;)
	{
		size_t child = at * 2;

		if (child > heap_len)
			break;
		if (child < heap_len && heap[child + 1]->due < heap[child]->due)
			child++;
		if (timer->due <= heap[child]->due)
			break;
		heap_put(at, heap[child]);
		at = child;
	}
	heap_put(at, timer);
}

/*
 * Start a timer that does not run.
 */
void
timer_set(Timer *timer, double due)
{
	timer->due = due;
	if (heap_len + 2 > heap_room)
	{
		heap_room = heap_room > 0 ? heap_room * 2 : 1024;
		heap = need(realloc(heap, heap_room * sizeof(Timer *)));
	}
	heap_put(++heap_len, timer);
	heap_rise(heap_len);
}

/*
 * Stop a timer, if it runs.
 */
void
timer_clear(Timer *timer)
{
	size_t at = timer->at;

	if (at == 0)
		return;
	timer->at = 0;
	if (at != heap_len)
	{
		heap_put(at, heap[heap_len]);
		heap_len--;
		heap_rise(at);
		heap_sink(heap[at]->at);
	}
	else
		heap_len--;
}

/*
 * The timer that is due first; NULL if none runs.
 */
Timer *
timer_first(void)
{
	return heap_len > 0 ? heap[1] : NULL;
}

void
timers_free(void)
{
	free(heap);
}
