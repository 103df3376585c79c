/*-------------------------------------------------------------------------
 *
 * http_slot.h
 *	  A slot carries one exchange at a time: libcurl's easy handle, set up once,
 *	  its callbacks, and what they gather.  Only http.c uses it.
 *
 *	  take()        a slot and an exchange come together
 *	  (http.c)      the transfer runs, or not
 *	  conclude()    or fail(): fills in what the caller of http.h will read
 *	  put()         they part; free_all() at last
 *
 * Nothing here raises.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HTTP_SLOT_H
#define LLM_HTTP_SLOT_H

#include "base/llm_enrich.h"

#include "http/http.h"
#include "http/http_answer.h"
#include "http/http_failure.h"
#include "http/http_origin.h"
#include "lib/ilist.h"

typedef enum LlmHttpSlotState
{
	LLM_SLOT_IDLE = 0, /* in the list of free slots, or in none */
	LLM_SLOT_WAITING, /* for its origin's name */
	LLM_SLOT_RUNNING, /* in the multi handle */
	LLM_SLOT_FINISHED,
	LLM_SLOT_HANDED_OUT /* finished, and the caller has been told; in no list */
} LlmHttpSlotState;

typedef struct LlmHttpSlot
{
	dlist_node node; /* in the list that the state says */
	dlist_node all_node;
	LlmHttpSlotState state;
	void *easy; /* CURL */
	LlmHttpExchange *exchange; /* NULL when free */
	LlmHttpOrigin *origin;

	/* what the easy handle is set to */
	char *url;
	char *method;
	void *headers; /* struct curl_slist, with a copy of the key */
	int timeout_ms;
	int connect_timeout_ms;
	LlmHttpNetwork network; /* copies */

	long sent_before; /* bytes that had left when the request began: to a proxy */

	bool requested; /* libcurl has begun to write the request, once */
	bool no_descriptor; /* a socket was refused for lack of descriptors */
	LlmHttpAnswer answer;
	char *detail; /* libcurl's words */
	char failure[LLM_HTTP_FAILURE_BYTES];
} LlmHttpSlot;

/* A slot set up for this exchange, in no list; NULL when memory is short. */
extern LlmHttpSlot *llm_http_slot_take(LlmHttpExchange *exchange);

/* The exchange is over, and its caller has read it. */
extern void llm_http_slot_put(LlmHttpSlot *slot);

/* The slot of the easy handle (CURL) of a transfer. */
extern LlmHttpSlot *llm_http_slot_of(void *easy);

/* The transfer is through: code is libcurl's CURLcode. */
extern void llm_http_slot_conclude(LlmHttpSlot *slot, int code);

/* The exchange is over without libcurl having said so. */
extern void llm_http_slot_fail(LlmHttpSlot *slot, LlmHttpOutcome outcome, const char *failure);

/* Has any byte of the request been written? */
extern bool llm_http_slot_has_sent(const LlmHttpSlot *slot);

/* libcurl has returned: undo what was done to keep signals from its new threads. */
extern void llm_http_slot_restore_signals(void);

#endif /* LLM_HTTP_SLOT_H */
