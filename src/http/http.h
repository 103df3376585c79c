/*-------------------------------------------------------------------------
 *
 * http.h
 *	  Many HTTP requests at a time, and one wait for everything.
 *
 *	  start()                once per process
 *	  submit()               any number, up to the limit given to start()
 *	  wait()                 latch, sockets, timers, postmaster death
 *	  drive()                between two waits that are far apart: sockets and timers
 *	  next_finished()        until NULL
 *	  release() / cancel()   exactly one of them for each submitted exchange
 *	  stop()                 at last, with nothing submitted any more
 *
 * A request is never sent twice for one submit(): where a connection dies after part
 * of a request was written, the exchange is LOST.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HTTP_H
#define LLM_HTTP_H

#include "base/llm_enrich.h"

#include "http/http_headers.h"

/*
 * Why there is no (whole) answer; LLM_HTTP_DONE when there is one, whatever its
 * status.  "Sent" means that a byte of the request was written: before that no provider
 * can have done, or billed, anything.
 */
typedef enum LlmHttpOutcome
{
	LLM_HTTP_DONE = 0,
	LLM_HTTP_NOT_SENT, /* bad URL, connection, TLS, or too slow at these */
	LLM_HTTP_LOST, /* sent at least in part, no whole answer */
	LLM_HTTP_TIMEOUT, /* sent, no whole answer within timeout_ms */
	LLM_HTTP_TOO_LARGE, /* the answer exceeds answer_limit */
	LLM_HTTP_LOCAL, /* descriptors, memory or names are short here; not sent */
	LLM_HTTP_DROPPED /* sent at least in part; memory is short here for the answer */
} LlmHttpOutcome;

/* What is known of why there is no answer; each has a remedy of its own. */
typedef enum LlmHttpCause
{
	LLM_HTTP_CAUSE_NONE = 0,
	LLM_HTTP_CAUSE_CA, /* the other side's certificate is not trusted here */
	LLM_HTTP_CAUSE_CLIENT_CERT, /* the other side wants one of ours, or another one */
	LLM_HTTP_CAUSE_FILE, /* a file of the network's cannot be read, or is not what it should be */
	LLM_HTTP_CAUSE_PROXY_PASSWORD, /* the proxy wants one, or another one */
	LLM_HTTP_CAUSE_PROXY, /* it cannot be reached, or does not let us through */
	LLM_HTTP_CAUSE_HEAD, /* TOO_LARGE: a header is, and nothing behind it was read; the status is known */
	LLM_HTTP_CAUSE_HEAD_OR_MEMORY /* the same, or libcurl had no memory: before 8.6 it does not say which */
} LlmHttpCause;

/* By which way a host is reached.  NULL: as without. */
typedef struct LlmHttpNetwork
{
	const char *ca_file; /* instead of the system's authorities */
	const char *client_cert_file;
	const char *client_key_file;
	const char *proxy; /* without user and password */
	const char *proxy_user;
	const char *proxy_password;
} LlmHttpNetwork;

typedef struct LlmHttpExchange
{
	/* set by the caller; all pointers stay valid until release() or cancel() */
	const char *method; /* "POST", "GET", … */
	const char *url;
	const char *const *headers; /* whole lines, the last followed by NULL; only the caller wipes it */
	const char *secret; /* the key in one of them, blacked out where it comes back; or NULL */
	const LlmHttpNetwork *network; /* NULL: straight, with the system's authorities */
	const char *body; /* NULL: none */
	size_t body_len;
	int timeout_ms;
	int connect_timeout_ms;
	size_t answer_limit;
	void *owner;

	/* filled in when finished; owned by the exchange, gone with release() */
	LlmHttpOutcome outcome;
	LlmHttpCause cause;
	const char *failure; /* one short sentence, NULL when DONE */
	int status; /* 0 when no answer began */
	char *answer; /* NUL-terminated for convenience, may hold NULs before; NULL unless DONE */
	size_t answer_len;
	const LlmHttpHeaders *answer_headers; /* NULL: no answer began */
	int latency_ms; /* from the start of the transfer */

	void *handle; /* http.c's own; NULL when not submitted */
} LlmHttpExchange;

/* Is the way the same? */
extern bool llm_http_is_same_network(const LlmHttpNetwork *a, const LlmHttpNetwork *b);

/* Raises when descriptors or memory are short.  Not in the postmaster: no fork may follow. */
extern void llm_http_start(int max_exchanges);

/*
 * Send a request.  False when none may leave now, with outcome LLM_HTTP_LOCAL and
 * failure set: as many as start() allowed are not yet released, or the process has
 * no descriptor or memory for one more.  Nothing is to be released then.
 */
extern bool llm_http_submit(LlmHttpExchange *exchange);

/*
 * Wait until an exchange has finished, the latch is set, timeout_ms (-1: no limit)
 * have passed, or for no reason.  True when the latch was set; it is reset then, so
 * look for work and interrupts after this.  Ends the process when the postmaster is
 * gone.
 */
extern bool llm_http_wait(long timeout_ms, uint32 wait_event_info);

/* Go on with what is ready, without a wait and without a look at the latch. */
extern void llm_http_drive(void);

/* An exchange that has finished, in the order of finishing; NULL: none. */
extern LlmHttpExchange *llm_http_next_finished(void);

/* Give back a finished exchange's resources. */
extern void llm_http_release(LlmHttpExchange *exchange);

/* Break off an exchange, finished or not, at once, and give its resources back. */
extern void llm_http_cancel(LlmHttpExchange *exchange);

/* Submitted and neither released nor cancelled. */
extern int llm_http_in_flight(void);

#endif /* LLM_HTTP_H */
