/*-------------------------------------------------------------------------
 *
 * json_reader.c
 *	  Walk over JSON text once, value by value, without ever raising.
 *
 * Called by the dialects for what a provider sent, where most members are
 * skipped, and by json.c, which makes a tree of a model's answer.  See json.h
 * for the legal order of calls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/json.h"

/* What ends the quick scan of a string: quote, backslash, control character. */
#define ENDS_SCAN(c) ((c) == '"' || (c) == '\\' || (unsigned char) (c) < 0x20)

/* Remember the first problem; nothing is read after it. */
static bool
fail(LlmJsonReader *reader, const char *problem)
{
	if (reader->problem == NULL)
		reader->problem = problem;
	return false;
}

static bool
fail_syntax(LlmJsonReader *reader)
{
	return fail(reader, "is not valid JSON");
}

static void
skip_blanks(LlmJsonReader *reader)
{
	const char *p = reader->at;

	while (p < reader->end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	reader->at = p;
}

void
llm_json_open(LlmJsonReader *reader, const char *str, size_t len)
{
	reader->start = str;
	reader->at = str;
	reader->end = str + len;
	reader->depth = 0;
	reader->problem = NULL;
}

char
llm_json_peek(LlmJsonReader *reader)
{
	if (reader->problem != NULL)
		return 0;
	skip_blanks(reader);
	if (reader->at >= reader->end)
		return 0;
	switch (*reader->at)
	{
		case '{':
		case '[':
		case '"':
		case 't':
		case 'f':
		case 'n':
			return *reader->at;
		case '-':
		case '0':
		case '1':
		case '2':
		case '3':
		case '4':
		case '5':
		case '6':
		case '7':
		case '8':
		case '9':
			return '-';
		default:
			return 0;
	}
}

bool
llm_json_enter(LlmJsonReader *reader, char open)
{
	if (llm_json_peek(reader) != open)
		return fail_syntax(reader);
	if (reader->depth >= LLM_JSON_MAX_DEPTH)
		return fail(reader, "is nested too deeply");
	reader->depth++;
	reader->at++;
	return true;
}

/*
 * Step to the next member of the object or array that ends with "close".
 * False at its end, which is consumed, or when something else stands there.
 */
static bool
next_member(LlmJsonReader *reader, int i, char close)
{
	if (reader->problem != NULL)
		return false;
	skip_blanks(reader);
	if (reader->at >= reader->end)
		return fail_syntax(reader);
	if (*reader->at == close)
	{
		reader->at++;
		reader->depth--;
		return false;
	}
	if (i == 0)
		return true;
	if (*reader->at != ',')
		return fail_syntax(reader);
	reader->at++;
	return true;
}

bool
llm_json_next_item(LlmJsonReader *reader, int i)
{
	return next_member(reader, i, ']');
}

bool
llm_json_next_key(LlmJsonReader *reader, int i, LlmJsonSlice *key)
{
	if (!next_member(reader, i, '}') || !llm_json_string(reader, key))
		return false;
	skip_blanks(reader);
	if (reader->at >= reader->end || *reader->at != ':')
		return fail_syntax(reader);
	reader->at++;
	return true;
}

/* Step over one escape; the cursor stands after the backslash. */
static const char *
skip_escape(const char *p, const char *end)
{
	if (p >= end)
		return NULL;
	if (*p != 'u')
		return strchr("\"\\/bfnrt", *p) != NULL && *p != '\0' ? p + 1 : NULL;
	if (end - p < 5)
		return NULL;
	for (int i = 1; i <= 4; i++)
	{
		if (!isxdigit((unsigned char) p[i]))
			return NULL;
	}
	return p + 5;
}

bool
llm_json_string(LlmJsonReader *reader, LlmJsonSlice *string)
{
	const char *p;

	if (llm_json_peek(reader) != '"')
		return fail_syntax(reader);
	p = reader->at + 1;
	string->at = p;
	string->escaped = false;
	for (;;)
	{
		while (p < reader->end && !ENDS_SCAN(*p))
			p++;
		if (p >= reader->end || (unsigned char) *p < 0x20)
			return fail_syntax(reader);
		if (*p == '"')
			break;
		string->escaped = true;
		p = skip_escape(p + 1, reader->end);
		if (p == NULL)
			return fail_syntax(reader);
	}
	string->len = p - string->at;
	reader->at = p + 1;
	return true;
}

/* Step over digits; NULL when there is none. */
static const char *
skip_digits(const char *p, const char *end)
{
	const char *start = p;

	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p > start ? p : NULL;
}

/* End of the number that starts here, or NULL. */
static const char *
scan_number(const char *p, const char *end)
{
	if (p < end && *p == '-')
		p++;
	if (p < end && *p == '0')
		p++;
	else
		p = skip_digits(p, end);
	if (p != NULL && p < end && *p == '.')
		p = skip_digits(p + 1, end);
	if (p != NULL && p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = skip_digits(p, end);
	}
	return p;
}

bool
llm_json_number(LlmJsonReader *reader, LlmJsonSlice *number)
{
	const char *p;

	if (llm_json_peek(reader) != '-')
		return fail_syntax(reader);
	p = scan_number(reader->at, reader->end);
	if (p == NULL || (p < reader->end && (isalnum((unsigned char) *p) || *p == '.' || *p == '+' || *p == '-')))
		return fail_syntax(reader);
	number->at = reader->at;
	number->len = p - reader->at;
	number->escaped = false;
	reader->at = p;
	return true;
}

/* Step over true, false or null. */
static bool
skip_word(LlmJsonReader *reader, const char *word, size_t len)
{
	if ((size_t) (reader->end - reader->at) < len || memcmp(reader->at, word, len) != 0)
		return fail_syntax(reader);
	reader->at += len;
	return true;
}

bool
llm_json_skip(LlmJsonReader *reader)
{
	LlmJsonSlice ignored;

	switch (llm_json_peek(reader))
	{
		case '{':
			if (!llm_json_enter(reader, '{'))
				return false;
			for (int i = 0; llm_json_next_key(reader, i, &ignored); i++)
				llm_json_skip(reader);
			return reader->problem == NULL;
		case '[':
			if (!llm_json_enter(reader, '['))
				return false;
			for (int i = 0; llm_json_next_item(reader, i); i++)
				llm_json_skip(reader);
			return reader->problem == NULL;
		case '"':
			return llm_json_string(reader, &ignored);
		case '-':
			return llm_json_number(reader, &ignored);
		case 't':
			return skip_word(reader, "true", 4);
		case 'f':
			return skip_word(reader, "false", 5);
		case 'n':
			return skip_word(reader, "null", 4);
		default:
			return fail_syntax(reader);
	}
}

bool
llm_json_close(LlmJsonReader *reader)
{
	if (reader->problem != NULL)
		return false;
	skip_blanks(reader);
	if (reader->at < reader->end)
		return fail_syntax(reader);
	return true;
}

bool
llm_json_is(const LlmJsonSlice *slice, const char *name)
{
	size_t len = strlen(name);

	return slice->len == len && !slice->escaped && memcmp(slice->at, name, len) == 0;
}

/* Value of four hexadecimal digits, which the reader has checked. */
static pg_wchar
hex4(const char *p)
{
	pg_wchar value = 0;

	for (int i = 0; i < 4; i++)
	{
		char c = p[i];

		value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return value;
}

/*
 * Resolve one \u escape, or a surrogate pair of two; p stands on the 'u'.
 * Appends UTF-8 to *out and returns where reading goes on.
 */
static const char *
decode_unicode(const char *p, const char *end, char **out, bool *clean)
{
	pg_wchar code = hex4(p + 1);

	p += 5;
	if (code >= 0xD800 && code <= 0xDBFF && end - p >= 6 && p[0] == '\\' && p[1] == 'u')
	{
		pg_wchar low = hex4(p + 2);

		if (low >= 0xDC00 && low <= 0xDFFF)
		{
			code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
			p += 6;
		}
	}
	if (code == 0 || (code >= 0xD800 && code <= 0xDFFF))
		*clean = false;
	if (code >= 0xD800 && code <= 0xDFFF)
		code = 0xFFFD;
	unicode_to_utf8(code, (unsigned char *) *out);
	*out += pg_utf_mblen((unsigned char *) *out);
	return p;
}

char *
llm_json_decode(const LlmJsonSlice *slice, size_t *len, bool *clean)
{
	/* an escape is never shorter than what it stands for */
	char *result = palloc(slice->len + 1);
	char *out = result;
	const char *p = slice->at;
	const char *end = slice->at + slice->len;

	while (p < end)
	{
		const char *stop = memchr(p, '\\', end - p);

		if (stop == NULL)
			stop = end;
		memcpy(out, p, stop - p);
		out += stop - p;
		p = stop;
		if (p >= end)
			break;
		p++;
		switch (*p)
		{
			case 'u':
				p = decode_unicode(p, end, &out, clean);
				continue;
			case 'b':
				*out++ = '\b';
				break;
			case 'f':
				*out++ = '\f';
				break;
			case 'n':
				*out++ = '\n';
				break;
			case 'r':
				*out++ = '\r';
				break;
			case 't':
				*out++ = '\t';
				break;
			default:
				*out++ = *p;
				break;
		}
		p++;
	}
	*out = '\0';
	*len = out - result;
	return result;
}

bool
llm_json_is_utf8(const char *str, size_t len)
{
	return len <= MaxAllocSize && pg_encoding_verifymbstr(PG_UTF8, str, (int) len) == (int) len;
}

size_t
llm_json_clip(const char *str, size_t len, size_t max)
{
	if (len <= max)
		return len;
	while (max > 0 && ((unsigned char) str[max] & 0xC0) == 0x80)
		max--;
	return max;
}
