/*-------------------------------------------------------------------------
 *
 * route_address.c
 *	  The method, URL and headers of a route's requests, with the key in its places.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

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

void
llm_route_fill_address(LlmRoute *route)
{
	LlmAddress address;
	ListCell *cell;
	int n = 0;

	llm_dialect_address(route->dialect, &route->endpoint, LLM_REQUEST_CHAT, &address);
	route->method = address.method;
	route->url = fill_url(address.url, route->key);
	route->headers = palloc0((list_length(address.headers) + 1) * sizeof(char *));
	foreach(cell, address.headers)
	{
		char *line = lfirst(cell);

		if (strstr(line, "%s") == NULL)
			route->headers[n++] = line;
		else if (route->key != NULL)
			route->headers[n++] = replace_placeholder(line, route->key);
	}
}
