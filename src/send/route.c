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
#include "base/compat.h"
#include "base/error.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "catalog/fdw.h"
#include "catalog/secret.h"
#include "limiter/limiter_shared.h"
#include "send/route.h"
#include "send/route_address.h"
#include "send/route_hint.h"
#include "send/route_table.h"

/* A problem may be solved outside of the catalog (a key file): look again after so long. */
#define PROBLEM_RECHECK_MS 5000

/* Until answers tell better: a short question and a short answer. */
#define FIRST_INPUT_TOKENS 300
#define FIRST_OUTPUT_TOKENS 50

/* No generation of the catalog: what has it is out of date. */
#define GENERATION_NONE 0

/*
 * Routes of a role that are made again at a time, which takes about a tenth of a millisecond for each: its others
 * wait, and nothing is sent by them.  So a role with hundreds of models whose key changes holds up nobody else.
 */
#define REFRESH_MOST 8
#define REFRESH_MS 10

/* How many of a role were made since "refreshed_at". */
typedef struct LlmRoleRefresh
{
	Oid role;
	int made;
} LlmRoleRefresh;

/* Sender's life. */
static int outdated = 0; /* routes that the last refresh has left */
static List *refreshes = NIL; /* LlmRoleRefresh */
static TimestampTz refreshed_at = DT_NOBEGIN;
static uint64 made = 0; /* in all */
static dlist_head routes = DLIST_STATIC_INIT(routes);
static dlist_head retired = DLIST_STATIC_INIT(retired); /* stale, with requests in flight, or known to a job */
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
	uint64 changes = llm_catalog_mapping_changes();

	route->context = context;
	route->number = ++made;
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
	llm_catalog_watch_mapping(role, route->target->server_oid, &route->mapping);
	if (changes != llm_catalog_mapping_changes())
		route->mapping.changes = PG_UINT64_MAX; /* while the key was read: it is out of date */
	route->expires_at = route->problem == NULL ? DT_NOEND : TimestampTzPlusMilliseconds(now, PROBLEM_RECHECK_MS);
	MemoryContextSwitchTo(saved);
	dlist_push_tail(&routes, &route->node);
	llm_route_table_add(route);
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

LlmLimiter *
llm_route_try_limiter(const LlmRoute *route, bool create)
{
	return llm_limiter_lock(route->host, route->fingerprint, route->limited, route->role, create);
}

LlmLimiter *
llm_route_lock_limiter(const LlmRoute *route)
{
	LlmLimiter *limiter = llm_route_try_limiter(route, false);

	if (limiter == NULL)
		elog(ERROR, "the limiter of model \"%s\" is gone, with requests in flight", route->target->model);
	return limiter;
}

/* What it was paused for may be over: one request may try. */
static void
unpause(LlmRoute *route)
{
	LlmLimiter *limiter = llm_route_try_limiter(route, false);

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
	llm_route_table_remove(route);
	version++;
	if (route->reported)
		llm_route_report(route, NULL, NULL);
	if (route->replaced || route->bereft)
		llm_route_report_fallback(route, NULL, NULL);
	route->stale = true;
	dlist_push_tail(&retired, &route->node);
}

void
llm_route_sweep(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &retired)
	{
		LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (route->in_flight == 0)
			free_route(route);
	}
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

static bool
is_outdated(const LlmRoute *route, TimestampTz now)
{
	return !llm_route_is_current(route) || route->expires_at <= now;
}

bool
llm_route_is_current(const LlmRoute *route)
{
	return route->generation == llm_catalog_generation() && !llm_catalog_has_mapping_changed(&route->mapping);
}

/* May one more of the role be made again now? */
static bool
take_refresh(Oid role)
{
	MemoryContext saved;
	LlmRoleRefresh *refresh;

	foreach_ptr(LlmRoleRefresh, other, refreshes)
	{
		if (other->role == role)
			return other->made++ < REFRESH_MOST;
	}
	saved = MemoryContextSwitchTo(TopMemoryContext);
	refresh = palloc(sizeof(LlmRoleRefresh));
	refresh->role = role;
	refresh->made = 1;
	refreshes = lappend(refreshes, refresh);
	MemoryContextSwitchTo(saved);
	return true;
}

/* Routes that nobody wants go; of the others those with requests under way come first. */
void
llm_route_refresh(TimestampTz now)
{
	dlist_mutable_iter iter;

	if (refreshed_at > now || refreshed_at <= TimestampTzPlusMilliseconds(now, -REFRESH_MS))
	{
		refreshed_at = now;
		list_free_deep(refreshes);
		refreshes = NIL;
	}
	outdated = 0;
	for (int round = 0; round < 2; round++)
	{
		dlist_foreach_modify(iter, &routes)
		{
			LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

			if (round == 0 && route->wanted)
				route->wanted_at = now;
			if (!is_outdated(route, now) && !is_told_in_vain(route, now))
				route->wanted = false;
			else if (!route->wanted && round == 0)
				retire(route);
			else if (!route->wanted)
				outdated++; /* since the first round: somebody may want it, who will say so */
			else if (round == 0 && route->taken == 0)
				continue;
			else if (take_refresh(route->role))
				replace_route(route, now);
			else if (round == 1)
				outdated++;
		}
	}
}

TimestampTz
llm_route_refresh_due(void)
{
	return outdated > 0 ? TimestampTzPlusMilliseconds(refreshed_at, REFRESH_MS) : DT_NOEND;
}

bool
llm_route_are_current(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &routes)
	{
		const LlmRoute *route = dlist_container(LlmRoute, node, iter.cur);

		if (route->front > 0 && !llm_route_is_current(route))
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

LlmRoute *
llm_route_find_current(const char *alias, Oid role, LlmRequestKind kind, TimestampTz now)
{
	LlmRoute *route = llm_route_find(alias, role, kind, now);
	LlmRoute *other;

	if (is_outdated(route, now))
	{
		replace_route(route, now);
		route = llm_route_find(alias, role, kind, now);
	}
	other = llm_route_of_fallback(route);
	if (other != NULL && is_outdated(other, now))
	{
		replace_route(other, now);
		llm_route_want(route);
	}
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
	route->in_flight--;
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

dlist_head *
llm_route_retired(void)
{
	return &retired;
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
