/*-------------------------------------------------------------------------
 *
 * http.c
 *	  Many requests at a time: drives libcurl's transfers, and knows which
 *	  exchange is waiting, running or finished.
 *
 * One multi handle drives all transfers of the process.  What libcurl is told of
 * one exchange is in http_slot.c; only these two files know it.
 * Descriptors and the wait are in http_poll.c; http_origin.c sees to it that a
 * burst of requests does not become a burst of name lookups.
 *
 * A request leaves in submit(), as far as it gets without waiting.  Callbacks never
 * end a transfer: those that are through are gathered when libcurl has returned.
 * When libcurl itself fails, nothing is known of any transfer any more; all of them
 * end, and a new multi handle is made.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>

#include "lib/ilist.h"

#include "base/clock.h"
#include "http/http.h"
#include "http/http_origin.h"
#include "http/http_poll.h"
#include "http/http_slot.h"

/* All of it lives from start() to stop(); changed by this process only. */
static CURLM *multi = NULL;
static int max_exchanges = 0;
static int nexchanges = 0; /* submitted, not released */
static int64 deadline_us = -1; /* libcurl wants to be called then (monotonic); -1: not */
static bool broken = false; /* the multi handle is not to be trusted any more */
static dlist_head running = DLIST_STATIC_INIT(running);
static dlist_head finished = DLIST_STATIC_INIT(finished);

/* Called by libcurl: what it waits for on a descriptor.  Does not raise. */
static int
on_watch(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data)
{
	int events = 0;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= LLM_HTTP_POLL_IN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= LLM_HTTP_POLL_OUT;
	if (!llm_http_poll_watch(fd, events))
		broken = true;
	return 0;
}

/* Called by libcurl: when it wants to be called.  Does not raise. */
static int
on_timer(CURLM *handle, long timeout_ms, void *userdata)
{
	if (timeout_ms < 0)
		deadline_us = -1;
	else if (timeout_ms == 0)
		deadline_us = 0;
	else
		deadline_us = llm_clock_monotonic_us() + timeout_ms * INT64CONST(1000);
	return 0;
}

static void
make_multi(void)
{
	multi = curl_multi_init();
	deadline_us = -1;
	broken = false;
	if (multi == NULL ||
		curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_watch) != CURLM_OK ||
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
		curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) max_exchanges) != CURLM_OK ||
		curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) max_exchanges) != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not start sending requests: out of memory")));
}

void
llm_http_start(int max)
{
	Assert(multi == NULL);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not start sending requests: libcurl could not be initialized")));
	max_exchanges = max;
	llm_http_poll_start();
	make_multi();
}

/* Take a slot out of whatever list and handle it is in. */
static void
detach_slot(LlmHttpSlot *slot)
{
	if (slot->state == LLM_SLOT_RUNNING)
		(void) curl_multi_remove_handle(multi, slot->easy);
	if (slot->state == LLM_SLOT_WAITING)
		llm_http_origin_stop_waiting(&slot->node);
	else if (slot->state == LLM_SLOT_RUNNING || slot->state == LLM_SLOT_FINISHED)
		dlist_delete(&slot->node);
	slot->state = LLM_SLOT_IDLE;
	llm_http_origin_resolved(slot->origin, slot);
}

/* Hold a slot, now in no list, for next_finished(). */
static void
finish_slot(LlmHttpSlot *slot)
{
	slot->state = LLM_SLOT_FINISHED;
	dlist_push_tail(&finished, &slot->node);
}

/*
 * The name could not be resolved for this one, so it cannot for those that waited
 * for it: they would try one after the other, each for as long as this one did.
 */
static void
share_failure(const LlmHttpSlot *failed)
{
	dlist_node *node;

	while ((node = llm_http_origin_pop(failed->origin)) != NULL)
	{
		LlmHttpSlot *slot = dlist_container(LlmHttpSlot, node, node);

		llm_http_slot_fail(slot, failed->exchange->outcome, failed->failure);
		finish_slot(slot);
	}
}

/* libcurl is through with a transfer. */
static void
complete_slot(LlmHttpSlot *slot, CURLcode code)
{
	bool unresolved = llm_http_origin_is_resolving(slot->origin, slot);

	llm_http_slot_conclude(slot, code);
	detach_slot(slot);
	finish_slot(slot);
	if (unresolved && (slot->exchange->outcome == LLM_HTTP_NOT_SENT || slot->exchange->outcome == LLM_HTTP_LOCAL))
		share_failure(slot);
}

/*
 * libcurl failed, or a descriptor cannot be watched: nothing that is running can be
 * believed to go on.  What has been sent at all is dropped, the rest never left; all
 * connections close.  Raises when memory is short.
 */
static void
rebuild(void)
{
	while (!dlist_is_empty(&running))
	{
		LlmHttpSlot *slot = dlist_container(LlmHttpSlot, node, dlist_head_node(&running));

		llm_http_slot_fail(slot, llm_http_slot_has_sent(slot) ? LLM_HTTP_DROPPED : LLM_HTTP_LOCAL,
						   "broken off, since connections could not be watched any more");
		detach_slot(slot);
		finish_slot(slot);
	}
	(void) curl_multi_cleanup(multi);
	make_multi();
}

/* Let libcurl work for a descriptor, or on its timers. */
static void
drive(curl_socket_t fd, int events)
{
	int nrunning;

	if (curl_multi_socket_action(multi, fd, events, &nrunning) != CURLM_OK)
		broken = true;
	llm_http_slot_restore_signals();
}

/*
 * libcurl's time has come.  It tells of changes only, and does not take back a time that
 * is over, so it is asked for the next one.
 */
static void
fire_timer(void)
{
	long next_ms = -1;

	drive(CURL_SOCKET_TIMEOUT, 0);
	if (curl_multi_timeout(multi, &next_ms) != CURLM_OK)
		broken = true;
	on_timer(multi, next_ms, NULL);
}

/* Gather the transfers that are through. */
static void
collect(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		if (message->msg == CURLMSG_DONE)
			complete_slot(llm_http_slot_of(message->easy_handle), message->data.result);
	}
	if (broken)
		rebuild();
}

/*
 * Let a transfer go as far as it gets without waiting.  When it comes no farther
 * than the resolver, the others of its origin will have to wait.
 */
static void
start_slot(LlmHttpSlot *slot)
{
	if (curl_multi_add_handle(multi, slot->easy) != CURLM_OK)
	{
		llm_http_slot_fail(slot, LLM_HTTP_LOCAL, "out of memory");
		finish_slot(slot);
		return;
	}
	slot->state = LLM_SLOT_RUNNING;
	dlist_push_tail(&running, &slot->node);
	llm_http_origin_start(slot->origin, slot);
	drive(CURL_SOCKET_TIMEOUT, 0);
	collect();
}

/* Start those whose name has been resolved meanwhile. */
static void
start_waiting(void)
{
	dlist_node *node;

	while ((node = llm_http_origin_next_waiting()) != NULL)
		start_slot(dlist_container(LlmHttpSlot, node, node));
}

/* Say no.  Always false. */
static bool
refuse(LlmHttpExchange *exchange, const char *failure)
{
	exchange->outcome = LLM_HTTP_LOCAL;
	exchange->failure = failure;
	return false;
}

/* Would a line end early, and what follows pass for a header of ours? */
static bool
has_line_break(const char *const *headers)
{
	for (; headers != NULL && *headers != NULL; headers++)
	{
		if (strpbrk(*headers, "\r\n") != NULL)
			return true;
	}
	return false;
}

bool
llm_http_submit(LlmHttpExchange *exchange)
{
	LlmHttpSlot *slot;

	llm_http_answer_clear(exchange);
	exchange->handle = NULL;
	if (nexchanges >= max_exchanges)
		return refuse(exchange, "all connections are in use");
	if (!llm_http_poll_can_open(nexchanges))
		return refuse(exchange, "too many open files on the server");
	slot = llm_http_slot_take(exchange);
	if (slot == NULL)
		return refuse(exchange, "out of memory");
	nexchanges++;
	if (has_line_break(exchange->headers))
	{
		llm_http_slot_fail(slot, LLM_HTTP_NOT_SENT, "a header, or the key in it, has a line break in it");
		finish_slot(slot);
	}
	else if (llm_http_origin_must_wait(slot->origin))
	{
		slot->state = LLM_SLOT_WAITING;
		llm_http_origin_wait(slot->origin, &slot->node);
	}
	else
		start_slot(slot);
	return true;
}

/* The caller's timeout, cut to libcurl's next timer and to 0 when something has finished. */
static long
sleep_ms(long timeout_ms)
{
	int64 left_us;
	long left_ms;

	if (!dlist_is_empty(&finished))
		return 0;
	if (deadline_us < 0)
		return timeout_ms;
	left_us = deadline_us - llm_clock_monotonic_us();
	left_ms = (left_us <= 0) ? 0 : (long) Min((left_us + 999) / 1000, PG_INT32_MAX);
	return (timeout_ms < 0) ? left_ms : Min(timeout_ms, left_ms);
}

/* Let libcurl work for what is ready, and gather what is through. */
static void
serve(const LlmHttpReady *ready, int n)
{
	for (int i = 0; i < n && !broken; i++)
	{
		int events = 0;

		if (ready[i].events & LLM_HTTP_POLL_IN)
			events |= CURL_CSELECT_IN;
		if (ready[i].events & LLM_HTTP_POLL_OUT)
			events |= CURL_CSELECT_OUT;
		if (ready[i].events & LLM_HTTP_POLL_ERROR)
			events |= CURL_CSELECT_ERR;
		drive(ready[i].fd, events);
	}
	if (deadline_us >= 0 && !broken && llm_clock_monotonic_us() >= deadline_us)
		fire_timer();
	collect();
	start_waiting();
}

bool
llm_http_wait(long timeout_ms, uint32 wait_event_info)
{
	LlmHttpReady ready[LLM_HTTP_POLL_MOST];
	bool woken = false;
	int n;

	start_waiting();
	n = llm_http_poll_wait(sleep_ms(timeout_ms), wait_event_info, ready, &woken, &broken);
	serve(ready, n);
	return woken;
}

void
llm_http_drive(void)
{
	LlmHttpReady ready[LLM_HTTP_POLL_MOST];
	int n = llm_http_poll_look(ready, &broken);

	serve(ready, n);
}

LlmHttpExchange *
llm_http_next_finished(void)
{
	LlmHttpSlot *slot;

	if (dlist_is_empty(&finished))
		return NULL;
	slot = dlist_container(LlmHttpSlot, node, dlist_pop_head_node(&finished));
	slot->state = LLM_SLOT_HANDED_OUT;
	return slot->exchange;
}

void
llm_http_cancel(LlmHttpExchange *exchange)
{
	LlmHttpSlot *slot = exchange->handle;

	if (slot == NULL)
		return;
	detach_slot(slot);
	llm_http_slot_put(slot);
	nexchanges--;
}

void
llm_http_release(LlmHttpExchange *exchange)
{
	Assert(exchange->handle == NULL || ((LlmHttpSlot *) exchange->handle)->state >= LLM_SLOT_FINISHED);
	llm_http_cancel(exchange);
}

int
llm_http_in_flight(void)
{
	return nexchanges;
}
