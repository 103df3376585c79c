/*-------------------------------------------------------------------------
 *
 * form_embed.c
 *	  The forms of requests for vectors: OpenAI's, with Azure's and Mistral's ways of it, Gemini's
 *	  and Ollama's.
 *
 * Where vectors have a number, they come in the opposite order, since nobody has promised
 * another.  Errors and limits are those of the provider's other forms.
 *
 *-------------------------------------------------------------------------
 */
#include "embed.h"

#include <stdlib.h>
#include <string.h>

static bool
read_dimensions(Scan *scan, ChatRequest *chat)
{
	const char *start;

	scan_space(scan);
	start = scan->at;
	if (!scan_number(scan))
		return false;
	chat->dimensions = strtoll(start, NULL, 10);
	if (chat->dimensions < 1 || chat->dimensions > EMBED_MOST_DIMENSIONS)
		return chat_refuse(chat, "dimensions", NULL, "Invalid value for '%s'.", "dimensions");
	return true;
}

/* One string, or an array of them. */
static bool
read_inputs(Scan *scan, ChatRequest *chat, size_t most)
{
	bool first = true;
	Span input;

	if (scan_peek(scan) == '"')
		return scan_text(scan, &input) && embed_add(chat, input, most);
	if (!scan_char(scan, '['))
		return chat_refuse(chat, "input", "invalid_type", "Invalid type for '%s'.", "input");
	while (scan_element(scan, &first))
	{
		if (!scan_text(scan, &input) || !embed_add(chat, input, most))
			return false;
	}
	return scan->problem == NULL;
}

/* Names of members that others have otherwise. */
typedef struct Names
{
	const char *dimensions;
	const char *others[4]; /* members that change nothing here */
	size_t most; /* inputs */
} Names;

static bool
read_member(Scan *scan, ChatRequest *chat, Span name, const Names *names)
{
	if (span_is(name, "model"))
		return scan_text(scan, &chat->model);
	if (span_is(name, "input"))
		return read_inputs(scan, chat, names->most);
	if (span_is(name, names->dimensions))
		return read_dimensions(scan, chat);
	for (size_t i = 0; i < 4 && names->others[i] != NULL; i++)
	{
		if (span_is(name, names->others[i]))
			return scan_value(scan, 2);
	}
	return chat_refuse(chat, NULL, "unknown_parameter", "Unrecognized request argument supplied: %.*s",
					   name.len > 60 ? 60 : (int) name.len, name.at);
}

static bool
parse_as(ChatRequest *chat, const HttpRequest *request, const Names *names)
{
	Scan scan;
	bool first = true;
	Span name;

	embed_forget();
	if (chat_begin(chat, &scan, request->body))
	{
		while (scan_member(&scan, &first, &name))
		{
			if (!read_member(&scan, chat, name, names))
				break;
		}
	}
	if (!chat_end(chat, &scan))
		return false;
	if (chat->model.len == 0)
		return chat_refuse(chat, NULL, NULL, "you must provide a %s parameter", "model");
	return embed_count() > 0 || chat_refuse(chat, "input", NULL, "'%s' is a required property", "input");
}

/* ---- OpenAI, Azure, Mistral ---- */

static const Names openai_names = {"dimensions", {"encoding_format", "user"}, 2048};
static const Names mistral_names = {"output_dimension", {"encoding_format", "output_dtype"}, 128};

static bool
parse_openai(ChatRequest *chat, const HttpRequest *request)
{
	return parse_as(chat, request, &openai_names);
}

static bool
parse_mistral(ChatRequest *chat, const HttpRequest *request)
{
	return parse_as(chat, request, &mistral_names);
}

static bool
parse_azure(ChatRequest *chat, const HttpRequest *request)
{
	char version[40];
	bool fine = parse_as(chat, request, &openai_names);

	if (!http_query(request->query, "api-version", version, sizeof(version)))
		return chat_refuse(chat, NULL, NULL, "%s is missing", "api-version");
	chat->model = form_path_step(request->path, "/deployments/", "/embeddings");
	return fine;
}

static void
write_openai(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	size_t count = embed_count();

	(void) tail;
	buf_text(out, "{\"object\":\"list\",\"data\":[");
	for (size_t i = count - told->missing; i > 0; i--)
	{
		buf_print(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i == count - told->missing ? "" : ",",
				  i - 1);
		embed_write(out, chat, i - 1, told->lame && i == 1);
		buf_char(out, '}');
	}
	buf_text(out, "],\"model\":\"");
	buf_json(out, chat->model);
	buf_char(out, '"');
	if (!told->no_usage)
		buf_print(out, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}", (unsigned long long) usage->prompt,
				  (unsigned long long) usage->prompt);
	buf_char(out, '}');
}

static bool
claims_azure(Span path)
{
	return span_find(path, span_of("/openai/deployments/")) != NULL && path_ends_with(path, "/embeddings");
}

static bool
claims_mistral(Span path)
{
	return span_find(path, span_of("/mistral/")) != NULL && path_ends_with(path, "/embeddings");
}

static bool
claims_openai(Span path)
{
	return path_ends_with(path, "/embeddings");
}

static void
complain_openai(Reply *reply, const Complaint *complaint)
{
	form_openai.complain(reply, complaint);
}

static void
complain_azure(Reply *reply, const Complaint *complaint)
{
	form_azure.complain(reply, complaint);
}

static void
complain_mistral(Reply *reply, const Complaint *complaint)
{
	form_mistral.complain(reply, complaint);
}

static void
tell_limits(Buf *out, const Limits *limits)
{
	form_openai.tell_limits(out, limits);
}

const Form form_openai_embed = {
	.name = "openai_embed",
	.claims = claims_openai,
	.parse = parse_openai,
	.complain = complain_openai,
	.write = write_openai,
	.tell_limits = tell_limits,
};

const Form form_azure_embed = {
	.name = "azure_embed",
	.claims = claims_azure,
	.parse = parse_azure,
	.complain = complain_azure,
	.write = write_openai,
	.tell_limits = tell_limits,
};

const Form form_mistral_embed = {
	.name = "mistral_embed",
	.claims = claims_mistral,
	.parse = parse_mistral,
	.complain = complain_mistral,
	.write = write_openai,
};

/* ---- Gemini ---- */

#define GEMINI_MOST 100

/* {"parts": [{"text": …}]} */
static bool
read_gemini_content(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;
	Span text = {0};

	if (!scan_char(scan, '{'))
		return false;
	while (scan_member(scan, &first, &name))
	{
		bool first_part = true;

		if (!span_is(name, "parts"))
			return chat_refuse(chat, NULL, NULL, "Unknown name in '%s': Cannot find field.", "content");
		if (!scan_char(scan, '['))
			return false;
		while (scan_element(scan, &first_part))
		{
			bool first_member = true;

			if (!scan_char(scan, '{'))
				return false;
			while (scan_member(scan, &first_member, &name))
			{
				if (!span_is(name, "text") || !scan_text(scan, &text))
					return chat_refuse(chat, NULL, NULL, "Invalid value at '%s'", "parts");
			}
		}
	}
	return scan->problem == NULL && embed_add(chat, text, GEMINI_MOST);
}

static bool
read_gemini_request(Scan *scan, ChatRequest *chat)
{
	bool first = true;
	Span name;
	Span model;

	if (!scan_char(scan, '{'))
		return false;
	while (scan_member(scan, &first, &name))
	{
		bool fine;

		if (span_is(name, "content"))
			fine = read_gemini_content(scan, chat);
		else if (span_is(name, "model"))
			fine = scan_text(scan, &model);
		else if (span_is(name, "outputDimensionality"))
			fine = read_dimensions(scan, chat);
		else if (span_is(name, "taskType"))
			fine = scan_value(scan, 2);
		else
			fine = chat_refuse(chat, NULL, NULL, "Unknown name in '%s'", "requests");
		if (!fine)
			return false;
	}
	return scan->problem == NULL;
}

static bool
parse_gemini(ChatRequest *chat, const HttpRequest *request)
{
	Scan scan;
	bool first = true;
	bool first_request = true;
	Span name;

	embed_forget();
	if (chat_begin(chat, &scan, request->body))
	{
		while (scan_member(&scan, &first, &name) && chat->error[0] == '\0')
		{
			if (!span_is(name, "requests") || !scan_char(&scan, '['))
			{
				chat_refuse(chat, NULL, NULL, "Invalid JSON payload received. %s", "Unknown name");
				break;
			}
			while (scan_element(&scan, &first_request))
			{
				if (!read_gemini_request(&scan, chat))
					break;
			}
		}
	}
	chat->model = form_path_step(request->path, "/models/", ":");
	return chat_end(chat, &scan) &&
		   (embed_count() > 0 || chat_refuse(chat, NULL, NULL, "%s is required", "requests"));
}

static void
write_gemini(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	(void) tail;
	buf_text(out, "{\"embeddings\":[");
	for (size_t i = 0; i < embed_count() - told->missing; i++)
	{
		buf_text(out, i == 0 ? "{\"values\":" : ",{\"values\":");
		embed_write(out, chat, i, told->lame && i == 0);
		buf_char(out, '}');
	}
	buf_char(out, ']');
	if (!told->no_usage)
		buf_print(out, ",\"usageMetadata\":{\"promptTokenCount\":%llu,\"totalTokenCount\":%llu}",
				  (unsigned long long) usage->prompt, (unsigned long long) usage->prompt);
	buf_char(out, '}');
}

static bool
claims_gemini(Span path)
{
	return path_ends_with(path, ":batchEmbedContents");
}

static void
complain_gemini(Reply *reply, const Complaint *complaint)
{
	form_gemini.complain(reply, complaint);
}

const Form form_gemini_embed = {
	.name = "gemini_embed",
	.claims = claims_gemini,
	.parse = parse_gemini,
	.complain = complain_gemini,
	.write = write_gemini,
};

/* ---- Ollama ---- */

static bool
parse_ollama(ChatRequest *chat, const HttpRequest *request)
{
	static const Names names = {"dimensions", {"truncate", "options", "keep_alive"}, SIZE_MAX};

	return parse_as(chat, request, &names);
}

static void
write_ollama(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage)
{
	(void) tail;
	buf_text(out, "{\"model\":\"");
	buf_json(out, chat->model);
	buf_text(out, "\",\"embeddings\":[");
	for (size_t i = 0; i < embed_count() - told->missing; i++)
	{
		if (i > 0)
			buf_char(out, ',');
		embed_write(out, chat, i, told->lame && i == 0);
	}
	buf_text(out, "],\"total_duration\":5000000,\"load_duration\":1000");
	if (!told->no_usage)
		buf_print(out, ",\"prompt_eval_count\":%llu", (unsigned long long) usage->prompt);
	buf_char(out, '}');
}

static bool
claims_ollama(Span path)
{
	return path_ends_with(path, "/api/embed");
}

static void
complain_ollama(Reply *reply, const Complaint *complaint)
{
	form_ollama.complain(reply, complaint);
}

const Form form_ollama_embed = {
	.name = "ollama_embed",
	.claims = claims_ollama,
	.parse = parse_ollama,
	.complain = complain_ollama,
	.write = write_ollama,
};
