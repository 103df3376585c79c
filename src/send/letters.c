/*-------------------------------------------------------------------------
 *
 * letters.c
 *	  The sender's half of immediate calls: letters of backends become requests.
 *
 * A letter is asked like a task: by the same routes, limits, checks and retries, and each
 * of its requests is on the ledger.  But somebody waits for it.  So it has no row of the
 * queue; its question stays in shared memory, where it may be as long as an input, and its
 * answer goes back there.  What is on disk while a request is under way is its bill
 * (llm.letter), so that a crash loses none.
 *
 *	  waiting ──── grant, row, commit ────► under way ──── answer, stored ────► replied
 *	     ▲                                      │
 *	     └────── at fault, limited, 5xx ────────┘
 *
 * Letters are held here in the order of the boxes that they came from.  Places go to their
 * routes in turn, so to roles and models, and within a route to the letter that came first.
 * While rows wait for the same target, letters leave them a quarter of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/guc.h"
#include "send/afford.h"
#include "send/joblist.h"
#include "send/letter_state.h"
#include "send/letters.h"
#include "send/part.h"
#include "send/route_hint.h"
#include "tables/ledger.h"
#include "tables/letter_row.h"
#include "tables/recipe.h"
#include "tables/sum.h"

/* Letters held at a time, under way or not; the others stay in their boxes.  Half of them are shared out. */
#define MOST_HELD 2048

/* Rows of dead senders that are booked in one transaction: more than a request has. */
#define ORPHAN_ROWS 500
StaticAssertDecl(ORPHAN_ROWS > LLM_MOST_INPUTS, "a request has more rows than are booked at once");

/* While rows wait for the same limit, they go first every so many times. */
#define ROWS_TURN 4

/* Of llm.check(), by one role at one target at a time. */
#define MAX_TRIALS 8

/* All static: the sender's life. */
static dlist_head kept = DLIST_STATIC_INIT(kept); /* whose answers were found, and are being booked */
static LlmLetterGrant grant = {0}; /* what is left is handed back by undo() */
static List *made = NIL; /* requests of the transaction under way, in its memory */
static int turn = 0;

void
llm_letters_init(void)
{
	LlmLetterReply reply = {.outcome = LLM_LETTER_LEFT};
	StringInfoData bytes;

	reply.message = "the sender ended while the request was under way";
	reply.hint = "The request is booked as unknown. Ask again.";
	llm_letter_write_reply(&reply, &bytes);
	llm_mailbox_set_farewell(bytes.data, bytes.len);
	pfree(bytes.data);
}

/*
 * Waiting
 */

/*
 * How many letters of one session may be held now.  Those whose target hangs stay long: however many these are, the
 * sessions that ask share one half, and near its end each has one more at least.
 */
static int
most_of_session(int share)
{
	int held = llm_letters_count_held();

	if (held < MOST_HELD / 2)
		return MOST_HELD;
	return held < MOST_HELD - Min(MaxBackends, MOST_HELD / 4) ? share : 1;
}

/* Collect from the boxes.  What a session waits for is always taken, and no session waits for two. */
static void
collect(TimestampTz now)
{
	int share = Max(MOST_HELD / 2 / Max(llm_mailbox_count_askers(), 1), 1);
	LlmTaken taken;

	while (llm_mailbox_take(&taken, most_of_session(share)))
		llm_letters_hold(&taken, now);
}

static void
set_role_name(LlmLetter *letter)
{
	char *role_name = GetUserNameFromId(letter->question.role, true);

	if (letter->facts.role_name == NULL)
		letter->facts.role_name = MemoryContextStrdup(letter->context, role_name == NULL ? "" : role_name);
}

/* The answer before was paid in vain, as its backend has found out. */
static void
store_waste(LlmLetter *letter)
{
	if (letter->wasted == NULL || letter->stored_waste)
		return;
	set_role_name(letter);
	llm_sum_wasted(&letter->facts, letter->wasted);
	letter->stored_waste = true;
}

/* What each letter is looked up by; once. */
static void
prepare(LlmLetter *letter)
{
	if (letter->recipe != 0)
		return;
	set_role_name(letter);
	letter->task = llm_letter_row_next_task();
	letter->recipe = llm_recipe_find_or_add(llm_letters_operation(letter), letter->question.spec);
}

/*
 * Where it goes now.  A caller that tries a model on purpose wants no other; nor does one that
 * wants vectors, which compare only within a model.
 */
static LlmRoute *
find_route(LlmLetter *letter, TimestampTz now)
{
	LlmRoute *other = NULL;

	letter->probes = false;
	letter->home = llm_route_find_current(letter->question.model, letter->question.role, letter->kind, now);
	if (llm_letters_is_trial(letter) || letter->kind == LLM_REQUEST_EMBED)
		return letter->home;
	if (letter->elsewhere)
		other = llm_route_fallback(letter->home);
	return other != NULL ? other : llm_route_now(letter->home, letter->not_before <= now, now, &letter->probes);
}

/* Find the routes of all, and end those that nobody waits for, or that can never be sent. */
static void
find_routes(TimestampTz now)
{
	uint64 version = llm_route_version();
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, llm_letters_waiting())
	{
		LlmLetter *letter = dlist_container(LlmLetter, node, iter.cur);
		LlmRoute *route;

		letter->route = NULL;
		letter->short_of_money = false; /* whatever it waits for now; told again where that is it */
		store_waste(letter);
		if (letter->question.over || !llm_mailbox_is_wanted(&letter->taken))
		{
			llm_letters_end_waiting(letter, LLM_LETTER_LEFT, NULL, NULL);
			continue;
		}
		if (!llm_guc_enabled)
		{
			llm_letters_end_waiting(letter, LLM_LETTER_UNUSABLE, "sending is turned off",
									"Set \"llm_enrich.enabled\" to on and reload the configuration.");
			continue;
		}
		route = letter->route = find_route(letter, now);
		if (route->problem != NULL)
			llm_letters_end_waiting(letter, LLM_LETTER_UNUSABLE, route->problem, route->target->hint);
		else
			prepare(letter);
	}
	if (version != llm_route_version())
		llm_joblist_route(now);
}

/* Does patience count?  Not where the letter only waits for its turn: llm.check() does not wait for one. */
static bool
is_tried(const LlmLetter *letter, LlmWaitReason reason)
{
	return llm_letters_is_trial(letter) || letter->troubled ||
		   (reason != LLM_WAIT_NONE && reason != LLM_WAIT_CONCURRENCY);
}

/* Why the route waits, in a sentence. */
static char *
wait_text(LlmRoute *route)
{
	const char *reason = llm_route_reason(route);

	return psprintf("model \"%s\" at server \"%s\" waits (%s); see llm.health",
					route->target->model, route->target->server,
					reason != NULL ? reason : llm_limiter_reason_name(route->wait_reason));
}

/* The route is paused, and only a person can change that. */
static void
end_paused(LlmLetter *letter, LlmRoute *route)
{
	if (llm_letters_is_trial(letter))
		llm_letters_end_waiting(letter, LLM_LETTER_IMPATIENT, wait_text(route), NULL);
	else
		llm_letters_end_waiting(letter, LLM_LETTER_UNUSABLE, llm_error_pause_text(route->pause_class),
								llm_route_hint(route->target, route->pause_class, route->cause));
}

/* Those of the route that were not granted: how long may they wait? */
static void
look_at_rest(LlmRoute *route, bool asked, TimestampTz now)
{
	LlmWaitReason reason = asked ? route->wait_reason : LLM_WAIT_CONCURRENCY;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, llm_letters_waiting())
	{
		LlmLetter *letter = dlist_container(LlmLetter, node, iter.cur);
		bool tried;

		if (letter->route != route || letter->short_of_money)
			continue;
		if (letter->probes)
		{
			letter->wake_at = DT_NOBEGIN; /* it could not try it, and goes on */
			continue;
		}
		tried = is_tried(letter, reason);
		if (reason == LLM_WAIT_PAUSED)
			end_paused(letter, route);
		else if (tried && llm_letters_is_impatient(letter, now))
			llm_letters_end_waiting(letter, LLM_LETTER_IMPATIENT, wait_text(route), NULL);
		else
		{
			letter->wake_at = Max(letter->not_before, asked ? route->wake_at : DT_NOEND);
			if (tried)
				letter->wake_at = Min(letter->wake_at, TimestampTzPlusMilliseconds(letter->waits_since,
																				   letter->question.patience_ms));
		}
	}
}

/*
 * Requests
 */

/* Make requests of the loads as far as the grant goes; how many. */
static int
make_requests(List *loads, TimestampTz now)
{
	int granted = grant.left;
	int unused;
	ListCell *lc;

	foreach(lc, loads)
	{
		LlmRequest *request;

		if (grant.left == 0)
			break;
		request = llm_letters_make_request(lfirst(lc), &grant, now);
		if (request == NULL)
			continue;
		made = lappend(made, request);
		grant.left--;
	}
	unused = grant.left;
	if (unused > 0)
		llm_route_give_back(grant.route, grant.generation, unused, grant.tokens);
	grant.left = 0;
	return granted - unused;
}

/* Do rows go first, this time?  Only where a rate is what both wait for. */
static bool
is_rows_turn(const LlmRoute *route)
{
	if (route->wait_reason != LLM_WAIT_REQUESTS && route->wait_reason != LLM_WAIT_TOKENS)
		return false;
	return llm_letters_do_rows_wait(route) && ++turn % ROWS_TURN == 0;
}

/* The routes that letters wait for, each once, in the order of the first letter. */
static List *
list_routes(void)
{
	List *routes = NIL;
	dlist_iter iter;

	dlist_foreach(iter, llm_letters_waiting())
	{
		LlmRoute *route = dlist_container(LlmLetter, node, iter.cur)->route;

		routes = list_append_unique_ptr(routes, route);
	}
	return routes;
}

/*
 * A trial goes out where the target is shut, too: what it brings may open it.  Those of one role that
 * hang leave places for others'.
 */
static int
serve_trials(LlmRoute *route, TimestampTz now)
{
	int most = MAX_TRIALS - llm_letters_count_trials(route);
	int served = 0;
	ListCell *lc;

	foreach(lc, llm_letters_load(llm_letters_waiting(), route, true, now))
	{
		if (served >= most)
		{
			route->wait_reason = LLM_WAIT_CONCURRENCY;
			break;
		}
		llm_route_grant_check(route, now);
		grant.route = route;
		grant.left = route->granted;
		grant.generation = route->generation_granted;
		grant.tokens = route->tokens_each;
		route->granted = 0;
		if (grant.left == 0)
			break;
		served += make_requests(list_make1(lfirst(lc)), now);
	}
	return served;
}

/* Ask for places for the letters of a route, at most so many; how many it got. */
static int
serve(LlmRoute *route, int most, int slots, int in_flight, TimestampTz now)
{
	int trials = serve_trials(route, now);
	int room = Min(most, llm_route_room(route, slots, in_flight + trials));
	List *loads = NIL;
	int want;
	bool asked;

	room = Min(room, llm_letters_room_beside_rows(route));
	if (room > 0)
		loads = llm_letters_load(llm_letters_waiting(), route, false, now);
	want = Min(list_length(loads), room);
	asked = want > 0 && !is_rows_turn(route);
	if (asked)
	{
		grant.route = route;
		grant.left = llm_route_grant_apart(route, want, now, &grant.generation, &grant.tokens);
		want = make_requests(loads, now);
	}
	look_at_rest(route, asked, now);
	return trials + (asked ? want : 0);
}

/* What a request is estimated to take is divided as its bill will be. */
static void
fill_rows(const LlmRequest *request, LlmLetterRow *rows)
{
	int n = request->nflights;
	LlmUsage usage = {.input = request->input_tokens, .output = (int64) (request->route->output_tokens + 0.5)};
	int64 *weights = palloc(sizeof(int64) * n);
	LlmUsage *parts = palloc(sizeof(LlmUsage) * n);

	for (int i = 0; i < n; i++)
		weights[i] = (int64) request->flights[i].input_len;
	llm_part_usage(&usage, weights, n, parts);
	for (int i = 0; i < n; i++)
	{
		const LlmFlight *flight = &request->flights[i];
		LlmLetterRow *row = &rows[i];

		row->carried = (i > 0);
		row->task = flight->task;
		row->attempt = flight->attempt;
		row->role = flight->letter->question.role;
		row->facts = &flight->letter->facts;
		row->server = flight->settlement.server;
		row->model = flight->settlement.model;
		row->price = flight->settlement.price;
		row->input_tokens = parts[i].input;
		row->output_tokens = parts[i].output;
		row->reserved = flight->settlement.reserved;
	}
	pfree(weights);
	pfree(parts);
}

static void
store_rows(void)
{
	int n = 0;
	LlmLetterRow *rows;
	ListCell *lc;

	foreach(lc, made)
		n += ((LlmRequest *) lfirst(lc))->nflights;
	if (n == 0)
		return;
	rows = palloc0(sizeof(LlmLetterRow) * n);
	n = 0;
	foreach(lc, made)
	{
		fill_rows(lfirst(lc), &rows[n]);
		n += ((LlmRequest *) lfirst(lc))->nflights;
	}
	llm_letter_row_add(rows, n);
	n = 0;
	foreach(lc, made)
	{
		LlmRequest *request = lfirst(lc);

		request->id = rows[n].request;
		for (int i = 0; i < request->nflights; i++)
			request->flights[i].settlement.request = request->id;
		n += request->nflights;
	}
}

List *
llm_letters_take(int slots, int in_flight, TimestampTz now)
{
	List *routes;
	ListCell *lc;
	int nroutes;
	dlist_iter iter;

	made = NIL;
	dlist_foreach(iter, llm_letters_owing()) /* of a transaction that has failed */
		store_waste(dlist_container(LlmLetter, node, iter.cur));
	collect(now);
	if (dlist_is_empty(llm_letters_waiting()))
		return NIL;
	find_routes(now);
	llm_letters_find_kept(llm_letters_waiting(), &kept);
	routes = list_routes();
	nroutes = list_length(routes);
	foreach(lc, routes)
	{
		/* what the routes before it have left of the places, divided among the rest */
		int left = nroutes - foreach_current_index(lc);

		in_flight += serve(lfirst(lc), Max((slots - in_flight) / left, 1), slots, in_flight, now);
	}
	store_rows();
	return made;
}

/* Committed: another sender is not to book it again. */
static void
keep_waste(LlmLetter *letter)
{
	if (!letter->stored_waste)
		return;
	if (!letter->told)
		*letter->taken.mark = true;
	letter->wasted = NULL;
	letter->stored_waste = false;
}

void
llm_letters_keep(LlmPass *pass)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, llm_letters_waiting())
		keep_waste(dlist_container(LlmLetter, node, iter.cur));
	foreach_ptr(LlmRequest, request, pass->letters)
	{
		for (int i = 0; i < request->nflights; i++)
			keep_waste(request->flights[i].letter);
	}
	dlist_foreach_modify(iter, llm_letters_owing())
	{
		LlmLetter *letter = dlist_container(LlmLetter, node, iter.cur);

		keep_waste(letter);
		if (letter->wasted != NULL)
			continue;
		dlist_delete(&letter->node);
		llm_letters_free(letter);
	}
	dlist_foreach_modify(iter, &kept)
	{
		LlmLetter *letter = dlist_container(LlmLetter, node, iter.cur);
		LlmLetterReply reply = {.outcome = LLM_LETTER_ANSWERED, .kept = true, .answer = letter->kept};

		reply.booked = "cached";
		reply.server = letter->kept_server;
		reply.model = letter->kept_model;
		llm_letters_tell(letter, &reply);
		dlist_delete(&letter->node);
		llm_letters_free(letter);
	}
}

void
llm_letters_launched(List *requests)
{
	ListCell *lc;

	foreach(lc, requests)
	{
		LlmRequest *request = lfirst(lc);

		for (int i = 0; i < request->nflights; i++)
			llm_mailbox_set_sent(&request->flights[i].letter->taken, true);
	}
	made = NIL;
}

/*
 * Failures
 */

/* The request was not sent after all. */
static void
take_back(LlmRequest *request)
{
	for (int i = 0; i < request->nflights; i++)
	{
		LlmLetter *letter = request->flights[i].letter;

		letter->attempt--;
		dlist_push_tail(llm_letters_waiting(), &letter->node);
	}
	llm_letters_leave(request);
	llm_request_give_back(request);
	llm_request_free(request);
}

void
llm_letters_undo(dlist_head *landed, const char *why)
{
	dlist_mutable_iter iter;
	ListCell *lc;
	char *message = psprintf("the sender could not store the request: %s", why);

	if (grant.left > 0)
		llm_route_give_back(grant.route, grant.generation, grant.left, grant.tokens);
	grant.left = 0;
	foreach(lc, made)
		take_back(lfirst(lc));
	made = NIL;
	while (!dlist_is_empty(&kept))
		dlist_push_tail(llm_letters_waiting(), dlist_pop_head_node(&kept));
	dlist_foreach_modify(iter, llm_letters_waiting())
	{
		LlmLetter *letter = dlist_container(LlmLetter, node, iter.cur);

		letter->route = NULL;
		llm_letters_end_waiting(letter, LLM_LETTER_NOT_STORED, message, "See the server's log.");
	}
	dlist_foreach_modify(iter, llm_letters_owing())
		dlist_container(LlmLetter, node, iter.cur)->stored_waste = false;
	dlist_foreach_modify(iter, landed)
	{
		LlmFlight *flight = dlist_container(LlmFlight, node, iter.cur);
		LlmLetterReply answer = {.outcome = LLM_LETTER_NOT_STORED};

		if (flight->letter == NULL || flight->letter->told)
			continue;
		answer.message = psprintf("the sender could not store the answer: %s", why);
		answer.hint = "It is booked as soon as it can be.";
		llm_letters_tell(flight->letter, &answer);
	}
}

int
llm_letters_recover(void)
{
	LlmSettlement **settlements;
	int n = llm_letter_row_orphans(ORPHAN_ROWS, &settlements);
	int64 *requests = palloc(sizeof(int64) * Max(n, 1));

	/* the last request may go on behind them, and goes as a whole */
	if (n == ORPHAN_ROWS)
	{
		int64 last = settlements[n - 1]->request;

		while (n > 0 && settlements[n - 1]->request == last)
			n--;
	}
	for (int i = 0; i < n; i++)
	{
		requests[i] = settlements[i]->request;
		settlements[i]->carried = i > 0 && requests[i] == requests[i - 1];
	}
	if (n > 0)
	{
		llm_money_resume();
		llm_ledger_record(settlements, n);
		llm_afford_settle(settlements, n);
		llm_money_flush();
	}
	llm_letter_row_remove(requests, n);
	return n;
}
