/*-------------------------------------------------------------------------
 *
 * ask.c
 *	  A letter to the sender and its reply: post, wait, give up.
 *
 * The wait is for a latch, and every interrupt ends it: what was asked goes on then, and
 * is booked, and its answer is kept for the next caller with the same question.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "ask/ask.h"
#include "base/clock.h"

/* A sender that has just ended has missed the call to wake up: it is repeated. */
#define WAKE_AGAIN_MS 1000

/* Time for a sender to be started, beside the caller's patience. */
#define START_MS 10000

static bool
is_late(TimestampTz since, int patience_ms)
{
	return TimestampTzPlusMilliseconds(since, (int64) patience_ms + START_MS) <= llm_clock_steady();
}

/* As soon as there is room.  Others' letters make some as they go; the operating system may never: NULL then. */
static LlmPosted *
post(const StringInfoData *bytes, int patience_ms)
{
	LlmLetterOwner owner = llm_letter_owner(bytes->data, bytes->len);
	TimestampTz since = llm_clock_steady();
	LlmPosted *posted;
	bool full;

	while ((posted = llm_mailbox_post(bytes->data, bytes->len, &owner, false, &full)) == NULL)
	{
		if (full)
			since = llm_clock_steady();
		if (is_late(since, patience_ms))
			return NULL;
		llm_mailbox_wait_for_room(100);
	}
	llm_mailbox_wake_sender();
	return posted;
}

LlmPosted *
llm_ask_post(const StringInfoData *bytes, int patience_ms)
{
	LlmPosted *posted = post(bytes, patience_ms);

	if (posted == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("there was no shared memory for the question within %d s", (patience_ms + START_MS) / 1000),
				 errhint("Ask again when less is under way, or raise llm_enrich.patience. The operating system may refuse more, too: see the size of /dev/shm.")));
	return posted;
}

/* The bytes of the reply; NULL: nobody has taken the letter for so long. */
static const char *
await(LlmPosted *posted, int patience_ms, void (*meanwhile)(void), Size *len)
{
	TimestampTz since = llm_clock_steady();
	const char *found;

	while ((found = llm_mailbox_reply(posted, len)) == NULL)
	{
		if (meanwhile != NULL)
			meanwhile();
		llm_mailbox_hurry(posted);
		/* who sleeps adds nothing to what has been posted ahead */
		if (llm_mailbox_has_drafts())
			llm_mailbox_wake_sender();
		llm_mailbox_wait(WAKE_AGAIN_MS);
		if (llm_mailbox_is_taken(posted))
			continue;
		if (is_late(since, patience_ms))
			break;
		llm_mailbox_wake_sender();
	}
	return found;
}

void
llm_ask_await(LlmPosted *posted, int patience_ms, void (*meanwhile)(void), LlmLetterReply *reply)
{
	Size len = 0;
	const char *found = await(posted, patience_ms, meanwhile, &len);

	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the sender of this database did not take the question within %d s",
						(patience_ms + START_MS) / 1000),
				 errhint("See llm.health.")));
	llm_letter_read_reply(found, len, reply);
}

void
llm_ask_tell(const StringInfoData *bytes, int patience_ms, void (*meanwhile)(void))
{
	LlmPosted *posted = post(bytes, patience_ms);
	Size len;

	if (posted == NULL)
		return;
	PG_TRY();
	{
		(void) await(posted, patience_ms, meanwhile, &len);
	}
	PG_FINALLY();
	{
		llm_mailbox_drop(posted);
	}
	PG_END_TRY();
}

LlmPosted *
llm_ask_wait(const StringInfoData *bytes, int patience_ms, void (*meanwhile)(void), LlmLetterReply *reply)
{
	LlmPosted *posted = llm_ask_post(bytes, patience_ms);

	PG_TRY();
	{
		llm_ask_await(posted, patience_ms, meanwhile, reply);
	}
	PG_CATCH();
	{
		llm_mailbox_drop(posted);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return posted;
}

char *
llm_ask_trial_text(const LlmLetterReply *reply)
{
	const LlmUsage *usage = &reply->usage;

	if (reply->booked == NULL)
		return psprintf("not sent: %s%s%s", reply->message, reply->hint != NULL ? ". " : "",
						reply->hint != NULL ? reply->hint : "");
	if (strcmp(reply->booked, "ok") != 0)
		return psprintf("%s: \"%s\" at server \"%s\": %s%s%s%s", reply->booked, reply->model, reply->server,
						reply->message != NULL ? reply->message : "no answer",
						reply->http_status == 0 ? "" : psprintf(" (HTTP status %d)", reply->http_status),
						reply->hint != NULL ? "\n" : "", reply->hint != NULL ? reply->hint : "");
	return psprintf("ok: \"%s\" at server \"%s\" answered in %d ms; " INT64_FORMAT " input and " INT64_FORMAT
					" output tokens; %s%s",
					reply->model, reply->server, reply->latency_ms,
					usage->input + usage->cached + usage->cache_write, usage->output,
					reply->cost != NULL ? "US dollars: " : "price not known, see llm.set_price()",
					reply->cost != NULL ? reply->cost : "");
}
