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

#include "base/json.h"
#include "dialect/dialect_openai.h"

static void
read_prompt_details(LlmJsonReader *r, LlmToldUsage *usage)
{
	LlmJsonSlice key;
	int i;

	if (!llm_note_enter(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "cached_tokens"))
			llm_note_count(r, &usage->cached);
		else if (llm_json_is(&key, "cache_write_tokens"))
			llm_note_count(r, &usage->cache_write);
		else
			llm_json_skip(r);
	}
}

static void
read_completion_details(LlmJsonReader *r, LlmToldUsage *usage)
{
	LlmJsonSlice key;
	int i;

	if (!llm_note_enter(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "reasoning_tokens"))
			llm_note_count(r, &usage->reasoning);
		else
			llm_json_skip(r);
	}
}

static void
read_usage(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmToldUsage *usage = &notes->usage;
	int64 hit = -1;
	LlmJsonSlice key;
	int i;

	if (!llm_note_enter(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "prompt_tokens"))
			llm_note_count(r, &usage->prompt);
		else if (llm_json_is(&key, "completion_tokens"))
			llm_note_count(r, &usage->output);
		else if (llm_json_is(&key, "total_tokens"))
			llm_note_count(r, &usage->total);
		else if (llm_json_is(&key, "prompt_tokens_details"))
			read_prompt_details(r, usage);
		else if (llm_json_is(&key, "completion_tokens_details"))
			read_completion_details(r, usage);
		else if (llm_json_is(&key, "prompt_cache_hit_tokens"))
			llm_note_count(r, &hit);
		else if (llm_json_is(&key, "prompt_cache_miss_tokens"))
			llm_note_count(r, &notes->cache_miss);
		else
			llm_json_skip(r);
	}
	if (usage->cached < 0)
		usage->cached = hit;
}

/* One part of a list of parts: its text, unless it is reasoning or a picture. */
static void
read_part(LlmJsonReader *r, StringInfo str)
{
	LlmJsonSlice key;
	LlmJsonSlice type = {0};
	LlmJsonSlice words = {0};
	int i;

	if (!llm_note_enter(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "type"))
			llm_note_string(r, &type);
		else if (llm_json_is(&key, "text"))
			llm_note_string(r, &words);
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

	if (!llm_note_enter(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "content"))
			read_content(r, notes);
		else if (llm_json_is(&key, "refusal"))
			llm_note_string(r, &notes->refusal);
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

	if (!llm_note_enter(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "reasons") || llm_json_is(&key, "flagged_input"))
			notes->error.flagged = true;
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
			llm_note_string(r, &notes->error.message);
			notes->has_error = notes->error.message.len > 0;
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
			llm_note_code(r, &notes->error.code);
		else if (llm_json_is(&key, "type"))
			llm_note_string(r, &notes->error.type);
		else if (llm_json_is(&key, "status") && notes->error.type.at == NULL)
			llm_note_string(r, &notes->error.type);
		else if (llm_json_is(&key, "message"))
			llm_note_string(r, &notes->error.message);
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
		llm_note_string(r, &notes->error.message);
		return;
	}
	llm_json_enter(r, '[');
	for (i = 0; llm_json_next_item(r, i); i++)
	{
		if (!llm_note_enter(r, '{'))
			continue;
		for (j = 0; llm_json_next_key(r, j, &key); j++)
		{
			if (llm_json_is(&key, "msg"))
				llm_note_string(r, &notes->error.message);
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

	if (!llm_note_enter(r, '{'))
		return;
	notes->has_choice = true;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "message"))
			read_message(r, notes);
		else if (llm_json_is(&key, "finish_reason"))
			llm_note_string(r, &notes->finish);
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

	if (!llm_note_enter(r, '['))
		return;
	for (i = 0; llm_json_next_item(r, i); i++)
	{
		if (i == 0)
			read_choice(r, notes);
		else
			llm_json_skip(r);
	}
}

/* One vector with its index; one without goes by its position. */
static void
read_embedding(LlmJsonReader *r, int position, LlmOpenaiNotes *notes)
{
	LlmVector vector = {0};
	int64 index = position;
	LlmJsonSlice key;
	int i;

	if (!llm_note_enter(r, '{'))
		return;
	for (i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "index"))
			llm_note_count(r, &index);
		else if (llm_json_is(&key, "embedding"))
			(void) llm_note_vector(r, &vector);
		else
			llm_json_skip(r);
	}
	if (index < notes->nvectors)
		notes->vectors[index] = vector;
}

static void
read_data(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	int i;

	if (!llm_note_enter(r, '['))
		return;
	for (i = 0; llm_json_next_item(r, i); i++)
		read_embedding(r, i, notes);
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
		else if (notes->nvectors > 0 && llm_json_is(&key, "data"))
			read_data(r, notes);
		else if (llm_json_is(&key, "usage"))
			read_usage(r, notes);
		else if (llm_json_is(&key, "error"))
			read_error(r, notes);
		else if (llm_json_is(&key, "id"))
			llm_note_string(r, &notes->id);
		else if (llm_json_is(&key, "detail"))
			read_detail(r, notes);
		else if (llm_json_is(&key, "code") && !notes->has_error)
			llm_note_code(r, &notes->error.code);
		else if (llm_json_is(&key, "type") && !notes->has_error)
			llm_note_string(r, &notes->error.type);
		else if (llm_json_is(&key, "message") && !notes->has_error)
			llm_note_string(r, &notes->error.message);
		else
			llm_json_skip(r);
	}
}

static void
forget(LlmOpenaiNotes *notes)
{
	memset(notes, 0, sizeof(*notes));
	memset(&notes->usage, 0xff, sizeof(notes->usage)); /* all -1 */
	notes->cache_miss = -1;
}

bool
llm_dialect_openai_walk(const LlmRawAnswer *raw, LlmOpenaiNotes *notes)
{
	LlmJsonReader reader;
	int i;

	forget(notes);
	if (!llm_json_is_utf8(raw->body, raw->len))
		return false;
	if (raw->kind == LLM_REQUEST_EMBED)
	{
		notes->nvectors = raw->ninputs;
		notes->vectors = palloc0(Max(raw->ninputs, 1) * sizeof(LlmVector));
	}
	llm_json_open(&reader, raw->body, raw->len);
	if (llm_json_peek(&reader) == '[')
	{
		llm_json_enter(&reader, '[');
		for (i = 0; llm_json_next_item(&reader, i); i++)
			read_top(&reader, notes);
	}
	else
		read_top(&reader, notes);
	if (llm_json_close(&reader))
		return true;
	/* what was noted before the walk stumbled may be half a truth */
	forget(notes);
	return false;
}
