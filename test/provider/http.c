/*-------------------------------------------------------------------------
 *
 * http.c
 *	  HTTP/1.1 as far as a provider needs it: request heads, chunked bodies,
 *	  answer heads.
 *
 * Pure: bytes in, structs out, no sockets.  The parser is hand-made because it
 * runs once per request at the rate of the benchmark.  server.c calls
 * http_parse_head() until the head has come whole, then http_read_chunks() if
 * the body is chunked, and http_write_reply() with what api.c made.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum
{
	CHUNK_SIZE_LINE,
	CHUNK_DATA,
	CHUNK_DATA_END,
	CHUNK_TRAILER
};

static Span
trim(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	while (end > at && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		end--;
	return (Span){at, (size_t) (end - at)};
}

/*
 * Split "METHOD /path?query HTTP/1.x".
 */
static bool
parse_request_line(HttpRequest *request, Span line)
{
	const char *end = line.at + line.len;
	const char *space = memchr(line.at, ' ', line.len);
	const char *last = memrchr(line.at, ' ', line.len);
	const char *question;

	if (space == NULL || last == space || end - last != 9 || memcmp(last + 1, "HTTP/1.", 7) != 0)
		return false;
	request->method = (Span){line.at, (size_t) (space - line.at)};
	request->path = (Span){space + 1, (size_t) (last - space - 1)};
	request->keep_alive = end[-1] != '0';
	question = memchr(request->path.at, '?', request->path.len);
	if (question != NULL)
	{
		request->query = (Span){question + 1, (size_t) (last - question - 1)};
		request->path.len = (size_t) (question - request->path.at);
	}
	return true;
}

static bool
parse_length(HttpRequest *request, Span value)
{
	uint64_t length = 0;

	if (value.len == 0 || value.len > 15)
		return false;
	for (size_t i = 0; i < value.len; i++)
	{
		if (value.at[i] < '0' || value.at[i] > '9')
			return false;
		length = length * 10 + (uint64_t) (value.at[i] - '0');
	}
	request->content_length = length;
	return true;
}

/*
 * Note the header fields that matter; the length of the name sorts most out.
 */
static bool
parse_field(HttpRequest *request, Span name, Span value)
{
	switch (name.len)
	{
		case 6:
			if (span_is_nocase(name, "expect") && span_is_nocase(value, "100-continue"))
				request->expects_continue = true;
			break;
		case 7:
			if (span_is_nocase(name, "api-key"))
				request->authorization = value;
			break;
		case 9:
			if (span_is_nocase(name, "x-api-key"))
				request->authorization = value;
			break;
		case 10:
			if (span_is_nocase(name, "connection") && span_is_nocase(value, "close"))
				request->keep_alive = false;
			break;
		case 13:
			if (span_is_nocase(name, "authorization"))
			{
				if (value.len > 7 && strncasecmp(value.at, "bearer ", 7) == 0)
					value = trim(value.at + 7, value.at + value.len);
				request->authorization = value;
			}
			break;
		case 14:
			if (span_is_nocase(name, "content-length"))
				return parse_length(request, value);
			if (span_is_nocase(name, "x-goog-api-key"))
				request->authorization = value;
			break;
		case 17:
			if (span_is_nocase(name, "transfer-encoding"))
			{
				request->chunked = true;
				return span_is_nocase(value, "chunked");
			}
			break;
	}
	return true;
}

/*
 * Read a request head.  The spans point into the given bytes.
 */
Progress
http_parse_head(HttpRequest *request, char *bytes, size_t len)
{
	const char *end = memmem(bytes, len, "\r\n\r\n", 4);
	const char *at = bytes;
	const char *line_end;

	memset(request, 0, sizeof(*request));
	if (end == NULL)
		return len > MAX_HEAD ? TOO_LARGE : STILL_COMING;
	request->head_len = (size_t) (end - bytes) + 4;
	if (request->head_len > MAX_HEAD)
		return TOO_LARGE;
	end += 2;
	line_end = memchr(at, '\n', (size_t) (end - at));
	if (!parse_request_line(request, trim(at, line_end)))
		return NOT_HTTP;
	for (at = line_end + 1; at < end; at = line_end + 1)
	{
		const char *colon;

		line_end = memchr(at, '\n', (size_t) (end - at));
		colon = memchr(at, ':', (size_t) (line_end - at));
		if (colon == NULL || colon == at)
			return NOT_HTTP;
		if (!parse_field(request, (Span){at, (size_t) (colon - at)}, trim(colon + 1, line_end)))
			return NOT_HTTP;
	}
	return request->content_length > MAX_BODY ? TOO_LARGE : COME_WHOLE;
}

static bool
parse_chunk_size(Chunks *chunks, const char *at, const char *end)
{
	uint64_t size = 0;
	size_t digits = 0;

	for (; at < end; at++, digits++)
	{
		int digit;

		if (*at >= '0' && *at <= '9')
			digit = *at - '0';
		else if ((*at | 32) >= 'a' && (*at | 32) <= 'f')
			digit = (*at | 32) - 'a' + 10;
		else
			break;
		if (digits >= 8)
			return false;
		size = size * 16 + (uint64_t) digit;
	}
	chunks->left = size;
	return digits > 0 && (at == end || *at == ';' || *at == '\r' || *at == ' ');
}

/*
 * Move the data of the present chunk down to the body gathered so far.
 */
static void
take_chunk_data(Chunks *chunks, char *bytes, size_t len)
{
	size_t take = len - chunks->raw;

	if (take > chunks->left)
		take = (size_t) chunks->left;
	memmove(bytes + chunks->len, bytes + chunks->raw, take);
	chunks->len += take;
	chunks->raw += take;
	chunks->left -= take;
	if (chunks->left == 0)
		chunks->state = CHUNK_DATA_END;
}

/*
 * Gather a chunked body in place.  Bytes start behind the head; when the body
 * has come whole, chunks->len are its bytes and chunks->raw what they took.
 */
Progress
http_read_chunks(Chunks *chunks, char *bytes, size_t len)
{
	for (;;)
	{
		const char *line = bytes + chunks->raw;
		const char *line_end;

		if (chunks->state == CHUNK_DATA)
		{
			take_chunk_data(chunks, bytes, len);
			if (chunks->state == CHUNK_DATA)
				return STILL_COMING;
			continue;
		}
		line_end = memchr(line, '\n', len - chunks->raw);
		if (line_end == NULL)
			return len - chunks->raw > MAX_HEAD ? NOT_HTTP : STILL_COMING;
		chunks->raw += (size_t) (line_end - line) + 1;
		if (chunks->state == CHUNK_SIZE_LINE)
		{
			if (!parse_chunk_size(chunks, line, line_end))
				return NOT_HTTP;
			if (chunks->left > MAX_BODY - chunks->len)
				return TOO_LARGE;
			chunks->state = chunks->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
		}
		else if (chunks->state == CHUNK_DATA_END)
		{
			if (trim(line, line_end).len > 0)
				return NOT_HTTP;
			chunks->state = CHUNK_SIZE_LINE;
		}
		else if (trim(line, line_end).len == 0)
			return COME_WHOLE;
	}
}

static const char *
reason(int status)
{
	switch (status)
	{
		case 200:
			return "OK";
		case 302:
			return "Found";
		case 400:
			return "Bad Request";
		case 401:
			return "Unauthorized";
		case 402:
			return "Payment Required";
		case 403:
			return "Forbidden";
		case 404:
			return "Not Found";
		case 405:
			return "Method Not Allowed";
		case 413:
			return "Content Too Large";
		case 429:
			return "Too Many Requests";
		case 431:
			return "Request Header Fields Too Large";
		case 500:
			return "Internal Server Error";
		case 502:
			return "Bad Gateway";
		case 503:
			return "Service Unavailable";
		case 504:
			return "Gateway Timeout";
		default:
			return "Other";
	}
}

static size_t
http_date(char *text, size_t size, time_t when)
{
	struct tm parts;

	gmtime_r(&when, &parts);
	return strftime(text, size, "%a, %d %b %Y %H:%M:%S GMT", &parts);
}

/*
 * Add the Date header; its text is made once per second.
 */
static void
add_date(Buf *out)
{
	static time_t made_for = 0;
	static char line[64];
	static size_t line_len;
	time_t now = (time_t) (clock_epoch_ms() / 1000);

	if (now != made_for)
	{
		char date[40];

		http_date(date, sizeof(date), now);
		line_len = (size_t) snprintf(line, sizeof(line), "\r\ndate: %s", date);
		made_for = now;
	}
	buf_add(out, line, line_len);
}

/*
 * Say when to come again, in the form that the script asks for.
 */
static void
add_retry_after(Buf *out, const Reply *reply)
{
	double wait = reply->retry_after;
	char date[40];

	if (wait < 0 || reply->retry_form == RETRY_NONE)
		return;
	if (reply->retry_form == RETRY_DATE)
	{
		/* the header has whole seconds, so the first one not before the wait is over */
		http_date(date, sizeof(date), (time_t) ceil(clock_epoch_ms() / 1000 + wait));
		buf_print(out, "\r\nretry-after: %s", date);
		return;
	}
	if (reply->retry_form == RETRY_SECONDS)
		buf_print(out, "\r\nretry-after: %.0f", ceil(wait));
	if (reply->retry_form == RETRY_MS || wait != floor(wait))
		buf_print(out, "\r\nretry-after-ms: %.0f", ceil(wait * 1000));
}

/*
 * The name of a request as its client learns it: looks random, and ends with the
 * request's number in the log.
 */
void
http_request_id(Buf *out, uint64_t number)
{
	buf_text(out, "req_");
	buf_hex(out, hash_bytes(&number, sizeof(number), 77));
	buf_hex(out, number);
}

/*
 * What is not metered has numbers of its own, from the other end.
 */
static void
add_request_id(Buf *out, const Reply *reply)
{
	static uint64_t unmetered = UINT64_MAX;

	buf_text(out, "\r\nx-request-id: ");
	http_request_id(out, reply->lane != NULL ? reply->entry : unmetered--);
}

/*
 * Write head and body.  The places where the answer shall stop or pause are
 * turned from "in the body" into byte positions here, where the head's length
 * is known.
 */
void
http_write_reply(Buf *out, Reply *reply, bool keep_alive)
{
	size_t body_len = reply->body.len + reply->fill + reply->tail.len;

	buf_text(out, "HTTP/1.1 ");
	buf_uint(out, (uint64_t) reply->status);
	buf_char(out, ' ');
	buf_text(out, reason(reply->status));
	add_date(out);
	buf_text(out, "\r\ncontent-type: ");
	buf_text(out, reply->content_type != NULL ? reply->content_type : "application/json");
	buf_text(out, "\r\ncontent-length: ");
	buf_uint(out, body_len);
	add_request_id(out, reply);
	if (reply->limits != NULL)
	{
		buf_text(out, "\r\nopenai-processing-ms: ");
		buf_uint(out, (uint64_t) reply->delay_ms);
		buf_add(out, reply->limits, reply->limits_len);
	}
	add_retry_after(out, reply);
	if (reply->location != NULL)
		buf_print(out, "\r\nlocation: %s", reply->location);
	if (!keep_alive)
		buf_text(out, "\r\nconnection: close");
	buf_text(out, "\r\n\r\n");
	if (reply->cut_in_body)
		reply->cut_at = out->len + body_len / 2;
	if (reply->pause_ms > 0)
		reply->pause_at = reply->pause_in_body ? out->len + reply->body.len / 2 : 20;
	buf_add(out, reply->body.at, reply->body.len);
}

/*
 * Copy the value of one query parameter; true if it is there.
 */
bool
http_query(Span query, const char *name, char *value, size_t size)
{
	size_t name_len = strlen(name);
	const char *at = query.at;
	const char *end = query.at + query.len;

	while (at < end)
	{
		const char *stop = memchr(at, '&', (size_t) (end - at));
		size_t len;

		if (stop == NULL)
			stop = end;
		len = (size_t) (stop - at);
		if (len > name_len && memcmp(at, name, name_len) == 0 && at[name_len] == '=')
		{
			len -= name_len + 1;
			if (len >= size)
				len = size - 1;
			memcpy(value, at + name_len + 1, len);
			value[len] = '\0';
			return true;
		}
		at = stop + 1;
	}
	return false;
}
