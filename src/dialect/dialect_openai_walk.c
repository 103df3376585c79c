/*-------------------------------------------------------------------------
 *
 * dialect_openai_walk.c
 *	  Chat Completions as OpenAI defined them and most others speak them: walk
 *	  over an answer.
 *
 * One walk over the body notes what is of use and skips the rest, so that a
 * member that we do not know, wherever it stands, does no harm.
 *
 * Known differences that are taken care of: "error" as a bare string (Ollama),
 * errors at the top level (Mistral, vLLM), in a list of one (Gemini) or within a
 * choice (OpenRouter), "detail" (FastAPI), numbers as codes (llama.cpp), content
 * as a list of parts (Mistral), cache hits and misses (DeepSeek).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "base/json.h"
#include "dialect/dialect_openai.h"

/* No request has more tokens than this; larger numbers are nonsense. */
#define MAX_COUNT 1e12

/* Read a string into the slice; any other value is skipped. */
static void
note_string(LlmJsonReader *r, LlmJsonSlice *slice)
{
	if (llm_json_peek(r) == '"')
		llm_json_string(r, slice);
	else
		llm_json_skip(r);
}

/* Codes are strings or numbers. */
static void
note_code(LlmJsonReader *r, LlmJsonSlice *slice)
{
	if (llm_json_peek(r) == '-')
		llm_json_number(r, slice);
	else
		note_string(r, slice);
}

/* A count as a number, whole or not, or as a string; what is none stays -1. */
static void
note_count(LlmJsonReader *r, int64 *count)
{
	LlmJsonSlice slice = {0};
	char str[32];
	char *end;
	double value;

	note_code(r, &slice);
	if (slice.at == NULL || slice.len == 0 || slice.len >= sizeof(str))
		return;
	memcpy(str, slice.at, slice.len);
	str[slice.len] = '\0';
	value = strtod(str, &end);
	if (*end == '\0' && value >= 0)
		*count = (int64) rint(Min(value, MAX_COUNT));
}

/* Go into the object or list that comes; anything else is skipped, and false. */
static bool
enter_or_skip(LlmJsonReader *r, char open)
{
	if (llm_json_peek(r) != open)
	{
		llm_json_skip(r);
		return false;
	}
	llm_json_enter(r, open);
	return true;
}

static void
read_prompt_details(LlmJsonReader *r, LlmOpenaiCounts *counts)
{
	LlmJsonSlice key;
	int i;

	if (!enter_or_skip(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "cached_tokens"))
			note_count(r, &counts->cached);
		else if (llm_json_is(&key, "cache_write_tokens"))
			note_count(r, &counts->cache_write);
		else
			llm_json_skip(r);
	}
}

static void
read_completion_details(LlmJsonReader *r, LlmOpenaiCounts *counts)
{
	LlmJsonSlice key;
	int i;

	if (!enter_or_skip(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "reasoning_tokens"))
			note_count(r, &counts->reasoning);
		else
			llm_json_skip(r);
	}
}

static void
read_usage(LlmJsonReader *r, LlmOpenaiCounts *counts)
{
	LlmJsonSlice key;
	int i;

	if (!enter_or_skip(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "prompt_tokens"))
			note_count(r, &counts->prompt);
		else if (llm_json_is(&key, "completion_tokens"))
			note_count(r, &counts->completion);
		else if (llm_json_is(&key, "total_tokens"))
			note_count(r, &counts->total);
		else if (llm_json_is(&key, "prompt_tokens_details"))
			read_prompt_details(r, counts);
		else if (llm_json_is(&key, "completion_tokens_details"))
			read_completion_details(r, counts);
		else if (llm_json_is(&key, "prompt_cache_hit_tokens"))
			note_count(r, &counts->cache_hit);
		else if (llm_json_is(&key, "prompt_cache_miss_tokens"))
			note_count(r, &counts->cache_miss);
		else
			llm_json_skip(r);
	}
}

/* One part of a list of parts: its text, unless it is reasoning or a picture. */
static void
read_part(LlmJsonReader *r, StringInfo str)
{
	LlmJsonSlice key;
	LlmJsonSlice type = {0};
	LlmJsonSlice words = {0};
	int i;

	if (!enter_or_skip(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "type"))
			note_string(r, &type);
		else if (llm_json_is(&key, "text"))
			note_string(r, &words);
		else
			llm_json_skip(r);
	}
	if (words.at != NULL && (type.at == NULL || llm_json_is(&type, "text") || llm_json_is(&type, "output_text")))
	{
		bool clean = true;
		size_t len;
		char *decoded = llm_json_decode(&words, &len, &clean);

		appendBinaryStringInfo(str, decoded, len);
		pfree(decoded);
	}
}

static void
read_content(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice words;
	StringInfoData str;
	bool clean = true;
	int i;

	switch (llm_json_peek(r))
	{
		case '"':
			if (llm_json_string(r, &words))
				notes->content = llm_json_decode(&words, &notes->content_len, &clean);
			break;
		case '[':
			initStringInfo(&str);
			llm_json_enter(r, '[');
			for (i = 0; llm_json_next_item(r, i); i++)
				read_part(r, &str);
			notes->content = str.data;
			notes->content_len = str.len;
			break;
		default:
			llm_json_skip(r);
			break;
	}
}

static void
read_message(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;
	int i;

	if (!enter_or_skip(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "content"))
			read_content(r, notes);
		else if (llm_json_is(&key, "refusal"))
			note_string(r, &notes->refusal);
		else
			llm_json_skip(r);
	}
}

/* What a gateway tells about an error: whether a moderation flagged the input, which we do not keep. */
static void
read_metadata(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;
	int i;

	if (!enter_or_skip(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "reasons") || llm_json_is(&key, "flagged_input"))
			notes->flagged = true;
		llm_json_skip(r);
	}
}

static void
read_error(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;
	int i;

	switch (llm_json_peek(r))
	{
		case '{':
			break;
		case '"':
			note_string(r, &notes->message);
			notes->has_error = notes->message.len > 0;
			return;
		default:
			llm_json_skip(r);
			return;
	}
	notes->has_error = true;
	llm_json_enter(r, '{');
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "code"))
			note_code(r, &notes->code);
		else if (llm_json_is(&key, "type"))
			note_string(r, &notes->type);
		else if (llm_json_is(&key, "status") && notes->type.at == NULL)
			note_string(r, &notes->type);
		else if (llm_json_is(&key, "message"))
			note_string(r, &notes->message);
		else if (llm_json_is(&key, "metadata"))
			read_metadata(r, notes);
		else
			llm_json_skip(r);
	}
}

/* "detail": a sentence, or a list of objects with "msg". */
static void
read_detail(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;
	int i;
	int j;

	if (llm_json_peek(r) != '[')
	{
		note_string(r, &notes->message);
		return;
	}
	llm_json_enter(r, '[');
	for (i = 0; llm_json_next_item(r, i); i++)
	{
		if (!enter_or_skip(r, '{'))
			continue;
		for (j = 0; llm_json_next_key(r, j, &key); j++)
		{
			if (llm_json_is(&key, "msg"))
				note_string(r, &notes->message);
			else
				llm_json_skip(r);
		}
	}
}

static void
read_choice(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;
	int i;

	if (!enter_or_skip(r, '{'))
		return;
	notes->has_choice = true;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "message"))
			read_message(r, notes);
		else if (llm_json_is(&key, "finish_reason"))
			note_string(r, &notes->finish);
		else if (llm_json_is(&key, "error"))
			read_error(r, notes);
		else
			llm_json_skip(r);
	}
}

/* We ask for one choice, and take the first. */
static void
read_choices(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	int i;

	if (!enter_or_skip(r, '['))
		return;
	for (i = 0; llm_json_next_item(r, i); i++)
	{
		if (i == 0)
			read_choice(r, notes);
		else
			llm_json_skip(r);
	}
}

static void
read_top(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;
	int i;

	llm_json_enter(r, '{');
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "choices"))
			read_choices(r, notes);
		else if (llm_json_is(&key, "usage"))
			read_usage(r, &notes->counts);
		else if (llm_json_is(&key, "error"))
			read_error(r, notes);
		else if (llm_json_is(&key, "id"))
			note_string(r, &notes->id);
		else if (llm_json_is(&key, "detail"))
			read_detail(r, notes);
		else if (llm_json_is(&key, "code") && !notes->has_error)
			note_code(r, &notes->code);
		else if (llm_json_is(&key, "type") && !notes->has_error)
			note_string(r, &notes->type);
		else if (llm_json_is(&key, "message") && !notes->has_error)
			note_string(r, &notes->message);
		else
			llm_json_skip(r);
	}
}

bool
llm_dialect_openai_walk(const LlmRawAnswer *raw, LlmOpenaiNotes *notes)
{
	LlmJsonReader reader;
	int i;

	memset(notes, 0, sizeof(*notes));
	memset(&notes->counts, 0xff, sizeof(notes->counts)); /* all -1 */
	if (!llm_json_is_utf8(raw->body, raw->len))
		return false;
	llm_json_open(&reader, raw->body, raw->len);
	if (llm_json_peek(&reader) == '[')
	{
		llm_json_enter(&reader, '[');
		for (i = 0; llm_json_next_item(&reader, i); i++)
			read_top(&reader, notes);
	}
	else
		read_top(&reader, notes);
	return llm_json_close(&reader);
}
