/*-------------------------------------------------------------------------
 *
 * validate_text.c
 *	  From the text that a model gave to a JSON object, or to text that can be
 *	  stored.
 *
 * A JSON answer is taken as it is, or as the only thing in a fence; JSON is
 * never searched for in running text.
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

static bool
is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Cut white space off both ends. */
static void
trim(const char **str, size_t *len)
{
	while (*len > 0 && is_blank((*str)[*len - 1]))
		(*len)--;
	while (*len > 0 && is_blank(**str))
	{
		(*str)++;
		(*len)--;
	}
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
	trim(str, len);
}

bool
llm_validate_object(const char *str, size_t len, JsonbValue *object, StringInfo fault)
{
	trim(&str, &len);
	unfence(&str, &len);
	if (len == 0)
	{
		appendStringInfoString(fault, "The answer is empty.");
		return false;
	}
	if (!llm_json_parse(str, len, object, fault))
		return false;
	if (object->type == jbvObject)
		return true;
	appendStringInfo(fault, "The answer is a JSON %s, not an object.", llm_json_type(object));
	return false;
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
		trim(&str, &len);
		if (len > 0)
			return true;
		appendStringInfoString(fault, "The answer is empty.");
	}
	return false;
}
