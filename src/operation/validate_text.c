/*-------------------------------------------------------------------------
 *
 * validate_text.c
 *	  From the text that a model gave to a JSON object, or to text that can be
 *	  stored.
 *
 * A JSON answer is taken as it is, or as the only thing in a fence.  Where it stands in
 * running text, it is taken when it is the only object there: two of them are a doubt,
 * and a doubt is no answer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "operation/validate.h"

void
llm_validate_clip(StringInfo fault)
{
	if (fault->len <= LLM_FAULT_MAX)
		return;
	fault->len = (int) llm_json_clip(fault->data, fault->len, LLM_FAULT_MAX - 3);
	fault->data[fault->len] = '\0';
	appendStringInfoString(fault, "…");
}

/* Take off a fence of three backquotes, with or without the word json, that holds everything. */
static void
unfence(const char **str, size_t *len)
{
	const char *p = *str;
	size_t n = *len;

	if (n < 6 || memcmp(p, "```", 3) != 0 || memcmp(p + n - 3, "```", 3) != 0)
		return;
	p += 3;
	n -= 6;
	if (n >= 4 && pg_strncasecmp(p, "json", 4) == 0)
	{
		p += 4;
		n -= 4;
	}
	*str = p;
	*len = n;
	llm_json_trim(str, len);
}

/* More braces than this are not tried: each try reads on to where it fails. */
#define MOST_TRIES 100

/* The end of the object that begins here; NULL: none does. */
static const char *
object_end(const char *at, const char *end)
{
	LlmJsonReader reader;

	llm_json_open(&reader, at, end - at);
	return llm_json_skip(&reader) ? reader.at : NULL;
}

/* Is all of it one JSON value, good or bad? */
static bool
is_json(const char *str, size_t len)
{
	LlmJsonReader reader;

	llm_json_open(&reader, str, len);
	return llm_json_skip(&reader) && llm_json_close(&reader);
}

/* Narrow the text to the one object in it, if there is one and no other. */
static void
find_object(const char **str, size_t *len)
{
	const char *end = *str + *len;
	const char *found = NULL;
	const char *found_end = NULL;
	const char *at = *str;

	for (int i = 0; i < MOST_TRIES && (at = memchr(at, '{', end - at)) != NULL; i++)
	{
		const char *close = object_end(at, end);

		if (close != NULL && found != NULL)
			return;
		if (close != NULL)
		{
			found = at;
			found_end = close;
		}
		at = close != NULL ? close : at + 1;
	}
	if (found != NULL && at == NULL)
	{
		*str = found;
		*len = found_end - found;
	}
}

bool
llm_validate_object(const char *str, size_t len, JsonbValue *object, StringInfo fault)
{
	llm_json_trim(&str, &len);
	unfence(&str, &len);
	if (len == 0)
	{
		appendStringInfoString(fault, "The answer is empty.");
		return false;
	}
	if (!is_json(str, len) && llm_json_is_utf8(str, len))
		find_object(&str, &len);
	if (!llm_json_parse(str, len, object, fault))
		return false;
	if (object->type == jbvObject)
		return true;
	appendStringInfo(fault, "The answer is a JSON %s, not an object.", llm_json_type(object));
	return false;
}

JsonbValue *
llm_validate_member(const char *str, size_t len, const char *key, StringInfo fault)
{
	JsonbValue *answer = palloc(sizeof(JsonbValue));
	JsonbValue *value;

	if (!llm_validate_object(str, len, answer, fault))
		return NULL;
	value = llm_json_get(answer, key);
	if (value == NULL || answer->val.object.nPairs != 1)
	{
		appendStringInfo(fault, "The answer must have the property \"%s\" and no other.", key);
		return NULL;
	}
	return value;
}

bool
llm_validate_text(const char *str, size_t len, StringInfo fault)
{
	if (memchr(str, '\0', len) != NULL)
		appendStringInfoString(fault, "The answer holds a null character, which cannot be stored.");
	else if (!llm_json_is_utf8(str, len))
		appendStringInfoString(fault, "The answer is not valid UTF-8 text.");
	else if (len > JENTRY_OFFLENMASK / 2)
		appendStringInfoString(fault, "The answer is too long.");
	else
	{
		llm_json_trim(&str, &len);
		if (len > 0)
			return true;
		appendStringInfoString(fault, "The answer is empty.");
	}
	return false;
}

/* Number of runs of anything but white space. */
static int
count_words(const char *str, int len)
{
	bool inside = false;
	int words = 0;

	for (int i = 0; i < len; i++)
	{
		bool blank = (unsigned char) str[i] <= ' ';

		if (!blank && !inside)
			words++;
		inside = !blank;
	}
	return words;
}

/*
 * Models cannot count, so half as many words again and ten more are allowed; beyond that the
 * answer is invalid, and the model is asked again.
 */
bool
llm_validate_words(const JsonbValue *string, int max_words, StringInfo fault)
{
	int words = count_words(string->val.string.val, string->val.string.len);

	if (words == 0)
		appendStringInfoString(fault, "The summary is empty.");
	else if (words > max_words + max_words / 2 + 10)
		appendStringInfo(fault, "The summary has %d words; at most %d were asked for.", words, max_words);
	else
		return true;
	return false;
}
