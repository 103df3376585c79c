/*-------------------------------------------------------------------------
 *
 * http_headers.c
 *	  The headers of one answer, by name.
 *
 * They lie one behind the other in one piece of memory, which is kept from one answer
 * to the next: some twenty short lines are written with each answer, and three or four
 * are looked for.  A provider is not trusted: all of them have a limit, and what is not
 * printable ASCII becomes a question mark, since values end up in text columns and log
 * lines.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "http/http_headers.h"

/* Most heads are smaller. */
#define FIRST_ROOM 1024

/* Beyond this nothing more is kept. */
#define MOST_BYTES 32768

void
llm_http_headers_reset(LlmHttpHeaders *headers)
{
	headers->len = 0;
}

static bool
reserve(LlmHttpHeaders *headers, size_t more)
{
	size_t room = Max(headers->room, FIRST_ROOM);
	char *bytes;

	if (headers->len + more > MOST_BYTES)
		return false;
	while (room < headers->len + more)
		room *= 2;
	if (headers->bytes != NULL && room == headers->room)
		return true;
	bytes = realloc(headers->bytes, room);
	if (bytes == NULL)
		return false;
	headers->bytes = bytes;
	headers->room = room;
	return true;
}

void
llm_http_headers_add(LlmHttpHeaders *headers, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	const char *value;
	size_t name_len;
	size_t kept;
	char *to;

	if (colon == NULL || colon == line)
		return;
	name_len = colon - line;
	value = colon + 1;
	len -= name_len + 1;
	while (len > 0 && (*value == ' ' || *value == '\t'))
	{
		value++;
		len--;
	}
	while (len > 0 && (unsigned char) value[len - 1] <= ' ')
		len--;
	kept = Min(len, LLM_HTTP_HEADER_VALUE_MAX);
	if (!reserve(headers, name_len + kept + 2))
		return;
	to = headers->bytes + headers->len;
	for (size_t i = 0; i < name_len; i++)
		*to++ = line[i] > ' ' && line[i] < 0x7f ? pg_ascii_tolower((unsigned char) line[i]) : '?';
	*to++ = '\0';
	for (size_t i = 0; i < kept; i++)
		*to++ = value[i] >= ' ' && value[i] < 0x7f ? value[i] : '?';
	*to = '\0';
	headers->len += name_len + kept + 2;
}

const char *
llm_http_header(const LlmHttpHeaders *headers, const char *name)
{
	const char *at = headers->bytes;
	const char *end = at == NULL ? NULL : at + headers->len;

	while (at < end)
	{
		const char *value = at + strlen(at) + 1;

		if (strcmp(at, name) == 0)
			return value;
		at = value + strlen(value) + 1;
	}
	return NULL;
}

/* How many bytes spell the secret, which JSON may have escaped with backslashes; 0 when they do not. */
static size_t
spelled_length(const char *bytes, size_t len, const char *secret)
{
	size_t at = 0;

	for (; *secret != '\0'; at++)
	{
		if (at == len)
			return 0;
		if (bytes[at] == *secret)
			secret++;
		else if (bytes[at] != '\\')
			return 0;
	}
	return at;
}

void
llm_http_hide(char *bytes, size_t len, const char *secret)
{
	char *end = bytes + len;
	char *at = bytes;

	while ((at = memchr(at, secret[0], end - at)) != NULL)
	{
		size_t spelled = spelled_length(at, end - at, secret);

		memset(at, '*', spelled);
		at += Max(spelled, 1);
	}
}

void
llm_http_headers_hide(LlmHttpHeaders *headers, const char *secret)
{
	if (headers->bytes != NULL)
		llm_http_hide(headers->bytes, headers->len, secret);
}

void
llm_http_headers_free(LlmHttpHeaders *headers)
{
	free(headers->bytes);
	memset(headers, 0, sizeof(*headers));
}
