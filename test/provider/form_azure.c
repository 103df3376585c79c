/*-------------------------------------------------------------------------
 *
 * form_azure.c
 *	  The form of Azure OpenAI: OpenAI's, with the deployment in the path, an api-version, and
 *	  errors of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "provider.h"

#include <string.h>

static bool
parse(ChatRequest *chat, const HttpRequest *request)
{
	char version[40];
	bool fine = form_openai.parse(chat, request);

	if (!http_query(request->query, "api-version", version, sizeof(version)))
		return chat_refuse(chat, NULL, NULL, "%s is missing", "api-version");
	chat->model = form_path_step(request->path, "/deployments/", "/chat/");
	return fine;
}

static void
write_answer(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	Told blank = *told;

	/* it has no refusals of a model's own */
	if (told->finish == FINISH_REFUSAL)
		blank.finish = FINISH_FILTER;
	form_openai.write(out, tail, chat, &blank, usage);
}

static void
complain(Reply *reply, const Complaint *complaint)
{
	static const char *const codes[TROUBLE_COUNT] = {
		[TROUBLE_REQUEST] = "BadRequest",
		[TROUBLE_SCHEMA] = "BadRequest",
		[TROUBLE_CONTEXT] = "context_length_exceeded",
		[TROUBLE_KEY] = "401",
		[TROUBLE_MODEL] = "DeploymentNotFound",
		[TROUBLE_REQUESTS] = "429",
		[TROUBLE_TOKENS] = "429",
		[TROUBLE_ERROR] = "InternalServerError",
		[TROUBLE_OVERLOADED] = "503",
		[TROUBLE_REDIRECT] = "302"};
	Buf *out = &reply->body;

	reply->status = complaint->status;
	out->len = 0;
	buf_print(out, "{\"error\":{\"code\":\"%s\",\"message\":\"", codes[complaint->trouble]);
	buf_json(out, span_of(complaint->message));
	buf_text(out, "\"}}");
}

static bool
claims(Span path)
{
	return span_find(path, span_of("/openai/deployments/")) != NULL && path_ends_with(path, "/chat/completions");
}

static void
tell_limits(Buf *out, const Limits *limits)
{
	form_openai.tell_limits(out, limits);
}

const Form form_azure = {
	.name = "azure",
	.claims = claims,
	.parse = parse,
	.complain = complain,
	.write = write_answer,
	.tell_limits = tell_limits,
};
