/*-------------------------------------------------------------------------
 *
 * chat.c
 *	  One chat completion: faults, limits, content, envelope, usage.
 *
 * The order is that of a real provider where it can be seen from outside: the
 * key, then what the script has in store, then whether the request is possible
 * at all (400, 404), then the rate limit (429), then the answer.  A fault that
 * strikes behind that point (hang, cut) finds the work done: its tokens are
 * counted as unseen.  Called by api.c; the meter is told by server.c when the
 * answer has left.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static Buf content; /* of the answer being made */

/* What an answer says, apart from its content. */
typedef struct Told
{
	const char *finish_reason;
	bool refusal;
	bool no_usage;
} Told;

/* ---- refusing ---- */

static void
bad_request(Reply *reply, const char *param, const char *code, const char *message)
{
	api_error(reply, 400, "invalid_request_error", param, code, "%s", message);
	reply->outcome = OUT_BAD_REQUEST;
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
refuse_request(const Script *script, const ChatRequest *chat, uint64_t prompt_tokens, Reply *reply)
{
	char message[200];

	if (!knows_model(script, chat->model))
	{
		api_error(reply, 404, "invalid_request_error", NULL, "model_not_found",
				  "The model `%.*s` does not exist or you do not have access to it.",
				  chat->model.len > 100 ? 100 : (int) chat->model.len, chat->model.at);
		reply->outcome = OUT_NOT_FOUND;
		reply->delay_ms = 0;
		return true;
	}
	if (script->reject_temperature && chat->has_temperature && chat->temperature != 1)
		bad_request(
			reply, "temperature", "unsupported_value",
			"Unsupported value: 'temperature' does not support this value with this model. "
			"Only the default (1) value is supported.");
	else if (script->reject_max_tokens && chat->old_max_tokens)
		bad_request(
			reply, "max_tokens", "unsupported_parameter",
			"Unsupported parameter: 'max_tokens' is not supported with this model. "
			"Use 'max_completion_tokens' instead.");
	else if (script->context_tokens > 0 && (double) prompt_tokens > script->context_tokens)
	{
		snprintf(
			message, sizeof(message),
			"This model's maximum context length is %.0f tokens. "
			"However, your messages resulted in %llu tokens.",
			script->context_tokens, (unsigned long long) prompt_tokens);
		bad_request(reply, "messages", "context_length_exceeded", message);
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
 * Header lines that tell the limits.  Without limits they are constant, and
 * large enough that a client which paces itself by them is not slowed down.
 */
static void
tell_limits(const Lane *lane, Reply *reply)
{
	static const char unlimited[] =
		"\r\nx-ratelimit-limit-requests: 100000000\r\nx-ratelimit-limit-tokens: 10000000000"
		"\r\nx-ratelimit-remaining-requests: 99999999\r\nx-ratelimit-remaining-tokens: 9999999999"
		"\r\nx-ratelimit-reset-requests: 1ms\r\nx-ratelimit-reset-tokens: 1ms";
	static char limited[500];
	double rpm = or_else(lane->script.requests_per_minute, 1e8);
	double tpm = or_else(lane->script.tokens_per_minute, 1e10);
	double requests = lane->script.requests_per_minute > 0 ? lane->requests.level : rpm;
	double tokens = lane->script.tokens_per_minute > 0 ? lane->tokens.level : tpm;
	double most_requests = or_else(lane->script.burst, rpm);
	double most_tokens = or_else(lane->script.burst_tokens, tpm);

	reply->limits = unlimited;
	reply->limits_len = sizeof(unlimited) - 1;
	if (lane->script.hide_limits || (lane->script.requests_per_minute <= 0 && lane->script.tokens_per_minute <= 0))
		return;
	reply->limits = limited;
	reply->limits_len = (size_t) snprintf(
		limited, sizeof(limited),
		"\r\nx-ratelimit-limit-requests: %.0f\r\nx-ratelimit-limit-tokens: %.0f"
		"\r\nx-ratelimit-remaining-requests: %.0f\r\nx-ratelimit-remaining-tokens: %.0f"
		"\r\nx-ratelimit-reset-requests: %.3fs\r\nx-ratelimit-reset-tokens: %.3fs",
		rpm, tpm, fmax(0, floor(requests)), fmax(0, floor(tokens)),
		fmax(0, most_requests - requests) * 60 / rpm, fmax(0, most_tokens - tokens) * 60 / tpm);
}

static void
too_many(const Script *script, Reply *reply, const char *type, double wait)
{
	api_error(reply, 429, type, NULL, "rate_limit_exceeded",
			  "Rate limit reached on %s per minute. Please try again in %.3fs.", type, wait);
	reply->retry_after = wait;
	reply->retry_form = script->retry_after_form;
	reply->outcome = OUT_RATE_LIMITED;
	reply->delay_ms = 0;
}

/*
 * Take a request's share of the limits; false if it must wait.
 */
static bool
admit(Lane *lane, uint64_t tokens, Reply *reply)
{
	const Script *script = &lane->script;
	double requests_wait = bucket_wait(&lane->requests, script->requests_per_minute,
									   or_else(script->burst, script->requests_per_minute), 1);
	double tokens_wait =
		bucket_wait(&lane->tokens, script->tokens_per_minute,
					or_else(script->burst_tokens, script->tokens_per_minute), (double) tokens);

	if (requests_wait > 0 || tokens_wait > 0)
		too_many(script, reply, requests_wait >= tokens_wait ? "requests" : "tokens",
				 fmax(requests_wait, tokens_wait));
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
make_content(const Script *script, const ChatRequest *chat, bool spoil, Reply *reply)
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
			bad_request(reply, "response_format", "invalid_json_schema", message);
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
			told->finish_reason = "length";
			break;
		case ACT_REFUSAL:
			content.len = 0;
			buf_text(&content, "I'm sorry, I cannot help with that.");
			told->refusal = true;
			break;
		case ACT_CONTENT_FILTER:
			content.len = 0;
			told->finish_reason = "content_filter";
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
	told->finish_reason = "length";
	if (usage->reasoning > most)
		usage->reasoning = most;
	content.len = utf8_cut(content.at, content.len, (size_t) (most - usage->reasoning) * 4);
	usage->completion = most;
}

/* ---- the envelope ---- */

static void
write_usage(Buf *out, const Usage *usage)
{
	buf_text(out, ",\"usage\":{\"prompt_tokens\":");
	buf_uint(out, usage->prompt);
	buf_text(out, ",\"completion_tokens\":");
	buf_uint(out, usage->completion);
	buf_text(out, ",\"total_tokens\":");
	buf_uint(out, usage->prompt + usage->completion);
	buf_text(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
	buf_uint(out, usage->cached);
	buf_text(out, ",\"cache_write_tokens\":");
	buf_uint(out, usage->cache_write);
	buf_text(out, ",\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":");
	buf_uint(out, usage->reasoning);
	buf_text(
		out,
		",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}");
}

/*
 * Write the answer.  With a tail, the content is split there: what server.c
 * streams in between becomes its end.
 */
static void
write_envelope(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	static uint64_t counter = 0;

	counter++;
	buf_text(out, "{\"id\":\"chatcmpl-");
	buf_hex(out, hash_bytes(&counter, sizeof(counter), 9));
	buf_text(out, "\",\"object\":\"chat.completion\",\"created\":");
	buf_uint(out, (uint64_t) (clock_epoch_ms() / 1000));
	buf_text(out, ",\"model\":\"");
	buf_json(out, chat->model);
	buf_text(out, "\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
	if (told->refusal)
		buf_text(out, "null,\"refusal\":\"");
	else
		buf_char(out, '"');
	buf_json(out, (Span){content.at, content.len});
	if (tail != NULL)
		out = tail;
	buf_text(out, told->refusal ? "\"" : "\",\"refusal\":null");
	buf_text(out, ",\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"");
	buf_text(out, told->finish_reason);
	buf_text(out, "\"}]");
	if (!told->no_usage)
		write_usage(out, usage);
	buf_text(out, ",\"service_tier\":\"");
	if (span_is(chat->service_tier, "flex") || span_is(chat->service_tier, "priority"))
		buf_json(out, chat->service_tier);
	else
		buf_text(out, "default");
	buf_text(out, "\",\"system_fingerprint\":null}");
}

/* ---- faults ---- */

static void
play_status(const Fate *fate, const Script *script, Reply *reply)
{
	if (fate->body != NULL)
	{
		reply->status = fate->status;
		buf_text(&reply->body, fate->body);
	}
	else
		api_error(reply, fate->status,
				  fate->status >= 500 ? "server_error" : "invalid_request_error", NULL, NULL,
				  "This status was asked for by the script.");
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
play_early_fault(const Fate *fate, const Script *script, Reply *reply)
{
	switch (fate->action)
	{
		case ACT_DIE_ON_REUSE:
			reply->drop = true;
			reply->delay_ms = 0;
			reply->outcome = OUT_DIED_ON_REUSE;
			return true;
		case ACT_RATE_LIMIT:
			too_many(script, reply, "requests", fate->retry_after >= 0 ? fate->retry_after : 1);
			return true;
		case ACT_ERROR_500:
			api_error(reply, 500, "server_error", NULL, NULL,
					  "The server had an error while processing your request.");
			break;
		case ACT_ERROR_503:
			api_error(reply, 503, "service_unavailable_error", NULL, "server_is_overloaded",
					  "The server is overloaded. Please try again later.");
			break;
		case ACT_STATUS:
			play_status(fate, script, reply);
			return true;
		case ACT_REDIRECT:
			api_error(reply, 302, "redirect", NULL, NULL, "Look elsewhere.");
			reply->location = "/x/redirected/v1/chat/completions";
			reply->outcome = OUT_REDIRECTED;
			return true;
		default:
			return false;
	}
	reply->outcome = OUT_SERVER_ERROR;
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
			return told->finish_reason[0] == 'l' ? OUT_TRUNCATED : OUT_OK;
	}
}

/* ---- the whole ---- */

/*
 * Answer a request that is not refused yet.
 */
static void
complete(Lane *lane, const ChatRequest *chat, Action action, Reply *reply)
{
	const Script *script = &lane->script;
	Told told = {.finish_reason = "stop"};
	Usage usage = {.prompt = (chat->message_bytes + chat->schema.len + 3) / 4 + 4 * chat->messages};
	size_t fill = action == ACT_OVERSIZED ? (size_t) script->oversized_bytes : 0;

	if (refuse_request(script, chat, usage.prompt, reply) ||
		!make_content(script, chat, action == ACT_WRONG_LABEL, reply))
		return;
	bend_content(action, &told);
	count_usage(script, chat, &told, fill, &usage);
	if (!admit(lane, usage.prompt + usage.completion, reply))
		return;
	told.no_usage = script->usage_missing > 0 && random_unit() < script->usage_missing;
	reply->status = 200;
	reply->fill = fill;
	reply->outcome = outcome_of(action, &told);
	reply->usage = usage;
	reply->usage_told = !told.no_usage;
	write_envelope(&reply->body, fill > 0 ? &reply->tail : NULL, chat, &told, &usage);
	play_late_fault(action, script, reply);
}

static void
set_delay(const Script *script, const Fate *fate, Reply *reply)
{
	reply->delay_ms = script->latency_ms + fate->delay_ms;
	if (script->latency_jitter_ms > 0)
		reply->delay_ms += random_unit() * script->latency_jitter_ms;
}

/*
 * Answer a POST to chat/completions.
 */
void
chat_answer(Lane *lane, const HttpRequest *request, bool authorized, uint64_t key_print,
			Reply *reply)
{
	ChatRequest chat;
	bool possible = chat_parse(&chat, request->body);
	Received received = {chat.mark, chat.model, request->body, key_print};
	Fate fate;

	reply->lane = lane;
	reply->entry = meter_receive(lane, &received);
	lane->meter.connections += !request->reused;
	reply->close = lane->script.http_close;
	if (!authorized)
	{
		api_error(reply, 401, "invalid_request_error", NULL, "invalid_api_key",
				  "Incorrect API key provided.");
		reply->outcome = OUT_UNAUTHORIZED;
		return;
	}
	fate = script_decide(&lane->script, request->body, request->reused);
	set_delay(&lane->script, &fate, reply);
	if (!play_early_fault(&fate, &lane->script, reply))
	{
		if (possible)
			complete(lane, &chat, fate.action, reply);
		else
			bad_request(reply, chat.error_param, chat.error_code, chat.error);
	}
	tell_limits(lane, reply);
}

void
chat_free(void)
{
	buf_free(&content);
}
