/*-------------------------------------------------------------------------
 *
 * route.c
 *	  Resolve (model alias, role, kind) to a target once, and remember it until the
 *	  catalog, the settings or the key may have changed.
 *
 * A route is not changed once it is made: requests in flight go on with the one
 * they left by, new ones get its successor.  The key lives in the route alone
 * and is wiped with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "catalog/fdw.h"
#include "catalog/secret.h"
#include "limiter/limiter_shared.h"
#include "send/route.h"
#include "send/route_address.h"
#include "send/route_hint.h"

/* A problem may be solved outside of the catalog (a key file): look again after so long. */
#define PROBLEM_RECHECK_MS 5000

/* Until answers tell better: a short question and a short answer. */
#define FIRST_INPUT_TOKENS 300
#define FIRST_OUTPUT_TOKENS 50

/* No generation of the catalog: what has it is out of date. */
#define GENERATION_NONE 0

/* A limiter that waits for somebody else's answer (another database's) is asked again so soon. */
#define REASK_MS 100

/*
 * One that knows its time is asked then; once in a while before, since another database
 * may have ended what it was paused for, and llm.health shows what is waited for.
 */
#define REASK_SHUT_MS 2000

/* A host refuses a way to ask within that time, or does not: ms. */
#define TRY_MS 500

/* A sender that was turned away asks again in that time, and more than once. */
#define TURNED_AWAY_MS (5 * REASK_MS)

/*
 * Inputs of one claim together; a single larger one goes alone.  Where little is left, so many all the same, for
 * those whose share is not used up.
 */
#define CLAIM_BYTES (INT64CONST(16) * 1024 * 1024)
#define CLAIM_LEAST_BYTES (INT64CONST(1) * 1024 * 1024)

/*
 * Bodies of all requests that are not stored yet: a route gets at most three quarters of what the others leave, so
 * that a target that is silent holds up no other one.  Bodies are larger than inputs, up to six times, and known
 * after the claim only: at MOST nothing is claimed.
 */
#define MEMORY_BYTES (INT64CONST(64) * 1024 * 1024)
#define MEMORY_MOST_BYTES (INT64CONST(256) * 1024 * 1024)

/* Sender's life. */
static Size held = 0; /* by the requests of all routes */
static dlist_head routes = DLIST_STATIC_INIT(routes);
static dlist_head retired = DLIST_STATIC_INIT(retired); /* stale, with requests in flight */
static uint64 version = 1; /* counts retirements */

/* "https://host:port" of a base URL. */
static const char *
host_part(const char *base_url)
{
	const char *slashes = strstr(base_url, "://");
	const char *end = slashes == NULL ? NULL : strchr(slashes + 3, '/');

	return end == NULL ? pstrdup(base_url) : pnstrdup(base_url, end - base_url);
}

/* Read the key; a problem ends up in the route. */
static void
add_key(LlmRoute *route, const char **hint)
{
	const char *problem = NULL;

	route->key = llm_secret_read(route->target, &problem, hint);
	if (route->key == NULL)
		route->problem = problem;
	else
		route->fingerprint = llm_secret_fingerprint(route->key);
}

/* The way to its host, with the proxy's password; a problem ends up in the route. */
static void
add_network(LlmRoute *route, const char **hint)
{
	const char *problem;

	route->network = route->target->network;
	route->proxy_password = llm_secret_read_proxy_password(route->target, &problem, hint);
	route->network.proxy_password = route->proxy_password;
	if (problem != NULL)
		route->problem = problem;
}

/* Resolve everything; what is wrong ends up in route->problem. */
static void
resolve(LlmRoute *route)
{
	LlmTarget *target = llm_catalog_target(route->alias, route->role);
	const char *hint;

	llm_catalog_obey_pause(target, route->role);
	hint = target->hint;
	route->target = target;
	route->problem = target->problem;
	if (route->problem == NULL)
	{
		route->dialect = llm_dialect_find(target->dialect);
		if (route->dialect == NULL)
			route->problem = psprintf("server \"%s\" has the unknown dialect \"%s\"", target->server, target->dialect);
	}
	if (route->problem == NULL)
	{
		route->endpoint = target->endpoint;
		route->reasons = llm_dialect_may_reason(target->model);
		route->host = host_part(target->base_url);
		route->limited = route->kind == LLM_REQUEST_CHAT ? target->model : psprintf("%s" LLM_LIMITED_VECTORS, target->model);
		route->limits.requests_per_minute = target->requests_per_minute;
		route->limits.tokens_per_minute = target->tokens_per_minute;
		route->limits.max_concurrency = target->max_concurrency > 0 ? target->max_concurrency : LLM_TARGET_CONCURRENCY;
		add_network(route, &hint);
		if (route->problem == NULL)
			add_key(route, &hint);
		llm_route_fill_addresses(route);
	}
	if (route->problem != NULL)
		llm_route_report(route, route->problem, hint);
}

static LlmRoute *
make_route(const char *alias, Oid role, LlmRequestKind kind, TimestampTz now)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "llm_enrich route", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(context);
	LlmRoute *route = palloc0(sizeof(LlmRoute));

	route->context = context;
	route->generation = llm_catalog_generation();
	route->alias = alias == NULL ? NULL : pstrdup(alias);
	route->role = role;
	route->kind = kind;
	route->input_tokens = FIRST_INPUT_TOKENS;
	route->output_tokens = FIRST_OUTPUT_TOKENS;
	route->wake_at = DT_NOBEGIN;
	route->wanted_at = now;
	dlist_init(&route->ahead_list);
	resolve(route);
	route->expires_at = route->problem == NULL ? DT_NOEND : TimestampTzPlusMilliseconds(now, PROBLEM_RECHECK_MS);
	MemoryContextSwitchTo(saved);
	dlist_push_tail(&routes, &route->node);
	return route;
}

static void
free_route(LlmRoute *route)
{
	dlist_delete(&route->node);
	llm_route_wipe_addresses(route);
	llm_secret_wipe(route->key);
	llm_secret_wipe(route->proxy_password);
	MemoryContextDelete(route->context);
}

static LlmLimiter *lock_limiter(const LlmRoute *route, bool create);

/* What it was paused for may be over: one request may try. */
static void
unpause(LlmRoute *route)
{
	LlmLimiter *limiter = lock_limiter(route, false);

	route->shut_until = 0;
	if (limiter == NULL)
		return;
	llm_limiter_unpause(limiter);
	llm_limiter_unlock();
}

/* Take a route out of use; requests in flight keep it alive. */
static void
retire(LlmRoute *route)
{
	dlist_delete(&route->node);
	version++;
	if (route->reported)
		llm_route_report(route, NULL, NULL);
	if (route->replaced || route->bereft)
		llm_route_report_fallback(route, NULL, NULL);
	route->stale = true;
	dlist_push_tail(&retired, &route->node);
	if (route->in_flight == 0)
		free_route(route);
}

static const char *
chat_url(const LlmRoute *route)
{
	return route->addresses[LLM_REQUEST_CHAT].url;
}

/* Would a request of the one meet the same answer as one of the other? */
static bool
is_same_target(const LlmRoute *a, const LlmRoute *b)
{
	if (a->problem != NULL || b->problem != NULL)
		return a->problem != NULL && b->problem != NULL && strcmp(a->problem, b->problem) == 0;
	return a->dialect == b->dialect && a->fingerprint == b->fingerprint && strcmp(chat_url(a), chat_url(b)) == 0 &&
		   llm_http_is_same_network(&a->network, &b->network) &&
		   strcmp(a->target->model, b->target->model) == 0;
}

static bool
has_fallback(const LlmRoute *route)
{
	return route->kind == LLM_REQUEST_CHAT && route->target->fallback != NULL;
}

/*
 * Replace the route.  A pause ends when what it was for may be over; not
 * when something else has changed in the catalog, or each such change would send one
 * more request that is refused.
 */
static void
replace_route(LlmRoute *route, TimestampTz now)
{
	LlmRoute *successor = make_route(route->alias, route->role, route->kind, now);
	bool same = is_same_target(route, successor);

	if (same)
	{
		successor->input_tokens = route->input_tokens;
		successor->output_tokens = route->output_tokens;
		successor->reasons = successor->reasons || route->reasons;
		successor->proven = route->proven && llm_dialect_same_body(&route->endpoint, &successor->endpoint);
		successor->reported = successor->reported || route->reported;
		successor->reported_in_doubt = successor->reported_in_doubt || route->reported_in_doubt;
		successor->shut_until = route->shut_until;
		successor->pause = route->pause == NULL ? NULL : MemoryContextStrdup(successor->context, route->pause);
		successor->pause_of = route->pause_of;
		successor->probe_at = route->probe_at;
	}
	else if (route->reported && !successor->reported)
		llm_route_report(successor, NULL, NULL);
	if (successor->problem == NULL && (!same || route->generation == GENERATION_NONE))
		unpause(successor);
	route->reported = false; /* now the successor's affair */
	if (has_fallback(successor) && has_fallback(route) &&
		strcmp(successor->target->fallback, route->target->fallback) == 0)
	{
		successor->replaced = route->replaced;
		route->replaced = false;
	}
	retire(route);
}

/*
 * Does llm.health say something of a route that nobody has asked for as long as the sender itself would stay without
 * work?  It is forgotten, as it would be then.
 */
static bool
is_told_in_vain(const LlmRoute *route, TimestampTz now)
{
	return (route->reported || route->replaced || route->bereft) && route->in_flight == 0 &&
		   now >= TimestampTzPlusMilliseconds(route->wanted_at, llm_guc_idle_timeout_ms);
}

void
llm_route_refresh(TimestampTz now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &routes)
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);
		bool wanted = route->wanted;

		route->wanted = false;
		if (wanted)
			route->wanted_at = now;
		if (route->generation == llm_catalog_generation() && route->expires_at > now && !is_told_in_vain(route, now))
			continue;
		if (wanted)
			replace_route(route, now);
		else
			retire(route);
	}
}

bool
llm_route_are_current(void)
{
	uint64 generation = llm_catalog_generation();
	dlist_iter iter;

	dlist_foreach(iter, &routes)
	{
		if (dlist_container(LlmRoute, node, iter.cur)->generation != generation)
			return false;
	}
	return true;
}

uint64
llm_route_version(void)
{
	return version;
}

LlmRoute *
llm_route_look_up(const char *alias, Oid role, LlmRequestKind kind)
{
	dlist_iter iter;

	dlist_foreach(iter, &routes)
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (route->role != role || route->kind != kind)
			continue;
		if (alias == NULL ? route->alias == NULL : route->alias != NULL && strcmp(alias, route->alias) == 0)
			return route;
	}
	return NULL;
}

LlmRoute *
llm_route_of_fallback(const LlmRoute *route)
{
	return has_fallback(route) ? llm_route_look_up(route->target->fallback, route->role, route->kind) : NULL;
}

void
llm_route_want(LlmRoute *route)
{
	LlmRoute *other = llm_route_of_fallback(route);

	route->wanted = true;
	if (other != NULL)
		other->wanted = true;
}

LlmRoute *
llm_route_find(const char *alias, Oid role, LlmRequestKind kind, TimestampTz now)
{
	LlmRoute *route = llm_route_look_up(alias, role, kind);

	if (route == NULL)
		route = make_route(alias, role, kind, now);
	/* one hop: the fallback's own is nobody's here */
	if (has_fallback(route) && llm_route_of_fallback(route) == NULL)
		(void) make_route(route->target->fallback, role, kind, now);
	llm_route_want(route);
	return route;
}

void
llm_route_use(LlmRoute *route)
{
	route->in_flight++;
}

void
llm_route_release(LlmRoute *route)
{
	if (--route->in_flight == 0 && route->stale)
		free_route(route);
}

void
llm_route_forget_all(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &routes)
		dlist_container(LlmRoute, node, iter.cur)->generation = GENERATION_NONE;
}

void
llm_route_end_turn(void)
{
	dlist_head served = DLIST_STATIC_INIT(served);
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &routes)
	{
		if (dlist_container(LlmRoute, node, iter.cur)->granted == 0)
			continue;
		dlist_delete(iter.cur);
		dlist_push_tail(&served, iter.cur);
	}
	while (!dlist_is_empty(&served))
		dlist_push_tail(&routes, dlist_pop_head_node(&served));
}

dlist_head *
llm_route_all(void)
{
	return &routes;
}

/* The route's limiter in shared memory, locked; NULL when there is none, and none is to be made or no room. */
static LlmLimiter *
lock_limiter(const LlmRoute *route, bool create)
{
	return llm_limiter_lock(route->host, route->fingerprint, route->limited, route->role, create);
}

LlmLimiter *
llm_route_lock_limiter(const LlmRoute *route)
{
	LlmLimiter *limiter = lock_limiter(route, false);

	if (limiter == NULL)
		elog(ERROR, "the limiter of model \"%s\" is gone, with requests in flight", route->target->model);
	return limiter;
}

bool
llm_route_shares_limiter(const LlmRoute *a, const LlmRoute *b)
{
	return a->problem == NULL && b->problem == NULL && a->fingerprint == b->fingerprint &&
		   strcmp(a->host, b->host) == 0 && strcmp(a->limited, b->limited) == 0;
}

/*
 * Count what routes of a list have in flight at the route's target, as tight as the route
 * is or tighter; *loosest becomes the loosest limit of those that have something there.
 */
static int
count_taken(dlist_head *list, const LlmRoute *route, int *loosest)
{
	int taken = 0;
	dlist_iter iter;

	dlist_foreach(iter, list)
	{
		const LlmRoute *other = dlist_container(LlmRoute, node, iter.cur);

		if (other->taken == 0 || !llm_route_shares_limiter(route, other))
			continue;
		if (other->limits.max_concurrency <= route->limits.max_concurrency)
			taken += other->taken;
		*loosest = Max(*loosest, other->limits.max_concurrency);
	}
	return taken;
}

/* When to ask a limiter again that waits, whatever it said itself. */
static TimestampTz
reask_at(const LlmRoute *route, TimestampTz now)
{
	bool others = (route->wait_reason == LLM_WAIT_CONCURRENCY || route->wake_at == DT_NOEND);

	return TimestampTzPlusMilliseconds(now, others ? REASK_MS : REASK_SHUT_MS);
}

/*
 * Has the route its target for itself?  Not while others have requests in flight there, and
 * not shortly after a sender that had none was turned away: it is to find a slot when it asks again.
 */
static bool
is_alone(const LlmRoute *route, LlmLimiter *limiter, bool turned_away, TimestampTz now)
{
	if (turned_away && route->taken == 0)
		limiter->turned_away_at = now;
	return limiter->in_flight == route->taken &&
		   limiter->turned_away_at <= TimestampTzPlusMilliseconds(now, -TURNED_AWAY_MS);
}

/* There is no limiter for it now: it waits for what it waited for, or for room. */
static int
wait_for_room(LlmRoute *route, TimestampTz now)
{
	if (route->shut_until <= now)
		route->wait_reason = LLM_WAIT_ROOM;
	route->wake_at = TimestampTzPlusMilliseconds(now, REASK_SHUT_MS);
	if (route->shut_until > now)
		route->wake_at = Min(route->wake_at, route->shut_until);
	return 0;
}

/* What the limiter says of itself, for the time until it is asked again. */
static void
note_limiter(LlmRoute *route, const LlmLimiter *limiter)
{
	bool paused = (limiter->pause_class != LLM_OK);

	route->shut = limiter->half_open;
	route->out = limiter->half_open && limiter->out;
	route->probing = limiter->half_open && limiter->probing;
	route->shut_until = !limiter->half_open ? 0 : paused ? limiter->paused_until
														 : limiter->not_before;
	route->pause_class = limiter->pause_class;
	route->repairs = limiter->repairs;
}

/*
 * How many requests may be granted for a way to ask that is not proven: one at a time at the target, which a host
 * that does not take it refuses at once.  One that is silent for a while is at work.
 */
static int
room_to_try(LlmRoute *route, int taken, TimestampTz now)
{
	if (route->refused)
		return 0;
	if (route->tried_at == 0)
		route->tried_at = now;
	if (route->proven || now >= TimestampTzPlusMilliseconds(route->tried_at, TRY_MS))
		return PG_INT32_MAX;
	return Max(1 - taken, 0);
}

void
llm_route_note_way(LlmRoute *route, LlmErrorClass class, bool refused)
{
	if (refused)
		route->refused = true;
	else if (llm_route_is_answer(class))
		route->proven = true;
}

static int
grant(LlmRoute *route, int want, bool check, TimestampTz now, uint32 *generation, int64 *tokens)
{
	int loosest = route->limits.max_concurrency;
	int loosest_of_old = 0; /* nobody tells it any more */
	int taken = count_taken(&routes, route, &loosest) + count_taken(&retired, route, &loosest_of_old);
	/* who checks is not kept waiting by others that wait for a silent host */
	int room = Min(Max(route->limits.max_concurrency - taken, 0), room_to_try(route, check ? 0 : taken, now));
	LlmLimiter *limiter = lock_limiter(route, check || route->shut_until <= now);
	int granted;

	if (limiter == NULL)
		return wait_for_room(route, now);
	llm_limiter_tell_concurrency(limiter, loosest, now);
	*tokens = (int64) (route->input_tokens + route->output_tokens + 0.5);
	if (check && room > 0)
		granted = llm_limiter_grant_check(limiter, &route->limits, *tokens, now, &route->wait_reason, &route->wake_at);
	else
		granted = llm_limiter_grant(limiter, &route->limits, Min(want, room), *tokens, now,
									&route->wait_reason, &route->wake_at);
	*generation = limiter->generation;
	note_limiter(route, limiter);
	route->taken += granted;
	route->alone = is_alone(route, limiter, granted < want, now);
	llm_limiter_unlock();
	if (route->wait_reason == LLM_WAIT_NONE && room < want)
		route->wait_reason = LLM_WAIT_CONCURRENCY;
	if (route->wait_reason == LLM_WAIT_NONE)
		route->wake_at = DT_NOBEGIN;
	else
		route->wake_at = Min(route->wake_at, reask_at(route, now));
	return granted;
}

int
llm_route_grant_apart(LlmRoute *route, int want, TimestampTz now, uint32 *generation, int64 *tokens)
{
	return grant(route, want, false, now, generation, tokens);
}

void
llm_route_grant_check(LlmRoute *route, TimestampTz now)
{
	route->granted = grant(route, 1, true, now, &route->generation_granted, &route->tokens_each);
}

bool
llm_route_is_shut(LlmRoute *route, TimestampTz now, TimestampTz *gate)
{
	LlmLimiter *limiter;

	if (route->looked_at != now)
	{
		limiter = lock_limiter(route, false);
		if (limiter != NULL)
		{
			note_limiter(route, limiter);
			llm_limiter_unlock();
		}
		else if (route->shut_until <= now)
			route->shut = route->out = route->probing = false;
		if (route->shut)
			route->wait_reason = route->pause_class != LLM_OK ? LLM_WAIT_PAUSED : LLM_WAIT_COOLDOWN;
		else if (route->wait_reason == LLM_WAIT_PAUSED || route->wait_reason == LLM_WAIT_COOLDOWN)
			route->wait_reason = LLM_WAIT_NONE;
		route->looked_at = now;
	}
	*gate = route->shut_until;
	return route->shut;
}

void
llm_route_grant(LlmRoute *route, int want, TimestampTz now)
{
	route->granted = llm_route_grant_apart(route, want, now, &route->generation_granted, &route->tokens_each);
}

int
llm_route_room(const LlmRoute *route, int slots, int in_flight)
{
	int left = slots - (in_flight - route->taken);
	int kept = (left > 1) ? Max(left / 4, 1) : 0;

	return Min(slots - in_flight, left - kept - route->taken);
}

void
llm_route_note_settled(LlmRoute *route)
{
	route->taken--;
}

void
llm_route_hold(LlmRoute *route, Size bytes)
{
	route->held += bytes;
	held += bytes;
}

void
llm_route_let_go(LlmRoute *route, Size bytes)
{
	route->held -= bytes;
	held -= bytes;
}

int64
llm_route_claim_bytes(void)
{
	if ((int64) held >= MEMORY_MOST_BYTES)
		return 0;
	return Max(Min(CLAIM_BYTES, MEMORY_BYTES - (int64) held), CLAIM_LEAST_BYTES);
}

bool
llm_route_has_memory(const LlmRoute *route)
{
	int64 left = MEMORY_BYTES - (int64) (held - route->held);

	return llm_route_claim_bytes() > 0 && (int64) route->held < Max(left / 4 * 3, CLAIM_LEAST_BYTES);
}

void
llm_route_give_back(LlmRoute *route, uint32 generation, int n, int64 tokens_each)
{
	LlmLimiter *limiter = llm_route_lock_limiter(route);

	llm_limiter_give_back(limiter, &route->limits, generation, n, tokens_each, llm_clock_steady());
	llm_limiter_unlock();
	route->taken -= n;
}

/* Has another route of the role to the same alias, which it was named by or the default, the same to say? */
static bool
is_said_by_another(const LlmRoute *route)
{
	dlist_iter iter;

	dlist_foreach(iter, &routes)
	{
		const LlmRoute *other = dlist_container(LlmRoute, node, iter.cur);

		if (other != route && (other->replaced || other->bereft) && other->role == route->role &&
			strcmp(other->target->alias, route->target->alias) == 0)
			return true;
	}
	return false;
}

void
llm_route_report_fallback(LlmRoute *route, const char *problem, const char *hint)
{
	char *subject = psprintf("fallback of model \"%s\"", route->target->alias);

	route->replaced = (problem != NULL);
	route->bereft = false;
	if (problem != NULL || !is_said_by_another(route))
		llm_shmem_report_problem_of(route->role, subject, problem, hint);
	pfree(subject);
}
