/*-------------------------------------------------------------------------
 *
 * form_schema.c
 *	  Does a schema keep to the part of JSON schema that a provider takes?
 *
 * For the forms whose providers refuse a schema for a keyword: what the extension sends must
 * have been cut to fit.
 *
 *-------------------------------------------------------------------------
 */
#include "provider.h"

#include <stdio.h>
#include <string.h>

static bool
is_listed(const char *word, const char *const *list)
{
	for (; *list != NULL; list++)
	{
		if (strcmp(word, *list) == 0)
			return true;
	}
	return false;
}

static const char *
first_unknown(const json_t *schema, const char *const *keywords, bool closed)
{
	static const char *const groups[] = {"$defs", "definitions", "properties", NULL};
	const char *key;
	json_t *value;
	json_t *inner;
	const char *name;
	const char *unknown = NULL;
	size_t i;

	if (!json_is_object(schema))
		return NULL;
	if (closed && json_object_get(schema, "properties") != NULL && !json_is_false(json_object_get(schema, "additionalProperties")))
		return "additionalProperties";
	json_object_foreach((json_t *) schema, key, value)
	{
		if (!is_listed(key, keywords))
			return key;
		if (is_listed(key, groups))
		{
			json_object_foreach(value, name, inner)
			{
				if (unknown == NULL)
					unknown = first_unknown(inner, keywords, closed);
			}
		}
		else if (json_is_array(value))
		{
			json_array_foreach(value, i, inner)
			{
				if (unknown == NULL)
					unknown = first_unknown(inner, keywords, closed);
			}
		}
		else if (unknown == NULL)
			unknown = first_unknown(value, keywords, closed);
	}
	return unknown;
}

/*
 * Copy the name of the first keyword that is not listed; false: there is none.  Closed: each
 * object must say that it has no other members.
 */
bool
form_finds_keyword(Span schema, const char *const *keywords, bool closed, char *found, size_t size)
{
	json_t *root = json_loadb(schema.at, schema.len, 0, NULL);
	const char *unknown = root == NULL ? "(no JSON)" : first_unknown(root, keywords, closed);

	if (unknown != NULL)
	{
		strncpy(found, unknown, size - 1);
		found[size - 1] = '\0';
	}
	json_decref(root);
	return unknown != NULL;
}

/* Is the text a JSON object by itself? */
bool
form_is_object(Span text)
{
	json_t *root = json_loadb(text.at, text.len, 0, NULL);
	bool is = json_is_object(root);

	json_decref(root);
	return is;
}

/* The step of a path before an end, decoded: "/models/a%3Ab:do" has "a:b" between. */
Span
form_path_step(Span path, const char *begin, const char *end)
{
	static char step[300];
	const char *at = span_find(path, span_of(begin));
	const char *last = path.at + path.len;
	size_t len = 0;

	if (at == NULL)
		return (Span){0};
	at += strlen(begin);
	while (at < last && len + 1 < sizeof(step) &&
		   !((size_t) (last - at) >= strlen(end) && memcmp(at, end, strlen(end)) == 0))
	{
		unsigned value;

		if (*at == '%' && last - at > 2 && sscanf(at + 1, "%2x", &value) == 1)
		{
			step[len++] = (char) value;
			at += 3;
		}
		else
			step[len++] = *at++;
	}
	return (Span){step, len};
}
