/*-------------------------------------------------------------------------
 *
 * chat.c
 *	  One chat request, in whatever form: faults, limits, content, usage.
 *
 * The order is that of a real provider where it can be seen from outside: the
 * key, then what the script has in store, then whether the request is possible
 * at all (400, 404), then the rate limit (429), then the answer.  A fault that
 * strikes behind that point (hang, cut) finds the work done: its tokens are
 * counted as unseen.  What a request and an answer look like is the form's
 * (form_*.c).  Called by api.c; the meter is told by server.c when the answer has
 * left.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "embed.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static Buf content; /* of the answer being made */
static Buf limit_lines; /* likewise: what it tells of limits */

/* ---- refusing ---- */

/*
 * Answer with an error, in the words of the form.
 */
static void __attribute__((format(printf, 5, 6)))
complain(const Form *form, Reply *reply, Complaint complaint, Outcome outcome, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(complaint.message, sizeof(complaint.message), format, args);
	va_end(args);
	form->complain(reply, &complaint);
	reply->outcome = outcome;
}

/*
 * Refuse a request for what is in it, at once.
 */
static void
bad_request(const Form *form, Reply *reply, Trouble trouble, const char *param, const char *code, const char *message)
{
	Complaint complaint = {.trouble = trouble, .status = 400, .param = param, .code = code};

	complain(form, reply, complaint, OUT_BAD_REQUEST, "%s", message);
	reply->delay_ms = 0;
}

static bool
knows_model(const Script *script, Span model)
{
	for (size_t i = 0; i < script->model_count; i++)
	{
		if (span_is(model, script->models[i]))
			return true;
	}
	return script->model_count == 0;
}

/*
 * Refuse what this server would not take; true if it did.
 */
static bool
refuse_request(const Form *form, const Script *script, const ChatRequest *chat, uint64_t prompt_tokens, Reply *reply)
{
	char message[200];

	if (!knows_model(script, chat->model))
	{
		complain(form, reply, (Complaint){.trouble = TROUBLE_MODEL, .status = 404}, OUT_NOT_FOUND,
				 "The model `%.*s` does not exist or you do not have access to it.",
				 chat->model.len > 100 ? 100 : (int) chat->model.len, chat->model.at);
		reply->delay_ms = 0;
		return true;
	}
	if (script->reject_temperature && chat->has_temperature && chat->temperature != 1)
		bad_request(
			form, reply, TROUBLE_REQUEST, "temperature", "unsupported_value",
			"Unsupported value: 'temperature' does not support this value with this model. "
			"Only the default (1) value is supported.");
	else if (script->reject_max_tokens && chat->old_max_tokens)
		bad_request(
			form, reply, TROUBLE_REQUEST, "max_tokens", "unsupported_parameter",
			"Unsupported parameter: 'max_tokens' is not supported with this model. "
			"Use 'max_completion_tokens' instead.");
	else if (script->context_tokens > 0 && (double) prompt_tokens > script->context_tokens)
	{
		snprintf(
			message, sizeof(message),
			"This model's maximum context length is %.0f tokens. "
			"However, your messages resulted in %llu tokens.",
			script->context_tokens, (unsigned long long) prompt_tokens);
		bad_request(form, reply, TROUBLE_CONTEXT, "messages", NULL, message);
	}
	else
		return false;
	return true;
}

/* ---- limits ---- */

static double
or_else(double value, double otherwise)
{
	return value > 0 ? value : otherwise;
}

/*
 * Header lines that tell the limits.  Without limits they tell so much that a client
 * which paces itself by them is not slowed down.
 */
static void
tell_limits(const Form *form, const Lane *lane, Reply *reply)
{
	const Script *script = &lane->script;
	double rpm = or_else(script->requests_per_minute, 1e8);
	double tpm = or_else(script->tokens_per_minute, 1e10);
	double requests = script->requests_per_minute > 0 ? lane->requests.level : rpm;
	double tokens = script->tokens_per_minute > 0 ? lane->tokens.level : tpm;
	bool limited = !script->hide_limits && (script->requests_per_minute > 0 || script->tokens_per_minute > 0);
	Limits limits = {.requests = rpm, .tokens = tpm, .requests_left = rpm - 1, .tokens_left = tpm - 1};

	if (form->tell_limits == NULL)
		return;
	if (limited)
	{
		limits.requests_left = fmax(0, floor(requests));
		limits.tokens_left = fmax(0, floor(tokens));
		limits.requests_reset = fmax(0, or_else(script->burst, rpm) - requests) * 60 / rpm;
		limits.tokens_reset = fmax(0, or_else(script->burst_tokens, tpm) - tokens) * 60 / tpm;
	}
	else
	{
		limits.requests = 1e8;
		limits.tokens = 1e10;
		limits.requests_left = 1e8 - 1;
		limits.tokens_left = 1e10 - 1;
		limits.requests_reset = limits.tokens_reset = 0.001;
	}
	limit_lines.len = 0;
	form->tell_limits(&limit_lines, &limits);
	reply->limits = limit_lines.at;
	reply->limits_len = limit_lines.len;
}

static void
too_many(const Form *form, const Script *script, Reply *reply, bool requests, double wait)
{
	complain(form, reply, (Complaint){.trouble = requests ? TROUBLE_REQUESTS : TROUBLE_TOKENS, .status = 429},
			 OUT_RATE_LIMITED, "Rate limit reached on %s per minute. Please try again in %.3fs.",
			 requests ? "requests" : "tokens", wait);
	reply->retry_after = wait;
	reply->retry_form = script->retry_after_form;
	reply->delay_ms = 0;
}

/*
 * Header lines of a step, behind those that are there.
 */
static void
add_headers(const char *lines, Reply *reply)
{
	if (lines == NULL)
		return;
	if (reply->limits != limit_lines.at || reply->limits == NULL)
	{
		limit_lines.len = 0;
		if (reply->limits != NULL)
			buf_add(&limit_lines, reply->limits, reply->limits_len);
	}
	buf_text(&limit_lines, lines);
	reply->limits = limit_lines.at;
	reply->limits_len = limit_lines.len;
}

/*
 * Take a request's share of the limits; false if it must wait.
 */
static bool
admit(const Form *form, Lane *lane, uint64_t tokens, Reply *reply)
{
	const Script *script = &lane->script;
	double requests_wait = bucket_wait(&lane->requests, script->requests_per_minute,
									   or_else(script->burst, script->requests_per_minute), 1);
	double tokens_wait =
		bucket_wait(&lane->tokens, script->tokens_per_minute,
					or_else(script->burst_tokens, script->tokens_per_minute), (double) tokens);

	if (requests_wait > 0 || tokens_wait > 0)
		too_many(form, script, reply, requests_wait >= tokens_wait, fmax(requests_wait, tokens_wait));
	else
	{
		bucket_take(&lane->requests, 1);
		bucket_take(&lane->tokens, (double) tokens);
	}
	return requests_wait <= 0 && tokens_wait <= 0;
}

/* ---- content and usage ---- */

static const char *
override_for(const Script *script, Span user)
{
	for (size_t i = 0; i < script->answer_count; i++)
	{
		if (span_find(user, span_of(script->answers[i].match)) != NULL)
			return script->answers[i].content;
	}
	return NULL;
}

/*
 * Make the content; false if the schema is refused.
 */
static bool
make_content(const Form *form, const Script *script, const ChatRequest *chat, bool spoil, Reply *reply)
{
	const char *given = override_for(script, chat->user);
	const Recipe *recipe = NULL;
	Span schema = chat->schema;

	content.len = 0;
	if (chat->format == FORMAT_OBJECT)
		schema = schema_in_text(chat->hints);
	if (chat->format != FORMAT_TEXT && schema.len > 0)
	{
		recipe = recipe_find(schema, chat->hints, chat->strict && !script->lenient_schema);
		if (recipe->root == NULL && chat->format == FORMAT_SCHEMA)
		{
			char message[400];

			snprintf(message, sizeof(message), "Invalid schema for response_format '%.*s': %s",
					 (int) chat->schema_name.len, chat->schema_name.at, recipe->error);
			bad_request(form, reply, TROUBLE_SCHEMA, "response_format", NULL, message);
			return false;
		}
	}
	if (given != NULL)
		buf_text(&content, given);
	else if (recipe != NULL && recipe->root != NULL)
		answer_make(&content, chat, script, recipe, spoil);
	else if (spoil)
		buf_text(&content, "{\"no_such_property\":true}");
	else
		answer_text(&content, chat);
	return true;
}

/*
 * Spoil the content as the action wants it.
 */
static void
bend_content(Action action, Told *told)
{
	switch (action)
	{
		case ACT_MALFORMED_CONTENT:
			content.len = utf8_cut(content.at, content.len, content.len > 0 ? content.len - 1 : 0);
			buf_text(&content, " (and so on)");
			break;
		case ACT_TRUNCATED:
			content.len = utf8_cut(content.at, content.len, content.len / 2);
			told->finish = FINISH_LENGTH;
			break;
		case ACT_REFUSAL:
			content.len = 0;
			buf_text(&content, "I'm sorry, I cannot help with that.");
			told->finish = FINISH_REFUSAL;
			break;
		case ACT_CONTENT_FILTER:
			content.len = 0;
			told->finish = FINISH_FILTER;
			break;
		case ACT_EMPTY_CONTENT:
			content.len = 0;
			break;
		default:
			break;
	}
}

/*
 * Count tokens; content beyond max_completion_tokens is cut off.
 */
static void
count_usage(const Script *script, const ChatRequest *chat, Told *told, size_t fill, Usage *usage)
{
	uint64_t most = chat->max_tokens >= 0 ? (uint64_t) chat->max_tokens : UINT64_MAX;

	usage->cached = (uint64_t) ((double) usage->prompt * script->cached_fraction);
	usage->cache_write = (uint64_t) ((double) usage->prompt * script->cache_write_fraction);
	if (usage->cache_write > usage->prompt - usage->cached)
		usage->cache_write = usage->prompt - usage->cached;
	usage->reasoning = (uint64_t) script->reasoning_tokens;
	usage->completion = usage->reasoning + (content.len + fill + 3) / 4;
	if (usage->completion <= most || fill > 0)
		return;
	told->finish = FINISH_LENGTH;
	if (usage->reasoning > most)
		usage->reasoning = most;
	content.len = utf8_cut(content.at, content.len, (size_t) (most - usage->reasoning) * 4);
	usage->completion = most;
}

/* ---- faults ---- */

static void
play_status(const Form *form, const Fate *fate, const Script *script, Reply *reply)
{
	if (fate->body != NULL)
	{
		reply->status = fate->status;
		buf_text(&reply->body, fate->body);
	}
	else
		complain(form, reply,
				 (Complaint){.trouble = fate->status >= 500 ? TROUBLE_ERROR : TROUBLE_REQUEST, .status = fate->status},
				 OUT_SCRIPTED, "This status was asked for by the script.");
	reply->retry_after = fate->retry_after;
	reply->retry_form = script->retry_after_form;
	reply->outcome = fate->status == 429   ? OUT_RATE_LIMITED
					 : fate->status >= 500 ? OUT_SERVER_ERROR
										   : OUT_SCRIPTED;
}

/*
 * The faults that strike whatever the request says; false if it is none.
 */
static bool
play_early_fault(const Form *form, const Fate *fate, const Script *script, Reply *reply)
{
	switch (fate->action)
	{
		case ACT_DIE_ON_REUSE:
			reply->drop = true;
			reply->delay_ms = 0;
			reply->outcome = OUT_DIED_ON_REUSE;
			return true;
		case ACT_RATE_LIMIT:
			too_many(form, script, reply, true, fate->retry_after >= 0 ? fate->retry_after : 1);
			return true;
		case ACT_ERROR_500:
			complain(form, reply, (Complaint){.trouble = TROUBLE_ERROR, .status = 500}, OUT_SERVER_ERROR,
					 "The server had an error while processing your request.");
			break;
		case ACT_ERROR_503:
			complain(form, reply, (Complaint){.trouble = TROUBLE_OVERLOADED, .status = 503}, OUT_SERVER_ERROR,
					 "The server is overloaded. Please try again later.");
			break;
		case ACT_STATUS:
			play_status(form, fate, script, reply);
			return true;
		case ACT_REDIRECT:
			complain(form, reply, (Complaint){.trouble = TROUBLE_REDIRECT, .status = 302}, OUT_REDIRECTED,
					 "Look elsewhere.");
			reply->location = "/x/redirected/v1/chat/completions";
			return true;
		default:
			return false;
	}
	reply->retry_after = fate->retry_after;
	reply->retry_form = script->retry_after_form;
	return true;
}

/*
 * The faults of an answer's way to the client.
 */
static void
play_late_fault(Action action, const Script *script, Reply *reply)
{
	switch (action)
	{
		case ACT_HANG:
			reply->hold = true;
			reply->delay_ms = script->hang_ms;
			reply->outcome = OUT_HUNG;
			break;
		case ACT_CUT:
			reply->drop = true;
			reply->outcome = OUT_CUT;
			break;
		case ACT_CUT_MID:
			reply->cut_in_body = true;
			reply->outcome = OUT_CUT;
			break;
		case ACT_MALFORMED:
			reply->body.len = 0;
			buf_text(
				&reply->body,
				"<html><body><h1>200 OK</h1>but this is not JSON {\"choices\":[</body></html>\n");
			reply->usage_told = false;
			break;
		case ACT_SLOW_HEADERS:
		case ACT_SLOW_BODY:
			reply->pause_ms = script->slow_ms;
			reply->pause_in_body = action == ACT_SLOW_BODY;
			break;
		default:
			break;
	}
}

static Outcome
outcome_of(Action action, const Told *told)
{
	switch (action)
	{
		case ACT_MALFORMED:
			return OUT_MALFORMED;
		case ACT_MALFORMED_CONTENT:
			return OUT_MALFORMED_CONTENT;
		case ACT_WRONG_LABEL:
			return OUT_WRONG_LABEL;
		case ACT_REFUSAL:
			return OUT_REFUSED;
		case ACT_CONTENT_FILTER:
			return OUT_CONTENT_FILTER;
		case ACT_EMPTY_CONTENT:
			return OUT_EMPTY;
		case ACT_OVERSIZED:
			return OUT_OVERSIZED;
		default:
			return told->finish == FINISH_LENGTH ? OUT_TRUNCATED : OUT_OK;
	}
}

static bool
loses_usage(const Script *script, Action action)
{
	return action == ACT_NO_USAGE || (script->usage_missing > 0 && random_unit() < script->usage_missing);
}

/* ---- the whole ---- */

/*
 * Answer a request that is not refused yet.
 */
static void
complete(const Form *form, Lane *lane, const ChatRequest *chat, Action action, Reply *reply)
{
	const Script *script = &lane->script;
	Told told = {.finish = FINISH_STOP};
	Usage usage = {.prompt = (chat->message_bytes + chat->schema.len + 3) / 4 + 4 * chat->messages};
	size_t fill = action == ACT_OVERSIZED ? (size_t) script->oversized_bytes : 0;

	if (refuse_request(form, script, chat, usage.prompt, reply) ||
		!make_content(form, script, chat, action == ACT_WRONG_LABEL, reply))
		return;
	bend_content(action, &told);
	count_usage(script, chat, &told, fill, &usage);
	if (!admit(form, lane, usage.prompt + usage.completion, reply))
		return;
	told.no_usage = loses_usage(script, action);
	reply->status = 200;
	reply->fill = fill;
	reply->outcome = outcome_of(action, &told);
	reply->usage = usage;
	reply->usage_told = !told.no_usage;
	told.content = (Span){content.at, content.len};
	form->write(&reply->body, fill > 0 ? &reply->tail : NULL, chat, &told, &usage);
	play_late_fault(action, script, reply);
}

/*
 * The same of a request for vectors, which no fault of a text concerns.
 */
static void
complete_vectors(const Form *form, Lane *lane, const ChatRequest *chat, Action action, Reply *reply)
{
	const Script *script = &lane->script;
	Told told = {.lame = action == ACT_MALFORMED_CONTENT};
	Usage usage = {.prompt = embed_tokens()};

	if (action == ACT_WRONG_LABEL || action == ACT_EMPTY_CONTENT)
		told.missing = action == ACT_WRONG_LABEL ? 1 : embed_count();
	if (refuse_request(form, script, chat, embed_longest(), reply) ||
		!admit(form, lane, usage.prompt, reply))
		return;
	told.no_usage = loses_usage(script, action);
	reply->status = 200;
	reply->outcome = outcome_of(action, &told);
	reply->usage = usage;
	reply->usage_told = !told.no_usage;
	form->write(&reply->body, NULL, chat, &told, &usage);
	play_late_fault(action, script, reply);
}

/*
 * All inputs' marks; that of the first is counted with the request.
 */
static void
count_marks(Lane *lane)
{
	for (size_t i = 1; i < embed_count(); i++)
	{
		Span whole;
		Span mark = chat_find_mark(embed_input(i), &whole);

		if (mark.len > 0)
			meter_mark(lane, mark);
	}
}

static void
set_delay(const Script *script, const Fate *fate, Reply *reply)
{
	reply->delay_ms = script->latency_ms + fate->delay_ms;
	if (script->latency_jitter_ms > 0)
		reply->delay_ms += random_unit() * script->latency_jitter_ms;
}

/*
 * Answer a chat request of that form.
 */
void
chat_answer(const Form *form, Lane *lane, const HttpRequest *request, bool authorized, Reply *reply)
{
	ChatRequest chat;
	bool possible = form->parse(&chat, request);
	Received received = {.mark = chat.mark, .model = chat.model, .body = request->body};
	Fate fate;

	if (request->authorization.len > 0)
		received.key_print = hash_bytes(request->authorization.at, request->authorization.len, 11) | 1;
	reply->lane = lane;
	reply->entry = meter_receive(lane, &received);
	lane->meter.connections += !request->reused;
	if (chat.embeds)
		count_marks(lane);
	reply->close = lane->script.http_close;
	if (!authorized)
	{
		complain(form, reply, (Complaint){.trouble = TROUBLE_KEY, .status = 401}, OUT_UNAUTHORIZED,
				 "Incorrect API key provided.");
		return;
	}
	fate = script_decide(&lane->script, request->body, request->reused);
	set_delay(&lane->script, &fate, reply);
	if (!play_early_fault(form, &fate, &lane->script, reply))
	{
		if (possible && chat.embeds)
			complete_vectors(form, lane, &chat, fate.action, reply);
		else if (possible)
			complete(form, lane, &chat, fate.action, reply);
		else
			bad_request(form, reply, TROUBLE_REQUEST, chat.error_param, chat.error_code, chat.error);
	}
	tell_limits(form, lane, reply);
	add_headers(fate.headers, reply);
}

void
chat_free(void)
{
	buf_free(&content);
	buf_free(&limit_lines);
	embed_free();
}
