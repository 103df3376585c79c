/*-------------------------------------------------------------------------
 *
 * marker_text.c
 *	  Find the marker in JSON that is kept as text (json, text, varchar, char).
 *
 * The server's own JSON parser raises on deep nesting and tells no byte
 * positions, and jsonb cannot hold all that json can.  Hence this scanner: it
 * checks the grammar strictly, never recurses, never allocates, never raises.
 * Nesting deeper than MAX_DEPTH counts as "not JSON": such a value is kept whole.
 *
 * Every scan function takes a position and returns the one behind what it read,
 * or -1.  The end of the text is a position too, at which no byte matches.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cell/marker_text.h"

/* One bit each on the stack of open brackets. */
#define MAX_DEPTH 1024

/* A value that a marker keeps is nested two levels deeper there. */
#define MAX_KEPT_DEPTH (MAX_DEPTH - 2)

/* One walk over the members of an object. */
typedef struct MemberWalk
{
	LlmSpan json;
	int pos; /* behind the "{" or the last member; -1: malformed */
	int comma; /* the comma before the current member, -1 for the first */
	LlmSpan key; /* between its quotes, as written */
	int key_start; /* the opening quote */
	LlmSpan value;
	int value_end;
	bool closed; /* "}" was reached; pos is behind it */
} MemberWalk;

static inline int
byte_at(LlmSpan json, int pos)
{
	return pos < json.len ? (unsigned char) json.data[pos] : -1;
}

static inline bool
is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static inline bool
is_hex(int c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static int
skip_blanks(LlmSpan json, int pos)
{
	int c = byte_at(json, pos);

	while (c == ' ' || c == '\t' || c == '\n' || c == '\r')
		c = byte_at(json, ++pos);
	return pos;
}

/* Position of the opening quote in, position behind the closing one out. */
static int
skip_string(LlmSpan json, int pos)
{
	if (byte_at(json, pos) != '"')
		return -1;
	for (pos++; pos < json.len; pos++)
	{
		unsigned char c = json.data[pos];

		if (c == '"')
			return pos + 1;
		if (c < ' ')
			return -1;
		if (c != '\\')
			continue;
		c = byte_at(json, ++pos) & 0xff;
		if (c == 'u')
		{
			for (int i = 1; i <= 4; i++)
				if (!is_hex(byte_at(json, pos + i)))
					return -1;
			pos += 4;
		}
		else if (c == '\0' || strchr("\"\\/bfnrt", c) == NULL)
			return -1;
	}
	return -1;
}

static int
skip_digits(LlmSpan json, int pos)
{
	if (!is_digit(byte_at(json, pos)))
		return -1;
	while (is_digit(byte_at(json, pos)))
		pos++;
	return pos;
}

static int
skip_number(LlmSpan json, int pos)
{
	int c;

	if (byte_at(json, pos) == '-')
		pos++;
	if (byte_at(json, pos) == '0')
		pos++;
	else if ((pos = skip_digits(json, pos)) < 0)
		return -1;
	if (byte_at(json, pos) == '.' && (pos = skip_digits(json, pos + 1)) < 0)
		return -1;
	c = byte_at(json, pos);
	if (c == 'e' || c == 'E')
	{
		c = byte_at(json, ++pos);
		if (c == '+' || c == '-')
			pos++;
		pos = skip_digits(json, pos);
	}
	return pos;
}

static int
skip_word(LlmSpan json, int pos, const char *word)
{
	int len = strlen(word);

	if (json.len - pos < len || memcmp(json.data + pos, word, len) != 0)
		return -1;
	return pos + len;
}

/* A string, number, true, false or null. */
static int
skip_scalar(LlmSpan json, int pos)
{
	switch (byte_at(json, pos))
	{
		case '"':
			return skip_string(json, pos);
		case 't':
			return skip_word(json, pos, "true");
		case 'f':
			return skip_word(json, pos, "false");
		case 'n':
			return skip_word(json, pos, "null");
		default:
			return skip_number(json, pos);
	}
}

/* A key and its colon; returns where the value starts. */
static int
skip_key(LlmSpan json, int pos)
{
	pos = skip_string(json, skip_blanks(json, pos));
	if (pos < 0)
		return -1;
	pos = skip_blanks(json, pos);
	if (byte_at(json, pos) != ':')
		return -1;
	return skip_blanks(json, pos + 1);
}

/*
 * Any value.  The stack holds one bit per open bracket: is it an object?  The loop
 * stands in front of a value at its top, and behind one when it looks for what follows.
 */
static int
skip_value(LlmSpan json, int pos, int max_depth)
{
	uint8 objects[MAX_DEPTH / 8] = {0};
	int depth = 0;

	for (;;)
	{
		int c = byte_at(json, pos);
		bool is_object = (c == '{');

		if (is_object || c == '[')
		{
			if (depth == max_depth)
				return -1;
			if (is_object)
				objects[depth / 8] |= 1 << (depth % 8);
			else
				objects[depth / 8] &= ~(1 << (depth % 8));
			depth++;
			pos = skip_blanks(json, pos + 1);
			if (byte_at(json, pos) != (is_object ? '}' : ']'))
			{
				if (is_object && (pos = skip_key(json, pos)) < 0)
					return -1;
				continue;
			}
		}
		else if ((pos = skip_scalar(json, pos)) < 0)
			return -1;

		for (;;)
		{
			bool in_object;

			if (depth == 0)
				return pos;
			in_object = (objects[(depth - 1) / 8] >> ((depth - 1) % 8)) & 1;
			pos = skip_blanks(json, pos);
			c = byte_at(json, pos);
			if (c == (in_object ? '}' : ']'))
			{
				depth--;
				pos++;
				continue;
			}
			if (c != ',')
				return -1;
			pos = skip_blanks(json, pos + 1);
			if (in_object && (pos = skip_key(json, pos)) < 0)
				return -1;
			break;
		}
	}
}

/* Walk the members of the object that starts at pos: start, then next until it says false. */
static void
start_members(MemberWalk *walk, LlmSpan json, int pos)
{
	memset(walk, 0, sizeof(*walk));
	walk->json = json;
	walk->comma = -1;
	walk->pos = byte_at(json, pos) == '{' ? pos + 1 : -1;
	walk->value_end = walk->pos;
}

static bool
next_member(MemberWalk *walk)
{
	LlmSpan json = walk->json;
	int pos = walk->pos;
	int key_end;

	if (pos < 0 || walk->closed)
		return false;
	pos = skip_blanks(json, pos);
	if (byte_at(json, pos) == '}')
	{
		walk->closed = true;
		walk->pos = pos + 1;
		return false;
	}
	walk->pos = -1;
	if (walk->value.data != NULL)
	{
		if (byte_at(json, pos) != ',')
			return false;
		walk->comma = pos;
		pos = skip_blanks(json, pos + 1);
	}
	walk->key_start = pos;
	key_end = skip_string(json, pos);
	if (key_end < 0 || (pos = skip_key(json, pos)) < 0)
		return false;
	walk->key.data = json.data + walk->key_start + 1;
	walk->key.len = key_end - walk->key_start - 2;
	walk->value_end = skip_value(json, pos, MAX_DEPTH);
	if (walk->value_end < 0)
		return false;
	walk->value.data = json.data + pos;
	walk->value.len = walk->value_end - pos;
	walk->pos = walk->value_end;
	return true;
}

static bool
span_is(LlmSpan span, const char *word)
{
	return span.len == strlen(word) && memcmp(span.data, word, span.len) == 0;
}

/* A positive integer; 0 for all else. */
static int64
span_task(LlmSpan span)
{
	int64 task = 0;

	if (span.len > 18)
		return 0;
	for (int i = 0; i < span.len; i++)
	{
		if (!is_digit(span.data[i]))
			return 0;
		task = task * 10 + (span.data[i] - '0');
	}
	return task;
}

/* Fill task, status and previous from the marker's object; false when it is no marker of ours. */
static bool
read_marker(LlmMarkerText *result)
{
	MemberWalk walk;
	bool has_task = false;

	start_members(&walk, result->marker, 0);
	while (next_member(&walk))
	{
		if (span_is(walk.key, "task"))
		{
			has_task = true;
			result->task = span_task(walk.value);
		}
		else if (span_is(walk.key, "status"))
		{
			if (span_is(walk.value, "\"pending\""))
				result->status = "pending";
			else if (span_is(walk.value, "\"failed\""))
				result->status = "failed";
		}
		else if (span_is(walk.key, "previous"))
			result->previous = walk.value;
	}
	if (!walk.closed || result->status == NULL)
		return false;
	if (has_task)
		return result->task > 0;
	return strcmp(result->status, "failed") == 0;
}

void
llm_marker_text_read(LlmSpan cell, LlmMarkerText *result)
{
	MemberWalk walk;
	int found = 0;
	bool cut_comma = false; /* the marker came first: its cut ends behind the next comma */

	memset(result, 0, sizeof(*result));
	start_members(&walk, cell, skip_blanks(cell, 0));
	while (next_member(&walk))
	{
		if (cut_comma)
			result->cut_end = walk.key_start;
		cut_comma = false;
		if (!span_is(walk.key, LLM_MARKER_KEY))
		{
			result->members++;
			continue;
		}
		found++;
		result->marker = walk.value;
		cut_comma = walk.comma < 0;
		result->cut_start = cut_comma ? walk.key_start : walk.comma;
		result->cut_end = walk.value_end;
	}
	if (!walk.closed || skip_blanks(cell, walk.pos) != cell.len)
	{
		memset(result, 0, sizeof(*result));
		return;
	}
	result->is_object = true;
	result->paste_at = walk.value_end;
	result->has_key = found > 0;
	result->has_marker = found == 1 && read_marker(result);
}

bool
llm_marker_text_mentions(LlmSpan cell)
{
	const char *p = cell.data;
	const char *end = cell.data + cell.len;
	int keylen = strlen(LLM_MARKER_KEY);

	while ((p = memmem(p, end - p, LLM_MARKER_KEY, keylen)) != NULL)
	{
		int pos;

		p += keylen;
		pos = p - cell.data;
		while (byte_at(cell, pos) == '\\')
			pos++;
		if (byte_at(cell, pos) == '"' && byte_at(cell, skip_blanks(cell, pos + 1)) == ':')
			return true;
	}
	return false;
}

bool
llm_marker_text_can_keep(LlmSpan cell)
{
	int pos = skip_value(cell, skip_blanks(cell, 0), MAX_KEPT_DEPTH);

	return pos >= 0 && skip_blanks(cell, pos) == cell.len;
}
