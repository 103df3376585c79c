/*-------------------------------------------------------------------------
 *
 * form_anthropic.c
 *	  The form of Anthropic's Messages.
 *
 * Unknown members are refused, as are schemas beyond the part that the provider takes.  Where a tool
 * must be called, the content is its input, if it is an object.
 *
 *-------------------------------------------------------------------------
 */
#include "provider.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool by_tool; /* of the present request */

static const char *const keywords[] = {
	"$defs", "$ref", "additionalProperties", "allOf", "anyOf", "const", "definitions", "description", "enum",
	"format", "items", "minItems", "properties", "required", "title", "type", NULL};

/* ---- what is in a request ---- */

static bool
read_message(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;
	Span role = {0};
	Span content = {0};

	if (!scan_char(scan, '{'))
		return chat_refuse(chat, NULL, NULL, "messages: Input should be %s", "a valid list");
	while (scan_member(scan, &first, &name))
	{
		bool fine = span_is(name, "role")	   ? scan_text(scan, &role)
					: span_is(name, "content") ? chat_read_parts(scan, chat, &content)
											   : chat_refuse(chat, NULL, NULL, "messages.0: Extra inputs are not %s", "permitted");

		if (!fine)
			return false;
	}
	if (scan->problem != NULL)
		return false;
	if (!span_is(role, "user") && !span_is(role, "assistant"))
		return chat_refuse(chat, NULL, NULL, "messages: Unexpected role%s", "");
	if (content.len == 0)
		return chat_refuse(chat, NULL, NULL, "messages: text content blocks must be %s", "non-empty");
	chat_take_message(chat, role, content);
	return true;
}

static bool
read_messages(Scan *scan, ChatRequest *chat)
{
	bool first = true;

	if (!scan_char(scan, '['))
		return chat_refuse(chat, NULL, NULL, "messages: Input should be %s", "a valid list");
	while (scan_element(scan, &first))
	{
		if (!read_message(scan, chat))
			return false;
	}
	return scan->problem == NULL;
}

/* A member that holds a schema, wherever it stands in what comes. */
static bool
read_schema(Scan *scan, ChatRequest *chat, const char *member)
{
	bool first = true;
	Span name;

	if (scan_peek(scan) != '{')
		return scan_value(scan, 8);
	scan_char(scan, '{');
	while (scan_member(scan, &first, &name))
	{
		const char *start;

		scan_space(scan);
		start = scan->at;
		if (span_is(name, member))
		{
			if (!scan_value(scan, 32))
				return false;
			chat->schema = (Span){start, (size_t) (scan->at - start)};
			chat->format = FORMAT_SCHEMA;
		}
		else if (!(span_is(name, "format") ? read_schema(scan, chat, member) : scan_value(scan, 4)))
			return false;
	}
	return scan->problem == NULL;
}

static bool
read_output_config(Scan *scan, ChatRequest *chat)
{
	char found[60];

	if (!read_schema(scan, chat, "schema"))
		return false;
	if (chat->schema.len > 0 && form_finds_keyword(chat->schema, keywords, true, found, sizeof(found)))
		return chat_refuse(chat, NULL, NULL, "output_config.format.schema: '%s' is not taken", found);
	return true;
}

static bool
read_tools(Scan *scan, ChatRequest *chat)
{
	bool first = true;

	if (!scan_char(scan, '['))
		return chat_refuse(chat, NULL, NULL, "tools: Input should be %s", "a valid list");
	while (scan_element(scan, &first))
	{
		if (!read_schema(scan, chat, "input_schema"))
			return false;
	}
	by_tool = true;
	return scan->problem == NULL;
}

static bool
read_member(Scan *scan, ChatRequest *chat, Span name)
{
	static const char *const known[] = {"top_p", "top_k", "service_tier", "metadata",
										"thinking", "tool_choice", "stop_sequences"};
	const char *start;
	Span system = {0};

	scan_space(scan);
	start = scan->at;
	if (span_is(name, "model"))
		return scan_text(scan, &chat->model);
	if (span_is(name, "messages"))
		return read_messages(scan, chat);
	if (span_is(name, "output_config"))
		return read_output_config(scan, chat);
	if (span_is(name, "tools"))
		return read_tools(scan, chat);
	if (span_is(name, "system"))
	{
		if (!chat_read_parts(scan, chat, &system))
			return false;
		chat_take_message(chat, span_of("system"), system);
		return true;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (span_is(name, known[i]))
			return scan_value(scan, 4);
	}
	if (!span_is(name, "max_tokens") && !span_is(name, "temperature"))
		return chat_refuse(chat, NULL, NULL, "%.*s: Extra inputs are not permitted", name.len > 60 ? 60 : (int) name.len, name.at);
	if (!scan_number(scan))
		return false;
	if (span_is(name, "max_tokens"))
		chat->max_tokens = strtoll(start, NULL, 10);
	else
	{
		chat->has_temperature = true;
		chat->temperature = strtod(start, NULL);
	}
	return true;
}

static bool
parse(ChatRequest *chat, const HttpRequest *request)
{
	Scan scan;
	bool first = true;
	Span name;

	by_tool = false;
	if (chat_begin(chat, &scan, request->body))
	{
		while (scan_member(&scan, &first, &name))
		{
			if (!read_member(&scan, chat, name))
				break;
		}
	}
	chat_end(chat, &scan);
	if (chat->model.len == 0)
		chat_refuse(chat, NULL, NULL, "model: Field %s", "required");
	if (chat->max_tokens < 1)
		chat_refuse(chat, NULL, NULL, "max_tokens: Field %s", "required");
	if (chat->messages == 0)
		chat_refuse(chat, NULL, NULL, "messages: Field %s", "required");
	return chat->error[0] == '\0';
}

/* ---- answers and errors ---- */

static void
write_usage(Buf *out, const Usage *usage)
{
	buf_text(out, ",\"usage\":{\"input_tokens\":");
	buf_uint(out, usage->prompt - usage->cached - usage->cache_write);
	buf_text(out, ",\"cache_creation_input_tokens\":");
	buf_uint(out, usage->cache_write);
	buf_text(out, ",\"cache_read_input_tokens\":");
	buf_uint(out, usage->cached);
	buf_text(out, ",\"output_tokens\":");
	buf_uint(out, usage->completion);
	buf_text(out, ",\"output_tokens_details\":{\"thinking_tokens\":");
	buf_uint(out, usage->reasoning);
	buf_text(out, "},\"service_tier\":\"standard\"}");
}

static void
write_answer(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	bool tool = by_tool && told->finish == FINISH_STOP && tail == NULL && form_is_object(told->content);
	bool refused = told->finish == FINISH_FILTER || told->finish == FINISH_REFUSAL;

	buf_text(out, "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"");
	buf_json(out, chat->model);
	buf_text(out, "\",\"content\":[");
	if (tool)
	{
		buf_text(out, "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"answer\",\"input\":");
		buf_add(out, told->content.at, told->content.len);
		buf_char(out, '}');
	}
	else
	{
		buf_text(out, "{\"type\":\"text\",\"text\":\"");
		buf_json(out, told->content);
		if (tail != NULL)
			out = tail;
		buf_text(out, "\"}");
	}
	buf_text(out, "],\"stop_reason\":\"");
	buf_text(out, refused ? "refusal" : told->finish == FINISH_LENGTH ? "max_tokens"
									: tool							  ? "tool_use"
																	  : "end_turn");
	buf_text(out, "\",\"stop_sequence\":null,\"stop_details\":");
	buf_text(out, refused ? "{\"type\":\"refusal\",\"category\":null,\"explanation\":\"Declined.\"}" : "null");
	if (!told->no_usage)
		write_usage(out, usage);
	buf_char(out, '}');
}

static void
complain(Reply *reply, const Complaint *complaint)
{
	static const struct
	{
		const char *type;
		int status; /* 0: as given */
	} troubles[] = {
		[TROUBLE_REQUEST] = {"invalid_request_error", 0},
		[TROUBLE_SCHEMA] = {"invalid_request_error", 0},
		[TROUBLE_CONTEXT] = {"invalid_request_error", 0},
		[TROUBLE_KEY] = {"authentication_error", 0},
		[TROUBLE_MODEL] = {"not_found_error", 0},
		[TROUBLE_REQUESTS] = {"rate_limit_error", 0},
		[TROUBLE_TOKENS] = {"rate_limit_error", 0},
		[TROUBLE_ERROR] = {"api_error", 0},
		[TROUBLE_OVERLOADED] = {"overloaded_error", 529},
		[TROUBLE_REDIRECT] = {"api_error", 0}};
	Trouble trouble = complaint->trouble;

	reply->status = troubles[trouble].status != 0 ? troubles[trouble].status : complaint->status;
	reply->body.len = 0;
	buf_print(&reply->body, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"", troubles[trouble].type);
	if (trouble == TROUBLE_CONTEXT)
		buf_text(&reply->body, "prompt is too long: ");
	if (trouble == TROUBLE_MODEL)
		buf_text(&reply->body, "model: ");
	buf_json(&reply->body, span_of(complaint->message));
	buf_text(&reply->body, "\"},\"request_id\":\"req_1\"}");
}

static void
tell_one(Buf *out, const char *name, double limit, double left, double reset)
{
	time_t at = (time_t) (clock_epoch_ms() / 1000 + reset + 1);
	char when[40];

	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime(&at));
	buf_print(
		out,
		"\r\nanthropic-ratelimit-%s-limit: %.0f\r\nanthropic-ratelimit-%s-remaining: %.0f"
		"\r\nanthropic-ratelimit-%s-reset: %s",
		name, limit, name, left, name, when);
}

static void
tell_limits(Buf *out, const Limits *limits)
{
	tell_one(out, "requests", limits->requests, limits->requests_left, limits->requests_reset);
	tell_one(out, "input-tokens", limits->tokens, limits->tokens_left, limits->tokens_reset);
	tell_one(out, "output-tokens", limits->tokens, limits->tokens_left, limits->tokens_reset);
}

static bool
claims(Span path)
{
	return path_ends_with(path, "/messages");
}

const Form form_anthropic = {
	.name = "anthropic",
	.claims = claims,
	.parse = parse,
	.complain = complain,
	.write = write_answer,
	.tell_limits = tell_limits,
};
