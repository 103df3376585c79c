/*-------------------------------------------------------------------------
 *
 * regexmake.c
 *	  A string that fits a regular expression, as best it can.
 *
 * For "pattern" in a schema, when no piece of the input fits.  Knows literals,
 * classes, groups, alternatives (takes the first) and repetitions (takes the
 * fewest); anchors and look-arounds yield nothing.  Called by content.c.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdlib.h>
#include <string.h>

#define MOST_REPEATS 100 /* of what a schema may ask */
#define MOST_BYTES 4096
#define MOST_DEPTH 50

static const char *make_alternatives(Buf *out, const char *at, int depth);

/*
 * A character for an escape like \d.
 */
static char
escape_example(char c)
{
	switch (c)
	{
		case 'd':
			return '1';
		case 'w':
		case 'D':
		case 'S':
			return 'a';
		case 'W':
		case 's':
			return ' ';
		case 'n':
			return '\n';
		case 't':
			return '\t';
		default:
			return c;
	}
}

/*
 * Skip a class; at stands behind the opening bracket.
 */
static const char *
class_end(const char *at)
{
	if (*at == ']')
		at++;
	while (*at != '\0' && *at != ']')
		at += at[0] == '\\' && at[1] != '\0' ? 2 : 1;
	return *at == ']' ? at + 1 : at;
}

/*
 * Is the character inside a class given by its inner text?
 */
static bool
class_holds(const char *at, const char *end, char c)
{
	while (at < end)
	{
		if (at[0] == '\\' && at + 1 < end)
		{
			bool digit = c >= '0' && c <= '9';
			bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

			if ((at[1] == 'd' && digit) || (at[1] == 'w' && (digit || letter || c == '_')) ||
				(at[1] == 's' && c == ' ') || at[1] == c)
				return true;
			at += 2;
		}
		else if (at + 2 < end && at[1] == '-')
		{
			if (c >= at[0] && c <= at[2])
				return true;
			at += 3;
		}
		else if (*at++ == c)
			return true;
	}
	return false;
}

static const char *
make_class(Buf *out, const char *at)
{
	static const char candidates[] = "a1A0zZ_- .,:;/@#!?+*='\"()[]{}<>|\\~^&%$`\t\n";
	bool negated = *at == '^';
	const char *inner = negated ? at + 1 : at;
	const char *end = class_end(inner);
	const char *close = end > inner && end[-1] == ']' ? end - 1 : end;

	for (char c = 'a'; c <= 'z'; c++)
	{
		if (class_holds(inner, close, c) != negated)
		{
			buf_char(out, c);
			return end;
		}
	}
	for (const char *try = candidates; *try != '\0'; try++)
	{
		if (class_holds(inner, close, *try) != negated)
		{
			buf_char(out, *try);
			return end;
		}
	}
	if (close > inner)
		buf_char(out, inner[0] == '\\' ? escape_example(inner[1]) : inner[0]);
	return end;
}

/*
 * Skip the alternatives that were not taken, up to the closing parenthesis.
 */
static const char *
skip_group(const char *at)
{
	int open = 0;

	for (; *at != '\0'; at++)
	{
		if (*at == '\\' && at[1] != '\0')
			at++;
		else if (*at == '[')
			at = class_end(at + 1) - 1;
		else if (*at == '(')
			open++;
		else if (*at == ')' && open-- == 0)
			break;
	}
	return at;
}

static const char *
make_group(Buf *out, const char *at, int depth)
{
	size_t len = out->len;
	bool nothing = false;

	if (at[0] == '?')
	{
		nothing = at[1] == '=' || at[1] == '!' || (at[1] == '<' && (at[2] == '=' || at[2] == '!'));
		if (at[1] == '<' && !nothing)
			at += strcspn(at, ">");
		at += at[0] == '?' && at[1] != '\0' ? 2 : at[0] == '>' ? 1
															   : 0;
	}
	at = make_alternatives(out, at, depth + 1);
	if (nothing)
		out->len = len;
	return *at == ')' ? at + 1 : at;
}

static const char *
make_atom(Buf *out, const char *at, int depth)
{
	switch (*at)
	{
		case '^':
		case '$':
			return at + 1;
		case '.':
			buf_char(out, 'a');
			return at + 1;
		case '[':
			return make_class(out, at + 1);
		case '(':
			return make_group(out, at + 1, depth);
		case '\\':
			if (at[1] == '\0')
				return at + 1;
			if (at[1] != 'b' && at[1] != 'B')
				buf_char(out, escape_example(at[1]));
			return at + 2;
		default:
			buf_char(out, *at);
			return at + 1;
	}
}

/*
 * Read a repetition; returns how often the atom must stand.
 */
static long
read_repeats(const char **at)
{
	long repeats = 1;

	if (**at == '*' || **at == '?')
	{
		repeats = 0;
		(*at)++;
	}
	else if (**at == '+')
		(*at)++;
	else if (**at == '{' && (*at)[1] >= '0' && (*at)[1] <= '9')
	{
		repeats = strtol(*at + 1, NULL, 10);
		*at += strcspn(*at, "}");
		*at += **at == '}';
	}
	if (**at == '?' || **at == '+')
		(*at)++;
	return repeats > MOST_REPEATS ? MOST_REPEATS : repeats;
}

/*
 * Make the first alternative; returns where the group ends.
 */
static const char *
make_alternatives(Buf *out, const char *at, int depth)
{
	while (*at != '\0' && *at != ')' && *at != '|' && depth < MOST_DEPTH)
	{
		size_t start = out->len;
		size_t len;
		long repeats;

		at = make_atom(out, at, depth);
		len = out->len - start;
		repeats = read_repeats(&at);
		if (repeats == 0)
			out->len = start;
		buf_reserve(out, len * (size_t) (repeats > 0 ? repeats : 1) + 1);
		for (; repeats > 1 && out->len < MOST_BYTES; repeats--)
			buf_add(out, out->at + start, len);
	}
	return skip_group(at);
}

void
regex_example(Buf *out, const char *pattern)
{
	make_alternatives(out, pattern, 0);
}
