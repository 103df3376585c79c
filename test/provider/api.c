/*-------------------------------------------------------------------------
 *
 * api.c
 *	  Which path means what: chat completions, models, meter and script.
 *
 * Called by server.c with one whole request; fills in the reply.  A path that
 * begins with /x/NAME/ plays the server NAME (a lane) with its own script and
 * meter; all other paths belong to the lane "default".  The paths of the
 * simulation itself (/meter, /script, /reset, /healthz) need no key.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *required_key = NULL;

void
api_set_key(const char *key)
{
	required_key = key != NULL ? need(strdup(key)) : NULL;
}

void
api_free(void)
{
	free(required_key);
}

/*
 * Answer with an error body of the OpenAI form; replaces what was there.
 */
void
api_error(Reply *reply, int status, const char *type, const char *param, const char *code,
		  const char *format, ...)
{
	char message[1000];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	reply->status = status;
	reply->body.len = 0;
	buf_text(&reply->body, "{\"error\":{\"message\":\"");
	buf_json(&reply->body, span_of(message));
	buf_print(&reply->body, "\",\"type\":\"%s\",\"param\":", type);
	if (param != NULL)
		buf_print(&reply->body, "\"%s\"", param);
	else
		buf_text(&reply->body, "null");
	buf_text(&reply->body, ",\"code\":");
	if (code != NULL)
		buf_print(&reply->body, "\"%s\"}}", code);
	else
		buf_text(&reply->body, "null}}");
}

static void
plain(Reply *reply, const char *text)
{
	reply->status = 200;
	reply->content_type = "text/plain; charset=utf-8";
	buf_text(&reply->body, text);
}

bool
path_ends_with(Span path, const char *end)
{
	size_t len = strlen(end);

	return path.len >= len && memcmp(path.at + path.len - len, end, len) == 0;
}

static bool
lane_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
		   c == '-' || c == '.';
}

static Lane *
lane_of_name(Span name)
{
	for (size_t i = 0; i < name.len; i++)
	{
		if (!lane_char(name.at[i]))
			return NULL;
	}
	return lane_find(name, true);
}

/*
 * The lane that a path belongs to; NULL if its name is not possible.
 */
static Lane *
lane_of_path(Span path)
{
	const char *slash;

	if (path.len < 4 || memcmp(path.at, "/x/", 3) != 0)
		return lane_find(span_of("default"), true);
	slash = memchr(path.at + 3, '/', path.len - 3);
	if (slash == NULL)
		return NULL;
	return lane_of_name((Span){path.at + 3, (size_t) (slash - path.at - 3)});
}

/*
 * The lane named in ?lane=; the default one if there is none.
 */
static Lane *
lane_of_query(Span query, bool *named)
{
	char name[MAX_NAME + 2];

	*named = http_query(query, "lane", name, sizeof(name));
	return lane_of_name(span_of(*named ? name : "default"));
}

static void
show_models(const Lane *lane, Reply *reply)
{
	Buf *out = &reply->body;

	reply->status = 200;
	buf_text(out, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < lane->script.model_count || i == 0; i++)
	{
		buf_text(out, i > 0 ? ",{\"id\":\"" : "{\"id\":\"");
		buf_json(out, span_of(lane->script.model_count > 0 ? lane->script.models[i] : "sim-1"));
		buf_text(out,
				 "\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"llm_enrich\"}");
	}
	buf_text(out, "]}");
}

static void
post_script(const HttpRequest *request, Lane *lane, Reply *reply)
{
	char problem[300];

	if (script_load(&lane->script, request->body, problem, sizeof(problem)))
	{
		lane->requests = lane->tokens = (Bucket){0};
		reply->status = 200;
		buf_text(&reply->body, "{\"ok\":true}\n");
	}
	else
		api_error(reply, 400, "invalid_request_error", NULL, NULL, "The script is not valid: %s.",
				  problem);
}

static void
post_reset(Lane *lane, bool named, Reply *reply)
{
	if (named)
		lane_reset(lane);
	for (size_t i = 0; !named && i < lane_count(); i++)
		lane_reset(lane_at(i));
	reply->status = 200;
	buf_text(&reply->body, "{\"ok\":true}\n");
}

static void
show_last_body(const Lane *lane, Reply *reply)
{
	if (lane->meter.requests == 0)
	{
		api_error(reply, 404, "invalid_request_error", NULL, NULL, "There was no request yet.");
		return;
	}
	reply->status = 200;
	buf_add(&reply->body, lane->meter.last_body.at, lane->meter.last_body.len);
}

static uint64_t
query_number(Span query, const char *name, uint64_t otherwise)
{
	char text[20];

	return http_query(query, name, text, sizeof(text)) ? strtoull(text, NULL, 10) : otherwise;
}

/*
 * The paths below /meter.
 */
static void
show_meter(const HttpRequest *request, Lane *lane, bool named, Reply *reply)
{
	Span path = request->path;

	reply->status = 200;
	if (span_is(path, "/meter"))
		meter_show(&reply->body, lane);
	else if (span_is(path, "/meter/marks"))
		meter_show_marks(&reply->body, lane, query_number(request->query, "at_least", 1));
	else if (span_is(path, "/meter/log"))
		meter_show_log(&reply->body, named ? lane : NULL,
					   query_number(request->query, "last", 100));
	else if (span_is(path, "/meter/requests"))
	{
		reply->content_type = "application/x-ndjson";
		meter_show_requests(&reply->body, named ? lane : NULL, query_number(request->query, "since", 0),
							query_number(request->query, "limit", 1000));
	}
	else if (span_is(path, "/meter/last-body"))
		show_last_body(lane, reply);
	else
		api_error(reply, 404, "invalid_request_error", NULL, NULL,
				  "There is no such page of the meter.");
}

/*
 * The paths of the simulation itself; false if it is none of them.
 */
static bool
handle_own(const HttpRequest *request, Reply *reply)
{
	Span path = request->path;
	bool post = span_is(request->method, "POST");
	bool named;
	Lane *lane;

	if (span_is(path, "/"))
		plain(
			reply,
			"This is a simulation of an LLM provider, bundled with llm_enrich. There is no "
			"language\n"
			"model here: its answers come from word overlap between the input and the labels.\n");
	else if (span_is(path, "/healthz"))
		plain(reply, "ok\n");
	else if (!span_is(path, "/script") && !span_is(path, "/reset") &&
			 !(path.len >= 6 && memcmp(path.at, "/meter", 6) == 0))
		return false;
	else if ((lane = lane_of_query(request->query, &named)) == NULL)
		api_error(reply, 400, "invalid_request_error", "lane", NULL,
				  "This is not a possible lane, or there are too many.");
	else if (path.at[1] == 'm' && !post)
		show_meter(request, lane, named, reply);
	else if (path.at[1] == 's' && post)
		post_script(request, lane, reply);
	else if (path.at[1] == 'r' && post)
		post_reset(lane, named, reply);
	else
		api_error(reply, 405, "invalid_request_error", NULL, NULL,
				  "This method is not possible here.");
	return true;
}

/*
 * Compare keys without telling by the time taken how much of it was right.
 */
static bool
key_fits(const Lane *lane, Span given)
{
	const char *key = lane->script.key != NULL ? lane->script.key : required_key;
	unsigned char difference = 0;

	if (key == NULL)
		return true;
	if (given.len != strlen(key))
		return false;
	for (size_t i = 0; i < given.len; i++)
		difference |= (unsigned char) (given.at[i] ^ key[i]);
	return difference == 0;
}

static const Form *const forms[] = {
#define FORM(name) &form_##name,
#include "forms.h"
#undef FORM
};

/*
 * The form of a chat request, by its path without the lane; NULL if it is none.
 */
static const Form *
form_of_path(Span path)
{
	const char *slash;

	if (path.len > 3 && memcmp(path.at, "/x/", 3) == 0 &&
		(slash = memchr(path.at + 3, '/', path.len - 3)) != NULL)
		path = (Span){slash, (size_t) (path.at + path.len - slash)};
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
	{
		if (forms[i]->claims(path))
			return forms[i];
	}
	return NULL;
}

/*
 * Answer one request.
 */
void
api_handle(const HttpRequest *request, Reply *reply)
{
	const Form *form = form_of_path(request->path);
	Lane *lane;
	bool authorized;

	if (form == NULL && handle_own(request, reply))
		return;
	lane = lane_of_path(request->path);
	if (lane == NULL)
	{
		api_error(reply, 404, "invalid_request_error", NULL, NULL,
				  "This is not a possible lane, or there are too many.");
		return;
	}
	authorized = key_fits(lane, request->authorization);
	if (form != NULL && span_is(request->method, "POST"))
		chat_answer(form, lane, request, authorized, reply);
	else if (form != NULL)
		api_error(reply, 405, "invalid_request_error", NULL, NULL, "Only POST is possible here.");
	else if (!path_ends_with(request->path, "/models"))
		api_error(reply, 404, "invalid_request_error", NULL, "unknown_url",
				  "Unknown request URL: %.*s %.*s", (int) request->method.len, request->method.at,
				  (int) (request->path.len < 200 ? request->path.len : 200), request->path.at);
	else if (!authorized)
		api_error(reply, 401, "invalid_request_error", NULL, "invalid_api_key",
				  "Incorrect API key provided.");
	else
		show_models(lane, reply);
}
