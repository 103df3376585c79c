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

	if (!llm_note_enter(r, '{'))
		return;
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
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

	if (!llm_note_enter(r, '{'))
		return;
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
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
	int64 written = -1;
	LlmJsonSlice key;

	if (!llm_note_enter(r, '{'))
		return;
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "prompt_tokens") || llm_json_is(&key, "input_tokens"))
			llm_note_count(r, &usage->prompt);
		else if (llm_json_is(&key, "completion_tokens") || llm_json_is(&key, "output_tokens"))
			llm_note_count(r, &usage->output);
		else if (llm_json_is(&key, "total_tokens"))
			llm_note_count(r, &usage->total);
		else if (llm_json_is(&key, "prompt_tokens_details") || llm_json_is(&key, "input_tokens_details"))
			read_prompt_details(r, usage);
		else if (llm_json_is(&key, "completion_tokens_details") || llm_json_is(&key, "output_tokens_details"))
			read_completion_details(r, usage);
		else if (llm_json_is(&key, "prompt_cache_hit_tokens") || llm_json_is(&key, "cached_tokens") ||
				 llm_json_is(&key, "cache_read_input_tokens"))
			llm_note_count(r, &hit);
		else if (llm_json_is(&key, "cache_creation_input_tokens"))
			llm_note_count(r, &written);
		else if (llm_json_is(&key, "reasoning_tokens"))
			llm_note_count(r, &usage->reasoning);
		else if (llm_json_is(&key, "prompt_cache_miss_tokens"))
			llm_note_count(r, &notes->cache_miss);
		else
			llm_json_skip(r);
	}
	if (usage->cached < 0)
		usage->cached = hit;
	if (usage->cache_write < 0)
		usage->cache_write = written;
}

/* One part of a list of parts: its text, unless it is reasoning or a picture. */
static void
read_part(LlmJsonReader *r, StringInfo str)
{
	LlmJsonSlice key;
	LlmJsonSlice type = {0};
	LlmJsonSlice words = {0};

	if (!llm_note_enter(r, '{'))
		return;
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
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

	switch (llm_json_peek(r))
	{
		case '"':
			if (llm_json_string(r, &words))
				notes->content = llm_json_decode(&words, &notes->content_len, &clean);
			break;
		case '[':
			initStringInfo(&str);
			llm_json_enter(r, '[');
			for (int i = 0; llm_json_next_item(r, i); i++)
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

	if (!llm_note_enter(r, '{'))
		return;
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
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

	if (!llm_note_enter(r, '{'))
		return;
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "reasons") || llm_json_is(&key, "flagged_input"))
			notes->error.flagged = true;
		llm_json_skip(r);
	}
}

/* The last string of a list of steps to the place: what is at fault. */
static void
read_place(LlmJsonReader *r, LlmJsonSlice *place)
{
	if (!llm_note_enter(r, '['))
		return;
	for (int i = 0; llm_json_next_item(r, i); i++)
		llm_note_string(r, place);
}

/* "detail": a sentence, or a list of objects with "msg" and "loc", of which the first counts. */
static void
read_detail(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;

	if (llm_json_peek(r) != '[')
	{
		llm_note_string(r, &notes->error.message);
		return;
	}
	llm_json_enter(r, '[');
	for (int i = 0; llm_json_next_item(r, i); i++)
	{
		LlmJsonSlice words = {0};
		LlmJsonSlice place = {0};

		if (!llm_note_enter(r, '{'))
			continue;
		for (int j = 0; llm_json_next_key(r, j, &key); j++)
		{
			if (llm_json_is(&key, "msg"))
				llm_note_string(r, &words);
			else if (llm_json_is(&key, "loc"))
				read_place(r, &place);
			else
				llm_json_skip(r);
		}
		if (notes->error.sentence != NULL || words.at == NULL)
			continue;
		notes->error.param = place;
		notes->error.sentence = place.at == NULL ? psprintf("%.*s", (int) words.len, words.at)
												 : psprintf("%.*s: %.*s", (int) place.len, place.at, (int) words.len, words.at);
	}
}

/* What is said of an error: a sentence, or an object that has it in some place. */
static void
read_words(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;

	if (llm_json_peek(r) != '{')
	{
		llm_note_string(r, &notes->error.message);
		return;
	}
	llm_json_enter(r, '{');
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "detail") || llm_json_is(&key, "errors"))
			read_detail(r, notes);
		else if (llm_json_is(&key, "message") || llm_json_is(&key, "msg"))
			llm_note_string(r, &notes->error.message);
		else
			llm_json_skip(r);
	}
}

/* Google's details of an error: one may have a reason, and one the time to wait. */
static void
read_reasons(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;

	if (!llm_note_enter(r, '['))
		return;
	for (int i = 0; llm_json_next_item(r, i); i++)
	{
		if (!llm_note_enter(r, '{'))
			continue;
		for (int j = 0; llm_json_next_key(r, j, &key); j++)
		{
			LlmJsonSlice reason = {0};

			if (llm_json_is(&key, "reason"))
				llm_note_string(r, &reason);
			else if (llm_json_is(&key, "retryDelay"))
				llm_note_string(r, &notes->error.delay);
			else
				llm_json_skip(r);
			if (llm_json_is(&reason, "API_KEY_INVALID"))
				notes->error.type = reason;
		}
	}
}

static void
read_error(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;

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
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "code"))
			llm_note_code(r, &notes->error.code);
		else if (llm_json_is(&key, "type"))
			llm_note_string(r, &notes->error.type);
		else if (llm_json_is(&key, "status") && notes->error.type.at == NULL)
			llm_note_string(r, &notes->error.type);
		else if (llm_json_is(&key, "message"))
			read_words(r, notes);
		else if (llm_json_is(&key, "param"))
			llm_note_string(r, &notes->error.param);
		else if (llm_json_is(&key, "details"))
			read_reasons(r, notes);
		else if (llm_json_is(&key, "metadata"))
			read_metadata(r, notes);
		else
			llm_json_skip(r);
	}
}

static void
read_choice(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;

	if (!llm_note_enter(r, '{'))
		return;
	notes->has_choice = true;
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
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
	if (!llm_note_enter(r, '['))
		return;
	for (int i = 0; llm_json_next_item(r, i); i++)
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

	if (!llm_note_enter(r, '{'))
		return;
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "index"))
			llm_note_count(r, &index);
		else if (llm_json_is(&key, "embedding"))
			(void) llm_note_vector(r, &vector);
		else
			llm_json_skip(r);
	}
	if (index >= notes->nvectors)
		return;
	if (notes->vectors[index].values != NULL)
	{
		/* whose is it?  Then nobody can tell of the others either */
		memset(notes->vectors, 0, notes->nvectors * sizeof(LlmVector));
		notes->nvectors = 0;
		return;
	}
	notes->vectors[index] = vector;
}

static void
read_data(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	if (!llm_note_enter(r, '['))
		return;
	for (int i = 0; llm_json_next_item(r, i); i++)
		read_embedding(r, i, notes);
}

static void
read_top(LlmJsonReader *r, LlmOpenaiNotes *notes)
{
	LlmJsonSlice key;
	bool is_error = false;

	llm_json_enter(r, '{');
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
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
		else if (llm_json_is(&key, "service_tier"))
			llm_note_string(r, &notes->tier);
		else if (llm_json_is(&key, "detail"))
			read_detail(r, notes);
		else if (llm_json_is(&key, "code") && !notes->has_error)
			llm_note_code(r, &notes->error.code);
		else if (llm_json_is(&key, "type") && !notes->has_error)
			llm_note_string(r, &notes->error.type);
		else if (llm_json_is(&key, "message") && !notes->has_error)
			read_words(r, notes);
		else if (llm_json_is(&key, "param") && !notes->has_error)
			llm_note_string(r, &notes->error.param);
		else if (llm_json_is(&key, "object"))
		{
			LlmJsonSlice what = {0};

			llm_note_string(r, &what);
			is_error = is_error || llm_json_is(&what, "error");
		}
		else
			llm_json_skip(r);
	}
	notes->has_error = notes->has_error || is_error;
}

static void
forget(LlmOpenaiNotes *notes)
{
	memset(notes, 0, sizeof(*notes));
	memset(&notes->usage, 0xff, sizeof(notes->usage)); /* all -1 */
	notes->cache_miss = -1;
}

LlmErrorClass
llm_dialect_openai_walk(const LlmRawAnswer *raw, LlmOpenaiNotes *notes, const char **problem)
{
	LlmJsonReader reader;
	LlmErrorClass class;
	LlmText body;

	forget(notes);
	class = llm_dialect_body(raw, &body, problem);
	if (class != LLM_OK)
		return class;
	if (raw->kind == LLM_REQUEST_EMBED)
	{
		notes->nvectors = raw->ninputs;
		notes->vectors = palloc0(Max(raw->ninputs, 1) * sizeof(LlmVector));
	}
	llm_json_open(&reader, body.at, body.len);
	if (llm_json_peek(&reader) == '[')
	{
		llm_json_enter(&reader, '[');
		for (int i = 0; llm_json_next_item(&reader, i); i++)
			read_top(&reader, notes);
	}
	else
		read_top(&reader, notes);
	if (llm_json_close(&reader))
		return LLM_OK;
	/* what was noted before the walk stumbled may be half a truth */
	forget(notes);
	*problem = "The provider answered with something other than JSON.";
	return LLM_ERR_INVALID;
}
