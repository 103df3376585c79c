/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  The sender's half of the queue: wake, claim, settle, recover.
 *
 *	  recover()  once, before anything else: what a dead sender left claimed
 *	  wake()     waiting tasks whose time has come
 *	  claim()    then, for each claimed task, exactly one settle(), or unclaim()
 *
 * All inside a transaction of the sender (spi.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_QUEUE_H
#define LLM_QUEUE_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "tables/budget.h"
#include "tables/transition.h"

/* A task that is ready again. */
typedef struct LlmWoken
{
	int64 job;
	int64 task;
} LlmWoken;

struct LlmAnswerKey;

/* How many tasks of a job to claim, and the id after which they start. */
typedef struct LlmPortion
{
	int64 job;
	int64 after;
	int want;

	/* where something bounds what the job may spend, in nanodollars */
	bool bounded;
	int64 fixed; /* what a request of it may cost beside its own bytes */
	double per_byte; /* and for each of these */
	int64 room; /* what all of them, and each, may cost at most */
	int64 ever; /* what costs more is too dear for good */
	int64 last; /* set by windows(): it looks at tasks up to this one; PG_INT64_MAX: there are no more */
	int64 cheapest; /* set by it: the least cost of a task that there is no room for; PG_INT64_MAX: none */
} LlmPortion;

/* One claimed task.  Pointers live in the context of the call. */
typedef struct LlmClaim
{
	int64 task;
	int64 job;
	int64 recipe;
	int64 request; /* number of the HTTP request that is to carry it */
	int tries;
	int attempt; /* this one included */
	int outages; /* attempts before that count for the back-off, see retry.h */
	int64 same_as; /* task that it followed before; 0: none */
	bool followed; /* others wait for its answer */
	bool follows; /* it has been put back, to wait for another one's */
	bool elsewhere; /* its model's target has refused it: the fallback is asked */
	char *asked; /* alias of the model that was asked in its stead by a dead sender; or NULL */
	bool cut; /* its claim left tasks, for all their bytes */
	bool fresh; /* no kept answer will do for its job */
	bool kept; /* settled by a kept answer: it is not sent */
	const struct LlmAnswerKey *answer_key; /* of its question, where that was looked up; or NULL */
	Jsonb *key; /* NULL where nothing is to be written */
	char *input;
	size_t input_len;
	const char *shortened; /* filled in by the sender: what is said of an input that was cut; or NULL */
	char *fault; /* what was wrong with the last answer, or NULL */
	char *last_answer; /* that answer, or NULL */
	char *application; /* of the session that asked, where it is another one than the job's; or NULL */
	TimestampTz claimed_at;
	int64 reserved; /* nanodollars; 0: nothing bounds it */
	bool dear; /* no budget can ever pay it: it is to fail */

	/* filled in by the sender */
	int cap; /* tokens of its answer, at most; 0: as the call says */
	Oid relation; /* of the job */
	Jsonb *tags; /* of the job, or NULL */
} LlmClaim;

/* What the ledger says of an immediate call, which has no job that would tell. */
typedef struct LlmLetterFacts
{
	const char *role_name;
	const char *application; /* or NULL */
	const char *operation;
	Jsonb *tags; /* or NULL */
} LlmLetterFacts;

/* Values of llm.ledger.lane: the way that a request went. */
#define LLM_LANE_REALTIME "realtime"
#define LLM_LANE_IMMEDIATE "immediate"

/*
 * What became of one task in one request: a row of the ledger and the next state of the
 * task.  Strings may be NULL unless said otherwise.
 */
typedef struct LlmSettlement
{
	int64 task;
	int64 job; /* 0 for an immediate call */
	const LlmLetterFacts *letter; /* of an immediate call, which has no row of the queue; else NULL */
	int64 request;
	bool carried; /* another settlement counts the request: they were in it together */
	const char *lane; /* not NULL */
	int attempt;
	int tries; /* charged failures before this request */
	Jsonb *key;
	int64 recipe; /* llm.recipe.id; 0: it is gone */
	int64 body_bytes; /* of the request, the part of this task; 0: nothing was sent */

	/* for the ledger */
	int latency_ms;
	const char *application; /* NULL: as the job says */
	const char *server; /* not NULL */
	const char *model; /* not NULL */
	int64 price; /* llm.price.id, 0: none known */
	const char *outcome; /* not NULL */
	int http_status; /* 0: none */
	const char *error;
	const char *request_id;
	int64 paid_by; /* task that paid for a kept answer: there was no request; 0: none */
	LlmUsage usage;
	bool estimated;
	const char *tier; /* class of service that it was answered in; NULL: the usual one, or no usage is known */
	const char *tier_remark; /* the error where that has no price; NULL: none */

	/* for budgets */
	bool cheap; /* estimated as it is, it cost no more */
	LlmSpender spender;
	TimestampTz sent_at; /* by the wall clock, as it was claimed */
	int64 reserved; /* nanodollars, and the cost of what is estimated; 0: nothing bounded it */
	struct LlmPurse *purse; /* of the command that waits, where that has a cap; else NULL */
	Datum cost; /* numeric dollars, set by llm_ledger_record() in the context of that; 0: not known */

	/* for the queue */
	LlmTaskState state; /* ready, waiting, answered, failed */
	const char *reason; /* why it waits */
	TimestampTz not_before; /* waiting: until then */
	bool charged;
	bool outage; /* one more that counts for the back-off */
	bool elsewhere; /* its model's target has refused it: the fallback is asked from now on */
	Jsonb *answer; /* answered */
	const char *failure; /* failed: short name; else the last error's */
	const char *message; /* failed: sentence; else the fault to tell the model */
	const char *last_answer; /* the invalid answer */
	const char *held_back; /* failed for want of a share for retries: its sums; else NULL */
} LlmSettlement;

/* What a claim leaves to later ones. */
typedef struct LlmClaimBounds
{
	const int64 *aside; /* tasks that are passed over */
	int naside;
	int64 bytes; /* of inputs; a single larger one goes alone */
} LlmClaimBounds;

/*
 * For each bounded portion: how far a claim may look, and what would cost more than its room.  So a claim
 * looks at a bounded number of tasks, however many it cannot take.
 */
extern void llm_queue_windows(LlmPortion *portions, int nportions);

extern List *llm_queue_claim(const LlmPortion *portions, int nportions, const LlmClaimBounds *bounds);

/* Tasks that were just claimed leave in another one's request: its number beside each. */
extern void llm_queue_join(const int64 *tasks, const int64 *requests, int n);

/* Tasks that were just claimed go to another model than their job's: its alias beside each. */
extern void llm_queue_divert(const int64 *tasks, const char **aliases, int n);

/* Tasks that this sender has claimed and not sent are ready again, as they were before. */
extern void llm_queue_unclaim(const int64 *tasks, int n);

/* Tasks that it has claimed fail unsent: no budget can ever pay them, as "messages" say. */
extern void llm_queue_fail_dear(const int64 *tasks, const char **messages, int n);
extern List *llm_queue_orphans(int limit, int64 bytes);

/* True: some of those to be asked again have been cancelled; the writer has work. */
extern bool llm_queue_settle(LlmSettlement **settlements, int n);

/* Make tasks ready whose wait is over: a list of LlmWoken, in the current context. */
extern List *llm_queue_wake(int limit);

/*
 * The same for those that would wait for longer than so many seconds, since the clock was set
 * back; how many.  Walks over all that wait for so long.
 */
extern uint64 llm_queue_wake_ahead(int limit, int least_s);

/*
 * Tasks that were not sent fail when the table that was named, or a column of the job, is gone; how many did, at
 * most twice "limit".  Looks when some relation has changed, at most once a second, or anyway.
 */
extern uint64 llm_queue_fail_gone(bool anyway, int limit, TimestampTz now);

/* When that is to look again; DT_NOEND while no relation has changed. */
extern TimestampTz llm_queue_gone_due(void);

/* When the next waiting task of the sender is due; DT_NOEND when none waits. */
extern TimestampTz llm_queue_next_due(void);

#endif /* LLM_QUEUE_H */
