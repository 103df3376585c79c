/*-------------------------------------------------------------------------
 *
 * form_openai.c
 *	  The form of OpenAI's Chat Completions: request, answer, errors, limits.
 *
 * Unknown parameters and wrong types are refused as OpenAI refuses them.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is in a request ---- */

static bool
read_message(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;
	Span role = {0};
	Span content = {0};

	if (!scan_char(scan, '{'))
		return chat_refuse(chat, "messages", "invalid_type",
						   "Invalid type for 'messages': expected an object%s.", " in the array");
	while (scan_member(scan, &first, &name))
	{
		bool fine;

		if (span_is(name, "role"))
			fine = scan_text(scan, &role);
		else if (span_is(name, "content"))
			fine = chat_read_parts(scan, chat, &content);
		else if (span_is(name, "name"))
			fine = scan_value(scan, 3);
		else
			return chat_refuse(chat, "messages", "unknown_parameter",
							   "Unknown parameter in 'messages'%s.", "");
		if (!fine)
			return false;
	}
	if (scan->problem != NULL)
		return false;
	if (!span_is(role, "user") && !span_is(role, "system") && !span_is(role, "developer") &&
		!span_is(role, "assistant"))
		return chat_refuse(chat, "messages", "invalid_value",
						   "Invalid value for 'role': supported are %s.",
						   "'system', 'developer', 'user' and 'assistant'");
	if (content.at == NULL)
		return chat_refuse(chat, "messages", "missing_required_parameter",
						   "Missing required parameter: '%s'.", "messages[].content");
	chat_take_message(chat, role, content);
	return true;
}

static bool
read_messages(Scan *scan, ChatRequest *chat)
{
	bool first = true;

	if (!scan_char(scan, '['))
		return chat_refuse(chat, "messages", "invalid_type", "Invalid type for '%s': expected an array.",
						   "messages");
	while (scan_element(scan, &first))
	{
		if (!read_message(scan, chat))
			return false;
	}
	return scan->problem == NULL;
}

static bool
read_json_schema(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;

	if (!scan_char(scan, '{'))
		return chat_refuse(chat, "response_format", NULL, "Invalid type for '%s': expected an object.",
						   "response_format.json_schema");
	while (scan_member(scan, &first, &name))
	{
		const char *start;
		bool fine;

		scan_space(scan);
		start = scan->at;
		if (span_is(name, "name"))
			fine = scan_text(scan, &chat->schema_name);
		else
			fine = scan_value(scan, 3);
		if (!fine)
			return false;
		if (span_is(name, "schema"))
			chat->schema = (Span){start, (size_t) (scan->at - start)};
		else if (span_is(name, "strict"))
			chat->strict = *start == 't';
		else if (!span_is(name, "name") && !span_is(name, "description"))
			return chat_refuse(chat, "response_format", "unknown_parameter",
							   "Unknown parameter in '%s'.", "response_format.json_schema");
	}
	return scan->problem == NULL;
}

static bool
read_response_format(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;
	Span type = {0};

	if (scan_peek(scan) == 'n')
		return scan_word(scan, "null");
	if (!scan_char(scan, '{'))
		return chat_refuse(chat, "response_format", "invalid_type",
						   "Invalid type for '%s': expected an object.", "response_format");
	while (scan_member(scan, &first, &name))
	{
		bool fine = span_is(name, "type") ? scan_text(scan, &type)
					: span_is(name, "json_schema")
						? read_json_schema(scan, chat)
						: chat_refuse(chat, "response_format", "unknown_parameter",
									  "Unknown parameter in '%s'.", "response_format");

		if (!fine)
			return false;
	}
	if (scan->problem != NULL)
		return false;
	if (span_is(type, "json_schema"))
		chat->format = FORMAT_SCHEMA;
	else if (span_is(type, "json_object"))
		chat->format = FORMAT_OBJECT;
	else if (!span_is(type, "text"))
		return chat_refuse(
			chat, "response_format.type", "invalid_value",
			"Invalid value for '%s': supported are 'json_object', 'json_schema' and 'text'.",
			"response_format.type");
	return true;
}

static bool
read_max_tokens(Scan *scan, ChatRequest *chat, bool old)
{
	const char *start;

	if (scan_peek(scan) == 'n')
		return scan_word(scan, "null");
	start = scan->at;
	if (!scan_number(scan))
		return false;
	chat->max_tokens = strtoll(start, NULL, 10);
	chat->old_max_tokens = old;
	if (chat->max_tokens < 1 || memchr(start, '.', (size_t) (scan->at - start)) != NULL)
		return chat_refuse(chat, old ? "max_tokens" : "max_completion_tokens", "integer_below_min_value",
						   "Invalid value for '%s': expected an integer of at least 1.",
						   old ? "max_tokens" : "max_completion_tokens");
	return true;
}

static bool
read_temperature(Scan *scan, ChatRequest *chat)
{
	const char *start;

	if (scan_peek(scan) == 'n')
		return scan_word(scan, "null");
	start = scan->at;
	if (!scan_number(scan))
		return false;
	chat->has_temperature = true;
	chat->temperature = strtod(start, NULL);
	if (chat->temperature < 0 || chat->temperature > 2)
		return chat_refuse(chat, "temperature", "decimal_above_max_value",
						   "Invalid value for '%s': expected 0 to 2.", "temperature");
	return true;
}

/*
 * Parameters that are known to the API but change nothing here.
 */
static bool
known_parameter(Span name)
{
	static const char *const known[] = {
		"frequency_penalty",
		"logit_bias",
		"logprobs",
		"metadata",
		"n",
		"parallel_tool_calls",
		"presence_penalty",
		"prompt_cache_key",
		"prompt_cache_options",
		"prompt_cache_retention",
		"reasoning_effort",
		"safety_identifier",
		"seed",
		"stop",
		"store",
		"stream",
		"stream_options",
		"top_logprobs",
		"top_p",
		"user",
		"verbosity",
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (span_is(name, known[i]))
			return true;
	}
	return false;
}

static bool
read_known(Scan *scan, ChatRequest *chat, Span name)
{
	const char *start;

	scan_space(scan);
	start = scan->at;
	if (!scan_value(scan, 2))
		return false;
	if (span_is(name, "stream") && *start == 't')
		return chat_refuse(chat, "stream", "unsupported_value",
						   "Unsupported value: '%s' must be false here.", "stream");
	if (span_is(name, "n") && *start != 'n' && strtol(start, NULL, 10) != 1)
		return chat_refuse(chat, "n", "unsupported_value", "Unsupported value: '%s' must be 1 here.",
						   "n");
	return true;
}

static bool
read_parameter(Scan *scan, ChatRequest *chat, Span name)
{
	char shown[80];

	if (span_is(name, "model"))
		return scan_text(scan, &chat->model);
	if (span_is(name, "messages"))
		return read_messages(scan, chat);
	if (span_is(name, "response_format"))
		return read_response_format(scan, chat);
	if (span_is(name, "max_completion_tokens"))
		return read_max_tokens(scan, chat, false);
	if (span_is(name, "max_tokens"))
		return read_max_tokens(scan, chat, true);
	if (span_is(name, "temperature"))
		return read_temperature(scan, chat);
	if (span_is(name, "service_tier"))
		return scan_peek(scan) == 'n' ? scan_word(scan, "null")
									  : scan_text(scan, &chat->service_tier);
	if (known_parameter(name))
		return read_known(scan, chat, name);
	snprintf(shown, sizeof(shown), "%.*s", name.len > 60 ? 60 : (int) name.len, name.at);
	return chat_refuse(chat, NULL, "unknown_parameter", "Unrecognized request argument supplied: %s",
					   shown);
}

static bool
check_request(ChatRequest *chat)
{
	if (chat->model.len == 0)
		return chat_refuse(chat, NULL, NULL, "you must provide a %s parameter", "model");
	if (chat->messages == 0)
		return chat_refuse(chat, "messages", "missing_required_parameter",
						   "Missing required parameter: '%s'.", "messages");
	if (chat->format == FORMAT_SCHEMA)
	{
		if (chat->schema.len == 0 || chat->schema.at[0] != '{')
			return chat_refuse(chat, "response_format.json_schema", "missing_required_parameter",
							   "Missing required parameter: '%s'.",
							   "response_format.json_schema.schema");
		if (chat->schema_name.len == 0 || chat->schema_name.len > 64)
			return chat_refuse(chat, "response_format.json_schema.name", "missing_required_parameter",
							   "'%s' must have 1 to 64 characters.", "response_format.json_schema.name");
		for (size_t i = 0; i < chat->schema_name.len; i++)
		{
			if (!chat_mark_char(chat->schema_name.at[i]) || chat->schema_name.at[i] == '.' ||
				chat->schema_name.at[i] == ':')
				return chat_refuse(chat, "response_format.json_schema.name", "invalid_value",
								   "'%s' must match ^[a-zA-Z0-9_-]+$.",
								   "response_format.json_schema.name");
		}
	}
	if (chat->format == FORMAT_OBJECT && strcasestr(chat->hints.at, "json") == NULL &&
		memmem(chat->user.at, chat->user.len, "json", 4) == NULL &&
		memmem(chat->user.at, chat->user.len, "JSON", 4) == NULL)
		return chat_refuse(
			chat, "messages", NULL,
			"'messages' must contain the word 'json' in some form, "
			"to use 'response_format' of type '%s'.",
			"json_object");
	return true;
}

static bool
parse(ChatRequest *chat, const HttpRequest *request)
{
	Scan scan;
	bool first = true;
	Span name;

	if (chat_begin(chat, &scan, request->body))
	{
		while (scan_member(&scan, &first, &name))
		{
			if (!read_parameter(&scan, chat, name))
				break;
		}
	}
	return chat_end(chat, &scan) && check_request(chat);
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
	static const char *const reasons[] = {
		[FINISH_STOP] = "stop",
		[FINISH_LENGTH] = "length",
		[FINISH_FILTER] = "content_filter",
		[FINISH_REFUSAL] = "stop"};
	static uint64_t counter = 0;
	bool refusal = told->finish == FINISH_REFUSAL;

	counter++;
	buf_text(out, "{\"id\":\"chatcmpl-");
	buf_hex(out, hash_bytes(&counter, sizeof(counter), 9));
	buf_text(out, "\",\"object\":\"chat.completion\",\"created\":");
	buf_uint(out, (uint64_t) (clock_epoch_ms() / 1000));
	buf_text(out, ",\"model\":\"");
	buf_json(out, chat->model);
	buf_text(out, "\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
	if (refusal)
		buf_text(out, "null,\"refusal\":\"");
	else
		buf_char(out, '"');
	buf_json(out, told->content);
	if (tail != NULL)
		out = tail;
	buf_text(out, refusal ? "\"" : "\",\"refusal\":null");
	buf_text(out, ",\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"");
	buf_text(out, reasons[told->finish]);
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

/* ---- errors and limits ---- */

static void
complain(Reply *reply, const Complaint *complaint)
{
	static const char *const types[] = {
		[TROUBLE_REQUEST] = "invalid_request_error",
		[TROUBLE_SCHEMA] = "invalid_request_error",
		[TROUBLE_CONTEXT] = "invalid_request_error",
		[TROUBLE_KEY] = "invalid_request_error",
		[TROUBLE_MODEL] = "invalid_request_error",
		[TROUBLE_REQUESTS] = "requests",
		[TROUBLE_TOKENS] = "tokens",
		[TROUBLE_ERROR] = "server_error",
		[TROUBLE_OVERLOADED] = "service_unavailable_error",
		[TROUBLE_REDIRECT] = "redirect"};
	static const char *const codes[TROUBLE_COUNT] = {
		[TROUBLE_SCHEMA] = "invalid_json_schema",
		[TROUBLE_CONTEXT] = "context_length_exceeded",
		[TROUBLE_KEY] = "invalid_api_key",
		[TROUBLE_MODEL] = "model_not_found",
		[TROUBLE_REQUESTS] = "rate_limit_exceeded",
		[TROUBLE_TOKENS] = "rate_limit_exceeded",
		[TROUBLE_OVERLOADED] = "server_is_overloaded"};
	const char *code = complaint->code != NULL ? complaint->code : codes[complaint->trouble];

	api_error(reply, complaint->status, types[complaint->trouble], complaint->param, code, "%s",
			  complaint->message);
}

static void
tell_limits(Buf *out, const Limits *limits)
{
	buf_print(
		out,
		"\r\nx-ratelimit-limit-requests: %.0f\r\nx-ratelimit-limit-tokens: %.0f"
		"\r\nx-ratelimit-remaining-requests: %.0f\r\nx-ratelimit-remaining-tokens: %.0f"
		"\r\nx-ratelimit-reset-requests: %.3fs\r\nx-ratelimit-reset-tokens: %.3fs",
		limits->requests, limits->tokens, limits->requests_left, limits->tokens_left,
		limits->requests_reset, limits->tokens_reset);
}

static bool
claims(Span path)
{
	return path_ends_with(path, "/chat/completions");
}

const Form form_openai = {
	.name = "openai",
	.claims = claims,
	.parse = parse,
	.complain = complain,
	.write = write_envelope,
	.tell_limits = tell_limits,
};
