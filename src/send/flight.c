/*-------------------------------------------------------------------------
 *
 * flight.c
 *	  One request from its claim to its settlement.
 *
 * No transaction is open while a flight is made or landed, and none of this
 * looks at a table: everything it needs came with the claim.  All memory of a
 * flight hangs on its own context, which goes when the settlement has been
 * committed, so that an answer survives a store that fails and is tried again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "letter/letter.h"
#include "limiter/limiter_blame.h"
#include "limiter/limiter_shared.h"
#include "send/flight.h"
#include "send/refused.h"
#include "send/retry.h"
#include "tables/job.h"

/* Weight of a new answer in the moving averages of a route. */
#define AVERAGE_WEIGHT 0.05

/* A usage of more tokens is booked as told, but believed by no average: no model takes so many. */
#define MOST_TOKENS 1e8

/* Recipes kept although no flight uses them. */
#define IDLE_RECIPES 64

/* As much of an input is kept as an error may quote from; few quote from the end of a long one. */
#define QUOTABLE_BYTES 16384

/* The part of a faulty answer that is kept, and told to the model. */
#define LAST_ANSWER_BYTES 8192

typedef struct SharedFrame
{
	const LlmDialect *dialect;
	LlmEndpoint endpoint; /* what of it is in the bytes */
	LlmFrame *frame;
} SharedFrame;

static HTAB *recipes = NULL; /* LlmSharedRecipe by id; sender's life */
static Size bytes_in_mind = 0; /* bodies of all flights; sender's life */

static void
create_recipe_table(void)
{
	HASHCTL ctl = {0};

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(LlmSharedRecipe);
	recipes = hash_create("llm_enrich recipes", IDLE_RECIPES, &ctl, HASH_ELEM | HASH_BLOBS);
}

LlmSharedRecipe *
llm_flight_recipe(int64 id)
{
	LlmSharedRecipe *shared;
	MemoryContext context,
		saved;
	LlmRecipe *recipe;

	if (recipes == NULL)
		create_recipe_table();
	shared = hash_search(recipes, &id, HASH_FIND, NULL);
	if (shared != NULL || !IsTransactionState())
		return shared;

	context = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich recipe", ALLOCSET_SMALL_SIZES);
	saved = MemoryContextSwitchTo(context);
	recipe = llm_job_recipe(id);
	MemoryContextSwitchTo(saved);
	if (recipe == NULL)
	{
		MemoryContextDelete(context);
		return NULL;
	}
	MemoryContextSetParent(context, TopMemoryContext);
	shared = hash_search(recipes, &id, HASH_ENTER, NULL);
	shared->context = context;
	shared->recipe = recipe;
	shared->frames = NIL;
	shared->users = 0;
	return shared;
}

void
llm_flight_trim_recipes(void)
{
	HASH_SEQ_STATUS scan;
	LlmSharedRecipe *shared;

	if (recipes == NULL || hash_get_num_entries(recipes) <= IDLE_RECIPES)
		return;
	hash_seq_init(&scan, recipes);
	while ((shared = hash_seq_search(&scan)) != NULL)
	{
		if (shared->users > 0)
			continue;
		MemoryContextDelete(shared->context);
		hash_search(recipes, &shared->id, HASH_REMOVE, NULL);
	}
}

static char *
copy_word(const char *word)
{
	return word == NULL ? NULL : pstrdup(word);
}

/* Those parts of an endpoint that are in the bytes of a body. */
static void
copy_endpoint(LlmEndpoint *to, const LlmEndpoint *from)
{
	*to = (LlmEndpoint){.model = pstrdup(from->model), .habits = from->habits};
	to->habits.max_tokens_field = copy_word(from->habits.max_tokens_field);
	to->habits.system_role = copy_word(from->habits.system_role);
	to->habits.extra_body = copy_word(from->habits.extra_body);
}

/* The bytes that all requests of a recipe to an endpoint share. */
static LlmFrame *
get_frame(LlmSharedRecipe *shared, const LlmRoute *route)
{
	ListCell *lc;
	SharedFrame *shared_frame;
	MemoryContext saved;

	foreach(lc, shared->frames)
	{
		shared_frame = lfirst(lc);
		if (shared_frame->dialect == route->dialect && llm_dialect_same_body(&shared_frame->endpoint, &route->endpoint))
			return shared_frame->frame;
	}
	saved = MemoryContextSwitchTo(shared->context);
	shared_frame = palloc(sizeof(SharedFrame));
	shared_frame->dialect = route->dialect;
	copy_endpoint(&shared_frame->endpoint, &route->endpoint);
	shared_frame->frame = route->dialect->prepare(shared->recipe, &shared_frame->endpoint);
	shared->frames = lappend(shared->frames, shared_frame);
	MemoryContextSwitchTo(saved);
	return shared_frame->frame;
}

/* Everything of the exchange but the body. */
static void
fill_exchange(LlmFlight *flight)
{
	LlmHttpExchange *exchange = &flight->exchange;
	const LlmRoute *route = flight->route;

	exchange->method = route->method;
	exchange->url = route->url;
	exchange->headers = (const char *const *) route->headers;
	exchange->secret = route->key;
	exchange->network = &route->network;
	exchange->timeout_ms = route->target->timeout_ms;
	exchange->connect_timeout_ms = route->target->connect_timeout_ms;
	exchange->answer_limit = (size_t) llm_guc_max_answer_kb * 1024;
	exchange->owner = flight;
}

/* The parts of a settlement that the claim and the route tell. */
static void
start_settlement(LlmFlight *flight)
{
	LlmSettlement *s = &flight->settlement;
	const LlmTarget *target = flight->route->target;

	s->task = flight->task;
	s->job = flight->job;
	s->request = flight->request;
	s->attempt = flight->attempt;
	s->tries = flight->tries;
	s->key = flight->key;
	s->server = target->server != NULL ? target->server : "";
	s->model = target->model != NULL ? target->model : "";
	s->price = target->price;
}

LlmFlight *
llm_flight_make(const LlmClaim *claim, LlmRoute *route, LlmSharedRecipe *recipe)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llm_enrich flight", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(context);
	LlmFlight *flight = palloc0(sizeof(LlmFlight));
	LlmChat chat = {{claim->input, claim->input_len}, claim->last_answer, claim->fault};
	StringInfoData body;

	flight->context = context;
	flight->route = route;
	flight->recipe = recipe;
	flight->task = claim->task;
	flight->job = claim->job;
	flight->request = claim->request;
	flight->attempt = claim->attempt;
	flight->tries = claim->tries;
	flight->outages = claim->outages;
	flight->same_as = claim->same_as;
	flight->followed = claim->followed;
	flight->granted_tokens = route->tokens_each;
	flight->generation = route->generation_granted;
	if (claim->key != NULL)
	{
		flight->key = palloc(VARSIZE_ANY(claim->key));
		memcpy(flight->key, claim->key, VARSIZE_ANY(claim->key));
	}
	start_settlement(flight);
	flight->settlement.application = claim->application == NULL ? NULL : pstrdup(claim->application);
	if (route->problem == NULL && recipe != NULL)
	{
		initStringInfo(&body);
		route->dialect->body(get_frame(recipe, route), &chat, &body);
		flight->input = pnstrdup(claim->input, Min(claim->input_len, QUOTABLE_BYTES));
		flight->input_tokens = llm_dialect_estimate_tokens(body.data, body.len);
		flight->exchange.body = body.data;
		flight->exchange.body_len = body.len;
		flight->bytes = body.len;
		bytes_in_mind += body.len;
		fill_exchange(flight);
	}
	MemoryContextSwitchTo(saved);
	llm_route_use(route);
	if (recipe != NULL)
		recipe->users++;
	return flight;
}

/* What the wire says of an exchange that brought no answer. */
static LlmErrorClass
wire_class(const LlmHttpExchange *exchange)
{
	switch (exchange->outcome)
	{
		case LLM_HTTP_DONE:
			return LLM_OK;
		case LLM_HTTP_NOT_SENT:
			/* a certificate or a password is not put right by waiting; a proxy may come back */
			return exchange->cause == LLM_HTTP_CAUSE_NONE || exchange->cause == LLM_HTTP_CAUSE_PROXY ? LLM_ERR_TRANSIENT
																									 : LLM_ERR_CONFIG;
		case LLM_HTTP_LOST:
			return LLM_ERR_UNKNOWN;
		case LLM_HTTP_TIMEOUT:
			return LLM_ERR_TIMEOUT;
		case LLM_HTTP_TOO_LARGE:
			return LLM_ERR_TOO_LARGE;
		case LLM_HTTP_LOCAL:
			return LLM_ERR_LOCAL;
		case LLM_HTTP_DROPPED:
			return LLM_ERR_DROPPED;
	}
	return LLM_ERR_LOCAL;
}

/* What the request had that a host may not take. */
static int
what_is_used(const LlmRecipe *recipe, const LlmHabits *habits)
{
	bool apart = habits->system_role == NULL || strcmp(habits->system_role, "user") != 0;
	int used = 0;

	if (recipe->schema != NULL && habits->answer_form != LLM_ANSWER_TEXT)
		used |= LLM_USED_FORM;
	if (recipe->params.max_tokens > 0)
		used |= LLM_USED_CAP;
	if (recipe->system[0] != '\0' && apart)
		used |= LLM_USED_ROLE;
	return used;
}

/*
 * Read the answer: its class, and in the settlement the checked object or what
 * is wrong with it.
 */
static LlmErrorClass
read_answer(LlmFlight *flight, LlmReply *reply)
{
	LlmHttpExchange *exchange = &flight->exchange;
	LlmSettlement *s = &flight->settlement;
	LlmRawAnswer raw = {0};
	StringInfoData fault;

	raw.status = exchange->status;
	raw.body = exchange->answer;
	raw.len = exchange->answer_len;
	raw.headers = exchange->answer_headers;
	raw.kind = LLM_REQUEST_CHAT;
	raw.ninputs = 1;
	raw.now = (int64) time(NULL);
	raw.input = (LlmText){flight->input, flight->input == NULL ? 0 : strlen(flight->input)};
	raw.plain = flight->recipe->recipe->schema == NULL;
	raw.used = what_is_used(flight->recipe->recipe, &flight->route->endpoint.habits);
	flight->route->dialect->read(&raw, reply);
	s->http_status = exchange->status;
	s->request_id = reply->request_id;
	if (reply->refused != 0)
		flight->learned = llm_habit_step(flight->route->dialect, &flight->route->endpoint, reply->refused);
	flight->lesson = reply->refusal;
	if (reply->class == LLM_OK)
	{
		initStringInfo(&fault);
		s->answer = flight->recipe->recipe->op->check(flight->recipe->recipe, reply->content,
													  reply->content_len, &fault);
		if (s->answer != NULL)
			return LLM_OK;
		reply->class = LLM_ERR_INVALID;
		reply->message = fault.data;
	}
	if (reply->content != NULL)
		s->last_answer = pnstrdup(reply->content, pg_mbcliplen(reply->content, reply->content_len, LAST_ANSWER_BYTES));
	return reply->class;
}

/* What the next requests of the route are expected to use. */
static void
note_usage(LlmRoute *route, const LlmUsage *usage)
{
	double input = (double) usage->input + usage->cached + usage->cache_write;
	double output = usage->output;

	if (input + output > MOST_TOKENS)
		return;
	route->input_tokens += AVERAGE_WEIGHT * (input - route->input_tokens);
	route->output_tokens += AVERAGE_WEIGHT * (output - route->output_tokens);
}

/* Tokens as told, or estimated where the provider may have billed and told nothing. */
static void
fill_usage(LlmFlight *flight, LlmErrorClass class, const LlmReply *reply)
{
	const LlmUsage *usage = &reply->usage;
	LlmSettlement *s = &flight->settlement;
	LlmRoute *route = flight->route;

	if (usage->known)
	{
		s->usage = *usage;
		if (class == LLM_OK)
			note_usage(route, usage);
	}
	else if (llm_retry_may_be_billed(class))
	{
		s->usage.input = flight->input_tokens;
		s->usage.output = (int64) (route->output_tokens + 0.5);
		/* what came says more than what came before it */
		if (reply->content != NULL && reply->content_len > 0)
			s->usage.output = llm_dialect_estimate_tokens(reply->content, reply->content_len);
		s->estimated = true;
	}
}

/* When the request left. */
static TimestampTz
sent_at(const LlmFlight *flight, TimestampTz now)
{
	return TimestampTzPlusMilliseconds(now, -(int64) flight->exchange.latency_ms);
}

/* The task's next state. */
static void
fill_verdict(LlmFlight *flight, LlmErrorClass class, const char *message, TimestampTz now)
{
	LlmSettlement *s = &flight->settlement;
	LlmVerdict verdict;

	s->outcome = llm_retry_outcome(class);
	s->error = message;
	if (class == LLM_OK)
	{
		s->state = LLM_TASK_ANSWERED;
		return;
	}
	/* asked in a way that the host does not take: in the simpler one from now on, and this is no try */
	if (flight->learned.name != NULL)
	{
		s->state = LLM_TASK_READY;
		return;
	}
	verdict = llm_retry_decide(class, flight->tries, flight->outages, llm_guc_max_tries,
							   llm_clock_jitter(), now);
	s->charged = verdict.charged;
	s->outage = verdict.outage;
	if (verdict.final)
	{
		s->state = LLM_TASK_FAILED;
		s->failure = verdict.reason;
		s->message = message;
		return;
	}
	s->state = verdict.requeue_now ? LLM_TASK_READY : LLM_TASK_WAITING;
	s->reason = verdict.requeue_now ? NULL : verdict.reason;
	s->not_before = verdict.requeue_now ? 0 : llm_clock_to_wall(verdict.not_before);
	if (class == LLM_ERR_INVALID)
	{
		s->failure = "invalid_output";
		s->message = message;
	}
}

/* What the limiter has made of an answer. */
typedef struct Ruling
{
	LlmBlame blame; /* of a refusal */
	bool shut; /* the target is */
	double share; /* of rows that it refuses */
	uint32 mends;
} Ruling;

/* A refusal: whose fault is it?  The target is shut for it, or not. */
static void
settle_refusal(LlmFlight *flight, LlmLimiter *limiter, LlmErrorClass class, LlmRefusal *refusal,
			   TimestampTz now, Ruling *ruling)
{
	LlmRoute *route = flight->route;

	ruling->blame = llm_blame_judge(limiter, class, flight->generation, refusal, now);
	if (ruling->blame == LLM_BLAME_ROW)
	{
		llm_limiter_settle_row(limiter, &route->limits, class, flight->generation, flight->granted_tokens, now);
		return;
	}
	llm_limiter_settle(limiter, &route->limits, class, flight->generation, flight->granted_tokens, -1,
					   refusal->told_ms, llm_clock_jitter(), now);
	if (ruling->blame == LLM_BLAME_IN_DOUBT)
		llm_limiter_shorten_pause(limiter, llm_blame_doubt_ms(limiter), now);
}

/* An answer that is no refusal, or none. */
static void
settle_answer(LlmFlight *flight, LlmLimiter *limiter, LlmErrorClass class, const LlmReply *reply, TimestampTz now)
{
	const LlmUsage *usage = &reply->usage;
	int64 used = usage->known ? usage->input + usage->cached + usage->cache_write + usage->output : -1;
	LlmRoute *route = flight->route;

	llm_limiter_settle(limiter, &route->limits, class, flight->generation, flight->granted_tokens, used,
					   reply->retry_after_ms, llm_clock_jitter(), now);
	if (llm_limiter_shows_life(class))
		llm_blame_note_pass(limiter, flight->generation, sent_at(flight, now));
	if (class != LLM_OK)
		return;
	if (flight->letter != NULL && strcmp(flight->settlement.letter->operation, LLM_LETTER_TRIAL) == 0)
		llm_limiter_note_mended(limiter);
	llm_limiter_correct(limiter, &route->limits, &reply->requests, &reply->tokens, now);
}

/* What the limiter learns from the answer, and says of it. */
static void
tell_limiter(LlmFlight *flight, LlmErrorClass class, const LlmReply *reply, LlmRefusal *refusal,
			 TimestampTz now, Ruling *ruling)
{
	LlmLimiter *limiter = llm_route_lock_limiter(flight->route);

	if (refusal != NULL)
		settle_refusal(flight, limiter, class, refusal, now, ruling);
	else
		settle_answer(flight, limiter, class, reply, now);
	ruling->shut = limiter->half_open;
	ruling->share = llm_blame_share(limiter);
	ruling->mends = limiter->mends;
	llm_limiter_unlock();
	llm_route_note_settled(flight->route);
}

/* The row that the target was shut for is final: it was not the target. */
static void
absolve(const LlmFlight *flight, TimestampTz now)
{
	LlmLimiter *limiter = llm_route_lock_limiter(flight->route);

	llm_blame_absolve(limiter, llm_refused_row(flight->task), now);
	llm_limiter_unlock();
}

/* The task was refused: it is final, or ready and set aside. */
static void
fill_refusal(LlmFlight *flight, LlmErrorClass class, LlmRefusedTask *refused, const Ruling *ruling,
			 const LlmReply *reply, TimestampTz now)
{
	LlmSettlement *s = &flight->settlement;
	LlmRefused counts = {refused->refusals, refused->counted, ruling->share, reply->retry_after_ms};
	LlmVerdict verdict = llm_retry_refused(class, &counts, llm_clock_jitter(), now);
	bool with_target = (ruling->blame != LLM_BLAME_ROW);

	s->outcome = llm_retry_outcome(class);
	s->error = reply->message;
	s->charged = verdict.charged;
	if (verdict.final)
	{
		s->state = LLM_TASK_FAILED;
		s->failure = verdict.reason;
		s->message = reply->message;
		absolve(flight, now);
		llm_refused_forget(flight->task);
		return;
	}
	s->state = LLM_TASK_READY;
	llm_refused_set_aside(refused, with_target && reply->retry_after_ms <= 0 ? 0 : verdict.not_before,
						  with_target, ruling->mends);
	if (refused->refusal.suspect)
		llm_refused_report(refused, flight->exchange.status == 0 ? llm_error_name(class)
																 : psprintf("HTTP status %d", flight->exchange.status));
}

Size
llm_flight_bytes(void)
{
	return bytes_in_mind;
}

void
llm_flight_give_back(LlmFlight *flight)
{
	llm_route_give_back(flight->route, flight->generation, 1, flight->granted_tokens);
}

/* What the answer, or its absence, says; fills *reply. */
static LlmErrorClass
read_exchange(LlmFlight *flight, LlmReply *reply)
{
	LlmHttpExchange *exchange = &flight->exchange;
	LlmErrorClass class = wire_class(exchange);

	reply->retry_after_ms = -1;
	if (flight->recipe == NULL)
	{
		reply->message = "the recipe of the task is gone, or made by another version";
		return LLM_ERR_BAD_REQUEST;
	}
	if (class == LLM_OK)
		return read_answer(flight, reply);
	reply->message = pstrdup(exchange->failure != NULL ? exchange->failure : "no answer");
	return class;
}

/* A refusal, as the limiter is to see it; what is known of its task is in *refused, but for letters. */
static LlmRefusal
recall_refusal(const LlmFlight *flight, const LlmReply *reply, TimestampTz now, LlmRefusedTask **refused)
{
	LlmRefusal refusal = {.row = llm_refused_row(flight->task)};

	*refused = NULL;
	if (flight->letter == NULL)
	{
		*refused = llm_refused_recall(flight->task, flight->job);
		refusal = (*refused)->refusal;
		refusal.row = llm_refused_row(flight->task);
	}
	refusal.sent_at = sent_at(flight, now);
	refusal.told_ms = reply->retry_after_ms;
	return refusal;
}

LlmErrorClass
llm_flight_land(LlmFlight *flight, TimestampTz now)
{
	MemoryContext saved = MemoryContextSwitchTo(flight->context);
	LlmReply reply = {0};
	LlmErrorClass class = read_exchange(flight, &reply);
	LlmRefusedTask *refused = NULL;
	Ruling ruling = {LLM_BLAME_TARGET};

	flight->class = class;
	flight->settlement.latency_ms = flight->exchange.latency_ms;
	fill_usage(flight, class, &reply);
	if (llm_retry_is_refusal(class))
	{
		LlmRefusal refusal = recall_refusal(flight, &reply, now, &refused);

		tell_limiter(flight, class, &reply, &refusal, now, &ruling);
		if (refused != NULL)
		{
			refused->refusal = refusal;
			refused->refusal.refused_at = now;
			refused->refusals++;
			refused->counted += refusal.counts;
		}
	}
	else
		tell_limiter(flight, class, &reply, NULL, now, &ruling);
	if (refused != NULL)
		fill_refusal(flight, class, refused, &ruling, &reply, now);
	else
	{
		llm_refused_forget(flight->task);
		fill_verdict(flight, class, class == LLM_OK ? NULL : reply.message, now);
	}
	llm_route_note_way(flight->route, class, flight->learned.name != NULL);
	flight->route->cause = flight->exchange.cause;
	if (ruling.blame == LLM_BLAME_TARGET)
		llm_route_note_answer(flight->route, class, reply.message, ruling.shut);
	else
		llm_route_note_doubtful(flight->route);
	MemoryContextSwitchTo(saved);
	return class;
}

/* A crash of ours is not charged to the task, which is asked again. */
LlmFlight *
llm_flight_orphan(const LlmClaim *claim, TimestampTz now)
{
	LlmJobRow *job = llm_job_get(claim->job);
	LlmRoute *route = llm_route_find(job == NULL ? NULL : job->model, job == NULL ? InvalidOid : job->role, now);
	LlmFlight *flight = llm_flight_make(claim, route, llm_flight_recipe(claim->recipe));
	LlmSettlement *s = &flight->settlement;

	/* its length was wanted; many of them may be all that was in memory when the sender died of that */
	if (flight->exchange.body != NULL)
		pfree(unconstify(char *, flight->exchange.body));
	flight->exchange.body = NULL;
	s->outcome = "unknown";
	s->error = "the sender ended before the answer came";
	s->usage.input = Max(flight->input_tokens, llm_dialect_estimate_tokens(claim->input, claim->input_len));
	s->usage.output = (int64) (route->output_tokens + 0.5);
	s->estimated = true;
	s->state = LLM_TASK_READY;
	return flight;
}

void
llm_flight_free(LlmFlight *flight)
{
	bytes_in_mind -= flight->bytes;
	if (flight->recipe != NULL)
		flight->recipe->users--;
	if (flight->question != NULL)
		llm_question_forget(flight->question);
	llm_route_release(flight->route);
	MemoryContextDelete(flight->context);
}
