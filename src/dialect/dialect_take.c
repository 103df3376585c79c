/*-------------------------------------------------------------------------
 *
 * dialect_take.c
 *	  Read an answer by a table of the places that matter.
 *
 * The path of the value at hand is kept as text, with "[0]" for the first item of a list and
 * "[1]" for all others.  What no path of the table begins with is skipped unread, so nothing goes
 * deeper than the table does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dialect/dialect_take.h"

/* Longer than any path in a table. */
#define PATH_BYTES 128

typedef struct Walk
{
	LlmJsonReader reader;
	const LlmTake *table;
	LlmTaken *taken;
	int nvectors;
	int item; /* number of the item in the innermost list */
	char path[PATH_BYTES];
	int len;
} Walk;

static bool walk_value(Walk *walk);

/* Does the path fit the beginning of a pattern?  *whole: it fits all of it. */
static bool
fits(const char *path, const char *pattern, bool *whole)
{
	while (*path != '\0')
	{
		if (*path != *pattern)
			return false;
		path++;
		pattern++;
		/* "[]" stands for each item */
		if (path[-1] == '[' && *pattern == ']')
			path++;
	}
	*whole = *pattern == '\0';
	return *whole || *pattern == '.' || *pattern == '[';
}

/* The entry for the value at hand, or NULL; *leads: some entry is, or lies within it. */
static const LlmTake *
find_take(const Walk *walk, bool *leads)
{
	const LlmTake *found = NULL;

	*leads = walk->len == 0;
	for (const LlmTake *take = walk->table; take->path != NULL; take++)
	{
		bool whole = false;

		if (walk->len == 0 || !fits(walk->path, take->path, &whole))
			continue;
		if (whole)
			found = take;
		else
			*leads = true;
	}
	return found;
}

static bool
add_step(Walk *walk, const char *step, size_t len)
{
	if (walk->len + len + 2 >= PATH_BYTES)
		return false;
	memcpy(walk->path + walk->len, step, len);
	walk->len += (int) len;
	walk->path[walk->len] = '\0';
	return true;
}

static void
drop_steps(Walk *walk, int len)
{
	walk->len = len;
	walk->path[len] = '\0';
}

/* The members of an object; the text in it goes if one of them hides it. */
static bool
walk_object(Walk *walk)
{
	StringInfo content = &walk->taken->content;
	int before = content->len;
	int len = walk->len;
	bool hidden = false;
	LlmJsonSlice key;

	llm_json_enter(&walk->reader, '{');
	for (int i = 0; llm_json_next_key(&walk->reader, i, &key); i++)
	{
		bool fits_in = (len == 0 || add_step(walk, ".", 1)) && add_step(walk, key.at, key.len);

		if (!fits_in)
			llm_json_skip(&walk->reader);
		else if (walk_value(walk))
			hidden = true;
		drop_steps(walk, len);
	}
	if (hidden)
	{
		content->len = before;
		content->data[before] = '\0';
	}
	return false;
}

static bool
walk_list(Walk *walk)
{
	int len = walk->len;
	int item = walk->item;

	llm_json_enter(&walk->reader, '[');
	for (int i = 0; llm_json_next_item(&walk->reader, i); i++)
	{
		walk->item = i;
		if (add_step(walk, i == 0 ? "[0]" : "[1]", 3))
			walk_value(walk);
		else
			llm_json_skip(&walk->reader);
		drop_steps(walk, len);
	}
	walk->item = item;
	return false;
}

static void
take_text(Walk *walk)
{
	LlmJsonSlice slice = {0};
	bool clean = true;
	size_t len;
	char *decoded;

	llm_note_string(&walk->reader, &slice);
	if (slice.at == NULL)
		return;
	decoded = llm_json_decode(&slice, &len, &clean);
	appendBinaryStringInfo(&walk->taken->content, decoded, (int) len);
	pfree(decoded);
}

static void
take_json(Walk *walk)
{
	const char *start;

	if (llm_json_peek(&walk->reader) == 0)
		return;
	start = walk->reader.at;
	if (llm_json_skip(&walk->reader))
		appendBinaryStringInfo(&walk->taken->content, start, (int) (walk->reader.at - start));
}

static void
take_vector(Walk *walk)
{
	LlmVector vector;

	if (walk->item >= walk->nvectors)
		llm_json_skip(&walk->reader);
	else if (llm_note_vector(&walk->reader, &vector))
		walk->taken->vectors[walk->item] = vector;
}

/* One value; true when it hides the text beside it. */
static bool
walk_value(Walk *walk)
{
	LlmJsonReader *r = &walk->reader;
	bool leads;
	const LlmTake *take = find_take(walk, &leads);
	char *member = take == NULL ? NULL : (char *) walk->taken + take->offset;
	char kind = llm_json_peek(r);

	if (take != NULL && take->kind != LLM_TAKE_SEEN)
	{
		switch (take->kind)
		{
			case LLM_TAKE_STRING:
				llm_note_string(r, (LlmJsonSlice *) member);
				break;
			case LLM_TAKE_CODE:
				llm_note_code(r, (LlmJsonSlice *) member);
				break;
			case LLM_TAKE_COUNT:
				llm_note_count(r, (int64 *) member);
				break;
			case LLM_TAKE_TEXT:
				take_text(walk);
				break;
			case LLM_TAKE_JSON:
				take_json(walk);
				break;
			case LLM_TAKE_VECTOR:
				take_vector(walk);
				break;
			default:
				llm_json_skip(r);
				return kind == 't';
		}
		return false;
	}
	if (take != NULL && kind != 'n' && kind != 'f')
		*(bool *) member = true;
	if (leads && kind == '{')
		return walk_object(walk);
	if (leads && kind == '[')
		return walk_list(walk);
	llm_json_skip(r);
	return false;
}

static void
forget(const LlmRawAnswer *raw, LlmTaken *taken)
{
	memset(taken, 0, sizeof(*taken));
	memset(&taken->usage, 0xff, sizeof(taken->usage)); /* all -1 */
	taken->extra = -1;
	initStringInfo(&taken->content);
	if (raw->kind == LLM_REQUEST_EMBED)
		taken->vectors = palloc0(Max(raw->ninputs, 1) * sizeof(LlmVector));
}

LlmErrorClass
llm_dialect_take(const LlmRawAnswer *raw, const LlmTake *table, LlmTaken *taken, const char **problem)
{
	Walk walk = {.table = table, .taken = taken};
	LlmErrorClass class;
	LlmText body;

	forget(raw, taken);
	class = llm_dialect_body(raw, &body, problem);
	if (class != LLM_OK)
		return class;
	walk.nvectors = raw->kind == LLM_REQUEST_EMBED ? raw->ninputs : 0;
	llm_json_open(&walk.reader, body.at, body.len);
	if (llm_json_peek(&walk.reader) == '[')
	{
		llm_json_enter(&walk.reader, '[');
		for (int i = 0; llm_json_next_item(&walk.reader, i); i++)
			walk_value(&walk);
	}
	else
		walk_value(&walk);
	if (llm_json_close(&walk.reader))
		return LLM_OK;
	/* what was noted before the walk stumbled may be half a truth */
	forget(raw, taken);
	*problem = "The provider answered with something other than JSON.";
	return LLM_ERR_INVALID;
}

/* The class of an answer that is not an error, and what is wrong with it. */
static LlmErrorClass
judge_answer(const LlmRawAnswer *raw, const LlmTaken *taken, const LlmReply *reply, const char **problem)
{
	LlmErrorClass class;
	char *reason = llm_dialect_clean_slice(&taken->reason);

	if (taken->blocked.at != NULL)
	{
		*problem = psprintf("The provider blocked the question (%s).", llm_dialect_clean_slice(&taken->blocked));
		return LLM_ERR_REFUSED;
	}
	if (!taken->answered)
	{
		*problem = "The provider's answer has no place for an answer.";
		return LLM_ERR_INVALID;
	}
	class = llm_dialect_judge_finish(raw, &taken->finish, problem);
	if (class == LLM_ERR_REFUSED && reason != NULL)
		*problem = psprintf("%s (%s)", *problem, reason);
	if (class != LLM_OK || reply->content_len > 0)
		return class;
	*problem = "The answer is empty.";
	return LLM_ERR_INVALID;
}

void
llm_dialect_settle(const LlmRawAnswer *raw, LlmErrorClass class, const char *problem, LlmTaken *taken,
				   LlmReply *reply)
{
	llm_dialect_reply(reply, class, problem);
	llm_dialect_settle_usage(&taken->usage, &reply->usage);
	llm_dialect_note_tier(&taken->tier, reply);
	llm_dialect_note_headers(raw, &taken->id, taken->requests, taken->tokens, reply);
	if (raw->status < 200 || raw->status >= 300 || taken->has_error)
		llm_dialect_fail(raw, &taken->error, reply);
	else if (class != LLM_OK)
		return;
	else if (raw->kind == LLM_REQUEST_EMBED)
	{
		reply->vectors = taken->vectors;
		(void) llm_dialect_check_vectors(raw, reply);
	}
	else
	{
		reply->content = taken->content.data;
		reply->content_len = taken->content.len;
		llm_dialect_skip_thoughts(&reply->content, &reply->content_len);
		reply->class = judge_answer(raw, taken, reply, &problem);
		reply->message = problem == NULL ? NULL : pstrdup(problem);
	}
}
