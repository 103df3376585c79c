/*-------------------------------------------------------------------------
 *
 * meter.c
 *	  What was received, answered and billed, per lane.
 *
 * The meter is the other side of the books: the ledger of the extension must
 * agree with it to the token.  A request is received (counted, whatever comes
 * of it), settled exactly once with an outcome, and leaves.  Tokens are billed
 * when an answer that tells its usage was handed to the socket completely;
 * when the request was worked on but the client could not learn the usage,
 * they are "unseen".  Marks are the [[mark:...]] texts of tests: they prove
 * which rows were sent, and how often.
 *
 * The log holds the last requests one by one, with the id that the client was
 * told and the tokens, so that both books can be compared line by line.
 *
 *	  meter_keep()		at most once, before anything else
 *	  meter_receive()	then, for each request, in this order
 *	  meter_settle()
 *	  meter_leave()
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const outcome_names[OUT_COUNT] = {
	[OUT_OK] = "ok",
	[OUT_RATE_LIMITED] = "rate_limited",
	[OUT_SERVER_ERROR] = "server_error",
	[OUT_CUT] = "cut",
	[OUT_HUNG] = "hung",
	[OUT_MALFORMED] = "malformed",
	[OUT_MALFORMED_CONTENT] = "malformed_content",
	[OUT_WRONG_LABEL] = "wrong_label",
	[OUT_TRUNCATED] = "truncated",
	[OUT_REFUSED] = "refused",
	[OUT_CONTENT_FILTER] = "content_filter",
	[OUT_EMPTY] = "empty_content",
	[OUT_OVERSIZED] = "oversized",
	[OUT_UNAUTHORIZED] = "unauthorized",
	[OUT_BAD_REQUEST] = "bad_request",
	[OUT_NOT_FOUND] = "not_found",
	[OUT_REDIRECTED] = "redirected",
	[OUT_SCRIPTED] = "scripted",
	[OUT_DIED_ON_REUSE] = "died_on_reuse",
	[OUT_CLIENT_GONE] = "client_gone",
};

typedef struct LogEntry
{
	uint64_t number; /* 0: free */
	double at;
	const Lane *lane;
	int status; /* 0: none was sent */
	int outcome; /* -1: still in flight */
	char mark[MAX_NAME + 1];
	char model[MAX_NAME + 1];
	uint64_t key_print;
	size_t bytes;
	Usage usage;
	bool told; /* the client could read the usage */
} LogEntry;

static LogEntry *request_log = NULL;
static size_t log_entries = LOG_ENTRIES; /* a ring of so many */
static uint64_t last_entry = 0;
static Lane *lanes[MAX_LANES];
static size_t lanes_used = 0;

/* ---- lanes ---- */

/*
 * Find a lane by name; NULL if it does not exist and is not to be made, or if
 * there are too many.
 */
Lane *
lane_find(Span name, bool create)
{
	Lane *lane;

	for (size_t i = 0; i < lanes_used; i++)
	{
		if (span_is(name, lanes[i]->name))
			return lanes[i];
	}
	if (!create || lanes_used == MAX_LANES || name.len == 0 || name.len > MAX_NAME)
		return NULL;
	lane = need(calloc(1, sizeof(Lane)));
	memcpy(lane->name, name.at, name.len);
	script_init(&lane->script);
	lanes[lanes_used++] = lane;
	return lane;
}

size_t
lane_count(void)
{
	return lanes_used;
}

Lane *
lane_at(size_t number)
{
	return lanes[number];
}

static void
marks_free(MarkTable *marks)
{
	for (size_t i = 0; i < marks->size; i++)
		free(marks->slots[i].mark);
	free(marks->slots);
	*marks = (MarkTable){0};
}

/*
 * Forget script, counts and log of a lane.  Requests in flight stay in flight,
 * but how they end is not counted any more.
 */
void
lane_reset(Lane *lane)
{
	uint64_t in_flight = lane->meter.in_flight;

	script_free(&lane->script);
	marks_free(&lane->meter.marks);
	buf_free(&lane->meter.last_body);
	memset(&lane->meter, 0, sizeof(lane->meter));
	lane->meter.in_flight = in_flight;
	lane->meter.max_in_flight = in_flight;
	lane->requests = lane->tokens = (Bucket){0};
	lane->reset_at = last_entry;
	for (size_t i = 0; request_log != NULL && i < log_entries; i++)
	{
		if (request_log[i].lane == lane)
			request_log[i].number = 0;
	}
}

void
lanes_free(void)
{
	for (size_t i = 0; i < lanes_used; i++)
	{
		lane_reset(lanes[i]);
		free(lanes[i]);
	}
	free(request_log);
}

/* ---- marks ---- */

static void
marks_grow(MarkTable *marks)
{
	MarkTable bigger = {.size = marks->size > 0 ? marks->size * 2 : 256,
						.used = marks->used,
						.total = marks->total};

	bigger.slots = need(calloc(bigger.size, sizeof(*bigger.slots)));
	for (size_t i = 0; i < marks->size; i++)
	{
		size_t at = marks->slots[i].hash & (bigger.size - 1);

		if (marks->slots[i].mark == NULL)
			continue;
		while (bigger.slots[at].mark != NULL)
			at = (at + 1) & (bigger.size - 1);
		memcpy(&bigger.slots[at], &marks->slots[i], sizeof(*bigger.slots));
	}
	free(marks->slots);
	*marks = bigger;
}

static void
marks_count(MarkTable *marks, Span mark)
{
	uint64_t hash = hash_bytes(mark.at, mark.len, 3);
	size_t at;

	if (marks->used * 2 >= marks->size)
		marks_grow(marks);
	at = hash & (marks->size - 1);
	while (marks->slots[at].mark != NULL &&
		   !(marks->slots[at].hash == hash && span_is(mark, marks->slots[at].mark)))
		at = (at + 1) & (marks->size - 1);
	if (marks->slots[at].mark == NULL)
	{
		marks->slots[at].mark = need(strndup(mark.at, mark.len));
		marks->slots[at].hash = hash;
		marks->used++;
	}
	marks->slots[at].count++;
	marks->total++;
}

/* ---- counting ---- */

static void
copy_name(char *to, Span from)
{
	size_t len = utf8_cut(from.at, from.len, MAX_NAME);

	if (len > 0)
		memcpy(to, from.at, len);
	to[len] = '\0';
}

/*
 * Keep so many requests in the log.
 */
void
meter_keep(size_t entries)
{
	log_entries = entries;
}

static uint64_t
log_request(const Lane *lane, const Received *received, double now)
{
	LogEntry *entry;

	if (request_log == NULL)
		request_log = need(calloc(log_entries, sizeof(LogEntry)));
	entry = &request_log[++last_entry % log_entries];
	entry->number = last_entry;
	entry->at = now;
	entry->lane = lane;
	entry->status = 0;
	entry->outcome = -1;
	entry->key_print = received->key_print;
	entry->bytes = received->body.len;
	entry->usage = (Usage){0};
	entry->told = false;
	copy_name(entry->mark, received->mark);
	copy_name(entry->model, received->model);
	return last_entry;
}

/*
 * Count a request that has come whole.  Returns its number in the log.
 */
uint64_t
meter_receive(Lane *lane, const Received *received)
{
	Meter *meter = &lane->meter;
	double now = clock_epoch_ms();
	int64_t second = (int64_t) (now / 1000);

	if (meter->requests++ == 0)
		meter->first_request_at = now;
	meter->last_request_at = now;
	if (second != meter->this_second)
	{
		meter->this_second = second;
		meter->this_second_requests = 0;
	}
	if (++meter->this_second_requests > meter->peak_per_second)
		meter->peak_per_second = meter->this_second_requests;
	if (++meter->in_flight > meter->max_in_flight)
		meter->max_in_flight = meter->in_flight;
	if (received->mark.len > 0)
		marks_count(&meter->marks, received->mark);
	meter->last_body.len = 0;
	buf_add(&meter->last_body, received->body.at, received->body.len);
	return log_request(lane, received, now);
}

/*
 * A request has this mark, too.
 */
void
meter_mark(Lane *lane, Span mark)
{
	marks_count(&lane->meter.marks, mark);
}

static void
add_usage(Usage *sum, const Usage *usage)
{
	sum->prompt += usage->prompt;
	sum->cached += usage->cached;
	sum->cache_write += usage->cache_write;
	sum->completion += usage->completion;
	sum->reasoning += usage->reasoning;
}

/*
 * Book the end of a request.  "told" means that the client could read the usage.
 */
void
meter_settle(Lane *lane, uint64_t entry, int status, Outcome outcome, const Usage *usage, bool told)
{
	Meter *meter = &lane->meter;
	LogEntry *logged = &request_log[entry % log_entries];

	if (entry <= lane->reset_at)
		return;
	meter->outcomes[outcome]++;
	if (usage->prompt > 0 && told)
	{
		add_usage(&meter->billed, usage);
		meter->billed_requests++;
	}
	else if (usage->prompt > 0)
	{
		add_usage(&meter->unseen, usage);
		meter->unseen_requests++;
	}
	if (logged->number == entry)
	{
		logged->status = status;
		logged->outcome = (int) outcome;
		logged->usage = *usage;
		logged->told = told;
	}
}

void
meter_leave(Lane *lane)
{
	lane->meter.in_flight--;
}

/* ---- showing ---- */

static void
show_usage(Buf *out, const char *name, const Usage *usage, uint64_t requests)
{
	buf_print(
		out,
		"\"%s\":{\"requests\":%llu,\"prompt_tokens\":%llu,\"cached_tokens\":%llu,"
		"\"cache_write_tokens\":%llu,"
		"\"completion_tokens\":%llu,\"reasoning_tokens\":%llu}",
		name, (unsigned long long) requests, (unsigned long long) usage->prompt,
		(unsigned long long) usage->cached, (unsigned long long) usage->cache_write,
		(unsigned long long) usage->completion, (unsigned long long) usage->reasoning);
}

void
meter_show(Buf *out, const Lane *lane)
{
	const Meter *meter = &lane->meter;

	buf_print(out, "{\"lane\":\"%s\",\"requests\":%llu,\"connections\":%llu,\"outcomes\":{",
			  lane->name, (unsigned long long) meter->requests,
			  (unsigned long long) meter->connections);
	for (int i = 0; i < OUT_COUNT; i++)
		buf_print(out, "%s\"%s\":%llu", i > 0 ? "," : "", outcome_names[i],
				  (unsigned long long) meter->outcomes[i]);
	buf_text(out, "},");
	show_usage(out, "billed", &meter->billed, meter->billed_requests);
	buf_char(out, ',');
	show_usage(out, "unseen", &meter->unseen, meter->unseen_requests);
	buf_print(
		out,
		",\"in_flight\":%llu,\"max_in_flight\":%llu,\"peak_requests_per_second\":%llu,"
		"\"first_request_at\":%.3f,\"last_request_at\":%.3f,"
		"\"marks\":{\"distinct\":%zu,\"total\":%llu}}\n",
		(unsigned long long) meter->in_flight, (unsigned long long) meter->max_in_flight,
		(unsigned long long) meter->peak_per_second, meter->first_request_at,
		meter->last_request_at, meter->marks.used, (unsigned long long) meter->marks.total);
}

/*
 * Marks contain no character that JSON would want escaped.
 */
void
meter_show_marks(Buf *out, const Lane *lane, uint64_t at_least)
{
	const MarkTable *marks = &lane->meter.marks;
	const char *comma = "";

	buf_char(out, '{');
	for (size_t i = 0; i < marks->size; i++)
	{
		if (marks->slots[i].mark == NULL || marks->slots[i].count < at_least)
			continue;
		buf_text(out, comma);
		buf_char(out, '"');
		buf_text(out, marks->slots[i].mark);
		buf_text(out, "\":");
		buf_uint(out, marks->slots[i].count);
		comma = ",";
	}
	buf_text(out, "}\n");
}

static void
show_entry(Buf *out, const LogEntry *entry)
{
	buf_print(out, "{\"number\":%llu,\"at\":%.3f,\"lane\":\"%s\",\"status\":",
			  (unsigned long long) entry->number, entry->at, entry->lane->name);
	if (entry->status > 0)
		buf_uint(out, (uint64_t) entry->status);
	else
		buf_text(out, "null");
	buf_print(out, ",\"outcome\":\"%s\",\"mark\":",
			  entry->outcome >= 0 ? outcome_names[entry->outcome] : "in_flight");
	if (entry->mark[0] != '\0')
		buf_print(out, "\"%s\"", entry->mark);
	else
		buf_text(out, "null");
	buf_text(out, ",\"model\":\"");
	buf_json(out, span_of(entry->model));
	buf_print(out, "\",\"key\":");
	if (entry->key_print != 0)
		buf_print(out, "\"%08x\"", (unsigned) (entry->key_print & 0xffffffffu));
	else
		buf_text(out, "null");
	buf_print(out, ",\"bytes\":%zu,\"request_id\":\"", entry->bytes);
	http_request_id(out, entry->number);
	buf_text(out, "\",");
	show_usage(out, entry->told ? "billed" : "unseen", &entry->usage, entry->usage.prompt > 0);
	buf_char(out, '}');
}

/* The number of the oldest request that the log still holds; 1 when it is empty. */
static uint64_t
first_kept(void)
{
	return last_entry >= log_entries ? last_entry - log_entries + 1 : 1;
}

/*
 * Show the last requests, oldest first; of all lanes if lane is NULL.
 */
void
meter_show_log(Buf *out, const Lane *lane, uint64_t last)
{
	uint64_t first = first_kept();
	uint64_t from = last_entry + 1;
	const char *comma = "";

	for (uint64_t found = 0; request_log != NULL && from > first && found < last; from--)
	{
		const LogEntry *entry = &request_log[(from - 1) % log_entries];

		found += entry->number == from - 1 && (lane == NULL || entry->lane == lane);
	}
	buf_char(out, '[');
	for (; request_log != NULL && from <= last_entry; from++)
	{
		const LogEntry *entry = &request_log[from % log_entries];

		if (entry->number != from || (lane != NULL && entry->lane != lane))
			continue;
		buf_text(out, comma);
		show_entry(out, entry);
		comma = ",\n";
	}
	buf_text(out, "]\n");
}

/*
 * Show up to "limit" requests with numbers above "since", oldest first and one to
 * a line, so that a long log is read page by page; of all lanes if lane is NULL.
 */
void
meter_show_requests(Buf *out, const Lane *lane, uint64_t since, uint64_t limit)
{
	uint64_t from = first_kept();

	if (since >= from)
		from = since + 1;
	for (; request_log != NULL && from <= last_entry && limit > 0; from++)
	{
		const LogEntry *entry = &request_log[from % log_entries];

		if (entry->number != from || (lane != NULL && entry->lane != lane))
			continue;
		show_entry(out, entry);
		buf_char(out, '\n');
		limit--;
	}
}

/* ---- token buckets ---- */

/*
 * Refill, and say how many seconds until the amount is there; 0: it is.  More
 * than the bucket holds is let pass when the bucket is full.
 */
double
bucket_wait(Bucket *bucket, double per_minute, double capacity, double amount)
{
	double now = clock_now();

	if (per_minute <= 0)
		return 0;
	if (bucket->filled_at == 0)
		bucket->level = capacity;
	else
		bucket->level += (now - bucket->filled_at) * per_minute / 60;
	if (bucket->level > capacity)
		bucket->level = capacity;
	bucket->filled_at = now;
	if (amount > capacity)
		amount = capacity;
	return bucket->level >= amount ? 0 : (amount - bucket->level) * 60 / per_minute;
}

void
bucket_take(Bucket *bucket, double amount)
{
	bucket->level -= amount;
}
