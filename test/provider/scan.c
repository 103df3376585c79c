/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  A strict JSON scanner that builds no tree.
 *
 * It looks at each byte about once, since it must keep up with the benchmark,
 * and reports what is wrong, since a mistake in a dialect shall show here.
 * Called by chat_parse.c only, which goes through a body member by member with
 * scan_member() and scan_element() and takes what it knows.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <string.h>

#define MAX_DEPTH 100

bool
scan_fail(Scan *scan, const char *problem)
{
	if (scan->problem == NULL)
		scan->problem = problem;
	return false;
}

void
scan_space(Scan *scan)
{
	while (scan->at < scan->end &&
		   (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r'))
		scan->at++;
}

/*
 * Skip white space and look at the next byte; 0 at the end.
 */
char
scan_peek(Scan *scan)
{
	scan_space(scan);
	return scan->at < scan->end ? *scan->at : '\0';
}

bool
scan_char(Scan *scan, char c)
{
	if (scan_peek(scan) != c)
		return false;
	scan->at++;
	return true;
}

static int
hex_value(const char *at, const char *end)
{
	int value = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char c = at[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			value = value * 16 + (c | 32) - 'a' + 10;
		else
			return -1;
	}
	return value;
}

/*
 * Find the end of a string; raw is what stands between the quotes.
 */
bool
scan_string(Scan *scan, Span *raw, bool *escaped)
{
	const char *at;

	*escaped = false;
	if (!scan_char(scan, '"'))
		return scan_fail(scan, "a string was expected");
	raw->at = at = scan->at;
	for (;; at++)
	{
		if (at >= scan->end)
			return scan_fail(scan, "a string does not end");
		if (*at == '"')
			break;
		if ((unsigned char) *at < 0x20)
			return scan_fail(scan, "a control character stands in a string");
		if (*at != '\\')
			continue;
		*escaped = true;
		at++;
		if (at >= scan->end || strchr("\"\\/bfnrtu", *at) == NULL || *at == '\0')
			return scan_fail(scan, "an escape sequence is not valid");
		if (*at == 'u')
		{
			if (hex_value(at + 1, scan->end) < 0)
				return scan_fail(scan, "an escape sequence is not valid");
			at += 4;
		}
	}
	raw->len = (size_t) (at - raw->at);
	scan->at = at + 1;
	return true;
}

bool
scan_number(Scan *scan)
{
	const char *digits;

	if (scan->at < scan->end && *scan->at == '-')
		scan->at++;
	for (digits = scan->at; scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9';)
		scan->at++;
	if (scan->at == digits || (*digits == '0' && scan->at > digits + 1))
		return scan_fail(scan, "a value is not valid");
	if (scan->at < scan->end && *scan->at == '.')
	{
		for (digits = ++scan->at; scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9';)
			scan->at++;
		if (scan->at == digits)
			return scan_fail(scan, "a number is not valid");
	}
	if (scan->at < scan->end && (*scan->at | 32) == 'e')
	{
		scan->at++;
		if (scan->at < scan->end && (*scan->at == '+' || *scan->at == '-'))
			scan->at++;
		for (digits = scan->at; scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9';)
			scan->at++;
		if (scan->at == digits)
			return scan_fail(scan, "a number is not valid");
	}
	return true;
}

bool
scan_word(Scan *scan, const char *word)
{
	size_t len = strlen(word);

	if ((size_t) (scan->end - scan->at) < len || memcmp(scan->at, word, len) != 0)
		return scan_fail(scan, "a value is not valid");
	scan->at += len;
	return true;
}

/*
 * Go to the next member of an object.  Begin with *first true; false at the
 * end, or after a failure.
 */
bool
scan_member(Scan *scan, bool *first, Span *name)
{
	bool escaped;

	if (scan_peek(scan) == '}')
	{
		scan->at++;
		return false;
	}
	if (!*first && !scan_char(scan, ','))
		return scan_fail(scan, "a comma or a closing brace is missing");
	*first = false;
	if (!scan_string(scan, name, &escaped))
		return false;
	return scan_char(scan, ':') || scan_fail(scan, "a colon is missing");
}

/*
 * Go to the next element of an array, likewise.
 */
bool
scan_element(Scan *scan, bool *first)
{
	if (scan_peek(scan) == ']')
	{
		scan->at++;
		return false;
	}
	if (!*first && !scan_char(scan, ','))
		return scan_fail(scan, "a comma or a closing bracket is missing");
	*first = false;
	return true;
}

static bool
scan_inside(Scan *scan, int depth, bool object)
{
	bool first = true;
	Span name;

	if (depth > MAX_DEPTH)
		return scan_fail(scan, "it is nested too deeply");
	scan->at++;
	while (object ? scan_member(scan, &first, &name) : scan_element(scan, &first))
	{
		if (!scan_value(scan, depth + 1))
			return false;
	}
	return scan->problem == NULL;
}

/*
 * Skip a value of any kind, and see that it is valid.
 */
bool
scan_value(Scan *scan, int depth)
{
	Span raw;
	bool escaped;

	switch (scan_peek(scan))
	{
		case '{':
			return scan_inside(scan, depth, true);
		case '[':
			return scan_inside(scan, depth, false);
		case '"':
			return scan_string(scan, &raw, &escaped);
		case 't':
			return scan_word(scan, "true");
		case 'f':
			return scan_word(scan, "false");
		case 'n':
			return scan_word(scan, "null");
		default:
			return scan_number(scan);
	}
}

static void
add_utf8(Buf *out, unsigned c)
{
	if (c < 0x80)
		buf_char(out, (char) c);
	else if (c < 0x800)
	{
		buf_char(out, (char) (0xc0 | c >> 6));
		buf_char(out, (char) (0x80 | (c & 63)));
	}
	else if (c < 0x10000)
	{
		buf_char(out, (char) (0xe0 | c >> 12));
		buf_char(out, (char) (0x80 | (c >> 6 & 63)));
		buf_char(out, (char) (0x80 | (c & 63)));
	}
	else
	{
		buf_char(out, (char) (0xf0 | c >> 18));
		buf_char(out, (char) (0x80 | (c >> 12 & 63)));
		buf_char(out, (char) (0x80 | (c >> 6 & 63)));
		buf_char(out, (char) (0x80 | (c & 63)));
	}
}

/*
 * Read \uXXXX, and its second half if it is a surrogate.
 */
static bool
unescape_unicode(Buf *out, const char **at, const char *end)
{
	unsigned c = (unsigned) hex_value(*at + 1, end);

	*at += 4;
	if (c >= 0xd800 && c < 0xe000)
	{
		int low =
			end - *at > 6 && (*at)[1] == '\\' && (*at)[2] == 'u' ? hex_value(*at + 3, end) : -1;

		if (c >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
			return false;
		c = 0x10000 + ((c - 0xd800) << 10) + (unsigned) (low - 0xdc00);
		*at += 6;
	}
	add_utf8(out, c);
	return true;
}

/*
 * Read a string.  The scratch buffer was made large enough for the whole body,
 * so earlier spans stay good.
 */
bool
scan_text(Scan *scan, Span *text)
{
	static const char names[] = "bfnrt";
	static const char values[] = "\b\f\n\r\t";
	bool escaped;
	size_t start = scan->texts->len;
	const char *end;

	if (!scan_string(scan, text, &escaped))
		return false;
	if (!escaped)
		return true;
	end = text->at + text->len;
	for (const char *at = text->at; at < end; at++)
	{
		const char *name;

		if (*at != '\\')
			buf_char(scan->texts, *at);
		else if (*++at == 'u')
		{
			/* the closing quote stands behind, so looking past the end is safe */
			if (!unescape_unicode(scan->texts, &at, end + 1))
				return scan_fail(scan, "a surrogate stands alone");
		}
		else if ((name = strchr(names, *at)) != NULL)
			buf_char(scan->texts, values[name - names]);
		else
			buf_char(scan->texts, *at);
	}
	*text = (Span){scan->texts->at + start, scan->texts->len - start};
	return true;
}

/* ---- UTF-8 ---- */

/*
 * Is it UTF-8, without overlong forms and surrogates?
 */
bool
valid_utf8(Span text)
{
	const unsigned char *at = (const unsigned char *) text.at;
	const unsigned char *end = at + text.len;

	while (at < end)
	{
		uint64_t eight;
		size_t more;
		unsigned c = *at;

		if (end - at >= 8 && (memcpy(&eight, at, 8), (eight & 0x8080808080808080u) == 0))
		{
			at += 8;
			continue;
		}
		at++;
		if (c < 0x80)
			continue;
		more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2
										 : 1;
		if (c < 0xc2 || c > 0xf4 || (size_t) (end - at) < more)
			return false;
		if ((c == 0xe0 && at[0] < 0xa0) || (c == 0xed && at[0] > 0x9f) ||
			(c == 0xf0 && at[0] < 0x90) || (c == 0xf4 && at[0] > 0x8f))
			return false;
		for (; more > 0; more--, at++)
		{
			if ((*at & 0xc0) != 0x80)
				return false;
		}
	}
	return true;
}
