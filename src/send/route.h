/*-------------------------------------------------------------------------
 *
 * route.h
 *	  A route is where the tasks of a (model alias, role, kind of request) go: the resolved
 *	  target, its key, its limiter's name, and what its answers are like.
 *
 *	  refresh()  at the start of a pass: drops what the catalog has outdated
 *	  find()     inside a transaction; good until the next refresh()
 *	  release()  for each use() when its request is over
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ROUTE_H
#define LLM_ROUTE_H

#include "base/llm_enrich.h"

#include "catalog/catalog_target.h"
#include "catalog/catalog_watch.h"
#include "dialect/dialect.h"
#include "http/http.h"
#include "lib/ilist.h"
#include "limiter/limiter.h"

/* Where the requests of a kind go; "url" is NULL where the dialect has none of it.  The key may be in URL and headers. */
typedef struct LlmRouteAddress
{
	const char *method;
	const char *url;
	const char *template; /* the same with "%s" in the place of the key */
	char **headers; /* whole lines and a NULL */
} LlmRouteAddress;

typedef struct LlmRoute
{
	dlist_node node;
	dlist_node bucket_node; /* route_table.c */
	MemoryContext context; /* everything below, and this struct */
	uint64 number; /* tells it from all that were, or will be, at the same place in memory */
	uint64 generation; /* of the catalog it was made from */
	LlmMappingWatch mapping; /* that its key may be of, or come to be of */
	TimestampTz expires_at; /* a route with a problem is tried again then */
	bool stale; /* replaced; goes when its last request is over */
	bool wanted; /* somebody asked for it since the last refresh */
	TimestampTz wanted_at; /* of the last refresh that somebody had asked for it before */
	int in_flight; /* requests that use it */
	int taken; /* granted by the limiter, and neither settled nor given back yet */
	int letters; /* of these, for immediate calls */
	int trials; /* of these, those of llm.check() */
	Size held; /* bytes of the bodies of its requests that are not over and stored */

	bool alone; /* nobody else has, or wants, requests in flight at the target */

	/* ahead.c */
	dlist_head ahead_list; /* LlmRequest: claimed, and no grant was asked for yet */
	int ahead; /* so many */
	int leaving; /* of these, granted just now */
	uint32 leaving_generation;
	int64 leaving_tokens;
	int answers; /* since counted_at */
	TimestampTz counted_at;
	int enough; /* to have ahead, at the rate of the answers */

	const char *alias; /* or NULL: the default model */
	Oid role;
	LlmRequestKind kind; /* a target that takes chats may know no vectors, or shut for them alone */
	const LlmTarget *target;
	const char *problem; /* NULL when usable */
	const LlmDialect *dialect;
	LlmEndpoint endpoint;
	LlmRouteAddress addresses[LLM_REQUEST_KINDS]; /* those of a kind that the dialect has; wiped when the route goes */
	char *key; /* NULL: there is none */
	LlmHttpNetwork network;
	char *proxy_password; /* or NULL; wiped likewise */
	const char *host; /* base_url up to the path: names the limiter */
	const char *limited; /* as does this: the model, and the kind where that is not a chat */
	uint64 fingerprint;
	LlmLimits limits;

	/* moving averages, for limits and for the cost of answers that never came */
	double input_tokens;
	double output_tokens;
	bool reasons; /* its model thinks before it answers, or may */

	/* as of the last pass */
	int front_priority; /* highest of its jobs that have something to send */
	int front; /* how many of these have that priority */
	int granted; /* by the limiter and not used yet */
	int kept_now; /* tasks of this claim whose answers were kept; -1: some were not */
	int kept_run; /* claims brought nothing else lately: so many may be claimed without a grant */
	uint32 generation_granted; /* of the limiter */
	int64 tokens_each; /* what a request weighs for the limiter */
	LlmWaitReason wait_reason;
	TimestampTz shut_until; /* as the limiter said last: holds also when it is gone */
	TimestampTz looked_at; /* by is_shut() */
	bool shut; /* as found then */
	bool out; /* so is this: of the limiter, see there */
	bool probing; /* and this */
	TimestampTz probe_at; /* while its fallback is asked: it gets no request to try before */
	bool replaced; /* its fallback is asked, as llm.health says */
	char *instead; /* in these words; NULL: its predecessor's */
	bool bereft; /* its fallback is left out, as llm.health says */
	char *unfit; /* as a fallback it has refused a request for another model, and would refuse all: why; else NULL */
	TimestampTz unfit_at;
	uint32 repairs; /* of the limiter then */
	LlmErrorClass pause_class; /* of the limiter, where the reason is a pause */
	TimestampTz wake_at;
	char *silence; /* the last failure while a cool-down for want of answers lasts, else NULL */
	char *pause; /* why the target is paused, in the provider's words where this route has heard them; or NULL */
	LlmErrorClass pause_of; /* that class it is about */
	/* how the host is spoken to: known to do, or asked by one request first */
	bool proven;
	bool refused; /* it does not do: nothing leaves until the route is made again */
	TimestampTz tried_at; /* it asked for its first request; 0: not yet */

	LlmHttpCause cause; /* of the last failure, where it is known */
	bool reported; /* a problem of it stands in llm.health */
	bool reported_in_doubt; /* for a refusal that may be a row's fault */
} LlmRoute;

extern void llm_route_refresh(TimestampTz now);

/* When to refresh again since there was more to do than one does; DT_NOEND: not for that. */
extern TimestampTz llm_route_refresh_due(void);

/* Was it made from the catalog as it is?  Else nothing is sent by it until it is made again. */
extern bool llm_route_is_current(const LlmRoute *route);

/* Has the catalog not changed for those that jobs are served by in this pass? */
extern bool llm_route_are_current(void);

/* Changes when a route has gone out of use, which is stale then: who keeps one over a refresh must find it again. */
extern uint64 llm_route_version(void);

/* Nobody keeps a stale one any more, but for requests in flight. */
extern void llm_route_sweep(void);

/* With it goes the route of its model's fallback, if there is one. */
extern LlmRoute *llm_route_find(const char *alias, Oid role, LlmRequestKind kind, TimestampTz now);

/* The same; one that is out of date, or whose fallback is, is made again.  As after a refresh: find others again. */
extern LlmRoute *llm_route_find_current(const char *alias, Oid role, LlmRequestKind kind, TimestampTz now);

/* One that there is already, or NULL; also outside of a transaction. */
extern LlmRoute *llm_route_look_up(const char *alias, Oid role, LlmRequestKind kind);

/* The route of its model's fallback, whether that may be asked or not; or NULL: vectors of two models do not compare. */
extern LlmRoute *llm_route_of_fallback(const LlmRoute *route);

/* Somebody still asks for it, and for its fallback. */
extern void llm_route_want(LlmRoute *route);
extern void llm_route_use(LlmRoute *route);
extern void llm_route_release(LlmRoute *route);

/* Its target was shut when it was asked last, or had no limiter, and it has nothing there. */
extern bool llm_route_is_left_out(const LlmRoute *route);

/* And it need not be asked for a grant before wake_at. */
extern bool llm_route_is_waiting(const LlmRoute *route, TimestampTz now);

/*
 * Ask the route's limiter for up to "want" requests; what it grants is in flight
 * from then on, in route->granted.  Settled each by settle() and noted as such, or
 * handed back.
 */
extern LlmLimiter *llm_route_lock_limiter(const LlmRoute *route); /* of a request in flight */
extern void llm_route_grant(LlmRoute *route, int want, TimestampTz now);

/* The same for what route->granted is not to know of: how many, and what settle() or give_back() is to be told. */
extern int llm_route_grant_apart(LlmRoute *route, int want, TimestampTz now, uint32 *generation, int64 *tokens);

/* One request for llm.check(), also where the target is shut; otherwise as grant(). */
extern void llm_route_grant_check(LlmRoute *route, TimestampTz now);

/*
 * Is the target shut, and until when?  Says so in what the route waits for, too; route->repairs
 * is up to date then.
 */
extern bool llm_route_is_shut(LlmRoute *route, TimestampTz now, TimestampTz *gate);

/* Do both ask the same limiter? */
extern bool llm_route_shares_limiter(const LlmRoute *a, const LlmRoute *b);

extern void llm_route_note_settled(LlmRoute *route);
extern void llm_route_give_back(LlmRoute *route, uint32 generation, int n, int64 tokens_each);

/*
 * Fallbacks (route_fallback.c).  Where to send now what is for a route: there, unless it is out and its
 * fallback is not.  One that is out gets a request to try when its time has come: with "may_probe" that may be
 * the caller's, and *probe says that it is.
 */
extern LlmRoute *llm_route_now(LlmRoute *route, bool may_probe, TimestampTz now, bool *probe);

/* Its fallback, where that may be asked at all; or NULL. */
extern LlmRoute *llm_route_fallback(const LlmRoute *route);

/* The same, if it is not out itself. */
extern LlmRoute *llm_route_fallback_now(const LlmRoute *route, TimestampTz now);

/* When llm_route_now() may say something else of a route whose fallback is asked. */
extern TimestampTz llm_route_look_at(const LlmRoute *route);

/*
 * A request that came here as to the fallback of its model was refused for what the target is: it is left out from
 * now on, and llm.health says why, until the catalog changes, it answers somebody, or ten minutes are over.
 */
extern void llm_route_leave_out(LlmRoute *fallback, const char *why, TimestampTz now);

/* The target has answered a chat, so that no route to it is left out any more. */
extern void llm_route_note_fit(const LlmRoute *route);

/* Those that have been left out long enough may be tried again. */
extern void llm_route_try_unfit(TimestampTz now);

/* Keys may have changed: the next refresh replaces all routes, and lets paused targets try. */
extern void llm_route_forget_all(void);

/* Has the model read the question, whatever it made of it, so that key, address and name are right? */
extern bool llm_route_is_answer(LlmErrorClass class);

/* An answer of this class came, and whether the host refused how it was asked. */
extern void llm_route_note_way(LlmRoute *route, LlmErrorClass class, bool refused);

/* All have been asked for: those that were granted something come after the others from now on. */
extern void llm_route_end_turn(void);

/* How many more requests the route may have in flight, as far as slots go. */
extern int llm_route_room(const LlmRoute *route, int slots, int in_flight);

/* A request of the route holds so many bytes more, or less. */
extern void llm_route_hold(LlmRoute *route, Size bytes);
extern void llm_route_let_go(LlmRoute *route, Size bytes);

/*
 * Bytes of inputs that may be claimed now, though a single input may have more; 0: nothing.  May a route's tasks
 * be among them, or does it hold what is its share?
 */
extern int64 llm_route_claim_bytes(void);
extern bool llm_route_has_memory(const LlmRoute *route);

/* All routes that are not stale. */
extern dlist_head *llm_route_all(void);

/* Those that went out of use, with requests in flight. */
extern dlist_head *llm_route_retired(void);

/* Its limiter in shared memory, locked; NULL when there is none, and none is to be made or no room. */
extern LlmLimiter *llm_route_try_limiter(const LlmRoute *route, bool create);

/* Show what is wrong with the route in llm.health and, once a minute, in the log; NULL: nothing is. */
extern void llm_route_report(LlmRoute *route, const char *problem, const char *hint);

/* Show there why its fallback is asked instead; NULL: it is not. */
extern void llm_route_report_fallback(LlmRoute *route, const char *problem, const char *hint);

/*
 * A request came back with this class and, unless it was answered well, this message, which
 * quotes nothing from a row.
 * Shows in llm.health what keeps the target shut, and takes it away again.
 */
extern void llm_route_note_answer(LlmRoute *route, LlmErrorClass class, const char *message, bool shut);

/*
 * Tell the log that the target is shut for long, or goes on.  No word of the provider's, which
 * may be somebody's input.
 */
extern void llm_route_log_turn(const LlmRoute *route, LlmLimiterTurn turn, LlmErrorClass class,
							   TimestampTz until);

/*
 * The same for a refusal that may be the row's fault alone: of the target no more is said than why it
 * is shut, as long as it is in doubt; doubt_over(): the row was final, and it was not the target.
 */
extern void llm_route_note_doubtful(LlmRoute *route, LlmErrorClass class, const char *message, bool shut);
extern void llm_route_doubt_over(LlmRoute *route);
/* One text for llm.job.reason; NULL when the route does not wait. */
extern const char *llm_route_reason(LlmRoute *route);

#endif /* LLM_ROUTE_H */
