/*-------------------------------------------------------------------------
 *
 * chat_parse.c
 *	  What all forms share when they turn a body into a ChatRequest.
 *
 * A form calls chat_begin(), reads the members that it knows, and calls chat_end().
 * It is to be strict, so that a mistake in the extension's dialect shows here and not
 * at a customer: the JSON must be valid, as must the UTF-8, and an unknown
 * parameter is refused by name.  Spans in the result point into the body or into a
 * scratch buffer that is good until the next call; scan.c does the JSON.
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
bool
chat_refuse(ChatRequest *chat, const char *param, const char *code, const char *format, ...)
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
bool
chat_read_parts(Scan *scan, ChatRequest *chat, Span *content)
{
	bool first = true;
	Buf joined = {0};
	size_t start;

	if (scan_peek(scan) == '"')
		return scan_text(scan, content);
	if (!scan_char(scan, '['))
		return chat_refuse(chat, "messages", "invalid_type",
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
			chat_refuse(chat, "messages", "invalid_value",
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

void
chat_take_message(ChatRequest *chat, Span role, Span content)
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

/* ---- the input in the last user message ---- */

bool
chat_mark_char(char c)
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
	for (at = start + 7; at < end && chat_mark_char(*at) && at - start - 7 <= MAX_NAME;)
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

/*
 * Begin with a body: forget the one before.  False if it cannot be a JSON object.
 */
bool
chat_begin(ChatRequest *chat, Scan *scan, Span body)
{
	*scan = (Scan){body.at, body.at + body.len, &texts, NULL};
	memset(chat, 0, sizeof(*chat));
	chat->max_tokens = -1;
	if (texts.room > KEEP_ROOM)
		chat_parse_free();
	texts.len = hints.len = 0;
	/* strings unescaped, parts put together, and the input without its mark */
	buf_reserve(&texts, 3 * body.len + 16);
	buf_reserve(&hints, 2 * body.len + 16);
	if (!valid_utf8(body))
		return chat_refuse(chat, NULL, NULL, "The body of your request is not valid %s.", "UTF-8");
	if (!scan_char(scan, '{'))
		return chat_refuse(chat, NULL, NULL,
						   "We could not parse the %s of your request: a JSON object was expected.", "body");
	return true;
}

/*
 * The members have been read, or the first of them that is refused; false if the request is
 * refused.  The mark is found even so, where it can be.
 */
bool
chat_end(ChatRequest *chat, Scan *scan)
{
	if (chat->error[0] == '\0' && scan->problem == NULL && scan_peek(scan) != '\0')
		scan->problem = "something follows it";
	if (scan->problem != NULL)
		chat_refuse(chat, NULL, NULL, "We could not parse the JSON body of your request: %s.",
					scan->problem);
	buf_char(&hints, '\0');
	chat->hints = (Span){hints.at, hints.len - 1};
	if (chat->user.at == NULL)
		chat->user = span_of("");
	find_input(chat);
	return chat->error[0] == '\0';
}

void
chat_parse_free(void)
{
	buf_free(&texts);
	buf_free(&hints);
}
