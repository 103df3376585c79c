/*-------------------------------------------------------------------------
 *
 * route_reason.c
 *	  Why a route waits: what its provider said last, as llm.health, llm.progress and the log tell it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/error.h"
#include "send/route.h"
#include "send/route_hint.h"

static bool
is_no_answer(LlmErrorClass class)
{
	return class == LLM_ERR_TRANSIENT || class == LLM_ERR_TIMEOUT || class == LLM_ERR_UNKNOWN ||
		   class == LLM_ERR_LOCAL || class == LLM_ERR_DROPPED;
}

/* Remember why the target cools down, or with NULL that it does not for want of answers. */
static void
set_silence(LlmRoute *route, const char *message)
{
	if (route->silence != NULL)
		pfree(route->silence);
	route->silence = NULL;
	if (message != NULL)
	{
		MemoryContext saved = MemoryContextSwitchTo(route->context);

		route->silence = psprintf("cooling down: %s", message);
		MemoryContextSwitchTo(saved);
	}
}

static void
forget_pause(LlmRoute *route)
{
	if (route->pause != NULL)
		pfree(route->pause);
	route->pause = NULL;
}

/* Remember why the target is paused.  Without the provider's sentence, another route has heard it. */
static void
set_pause(LlmRoute *route, LlmErrorClass class, const char *message)
{
	const char *what = llm_error_pause_text(class);
	char *command = llm_route_command(route->target, class, route->cause);
	MemoryContext saved;

	forget_pause(route);
	saved = MemoryContextSwitchTo(route->context);
	if (message == NULL)
		route->pause = psprintf("%s (SELECT * FROM llm.check(%s) says why)", what,
								quote_literal_cstr(route->target->alias));
	else
	{
		const char *end = message[0] != '\0' && message[strlen(message) - 1] == '.' ? "" : ".";

		route->pause = command == NULL ? psprintf("%s: %s", what, message)
									   : psprintf("%s: %s%s %s", what, message, end, command);
	}
	route->pause_of = class;
	MemoryContextSwitchTo(saved);
	if (command != NULL)
		pfree(command);
}

static void
note_pause(LlmRoute *route, LlmErrorClass class, const char *message, bool shut)
{
	if (!shut)
		forget_pause(route);
	else if (llm_limiter_refusal_kind(class) == LLM_REFUSAL_PAUSE && message != NULL)
		set_pause(route, class, message);
}

void
llm_route_note_answer(LlmRoute *route, LlmErrorClass class, const char *message, bool shut)
{
	bool silent = shut && is_no_answer(class) && message != NULL;
	const char *hint;

	/* what it was shut for may be over: its successor tells, in these words where it is the same target */
	if (route->stale)
	{
		LlmRoute *successor = llm_route_look_up(route->alias, route->role, route->kind);

		if (shut && successor != NULL && llm_route_shares_limiter(route, successor))
			note_pause(successor, class, message, shut);
		return;
	}
	set_silence(route, silent ? message : NULL);
	note_pause(route, class, message, shut);
	if (silent)
		hint = psprintf("It is tried again by itself. Should the address be wrong: ALTER SERVER %s OPTIONS (SET base_url '...');",
						quote_identifier(route->target->server));
	else
		hint = llm_route_hint(route->target, class, route->cause);
	if (hint != NULL)
		llm_route_report(route, message, hint);
	else if (llm_route_is_answer(class) && route->reported)
		llm_route_report(route, NULL, NULL);
}

void
llm_route_log_turn(const LlmRoute *route, LlmLimiterTurn turn, LlmErrorClass class, TimestampTz until)
{
	const char *why = "it asks for less";

	if (llm_limiter_refusal_kind(class) == LLM_REFUSAL_PAUSE)
		why = llm_error_pause_text(class);
	else if (is_no_answer(class))
		why = "it does not answer";
	if (turn == LLM_TURN_SHUT)
		ereport(LOG,
				(errmsg("model \"%s\" (%s / %s) waits until %s: %s", route->target->alias, route->host,
						route->target->model, timestamptz_to_str(llm_clock_to_wall(until)), why),
				 errhint("See llm.health.")));
	else if (turn == LLM_TURN_OPEN)
		ereport(LOG,
				(errmsg("model \"%s\" (%s / %s) goes on", route->target->alias, route->host, route->target->model)));
}

void
llm_route_note_doubtful(LlmRoute *route, LlmErrorClass class, const char *message, bool shut)
{
	if (route->stale)
		return;
	set_silence(route, NULL);
	note_pause(route, class, message, shut);
	/* short as the pause may be, all others wait for it */
	if (route->reported || !shut || llm_limiter_refusal_kind(class) != LLM_REFUSAL_PAUSE || message == NULL)
		return;
	llm_route_report(route, message, llm_route_hint(route->target, class, route->cause));
	route->reported_in_doubt = true;
}

void
llm_route_doubt_over(LlmRoute *route)
{
	if (route->reported && route->reported_in_doubt)
		llm_route_report(route, NULL, NULL);
}

const char *
llm_route_reason(LlmRoute *route)
{
	if (route->problem != NULL)
		return route->problem;
	if (route->wait_reason == LLM_WAIT_NONE || route->wait_reason == LLM_WAIT_CONCURRENCY)
		return NULL;
	if (route->wait_reason == LLM_WAIT_PAUSED)
	{
		if (route->pause == NULL || route->pause_of != route->pause_class)
			set_pause(route, route->pause_class, NULL);
		return route->pause;
	}
	if (route->wait_reason == LLM_WAIT_COOLDOWN && route->silence != NULL)
		return route->silence;
	return llm_limiter_reason_name(route->wait_reason);
}
