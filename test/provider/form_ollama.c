/*-------------------------------------------------------------------------
 *
 * form_ollama.c
 *	  Ollama's own form: /api/chat.
 *
 * Ollama ignores members that it does not know; here they are refused, so that a mistake shows.
 *
 *-------------------------------------------------------------------------
 */
#include "provider.h"

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
		return chat_refuse(chat, NULL, NULL, "%s must be objects", "messages");
	while (scan_member(scan, &first, &name))
	{
		bool fine = span_is(name, "role")	   ? scan_text(scan, &role)
					: span_is(name, "content") ? scan_text(scan, &content)
											   : chat_refuse(chat, NULL, NULL, "unknown member of a %s", "message");

		if (!fine)
			return false;
	}
	if (scan->problem == NULL)
		chat_take_message(chat, role, content);
	return scan->problem == NULL;
}

static bool
read_options(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;

	if (!scan_char(scan, '{'))
		return chat_refuse(chat, NULL, NULL, "%s must be an object", "options");
	while (scan_member(scan, &first, &name))
	{
		const char *start;

		scan_space(scan);
		start = scan->at;
		if (!scan_value(scan, 2))
			return false;
		if (span_is(name, "num_predict"))
			chat->max_tokens = strtoll(start, NULL, 10);
		else if (span_is(name, "temperature"))
		{
			chat->has_temperature = true;
			chat->temperature = strtod(start, NULL);
		}
	}
	return scan->problem == NULL;
}

static bool
read_format(Scan *scan, ChatRequest *chat)
{
	const char *start;
	Span word;

	if (scan_peek(scan) == '"')
	{
		if (!scan_text(scan, &word))
			return false;
		chat->format = FORMAT_OBJECT;
		return span_is(word, "json") || chat_refuse(chat, NULL, NULL, "invalid format: expected %s or a JSON schema", "\"json\"");
	}
	scan_space(scan);
	start = scan->at;
	if (!scan_value(scan, 32))
		return false;
	chat->format = FORMAT_SCHEMA;
	chat->schema = (Span){start, (size_t) (scan->at - start)};
	return true;
}

static bool
read_member(Scan *scan, ChatRequest *chat, Span name, bool *streams)
{
	bool first = true;

	if (span_is(name, "model"))
		return scan_text(scan, &chat->model);
	if (span_is(name, "format"))
		return read_format(scan, chat);
	if (span_is(name, "options"))
		return read_options(scan, chat);
	if (span_is(name, "messages"))
	{
		if (!scan_char(scan, '['))
			return chat_refuse(chat, NULL, NULL, "%s must be an array", "messages");
		while (scan_element(scan, &first))
		{
			if (!read_message(scan, chat))
				return false;
		}
		return scan->problem == NULL;
	}
	if (span_is(name, "stream"))
		*streams = scan_peek(scan) != 'f';
	else if (!span_is(name, "truncate") && !span_is(name, "think") && !span_is(name, "keep_alive"))
		return chat_refuse(chat, NULL, NULL, "unknown member of the %s", "request");
	return scan_value(scan, 2);
}

static bool
parse(ChatRequest *chat, const HttpRequest *request)
{
	Scan scan;
	bool first = true;
	bool streams = true;
	Span name;

	if (chat_begin(chat, &scan, request->body))
	{
		while (scan_member(&scan, &first, &name))
		{
			if (!read_member(&scan, chat, name, &streams))
				break;
		}
	}
	chat_end(chat, &scan);
	if (chat->model.len == 0)
		chat_refuse(chat, NULL, NULL, "%s is required", "model");
	if (streams)
		chat_refuse(chat, NULL, NULL, "%s must be false here", "stream");
	return chat->error[0] == '\0';
}

/* ---- answers and errors ---- */

static void
write_answer(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	buf_text(out, "{\"model\":\"");
	buf_json(out, chat->model);
	buf_text(out, "\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"");
	buf_json(out, told->content);
	if (tail != NULL)
		out = tail;
	buf_text(out, "\"},\"done\":true,\"done_reason\":\"");
	buf_text(out, told->finish == FINISH_LENGTH ? "length" : "stop");
	buf_text(out, "\",\"total_duration\":5000000,\"load_duration\":1000");
	if (!told->no_usage)
	{
		buf_text(out, ",\"prompt_eval_count\":");
		buf_uint(out, usage->prompt);
		buf_text(out, ",\"eval_count\":");
		buf_uint(out, usage->completion);
	}
	buf_char(out, '}');
}

static void
complain(Reply *reply, const Complaint *complaint)
{
	reply->status = complaint->status;
	reply->body.len = 0;
	buf_text(&reply->body, "{\"error\":\"");
	if (complaint->trouble == TROUBLE_CONTEXT)
		buf_text(&reply->body, "the input length exceeds the context length");
	else if (complaint->trouble == TROUBLE_MODEL)
		buf_text(&reply->body, "model not found, try pulling it first");
	else if (complaint->trouble == TROUBLE_OVERLOADED)
		buf_text(&reply->body, "server busy, please try again.  maximum pending requests exceeded");
	else
		buf_json(&reply->body, span_of(complaint->message));
	buf_text(&reply->body, "\"}");
}

static bool
claims(Span path)
{
	return path_ends_with(path, "/api/chat");
}

const Form form_ollama = {
	.name = "ollama",
	.claims = claims,
	.parse = parse,
	.complain = complain,
	.write = write_answer,
};
