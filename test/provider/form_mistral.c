/*-------------------------------------------------------------------------
 *
 * form_mistral.c
 *	  The form of Mistral's Chat Completions: OpenAI's with max_tokens, and errors of its own.
 *
 * Known by its path, which has "/mistral/" in it: the real one has a host of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "provider.h"

#include <string.h>

static bool
parse(ChatRequest *chat, const HttpRequest *request)
{
	bool fine = form_openai.parse(chat, request);

	if (fine && chat->max_tokens >= 0 && !chat->old_max_tokens)
		return chat_refuse(chat, NULL, NULL, "%s: Extra inputs are not permitted", "max_completion_tokens");
	return fine;
}

static void
write_answer(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	form_openai.write(out, tail, chat, told, usage);
}

static void
complain(Reply *reply, const Complaint *complaint)
{
	static const struct
	{
		const char *type;
		const char *code;
	} troubles[] = {
		[TROUBLE_REQUEST] = {"invalid_request_error", "3000"},
		[TROUBLE_SCHEMA] = {"invalid_request_error", "3000"},
		[TROUBLE_CONTEXT] = {"invalid_request_prompt", "3051"},
		[TROUBLE_KEY] = {"authentication_error", "1000"},
		[TROUBLE_MODEL] = {"invalid_model", "1500"},
		[TROUBLE_REQUESTS] = {"rate_limited", "1300"},
		[TROUBLE_TOKENS] = {"rate_limited", "1300"},
		[TROUBLE_ERROR] = {"server_error", "3000"},
		[TROUBLE_OVERLOADED] = {"unreachable_backend", "1100"},
		[TROUBLE_REDIRECT] = {"redirect", "1"}};
	Buf *out = &reply->body;

	reply->status = complaint->trouble == TROUBLE_MODEL ? 400 : complaint->status;
	out->len = 0;
	buf_text(out, "{\"object\":\"error\",\"message\":\"");
	buf_json(out, span_of(complaint->message));
	buf_print(out, "\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\",\"raw_status_code\":%d}",
			  troubles[complaint->trouble].type, troubles[complaint->trouble].code, reply->status);
}

static bool
claims(Span path)
{
	return span_find(path, span_of("/mistral/")) != NULL && path_ends_with(path, "/chat/completions");
}

const Form form_mistral = {
	.name = "mistral",
	.claims = claims,
	.parse = parse,
	.complain = complain,
	.write = write_answer,
};
