/*-------------------------------------------------------------------------
 *
 * air.h
 *	  Requests in flight, and those that have landed and are not stored yet.
 *
 *	  start()        once
 *	  launch()       a request leaves; the transaction that claimed it has committed
 *	  go_on()        answers that came land, and what was claimed ahead takes their places
 *	  gather()       what has landed, to be stored
 *	  next_stored()  for each of them, once that has committed
 *
 * Called by scheduler.c and its steps only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_AIR_H
#define LLM_AIR_H

#include "base/llm_enrich.h"

#include "send/flight.h"

/* So many requests at a time, as far as there are descriptors for them. */
extern void llm_air_start(void);
extern int llm_air_slots(void);

/* Without an answer where it cannot be sent: then it lands at once. */
extern void llm_air_launch(LlmRequest *request, TimestampTz now);

/* Let answers land; and, if "may_launch", what was claimed ahead leave. */
extern void llm_air_land(bool may_launch);

/* The same between two steps of a transaction: look for what has come first. */
extern void llm_air_go_on(bool may_launch);

/* How many flights have landed and are not stored. */
extern int llm_air_landed(void);

/* So many answers wait to be stored that nothing leaves before some are? */
extern bool llm_air_is_behind(void);

/* Is a request in flight? */
extern bool llm_air_is_flying(void);

/* When the answers that landed have waited long enough for company; DT_NOEND when there are none. */
extern TimestampTz llm_air_store_at(void);

/* The settlements to store now, in the order of landing: *n of them, palloc'ed. */
extern LlmSettlement **llm_air_gather(int *n);

/* The flights that gather() looks at. */
extern dlist_head *llm_air_landed_list(void);

/* The first that landed, which is stored now and the caller's to free. */
extern LlmFlight *llm_air_next_stored(void);

#endif /* LLM_AIR_H */
