/*-------------------------------------------------------------------------
 *
 * form_bedrock.c
 *	  The form of AWS Bedrock's Converse.
 *
 * The model is in the path.  What is wrong is named in a header.
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
	bool first_part = true;
	Span name;
	Span role = {0};
	Span text = {0};

	if (!scan_char(scan, '{'))
		return chat_refuse(chat, NULL, NULL, "%s must be objects", "messages");
	while (scan_member(scan, &first, &name))
	{
		if (span_is(name, "role"))
		{
			if (!scan_text(scan, &role))
				return false;
			continue;
		}
		if (!span_is(name, "content"))
			return chat_refuse(chat, NULL, NULL, "Unknown member of a %s", "message");
		if (!scan_char(scan, '['))
			return chat_refuse(chat, NULL, NULL, "%s must be an array", "content");
		while (scan_element(scan, &first_part))
		{
			bool first_member = true;

			if (!scan_char(scan, '{'))
				return chat_refuse(chat, NULL, NULL, "%s must be objects", "content blocks");
			while (scan_member(scan, &first_member, &name))
			{
				if (!(span_is(name, "text") ? scan_text(scan, &text) : scan_value(scan, 4)))
					return false;
			}
		}
	}
	if (scan->problem != NULL)
		return false;
	if (!span_is(role, "user") && !span_is(role, "assistant"))
		return chat_refuse(chat, NULL, NULL, "%s must be user or assistant", "role");
	chat_take_message(chat, role, text);
	return true;
}

static bool
read_messages(Scan *scan, ChatRequest *chat)
{
	bool first = true;

	if (!scan_char(scan, '['))
		return chat_refuse(chat, NULL, NULL, "%s must be an array", "messages");
	while (scan_element(scan, &first))
	{
		if (!read_message(scan, chat))
			return false;
	}
	return scan->problem == NULL;
}

/* Go down to a member that is a string, and take it. */
static bool
read_down(Scan *scan, const char *const *steps, Span *text)
{
	bool first = true;
	Span name;

	if (steps[0] == NULL)
		return scan_text(scan, text);
	if (!scan_char(scan, '{'))
		return false;
	while (scan_member(scan, &first, &name))
	{
		if (!(span_is(name, steps[0]) ? read_down(scan, steps + 1, text) : scan_value(scan, 8)))
			return false;
	}
	return scan->problem == NULL;
}

static bool
read_output_config(Scan *scan, ChatRequest *chat)
{
	static const char *const steps[] = {"textFormat", "structure", "jsonSchema", "schema", NULL};

	chat->format = FORMAT_SCHEMA;
	if (!read_down(scan, steps, &chat->schema) || !form_is_object(chat->schema))
		return chat_refuse(chat, NULL, NULL, "%s must be a string that holds a schema", "outputConfig");
	return true;
}

static bool
read_inference(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;

	if (!scan_char(scan, '{'))
		return chat_refuse(chat, NULL, NULL, "%s must be an object", "inferenceConfig");
	while (scan_member(scan, &first, &name))
	{
		const char *start;

		scan_space(scan);
		start = scan->at;
		if (!scan_value(scan, 2))
			return false;
		if (span_is(name, "maxTokens"))
			chat->max_tokens = strtoll(start, NULL, 10);
		else if (!span_is(name, "temperature") && !span_is(name, "topP") && !span_is(name, "stopSequences"))
			return chat_refuse(chat, NULL, NULL, "Unknown member of %s", "inferenceConfig");
	}
	return scan->problem == NULL;
}

static bool
read_system(Scan *scan, ChatRequest *chat)
{
	bool first = true;

	if (!scan_char(scan, '['))
		return chat_refuse(chat, NULL, NULL, "%s must be an array", "system");
	while (scan_element(scan, &first))
	{
		static const char *const steps[] = {"text", NULL};
		Span text = {0};

		if (!read_down(scan, steps, &text))
			return false;
		chat_take_message(chat, span_of("system"), text);
	}
	return scan->problem == NULL;
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
			bool fine = span_is(name, "messages")		   ? read_messages(&scan, chat)
						: span_is(name, "system")		   ? read_system(&scan, chat)
						: span_is(name, "inferenceConfig") ? read_inference(&scan, chat)
						: span_is(name, "outputConfig")	   ? read_output_config(&scan, chat)
						: span_is(name, "serviceTier") || span_is(name, "requestMetadata")
							? scan_value(&scan, 4)
							: chat_refuse(chat, NULL, NULL, "Unknown member of the %s", "request");

			if (!fine)
				break;
		}
	}
	chat_end(chat, &scan);
	chat->model = form_path_step(request->path, "/model/", "/converse");
	if (chat->messages == 0)
		chat_refuse(chat, NULL, NULL, "%s is required", "messages");
	return chat->error[0] == '\0';
}

/* ---- answers and errors ---- */

static void
write_answer(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	static const char *const reasons[] = {
		[FINISH_STOP] = "end_turn",
		[FINISH_LENGTH] = "max_tokens",
		[FINISH_FILTER] = "content_filtered",
		[FINISH_REFUSAL] = "guardrail_intervened"};

	(void) chat;
	buf_text(out, "{\"output\":{\"message\":{\"role\":\"assistant\",\"content\":[{\"text\":\"");
	buf_json(out, told->content);
	if (tail != NULL)
		out = tail;
	buf_print(out, "\"}]}},\"stopReason\":\"%s\"", reasons[told->finish]);
	if (!told->no_usage)
	{
		buf_text(out, ",\"usage\":{\"inputTokens\":");
		buf_uint(out, usage->prompt - usage->cached - usage->cache_write);
		buf_text(out, ",\"outputTokens\":");
		buf_uint(out, usage->completion);
		buf_text(out, ",\"cacheReadInputTokens\":");
		buf_uint(out, usage->cached);
		buf_text(out, ",\"cacheWriteInputTokens\":");
		buf_uint(out, usage->cache_write);
		buf_text(out, ",\"totalTokens\":");
		buf_uint(out, usage->prompt + usage->completion);
		buf_char(out, '}');
	}
	buf_text(out, ",\"metrics\":{\"latencyMs\":5}}");
}

static void
complain(Reply *reply, const Complaint *complaint)
{
#define TYPE(name) "\r\nx-amzn-errortype: " name ":http://internal.amazon.com/coral/com.amazon.bedrock/"
	static const char *const types[] = {
		[TROUBLE_REQUEST] = TYPE("ValidationException"),
		[TROUBLE_SCHEMA] = TYPE("ValidationException"),
		[TROUBLE_CONTEXT] = TYPE("ValidationException"),
		[TROUBLE_KEY] = TYPE("AccessDeniedException"),
		[TROUBLE_MODEL] = TYPE("ResourceNotFoundException"),
		[TROUBLE_REQUESTS] = TYPE("ThrottlingException"),
		[TROUBLE_TOKENS] = TYPE("ThrottlingException"),
		[TROUBLE_ERROR] = TYPE("InternalServerException"),
		[TROUBLE_OVERLOADED] = TYPE("ServiceUnavailableException"),
		[TROUBLE_REDIRECT] = TYPE("Redirect")};
	Trouble trouble = complaint->trouble;

	reply->status = trouble == TROUBLE_KEY ? 403 : complaint->status;
	reply->limits = types[trouble];
	reply->limits_len = strlen(types[trouble]);
	reply->body.len = 0;
	buf_text(&reply->body, "{\"message\":\"");
	if (trouble == TROUBLE_CONTEXT)
		buf_text(&reply->body, "Input is too long for requested model.");
	else if (trouble == TROUBLE_TOKENS)
		buf_text(&reply->body, "Too many tokens, please wait before trying again.");
	else
		buf_json(&reply->body, span_of(complaint->message));
	buf_text(&reply->body, "\"}");
}

static bool
claims(Span path)
{
	return path_ends_with(path, "/converse");
}

const Form form_bedrock = {
	.name = "bedrock",
	.claims = claims,
	.parse = parse,
	.complain = complain,
	.write = write_answer,
};
