/*-------------------------------------------------------------------------
 *
 * chat_parse.c
 *	  The body of a chat completion request, from bytes to ChatRequest.
 *
 * It is strict, so that a mistake in the extension's dialect shows here and not
 * at a customer: the JSON must be valid, as must the UTF-8, and an unknown
 * parameter is refused by name, as OpenAI does.  Spans in the result point into
 * the body or into a scratch buffer that is good until the next call.  Called
 * by chat.c, once per request; scan.c does the JSON.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_ROOM (4 * 1024 * 1024) /* larger scratch buffers are freed */

static Buf texts; /* unescaped strings of the present request */
static Buf hints; /* hint texts that had to be put together */

/* ---- what is in a request ---- */

/*
 * Note why the request is refused; the first reason stands.
 */
static bool __attribute__((format(printf, 4, 5)))
refuse(ChatRequest *chat, const char *param, const char *code, const char *format, ...)
{
	va_list args;

	if (chat->error[0] != '\0')
		return false;
	va_start(args, format);
	vsnprintf(chat->error, sizeof(chat->error), format, args);
	va_end(args);
	chat->error_param = param;
	chat->error_code = code;
	return false;
}

/*
 * Content: a string, or an array of text parts that are put together.
 */
static bool
read_content(Scan *scan, ChatRequest *chat, Span *content)
{
	bool first = true;
	Buf joined = {0};
	size_t start;

	if (scan_peek(scan) == '"')
		return scan_text(scan, content);
	if (!scan_char(scan, '['))
		return refuse(chat, "messages", "invalid_type",
					  "Invalid type for 'messages': content must be a string or an array of %s.",
					  "parts");
	while (scan_element(scan, &first))
	{
		bool first_member = true;
		bool is_text = false;
		Span name;
		Span text = {0};
		Span type = {0};

		if (!scan_char(scan, '{'))
			break;
		while (scan_member(scan, &first_member, &name))
		{
			if (!(span_is(name, "text")	  ? scan_text(scan, &text)
				  : span_is(name, "type") ? scan_text(scan, &type)
										  : scan_value(scan, 4)))
				break;
		}
		is_text = type.len == 4 && span_is(type, "text");
		if (scan->problem == NULL && !is_text)
			refuse(chat, "messages", "invalid_value",
				   "Only content parts of type 'text' are possible %s.", "here");
		buf_add(&joined, text.at, text.len);
	}
	start = texts.len;
	if (scan->problem == NULL)
		buf_add(&texts, joined.at, joined.len);
	*content = (Span){texts.at + start, texts.len - start};
	buf_free(&joined);
	return scan->problem == NULL && chat->error[0] == '\0';
}

/*
 * Add an example as a line "input → answer", which is what words.c looks for.
 */
static void
add_example(Span input, Span answer)
{
	buf_char(&hints, '\n');
	for (size_t i = 0; i < input.len; i++)
		buf_char(&hints, input.at[i] == '\n' ? ' ' : input.at[i]);
	buf_text(&hints, " -> ");
	for (size_t i = 0; i < answer.len; i++)
		buf_char(&hints, answer.at[i] == '\n' ? ' ' : answer.at[i]);
	buf_char(&hints, '\n');
}

/*
 * Is this user message the one to answer?  The last one is, but for a remark on a
 * faulty answer to one that has a mark.
 */
static bool
is_question(const ChatRequest *chat, Span content)
{
	Span whole;

	return chat->user.at == NULL || chat_find_mark(chat->user, &whole).len == 0 ||
		   chat_find_mark(content, &whole).len > 0;
}

static void
take_message(ChatRequest *chat, Span role, Span content)
{
	chat->messages++;
	chat->message_bytes += content.len;
	if (span_is(role, "user"))
		chat->user = is_question(chat, content) ? content : chat->user;
	else if (span_is(role, "assistant"))
		add_example(chat->user, content);
	else
	{
		if (hints.len > 0)
			buf_char(&hints, '\n');
		buf_add(&hints, content.at, content.len);
	}
}

static bool
read_message(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;
	Span role = {0};
	Span content = {0};

	if (!scan_char(scan, '{'))
		return refuse(chat, "messages", "invalid_type",
					  "Invalid type for 'messages': expected an object%s.", " in the array");
	while (scan_member(scan, &first, &name))
	{
		bool fine;

		if (span_is(name, "role"))
			fine = scan_text(scan, &role);
		else if (span_is(name, "content"))
			fine = read_content(scan, chat, &content);
		else if (span_is(name, "name"))
			fine = scan_value(scan, 3);
		else
			return refuse(chat, "messages", "unknown_parameter",
						  "Unknown parameter in 'messages'%s.", "");
		if (!fine)
			return false;
	}
	if (scan->problem != NULL)
		return false;
	if (!span_is(role, "user") && !span_is(role, "system") && !span_is(role, "developer") &&
		!span_is(role, "assistant"))
		return refuse(chat, "messages", "invalid_value",
					  "Invalid value for 'role': supported are %s.",
					  "'system', 'developer', 'user' and 'assistant'");
	if (content.at == NULL)
		return refuse(chat, "messages", "missing_required_parameter",
					  "Missing required parameter: '%s'.", "messages[].content");
	take_message(chat, role, content);
	return true;
}

static bool
read_messages(Scan *scan, ChatRequest *chat)
{
	bool first = true;

	if (!scan_char(scan, '['))
		return refuse(chat, "messages", "invalid_type", "Invalid type for '%s': expected an array.",
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
		return refuse(chat, "response_format", NULL, "Invalid type for '%s': expected an object.",
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
			return refuse(chat, "response_format", "unknown_parameter",
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
		return refuse(chat, "response_format", "invalid_type",
					  "Invalid type for '%s': expected an object.", "response_format");
	while (scan_member(scan, &first, &name))
	{
		bool fine = span_is(name, "type") ? scan_text(scan, &type)
					: span_is(name, "json_schema")
						? read_json_schema(scan, chat)
						: refuse(chat, "response_format", "unknown_parameter",
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
		return refuse(
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
		return refuse(chat, old ? "max_tokens" : "max_completion_tokens", "integer_below_min_value",
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
		return refuse(chat, "temperature", "decimal_above_max_value",
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
		return refuse(chat, "stream", "unsupported_value",
					  "Unsupported value: '%s' must be false here.", "stream");
	if (span_is(name, "n") && *start != 'n' && strtol(start, NULL, 10) != 1)
		return refuse(chat, "n", "unsupported_value", "Unsupported value: '%s' must be 1 here.",
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
	return refuse(chat, NULL, "unknown_parameter", "Unrecognized request argument supplied: %s",
				  shown);
}

/* ---- the input in the last user message ---- */

static bool
mark_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
		   c == '.' || c == ':' || c == '-';
}

/*
 * Find [[mark:TEXT]]; returns TEXT, empty if there is none.
 */
Span
chat_find_mark(Span text, Span *whole)
{
	static const Span opening = {"[[mark:", 7};
	const char *end = text.at + text.len;
	const char *start = span_find(text, opening);
	const char *at;

	*whole = (Span){0};
	if (start == NULL)
		return *whole;
	for (at = start + 7; at < end && mark_char(*at) && at - start - 7 <= MAX_NAME;)
		at++;
	if (end - at < 2 || at[0] != ']' || at[1] != ']' || at == start + 7 ||
		at - start - 7 > MAX_NAME)
		return *whole;
	*whole = (Span){start, (size_t) (at + 2 - start)};
	return (Span){start + 7, (size_t) (at - start - 7)};
}

static Span
trimmed(Span text)
{
	while (text.len > 0 && (unsigned char) text.at[0] <= ' ')
	{
		text.at++;
		text.len--;
	}
	while (text.len > 0 && (unsigned char) text.at[text.len - 1] <= ' ')
		text.len--;
	return text;
}

/*
 * Take off a tag like <input> ... </input> that wraps the whole text.
 */
static Span
unwrapped(Span text)
{
	const char *end;
	size_t name_len;

	text = trimmed(text);
	if (text.len < 7 || text.at[0] != '<')
		return text;
	end = memchr(text.at, '>', text.len);
	if (end == NULL || (name_len = (size_t) (end - text.at) - 1) == 0 ||
		text.len < 2 * name_len + 5)
		return text;
	if (memcmp(text.at + text.len - name_len - 3, "</", 2) != 0 ||
		memcmp(text.at + text.len - name_len - 1, text.at + 1, name_len) != 0)
		return text;
	return trimmed((Span){end + 1, text.len - 2 * name_len - 5});
}

static void
find_input(ChatRequest *chat)
{
	Span whole;
	size_t start = texts.len;
	size_t before;

	chat->mark = chat_find_mark(chat->user, &whole);
	chat->input = chat->user;
	if (chat->mark.len > 0)
	{
		before = (size_t) (whole.at - chat->user.at);
		buf_add(&texts, chat->user.at, before);
		buf_add(&texts, whole.at + whole.len, chat->user.len - before - whole.len);
		chat->input = (Span){texts.at + start, texts.len - start};
	}
	chat->input = unwrapped(chat->input);
}

/* ---- the whole ---- */

static bool
check_request(ChatRequest *chat)
{
	if (chat->model.len == 0)
		return refuse(chat, NULL, NULL, "you must provide a %s parameter", "model");
	if (chat->messages == 0)
		return refuse(chat, "messages", "missing_required_parameter",
					  "Missing required parameter: '%s'.", "messages");
	if (chat->format == FORMAT_SCHEMA)
	{
		if (chat->schema.len == 0 || chat->schema.at[0] != '{')
			return refuse(chat, "response_format.json_schema", "missing_required_parameter",
						  "Missing required parameter: '%s'.",
						  "response_format.json_schema.schema");
		if (chat->schema_name.len == 0 || chat->schema_name.len > 64)
			return refuse(chat, "response_format.json_schema.name", "missing_required_parameter",
						  "'%s' must have 1 to 64 characters.", "response_format.json_schema.name");
		for (size_t i = 0; i < chat->schema_name.len; i++)
		{
			if (!mark_char(chat->schema_name.at[i]) || chat->schema_name.at[i] == '.' ||
				chat->schema_name.at[i] == ':')
				return refuse(chat, "response_format.json_schema.name", "invalid_value",
							  "'%s' must match ^[a-zA-Z0-9_-]+$.",
							  "response_format.json_schema.name");
		}
	}
	if (chat->format == FORMAT_OBJECT && strcasestr(hints.at, "json") == NULL &&
		memmem(chat->user.at, chat->user.len, "json", 4) == NULL &&
		memmem(chat->user.at, chat->user.len, "JSON", 4) == NULL)
		return refuse(
			chat, "messages", NULL,
			"'messages' must contain the word 'json' in some form, "
			"to use 'response_format' of type '%s'.",
			"json_object");
	return true;
}

/*
 * Read a body; false if it is refused, then error, error_param and error_code
 * say why.  The mark is found even so, where it can be.
 */
bool
chat_parse(ChatRequest *chat, Span body)
{
	Scan scan = {body.at, body.at + body.len, &texts, NULL};
	bool first = true;
	Span name;

	memset(chat, 0, sizeof(*chat));
	chat->max_tokens = -1;
	if (texts.room > KEEP_ROOM)
		chat_parse_free();
	texts.len = hints.len = 0;
	/* strings unescaped, parts put together, and the input without its mark */
	buf_reserve(&texts, 3 * body.len + 16);
	buf_reserve(&hints, 2 * body.len + 16);

	if (!valid_utf8(body))
		refuse(chat, NULL, NULL, "The body of your request is not valid %s.", "UTF-8");
	else if (!scan_char(&scan, '{'))
		refuse(chat, NULL, NULL,
			   "We could not parse the %s of your request: a JSON object was expected.", "body");
	else
	{
		while (scan_member(&scan, &first, &name))
		{
			if (!read_parameter(&scan, chat, name))
				break;
		}
		if (chat->error[0] == '\0' && scan.problem == NULL && scan_peek(&scan) != '\0')
			scan.problem = "something follows it";
		if (scan.problem != NULL)
			refuse(chat, NULL, NULL, "We could not parse the JSON body of your request: %s.",
				   scan.problem);
	}
	buf_char(&hints, '\0');
	chat->hints = (Span){hints.at, hints.len - 1};
	if (chat->user.at == NULL)
		chat->user = span_of("");
	find_input(chat);
	return chat->error[0] == '\0' && check_request(chat);
}

void
chat_parse_free(void)
{
	buf_free(&texts);
	buf_free(&hints);
}
