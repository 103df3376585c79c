/*-------------------------------------------------------------------------
 *
 * air.c
 *	  Requests in flight, and those that have landed and are not stored yet.
 *
 * What has landed stays in memory until the transaction that stores it has committed:
 * when that fails (disk full, out of memory, cancelled) it is tried again, and nothing
 * new is sent meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "http/http_descriptors.h"
#include "send/ahead.h"
#include "send/air.h"

/* Rows of one transaction, about; more than that waits for the next pass. */
#define STORE_ROWS 1000

/* Answers of one transaction together; a single larger one still goes, alone. */
#define STORE_BYTES (64 * 1024 * 1024)

/* Few answers wait so long for company: a commit costs about as much as ten of them. */
#define STORE_DELAY_MS 1
#define STORE_AT_ONCE 16

/* While requests leave without a claim, more answers wait, and longer. */
#define STORE_DELAY_AHEAD_MS 40
#define STORE_AT_ONCE_AHEAD 256

/* What bounds a database's requests, as llm.health names it. */
#define SUBJECT "llm_enrich.max_connections"

/* All static: the sender's life. */
static dlist_head flying = DLIST_STATIC_INIT(flying);
static dlist_head landed = DLIST_STATIC_INIT(landed);
static int nlanded = 0; /* flights */
static int nrequests = 0; /* of these, first ones */
static int nletters = 0; /* of these, those that a statement waits for */
static int slots;

void
llm_air_start(void)
{
	int limit;

	slots = llm_http_descriptors_room(llm_guc_max_connections, &limit);
	if (slots < llm_guc_max_connections)
	{
		char *problem = psprintf("there are descriptors for %d simultaneous requests, not for %d", slots,
								 llm_guc_max_connections);
		char *hint = psprintf("Raise the operating system's hard limit of open files for the server, now %d, or"
							  " ALTER SYSTEM SET llm_enrich.max_connections = %d; then restart the server.",
							  limit, slots);

		llm_shmem_report_lasting_problem(SUBJECT, problem, hint);
		ereport(LOG, (errmsg("\"llm_enrich.max_connections\": %s", problem), errhint("%s", hint)));
	}
	else
		llm_shmem_report_lasting_problem(SUBJECT, NULL, NULL);
	llm_http_start(slots);
}

int
llm_air_slots(void)
{
	return slots;
}

/* The request is over; what it brought to each of its flights waits to be stored. */
static void
keep_landed(LlmRequest *request, TimestampTz now)
{
	for (int i = 0; i < request->nflights; i++)
	{
		LlmFlight *flight = &request->flights[i];

		flight->landed_at = now;
		dlist_push_tail(&landed, &flight->node);
		nlanded++;
		nletters += flight->letter != NULL ? 1 : 0;
	}
	nrequests++;
	request->route->wake_at = Min(request->route->wake_at, now);
}

void
llm_air_launch(LlmRequest *request, TimestampTz now)
{
	if (request->exchange.body != NULL && llm_http_submit(&request->exchange))
	{
		dlist_push_tail(&flying, &request->node);
		return;
	}
	llm_request_land(request, now);
	keep_landed(request, now);
}

void
llm_air_land(bool may_launch)
{
	TimestampTz now = llm_clock_steady();
	LlmHttpExchange *exchange;
	LlmRequest *request;

	while ((exchange = llm_http_next_finished()) != NULL)
	{
		request = exchange->owner;
		dlist_delete(&request->node);
		if (llm_request_land(request, now) == LLM_OK)
			llm_ahead_note_answer(request->route, now);
		llm_http_release(exchange);
		keep_landed(request, now);
	}
	while (may_launch && !llm_air_is_behind() &&
		   (request = llm_ahead_next(slots, llm_http_in_flight(), now)) != NULL)
		llm_air_launch(request, now);
}

void
llm_air_go_on(bool may_launch)
{
	if (llm_ahead_is_empty())
		return;
	llm_http_drive();
	llm_air_land(may_launch);
}

int
llm_air_landed(void)
{
	return nlanded;
}

bool
llm_air_is_behind(void)
{
	return nrequests >= 2 * slots;
}

bool
llm_air_is_flying(void)
{
	return !dlist_is_empty(&flying);
}

TimestampTz
llm_air_store_at(void)
{
	bool ahead = nletters == 0 && llm_ahead_suffices();

	if (nlanded == 0)
		return DT_NOEND;
	if (nlanded >= (ahead ? STORE_AT_ONCE_AHEAD : STORE_AT_ONCE) || dlist_is_empty(&flying))
		return DT_NOBEGIN;
	return TimestampTzPlusMilliseconds(dlist_container(LlmFlight, node, dlist_head_node(&landed))->landed_at,
									   ahead ? STORE_DELAY_AHEAD_MS : STORE_DELAY_MS);
}

LlmSettlement **
llm_air_gather(int *n)
{
	LlmSettlement **settlements = palloc(sizeof(LlmSettlement *) * Max(nlanded, 1));
	Size bytes = 0;
	dlist_iter iter;

	*n = 0;
	dlist_foreach(iter, &landed)
	{
		LlmFlight *flight = dlist_container(LlmFlight, node, iter.cur);

		if (flight->settlement.answer != NULL)
			bytes += VARSIZE_ANY(flight->settlement.answer);
		/* a request is stored whole */
		if (llm_flight_is_first(flight) && (*n >= STORE_ROWS || (*n > 0 && bytes > STORE_BYTES)))
			break;
		settlements[(*n)++] = &flight->settlement;
	}
	return settlements;
}

dlist_head *
llm_air_landed_list(void)
{
	return &landed;
}

LlmFlight *
llm_air_next_stored(void)
{
	LlmFlight *flight = dlist_container(LlmFlight, node, dlist_pop_head_node(&landed));

	nlanded--;
	nrequests -= llm_flight_is_first(flight) ? 1 : 0;
	nletters -= flight->letter != NULL ? 1 : 0;
	return flight;
}
