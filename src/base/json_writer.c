/*-------------------------------------------------------------------------
 *
 * json_writer.c
 *	  JSON text: of trees and of strings.
 *
 * A request body is mostly the row's own text, so escaping it is the one loop
 * here that must be fast: eight bytes at a time as long as none of them needs
 * an escape.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/json.h"

#define ONES UINT64CONST(0x0101010101010101)
#define HIGHS UINT64CONST(0x8080808080808080)

/* Non-zero if one of the eight bytes is less than n, which is at most 128. */
static inline uint64
any_byte_below(uint64 word, uint64 n)
{
	return (word - ONES * n) & ~word & HIGHS;
}

/* Needs one of the eight bytes an escape: below 0x20, a quote or a backslash? */
static inline bool
word_needs_escape(uint64 word)
{
	return (any_byte_below(word, 0x20) | any_byte_below(word ^ (ONES * '"'), 1) |
			any_byte_below(word ^ (ONES * '\\'), 1)) != 0;
}

static inline bool
byte_needs_escape(char c)
{
	return (unsigned char) c < 0x20 || c == '"' || c == '\\';
}

/* Number of leading bytes that stand for themselves. */
static size_t
plain_prefix(const char *str, size_t len)
{
	size_t n = 0;

	while (n + sizeof(uint64) <= len)
	{
		uint64 word;

		memcpy(&word, str + n, sizeof(word));
		if (word_needs_escape(word))
			break;
		n += sizeof(uint64);
	}
	while (n < len && !byte_needs_escape(str[n]))
		n++;
	return n;
}

static void
append_escape(StringInfo buf, char c)
{
	switch (c)
	{
		case '"':
			appendBinaryStringInfo(buf, "\\\"", 2);
			break;
		case '\\':
			appendBinaryStringInfo(buf, "\\\\", 2);
			break;
		case '\n':
			appendBinaryStringInfo(buf, "\\n", 2);
			break;
		case '\r':
			appendBinaryStringInfo(buf, "\\r", 2);
			break;
		case '\t':
			appendBinaryStringInfo(buf, "\\t", 2);
			break;
		case '\b':
			appendBinaryStringInfo(buf, "\\b", 2);
			break;
		case '\f':
			appendBinaryStringInfo(buf, "\\f", 2);
			break;
		default:
			appendStringInfo(buf, "\\u%04x", (unsigned char) c);
			break;
	}
}

void
llm_json_escape(StringInfo buf, const char *str, size_t len)
{
	size_t done = 0;

	while (done < len)
	{
		size_t n = plain_prefix(str + done, len - done);

		appendBinaryStringInfo(buf, str + done, n);
		done += n;
		if (done < len)
			append_escape(buf, str[done++]);
	}
}

void
llm_json_append_string(StringInfo buf, const char *str, size_t len)
{
	appendStringInfoChar(buf, '"');
	llm_json_escape(buf, str, len);
	appendStringInfoChar(buf, '"');
}

static void
append_number(StringInfo buf, const JsonbValue *value)
{
	appendStringInfoString(buf, DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric))));
}

/* Recursion is as deep as the tree, which json.c bounds. */
void
llm_json_append(StringInfo buf, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			llm_json_append_string(buf, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			append_number(buf, value);
			break;
		case jbvBool:
			appendStringInfoString(buf, value->val.boolean ? "true" : "false");
			break;
		case jbvArray:
			appendStringInfoChar(buf, '[');
			for (int i = 0; i < value->val.array.nElems; i++)
			{
				if (i > 0)
					appendStringInfoChar(buf, ',');
				llm_json_append(buf, &value->val.array.elems[i]);
			}
			appendStringInfoChar(buf, ']');
			break;
		case jbvObject:
			appendStringInfoChar(buf, '{');
			for (int i = 0; i < value->val.object.nPairs; i++)
			{
				const JsonbPair *pair = &value->val.object.pairs[i];

				if (i > 0)
					appendStringInfoChar(buf, ',');
				llm_json_append(buf, &pair->key);
				appendStringInfoChar(buf, ':');
				llm_json_append(buf, &pair->value);
			}
			appendStringInfoChar(buf, '}');
			break;
		default:
			appendStringInfoString(buf, "null");
			break;
	}
}
