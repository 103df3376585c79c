/*-------------------------------------------------------------------------
 *
 * http_poll.h
 *	  The descriptors that transfers wait for, and one wait for them, the latch
 *	  and the postmaster.  Only http.c uses it.
 *
 *	  start()                once
 *	  open() / close()       a socket, counted among the server's descriptors
 *	  watch()                what is waited for on a descriptor
 *	  wait(), look()         from the top of the loop, never from a callback
 *	  stop()                 after the last descriptor was closed
 *
 * All but start(), wait() and look() are called from within libcurl: they neither raise
 * nor allocate from a memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HTTP_POLL_H
#define LLM_HTTP_POLL_H

#include "base/llm_enrich.h"

#define LLM_HTTP_POLL_IN 1
#define LLM_HTTP_POLL_OUT 2
#define LLM_HTTP_POLL_ERROR 4

/* Descriptors told of in one turn. */
#define LLM_HTTP_POLL_MOST 128

/* A descriptor that has something to say. */
typedef struct LlmHttpReady
{
	int fd;
	int events; /* LLM_HTTP_POLL_* */
} LlmHttpReady;

/* Raises when descriptors or memory are short. */
extern void llm_http_poll_start(void);
/* A socket, or -1; *no_descriptor is set when there are too many open files. */
extern int llm_http_poll_open(int family, int type, int protocol, bool *no_descriptor);
extern int llm_http_poll_close(int fd);

/* Is a socket there, or could one be opened, beside those that so many exchanges use? */
extern bool llm_http_poll_can_open(int in_use);

/* events: IN, OUT, both, or 0 for no more.  False when that could not be arranged. */
extern bool llm_http_poll_watch(int fd, int events);

/*
 * Wait until a descriptor is ready, the latch is set or timeout_ms (-1: none) have
 * passed; fills at most LLM_HTTP_POLL_MOST entries and returns their number.  *woken
 * is set when the latch was, which is reset; *broken when a descriptor cannot be
 * watched as asked for.  Ends the process when the postmaster is gone.
 */
extern int llm_http_poll_wait(long timeout_ms, uint32 wait_event_info,
							  LlmHttpReady *ready, bool *woken, bool *broken);

/* The same without a wait, and without a look at the latch. */
extern int llm_http_poll_look(LlmHttpReady *ready, bool *broken);

#endif /* LLM_HTTP_POLL_H */
