/*-------------------------------------------------------------------------
 *
 * route_address.c
 *	  The methods, URLs and headers of a route's requests, with the key in its places.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/compat.h"
#include "catalog/secret.h"
#include "send/route_address.h"

/* A header line with the key in the place of "%s". */
static char *
replace_placeholder(const char *template, const char *key)
{
	const char *at = strstr(template, "%s");
	StringInfoData header;

	initStringInfo(&header);
	appendBinaryStringInfo(&header, template, at - template);
	appendStringInfoString(&header, key);
	appendStringInfoString(&header, at + 2);
	return header.data;
}

/* The URL with the key in its place, as a query writes it. */
static char *
fill_url(char *url, const char *key)
{
	StringInfoData written;
	char *filled;

	if (key == NULL || strstr(url, "%s") == NULL)
		return url;
	initStringInfo(&written);
	for (const char *p = key; *p != '\0'; p++)
	{
		if (isalnum((unsigned char) *p) || strchr("-._~", *p) != NULL)
			appendStringInfoChar(&written, *p);
		else
			appendStringInfo(&written, "%%%02X", (unsigned char) *p);
	}
	filled = replace_placeholder(url, written.data);
	llm_secret_wipe(written.data);
	return filled;
}

static void
fill_kind(LlmRoute *route, LlmRequestKind kind)
{
	LlmRouteAddress *own = &route->addresses[kind];
	LlmAddress address;
	int n = 0;

	llm_dialect_address(route->dialect, &route->endpoint, kind, &address);
	own->method = address.method;
	own->template = address.url;
	own->url = fill_url(address.url, route->key);
	own->headers = palloc0((list_length(address.headers) + 1) * sizeof(char *));
	foreach_ptr(char, line, address.headers)
	{
		if (strstr(line, "%s") == NULL)
			own->headers[n++] = line;
		else if (route->key != NULL)
			own->headers[n++] = replace_placeholder(line, route->key);
	}
}

void
llm_route_fill_addresses(LlmRoute *route)
{
	fill_kind(route, LLM_REQUEST_CHAT);
	if (route->dialect->embed != NULL)
		fill_kind(route, LLM_REQUEST_EMBED);
}

void
llm_route_wipe_addresses(LlmRoute *route)
{
	for (int kind = 0; kind < LLM_REQUEST_KINDS; kind++)
	{
		const LlmRouteAddress *address = &route->addresses[kind];

		if (address->url == NULL)
			continue;
		for (char **line = address->headers; *line != NULL; line++)
			explicit_bzero(*line, strlen(*line));
		explicit_bzero(unconstify(char *, address->url), strlen(address->url)); /* the key may be in its query */
	}
}
