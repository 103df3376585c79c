/*-------------------------------------------------------------------------
 *
 * flight.c
 *	  One request and its flights from their claim to their settlement.
 *
 * No transaction is open while a request is made or landed, and none of this
 * looks at a table: everything it needs came with the claim.  All memory of a
 * request hangs on its own context, which goes when the settlements of all its flights have
 * been committed, so that an answer survives a store that fails and is tried again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "letter/letter.h"
#include "limiter/limiter_blame.h"
#include "limiter/limiter_shared.h"
#include "send/fit.h"
#include "send/flight.h"
#include "send/flight_body.h"
#include "send/flight_usage.h"
#include "send/kept_key.h"
#include "send/refused.h"
#include "send/retry.h"
#include "send/split.h"

/* The part of a faulty answer that is kept, and told to the model. */
#define LAST_ANSWER_BYTES 8192

static dlist_head all_flights = DLIST_STATIC_INIT(all_flights);

/* The parts of a settlement that the claim and the route tell. */
static void
start_settlement(LlmFlight *flight)
{
	LlmSettlement *s = &flight->settlement;
	const LlmTarget *target = flight->route->target;

	s->task = flight->task;
	s->job = flight->job;
	s->request = flight->request->id;
	s->lane = flight->request->lane;
	s->carried = !llm_flight_is_first(flight);
	s->attempt = flight->attempt;
	s->tries = flight->tries;
	s->key = flight->key;
	s->server = target->server != NULL ? target->server : "";
	s->model = target->model != NULL ? target->model : "";
	s->price = flight->request->price;
	s->spender = (LlmSpender){.role = flight->route->role, .server = s->server, .model = s->model};
	s->spender.server_oid = target->server_oid;
}

/* The flight of a task; the claim is copied. */
static void
fill_flight(LlmRequest *request, LlmFlight *flight, const LlmClaim *claim)
{
	flight->request = request;
	flight->context = request->context;
	flight->route = request->route;
	flight->recipe = request->recipe;
	flight->task = claim->task;
	flight->job = claim->job;
	flight->attempt = claim->attempt;
	flight->tries = claim->tries;
	flight->outages = claim->outages;
	flight->same_as = claim->same_as;
	flight->followed = claim->followed;
	flight->elsewhere = claim->elsewhere;
	flight->input_len = claim->input_len;
	if (request->recipe != NULL && request->recipe->recipe->reads_input)
	{
		flight->input = pnstrdup(claim->input, claim->input_len);
		request->bytes += claim->input_len;
	}
	if (claim->key != NULL)
	{
		flight->key = palloc(VARSIZE_ANY(claim->key));
		memcpy(flight->key, claim->key, VARSIZE_ANY(claim->key));
	}
	flight->shortened = claim->shortened;
	if (request->route->problem == NULL && !claim->fresh && claim->shortened == NULL &&
		llm_kept_is_wanted(request->recipe))
		flight->answer_key = llm_kept_copy_key(claim, request->recipe, request->route);
	start_settlement(flight);
	flight->settlement.application = claim->application == NULL ? NULL : pstrdup(claim->application);
	flight->settlement.reserved = claim->reserved;
	flight->settlement.sent_at = claim->claimed_at;
	flight->settlement.spender.relation = claim->relation;
	if (claim->tags != NULL)
		flight->settlement.spender.tags = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(claim->tags));
	dlist_push_tail(&all_flights, &flight->all_node);
}

dlist_head *
llm_flight_all(void)
{
	return &all_flights;
}

/* What is too long for the model is cut, where the call allows that. */
static void
fit_claim(const LlmRequest *request, LlmClaim *claim)
{
	const LlmRoute *route = request->route;
	size_t kept;
	const char *cut;

	if (request->recipe->recipe->params.truncate == LLM_TRUNCATE_NOT)
		return;
	cut = llm_fit(request->recipe->recipe, claim->input, claim->input_len, route->target->context_tokens,
				  llm_flight_overhead(request->recipe, route, claim->cap), &kept);

	if (cut == claim->input)
		return;
	claim->shortened = psprintf("the input was cut from %zu to %zu bytes", claim->input_len, kept);
	claim->input = unconstify(char *, cut);
	claim->input_len = kept;
}

LlmRequest *
llm_request_make(LlmClaim *const *claims, int n, LlmRoute *route, LlmSharedRecipe *recipe)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llm_enrich request", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(context);
	LlmRequest *request = palloc0(sizeof(LlmRequest));

	request->context = context;
	request->id = claims[0]->request;
	request->lane = LLM_LANE_REALTIME;
	request->route = route;
	request->recipe = recipe;
	request->price = route->target->price;
	request->granted_tokens = route->tokens_each;
	request->generation = route->generation_granted;
	request->nflights = n;
	request->nheld = n;
	request->flights = palloc0(sizeof(LlmFlight) * n);
	for (int i = 0; recipe != NULL && route->problem == NULL && i < n; i++)
		fit_claim(request, claims[i]);
	for (int i = 0; i < n; i++)
		fill_flight(request, &request->flights[i], claims[i]);
	request->cap = claims[0]->cap * n;
	if (route->problem == NULL && recipe != NULL)
		llm_flight_fill_body(request, claims);
	llm_route_hold(route, request->bytes);
	MemoryContextSwitchTo(saved);
	llm_route_use(route);
	if (recipe != NULL)
		recipe->users++;
	return request;
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
			/* an error is told by its status, as one without a body is */
			return (exchange->cause == LLM_HTTP_CAUSE_HEAD || exchange->cause == LLM_HTTP_CAUSE_HEAD_OR_MEMORY) &&
						   exchange->status >= 300
					   ? LLM_OK
					   : LLM_ERR_TOO_LARGE;
		case LLM_HTTP_LOCAL:
			return LLM_ERR_LOCAL;
		case LLM_HTTP_DROPPED:
			return LLM_ERR_DROPPED;
	}
	return LLM_ERR_LOCAL;
}

/* A text: checked, it is the answer of the one flight; or what is wrong with it. */
static LlmErrorClass
take_text(LlmFlight *flight, LlmReply *reply)
{
	const LlmRecipe *recipe = flight->recipe->recipe;
	LlmSettlement *s = &flight->settlement;
	LlmCandidate given = {reply->content, reply->content_len, flight->input, flight->input_len};
	StringInfoData fault;

	if (reply->class == LLM_OK)
	{
		initStringInfo(&fault);
		s->answer = recipe->op->check(recipe, &given, &fault);
		if (s->answer != NULL)
			return LLM_OK;
		reply->class = LLM_ERR_INVALID;
		reply->message = fault.data;
	}
	if (reply->content != NULL)
		s->last_answer = pnstrdup(reply->content, pg_mbcliplen(reply->content, reply->content_len, LAST_ANSWER_BYTES));
	return reply->class;
}

/*
 * Vectors: each belongs to its input, wherever the answer had it.  One that is missing, or is no
 * good, is the affair of its own task alone.
 */
static LlmErrorClass
take_vectors(LlmRequest *request, LlmReply *reply)
{
	const LlmRecipe *recipe = request->recipe->recipe;
	LlmErrorClass class = LLM_ERR_INVALID;

	if (reply->vectors == NULL || (reply->class != LLM_OK && reply->class != LLM_ERR_INVALID))
		return reply->class;
	for (int i = 0; i < request->nflights; i++)
	{
		const LlmVector *vector = &reply->vectors[i];
		LlmFlight *flight = &request->flights[i];
		StringInfoData fault;

		flight->class = LLM_ERR_INVALID;
		flight->fault = "The provider's answer has no vector for this input.";
		if (vector->values == NULL)
			continue;
		initStringInfo(&fault);
		flight->settlement.answer = recipe->op->check_vector(recipe, vector->values, vector->n, &fault);
		flight->fault = flight->settlement.answer != NULL ? NULL : fault.data;
		if (flight->settlement.answer != NULL)
			class = flight->class = LLM_OK;
	}
	reply->message = class == LLM_OK ? NULL : unconstify(char *, request->flights[0].fault);
	return class;
}

/*
 * Read the answer: its class, and in the settlements the checked objects or what
 * is wrong with them.
 */
static LlmErrorClass
read_answer(LlmRequest *request, LlmReply *reply)
{
	const LlmRecipe *recipe = request->recipe->recipe;
	LlmHttpExchange *exchange = &request->exchange;
	LlmRawAnswer raw = {0};

	raw.status = exchange->status;
	raw.body = exchange->answer == NULL ? "" : exchange->answer;
	raw.len = exchange->answer_len;
	raw.headers = exchange->answer_headers;
	raw.kind = recipe->op->kind;
	raw.ninputs = request->nflights;
	raw.now = (int64) time(NULL);
	raw.input = (LlmText){request->input, request->input == NULL ? 0 : strlen(request->input)};
	raw.plain = recipe->schema == NULL;
	raw.added = recipe->params.extra_body != NULL;
	raw.used = llm_flight_used(recipe, &request->route->endpoint.habits);
	request->route->dialect->read(&raw, reply);
	for (int i = 0; i < request->nflights; i++)
	{
		request->flights[i].settlement.http_status = exchange->status;
		request->flights[i].settlement.request_id = reply->request_id;
	}
	if (reply->refused != 0)
		request->learned = llm_habit_step(request->route->dialect, &request->route->endpoint, reply->refused);
	request->lesson = reply->refusal;
	if (reply->class == LLM_ERR_TOO_LONG && request->nflights == 1)
	{
		request->learned = llm_fit_less(recipe, request->input_tokens, request->route->target->context_tokens);
		request->lesson = reply->message;
	}
	return raw.kind == LLM_REQUEST_EMBED ? take_vectors(request, reply) : take_text(&request->flights[0], reply);
}

/* When the request left. */
static TimestampTz
sent_at(const LlmRequest *request, TimestampTz now)
{
	return TimestampTzPlusMilliseconds(now, -(int64) request->exchange.latency_ms);
}

bool
llm_flight_may_hop(const LlmFlight *flight, TimestampTz now)
{
	return !flight->hopped && (flight->recipe == NULL || !llm_recipe_is_of_model(flight->recipe->recipe)) &&
		   llm_route_fallback_now(flight->route, now) != NULL;
}

/* Refused for good where it was to go: the fallback is asked, from now on nobody else, and it has all its tries. */
static void
hop(LlmSettlement *s, const char *failure, const char *message)
{
	s->charged = false;
	s->state = LLM_TASK_READY;
	s->elsewhere = true;
	s->failure = failure;
	s->message = message;
}

/* An answer came, and a header of it, no doubt, was too large to read it: the next one's would be. */
static bool
has_large_head(const LlmRequest *request, LlmErrorClass class)
{
	return class == LLM_ERR_TOO_LARGE && request->exchange.cause == LLM_HTTP_CAUSE_HEAD;
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
		s->error = flight->shortened;
		s->state = LLM_TASK_ANSWERED;
		return;
	}
	/* asked in a way that the host does not take: in the simpler one from now on, and this is no try */
	if (flight->request->learned.name != NULL)
	{
		s->state = LLM_TASK_READY;
		return;
	}
	verdict = llm_retry_decide(class, flight->tries, flight->outages,
							   has_large_head(flight->request, class) ? 1 : llm_guc_max_tries, llm_clock_jitter(), now);
	s->charged = verdict.charged;
	s->outage = verdict.outage;
	if (verdict.final && class == LLM_ERR_REFUSED && !flight->elsewhere && llm_flight_may_hop(flight, now))
	{
		hop(s, verdict.reason, message);
		return;
	}
	if (verdict.final)
	{
		s->state = LLM_TASK_FAILED;
		s->failure = verdict.reason;
		s->message = message;
		return;
	}
	/* it tried a target that was out, in vain: its fallback is asked next, and need not be waited for */
	if (verdict.outage && flight->route->out && !flight->elsewhere && llm_flight_may_hop(flight, now))
	{
		s->state = LLM_TASK_READY;
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
	uint32 repairs;
} Ruling;

/* A refusal: whose fault is it?  The target is shut for it, or not. */
static void
settle_refusal(LlmRequest *request, LlmLimiter *limiter, LlmErrorClass class, LlmRefusal *refusal,
			   TimestampTz now, Ruling *ruling)
{
	LlmRoute *route = request->route;

	ruling->blame = llm_blame_judge(limiter, class, request->generation, refusal, now);
	if (ruling->blame == LLM_BLAME_ROW)
	{
		llm_limiter_settle_row(limiter, &route->limits, class, request->generation, request->granted_tokens, now);
		return;
	}
	llm_limiter_settle(limiter, &route->limits, class, request->generation, request->granted_tokens, -1,
					   refusal->told_ms, llm_clock_jitter(), now);
	if (ruling->blame == LLM_BLAME_IN_DOUBT)
		llm_limiter_shorten_pause(limiter, llm_blame_doubt_ms(limiter), now);
}

/* An answer that is no refusal, or none. */
static void
settle_answer(LlmRequest *request, LlmLimiter *limiter, LlmErrorClass class, const LlmReply *reply, TimestampTz now)
{
	const LlmUsage *usage = &reply->usage;
	int64 used = usage->known ? llm_flight_believed_tokens(request, usage) : -1;
	const LlmLetterFacts *letter = request->flights[0].settlement.letter;
	LlmRoute *route = request->route;

	llm_limiter_settle(limiter, &route->limits, class, request->generation, request->granted_tokens, used,
					   reply->retry_after_ms, llm_clock_jitter(), now);
	if (llm_limiter_shows_life(class))
		llm_blame_note_pass(limiter, request->generation, sent_at(request, now));
	if (class != LLM_OK)
		return;
	if (letter != NULL && strcmp(letter->operation, LLM_LETTER_TRIAL) == 0)
		llm_limiter_note_mended(limiter);
	llm_limiter_correct(limiter, &route->limits, &reply->requests, &reply->tokens, now);
}

/* What the limiter learns from the answer, and says of it. */
static void
tell_limiter(LlmRequest *request, LlmErrorClass class, const LlmReply *reply, LlmRefusal *refusal,
			 TimestampTz now, Ruling *ruling)
{
	LlmLimiter *limiter = llm_route_lock_limiter(request->route);
	LlmLimiterTurn turn;
	TimestampTz until;

	if (refusal != NULL)
		settle_refusal(request, limiter, class, refusal, now, ruling);
	else
		settle_answer(request, limiter, class, reply, now);
	ruling->shut = limiter->half_open;
	ruling->share = llm_blame_share(limiter);
	ruling->repairs = limiter->repairs;
	turn = llm_limiter_turn(limiter, class, now, &until);
	llm_limiter_unlock();
	llm_route_log_turn(request->route, turn, class, until);
	llm_route_note_settled(request->route);
}

/* The row that the target was shut for is final: it was not the target. */
static void
absolve(const LlmFlight *flight, TimestampTz now)
{
	llm_blame_absolve(llm_route_lock_limiter(flight->route), llm_refused_row(flight->task), now);
	llm_limiter_unlock();
	llm_route_doubt_over(flight->route);
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
		if (!flight->elsewhere && llm_flight_may_hop(flight, now))
			hop(s, verdict.reason, reply->message);
		else
			s->state = LLM_TASK_FAILED;
		s->failure = verdict.reason;
		s->message = reply->message;
		absolve(flight, now);
		llm_refused_forget(flight->task);
		return;
	}
	s->state = LLM_TASK_READY;
	/* the target is shut for it: not for this task, which goes to the fallback */
	if (with_target && llm_limiter_refusal_kind(class) == LLM_REFUSAL_PAUSE && !flight->elsewhere &&
		llm_flight_may_hop(flight, now))
		return;
	llm_refused_set_aside(refused, with_target && reply->retry_after_ms <= 0 ? 0 : verdict.not_before,
						  with_target, ruling->repairs);
	if (refused->refusal.suspect)
		llm_refused_report(refused, flight->route->role,
						   s->http_status == 0 ? llm_error_name(class) : psprintf("HTTP status %d", s->http_status));
}

void
llm_request_give_back(LlmRequest *request)
{
	llm_route_give_back(request->route, request->generation, 1, request->granted_tokens);
}

/* The model is of the other kind, in the provider's words. */
static char *
wrong_kind_text(const LlmRequest *request, const char *words)
{
	bool embeds = request->recipe->recipe->op->kind == LLM_REQUEST_EMBED;

	return psprintf("model \"%s\" at server \"%s\" %s: %s", request->route->target->model,
					request->route->target->server, embeds ? "gives no vectors" : "does not answer chats", words);
}

/* What the answer, or its absence, says; fills *reply. */
static LlmErrorClass
read_exchange(LlmRequest *request, LlmReply *reply)
{
	LlmHttpExchange *exchange = &request->exchange;
	LlmErrorClass class = wire_class(exchange);

	reply->retry_after_ms = -1;
	if (request->recipe == NULL)
	{
		reply->message = "the recipe of the task is gone, or made by another version";
		return LLM_ERR_BAD_REQUEST;
	}
	if (exchange->body == NULL)
	{
		reply->message = psprintf("a server of dialect \"%s\" makes no vectors", request->route->dialect->name);
		return LLM_ERR_WRONG_KIND;
	}
	if (class == LLM_OK)
	{
		class = read_answer(request, reply);
		if (class == LLM_ERR_WRONG_KIND)
			reply->message = wrong_kind_text(request, reply->message);
		return class;
	}
	reply->message = pstrdup(exchange->failure != NULL ? exchange->failure : "no answer");
	return class;
}

/* A refusal, as the limiter is to see it; what is known of its task comes in, but for letters. */
static LlmRefusal
recall_refusal(const LlmFlight *flight, const LlmReply *reply, TimestampTz now)
{
	LlmRefusal refusal = {0};

	if (flight->letter == NULL)
		refusal = llm_refused_recall(flight->task, flight->job)->refusal;
	refusal.row = llm_refused_row(flight->task);
	refusal.sent_at = sent_at(flight->request, now);
	refusal.told_ms = reply->retry_after_ms;
	return refusal;
}

/* The task of a request that was refused as the limiter has judged. */
static void
land_refused(LlmFlight *flight, LlmErrorClass class, const LlmRefusal *refusal, const Ruling *ruling,
			 const LlmReply *reply, TimestampTz now)
{
	LlmRefusedTask *refused = llm_refused_recall(flight->task, flight->job);

	refused->refusal = *refusal;
	refused->refusal.row = llm_refused_row(flight->task);
	refused->refusal.refused_at = now;
	refused->refusals++;
	refused->counted += refusal->counts;
	fill_refusal(flight, class, refused, ruling, reply, now);
}

/*
 * The request was not refused for want of a key, a rate or the like, or somebody waits for it.  What
 * may be the fault of one of its tasks is none of the others': they go again in parts.
 */
static void
land_flight(LlmFlight *flight, const LlmReply *reply, LlmSplit split, TimestampTz now)
{
	LlmSettlement *s = &flight->settlement;
	const char *message = flight->fault != NULL ? flight->fault : reply->message;

	llm_refused_forget(flight->task);
	if (split != LLM_SPLIT_FREE)
		fill_verdict(flight, flight->class, flight->class == LLM_OK ? NULL : message, now);
	else
	{
		s->outcome = llm_retry_outcome(flight->class);
		s->error = message;
		s->state = LLM_TASK_READY;
	}
	if (!llm_task_is_open(s->state))
		llm_split_forget(flight->task);
}

/*
 * The fallback of its model was asked, and is not what answers such a request, or no model at all: that is nobody's
 * try, and where it was named it is asked again.
 */
static bool
is_unfit_fallback(const LlmRequest *request, LlmErrorClass class)
{
	return request->flights[0].hopped && (class == LLM_ERR_WRONG_KIND || class == LLM_ERR_UNKNOWN_MODEL);
}

static void
land_unfit(LlmFlight *flight, const LlmReply *reply)
{
	LlmSettlement *s = &flight->settlement;

	llm_refused_forget(flight->task);
	s->outcome = llm_retry_outcome(flight->class);
	s->error = reply->message;
	s->state = LLM_TASK_READY;
}

/* Are its tasks to go again in parts? */
static LlmSplit
split_request(LlmRequest *request, LlmErrorClass class)
{
	LlmSplit split = LLM_SPLIT_NEVER;

	if (request->nflights > 1 && request->learned.name == NULL && !has_large_head(request, class))
		split = llm_retry_split(class, request->flights[0].outages);
	if (split != LLM_SPLIT_NEVER)
		llm_split(request);
	request->is_split = (split == LLM_SPLIT_FREE);
	return split;
}

LlmErrorClass
llm_request_land(LlmRequest *request, TimestampTz now)
{
	MemoryContext saved = MemoryContextSwitchTo(request->context);
	LlmReply reply = {0};
	LlmErrorClass class = read_exchange(request, &reply);
	bool is_refusal = llm_retry_is_refusal(class);
	bool is_unfit = is_unfit_fallback(request, class);
	LlmSplit split;
	LlmRefusal refusal = {0};
	Ruling ruling = {LLM_BLAME_TARGET};
	const char *remark = llm_flight_fill_usage(request, class, &reply);
	const char *told;

	/* it is one request: its first task stands for all */
	if (is_refusal)
		refusal = recall_refusal(&request->flights[0], &reply, now);
	tell_limiter(request, class, &reply, is_refusal ? &refusal : NULL, now, &ruling);
	split = split_request(request, class);
	for (int i = 0; i < request->nflights; i++)
	{
		LlmFlight *flight = &request->flights[i];

		if (flight->fault == NULL)
			flight->class = class;
		flight->settlement.latency_ms = request->exchange.latency_ms;
		if (is_unfit)
			land_unfit(flight, &reply);
		else if (is_refusal && flight->letter == NULL)
			land_refused(flight, class, &refusal, &ruling, &reply, now);
		else
			land_flight(flight, &reply, split, now);
		if (reply.may_be_billed)
			flight->settlement.outcome = llm_retry_outcome(LLM_ERR_UNKNOWN);
		if (flight->settlement.error == NULL)
			flight->settlement.error = remark;
	}
	told = reply.plain != NULL ? reply.plain : reply.message;
	if (is_unfit)
		llm_route_leave_out(request->route, told, now);
	if (llm_route_is_answer(class))
		llm_route_note_fit(request->route);
	llm_route_note_way(request->route, class, request->learned.name != NULL);
	request->route->cause = request->exchange.cause;
	if (ruling.blame == LLM_BLAME_TARGET)
		llm_route_note_answer(request->route, class, told, ruling.shut);
	else
		llm_route_note_doubtful(request->route, class, told, ruling.shut);
	MemoryContextSwitchTo(saved);
	return class;
}

void
llm_flight_free(LlmFlight *flight)
{
	LlmRequest *request = flight->request;

	dlist_delete(&flight->all_node);
	if (flight->question != NULL)
		llm_question_forget(flight->question);
	if (--request->nheld > 0)
		return;
	llm_route_let_go(request->route, request->bytes);
	if (request->recipe != NULL)
		request->recipe->users--;
	llm_route_release(request->route);
	MemoryContextDelete(request->context);
}

void
llm_request_free(LlmRequest *request)
{
	LlmFlight *flights = request->flights;
	int n = request->nflights;

	for (int i = 0; i < n; i++)
		llm_flight_free(&flights[i]);
}
