/*-------------------------------------------------------------------------
 *
 * form_gemini.c
 *	  The form of Google's generateContent.
 *
 * The model is in the path.  Unknown members are refused, as are keywords of a schema that the
 * provider does not know.
 *
 *-------------------------------------------------------------------------
 */
#include "provider.h"

#include <stdlib.h>
#include <string.h>

static const char *const keywords[] = {
	"$anchor", "$defs", "$id", "$ref", "additionalProperties", "anyOf", "description", "enum", "format", "items",
	"maxItems", "maximum", "minItems", "minimum", "oneOf", "prefixItems", "properties", "propertyOrdering",
	"required", "title", "type", NULL};

static bool
refuse_unknown(ChatRequest *chat, Span name)
{
	return chat_refuse(chat, NULL, NULL, "Invalid JSON payload received. Unknown name \"%.*s\": Cannot find field.",
					   name.len > 60 ? 60 : (int) name.len, name.at);
}

/* ---- what is in a request ---- */

/* {"role": …, "parts": [{"text": …}]} */
static bool
read_content(Scan *scan, ChatRequest *chat, const char *otherwise)
{
	bool first = true;
	bool first_part = true;
	bool first_member = true;
	Span name;
	Span role = span_of(otherwise);
	Span text = {0};

	if (!scan_char(scan, '{'))
		return chat_refuse(chat, NULL, NULL, "Invalid value at %s", "'contents'");
	while (scan_member(scan, &first, &name))
	{
		if (span_is(name, "role"))
		{
			if (!scan_text(scan, &role))
				return false;
			continue;
		}
		if (!span_is(name, "parts"))
			return refuse_unknown(chat, name);
		if (!scan_char(scan, '['))
			return chat_refuse(chat, NULL, NULL, "Invalid value at %s", "'parts'");
		while (scan_element(scan, &first_part))
		{
			if (!scan_char(scan, '{'))
				return chat_refuse(chat, NULL, NULL, "Invalid value at %s", "'parts'");
			while (scan_member(scan, &first_member, &name))
			{
				if (!span_is(name, "text"))
					return refuse_unknown(chat, name);
				if (!scan_text(scan, &text))
					return false;
			}
		}
	}
	if (scan->problem != NULL)
		return false;
	if (!span_is(role, "user") && !span_is(role, "model") && !span_is(role, "system"))
		return chat_refuse(chat, NULL, NULL, "Please use a valid role: %s.", "user, model");
	chat_take_message(chat, span_is(role, "model") ? span_of("assistant") : role, text);
	return true;
}

static bool
read_contents(Scan *scan, ChatRequest *chat)
{
	bool first = true;

	if (!scan_char(scan, '['))
		return chat_refuse(chat, NULL, NULL, "Invalid value at %s", "'contents'");
	while (scan_element(scan, &first))
	{
		if (!read_content(scan, chat, "user"))
			return false;
	}
	return scan->problem == NULL;
}

static bool
read_config(Scan *scan, ChatRequest *chat)
{
	static const char *const known[] = {"candidateCount", "topP", "topK", "seed", "thinkingConfig", "stopSequences"};
	bool first = true;
	Span name;
	char found[60];

	if (!scan_char(scan, '{'))
		return chat_refuse(chat, NULL, NULL, "Invalid value at %s", "'generation_config'");
	while (scan_member(scan, &first, &name))
	{
		const char *start;
		bool fine = false;

		scan_space(scan);
		start = scan->at;
		if (!scan_value(scan, 32))
			return false;
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			fine = fine || span_is(name, known[i]);
		if (span_is(name, "maxOutputTokens"))
			chat->max_tokens = strtoll(start, NULL, 10);
		else if (span_is(name, "temperature"))
		{
			chat->has_temperature = true;
			chat->temperature = strtod(start, NULL);
		}
		else if (span_is(name, "responseMimeType"))
		{
			if (chat->format == FORMAT_TEXT)
				chat->format = FORMAT_OBJECT;
		}
		else if (span_is(name, "responseJsonSchema"))
		{
			chat->format = FORMAT_SCHEMA;
			chat->schema = (Span){start, (size_t) (scan->at - start)};
			if (form_finds_keyword(chat->schema, keywords, false, found, sizeof(found)))
				return chat_refuse(chat, NULL, NULL, "Unknown keyword \"%s\" in response_json_schema", found);
		}
		else if (!fine)
			return refuse_unknown(chat, name);
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
			bool fine = span_is(name, "contents")			 ? read_contents(&scan, chat)
						: span_is(name, "systemInstruction") ? read_content(&scan, chat, "system")
						: span_is(name, "generationConfig")	 ? read_config(&scan, chat)
						: span_is(name, "serviceTier") || span_is(name, "safetySettings")
							? scan_value(&scan, 4)
							: refuse_unknown(chat, name);

			if (!fine)
				break;
		}
	}
	chat_end(chat, &scan);
	chat->model = form_path_step(request->path, "/models/", ":generateContent");
	if (chat->messages == 0)
		chat_refuse(chat, NULL, NULL, "%s is not specified", "contents");
	return chat->error[0] == '\0';
}

/* ---- answers and errors ---- */

static void
write_usage(Buf *out, const Usage *usage)
{
	buf_text(out, ",\"usageMetadata\":{\"promptTokenCount\":");
	buf_uint(out, usage->prompt);
	buf_text(out, ",\"cachedContentTokenCount\":");
	buf_uint(out, usage->cached);
	buf_text(out, ",\"candidatesTokenCount\":");
	buf_uint(out, usage->completion - usage->reasoning);
	buf_text(out, ",\"thoughtsTokenCount\":");
	buf_uint(out, usage->reasoning);
	buf_text(out, ",\"totalTokenCount\":");
	buf_uint(out, usage->prompt + usage->completion);
	buf_char(out, '}');
}

static void
write_answer(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	static const char *const reasons[] = {
		[FINISH_STOP] = "STOP",
		[FINISH_LENGTH] = "MAX_TOKENS",
		[FINISH_FILTER] = "SAFETY",
		[FINISH_REFUSAL] = "PROHIBITED_CONTENT"};

	if (told->finish == FINISH_FILTER)
		buf_text(out, "{\"promptFeedback\":{\"blockReason\":\"SAFETY\",\"safetyRatings\":[]}");
	else
	{
		buf_text(out, "{\"candidates\":[{\"index\":0,\"content\":{\"role\":\"model\",\"parts\":[");
		if (usage->reasoning > 0)
			buf_text(out, "{\"text\":\"Let me think.\",\"thought\":true},");
		buf_text(out, "{\"text\":\"");
		buf_json(out, told->content);
		if (tail != NULL)
			out = tail;
		buf_print(out, "\"}]},\"finishReason\":\"%s\",\"safetyRatings\":[]}]", reasons[told->finish]);
	}
	if (!told->no_usage)
		write_usage(out, usage);
	buf_text(out, ",\"modelVersion\":\"");
	buf_json(out, chat->model);
	buf_text(out, "\",\"responseId\":\"r1\"}");
}

static void
complain(Reply *reply, const Complaint *complaint)
{
	static const struct
	{
		const char *word;
		int status; /* 0: as given */
	} troubles[] = {
		[TROUBLE_REQUEST] = {"INVALID_ARGUMENT", 0},
		[TROUBLE_SCHEMA] = {"INVALID_ARGUMENT", 0},
		[TROUBLE_CONTEXT] = {"INVALID_ARGUMENT", 0},
		[TROUBLE_KEY] = {"INVALID_ARGUMENT", 400},
		[TROUBLE_MODEL] = {"NOT_FOUND", 0},
		[TROUBLE_REQUESTS] = {"RESOURCE_EXHAUSTED", 0},
		[TROUBLE_TOKENS] = {"RESOURCE_EXHAUSTED", 0},
		[TROUBLE_ERROR] = {"INTERNAL", 0},
		[TROUBLE_OVERLOADED] = {"UNAVAILABLE", 0},
		[TROUBLE_REDIRECT] = {"UNKNOWN", 0}};
	Trouble trouble = complaint->trouble;
	Buf *out = &reply->body;

	reply->status = troubles[trouble].status != 0 ? troubles[trouble].status : complaint->status;
	out->len = 0;
	buf_print(out, "{\"error\":{\"code\":%d,\"status\":\"%s\",\"message\":\"", reply->status, troubles[trouble].word);
	if (trouble == TROUBLE_CONTEXT)
		buf_text(out, "The input token count exceeds the maximum number of tokens allowed.");
	else if (trouble == TROUBLE_KEY)
		buf_text(out, "API key not valid. Please pass a valid API key.");
	else if (trouble == TROUBLE_MODEL)
		buf_text(out, "models/x is not found for API version v1beta.");
	else
		buf_json(out, span_of(complaint->message));
	buf_char(out, '"');
	if (trouble == TROUBLE_KEY)
		buf_text(out, ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"API_KEY_INVALID\"}]");
	if (trouble == TROUBLE_REQUESTS || trouble == TROUBLE_TOKENS)
		buf_text(out, ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"1s\"}]");
	buf_text(out, "}}");
}

static bool
claims(Span path)
{
	return path_ends_with(path, ":generateContent");
}

const Form form_gemini = {
	.name = "gemini",
	.claims = claims,
	.parse = parse,
	.complain = complain,
	.write = write_answer,
};
