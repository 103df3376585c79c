/*-------------------------------------------------------------------------
 *
 * content.c
 *	  The strings and numbers in an answer.
 *
 * What a free string says is guessed from the name of its property: a verb, an
 * object, a summary, a label; else it is a few words of the input.  The mark of
 * the request stands at the end of each free text, so that a test can prove
 * that each row got its own answer.  Called by answer.c.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUMMARY_WORDS 12
#define FEW_WORDS 8
#define OBJECT_WORDS 3
#define LOOKED_AT 4096 /* bytes of the input searched for a pattern */

static Buf text; /* the string being made */

/* ---- words ---- */

static void
add_lower(Span word)
{
	for (size_t i = 0; i < word.len; i++)
		buf_char(&text,
				 word.at[i] >= 'A' && word.at[i] <= 'Z' ? (char) (word.at[i] + 32) : word.at[i]);
}

/*
 * The first words of the input, with what stands between them.
 */
static void
add_first_words(const Maker *maker, size_t count)
{
	const Words *words = &maker->words;
	const Word *last;

	if (words->count == 0)
	{
		buf_text(&text, "nothing");
		return;
	}
	last = &words->word[(count < words->count ? count : words->count) - 1];
	buf_add(&text, words->word[0].at, (size_t) (last->at + last->len - words->word[0].at));
}

static void
add_verb(const Maker *maker)
{
	Span word = {"do", 2};

	if (maker->words.count > 0)
		word = (Span){maker->words.word[0].at, maker->words.word[0].len};
	if (word.len > 2 && (word.at[word.len - 1] | 32) == 's' && (word.at[word.len - 2] | 32) != 's')
		word.len--;
	add_lower(word);
}

static bool
is_article(const Word *word)
{
	Span span = {word->at, word->len};

	return span_is_nocase(span, "a") || span_is_nocase(span, "an") || span_is_nocase(span, "the");
}

/*
 * The words behind the verb, up to the next word that carries no meaning.
 */
static void
add_object(const Maker *maker)
{
	size_t count = 0;

	for (size_t i = 1; i < maker->words.count && count < OBJECT_WORDS; i++)
	{
		const Word *word = &maker->words.word[i];

		if (is_article(word) || (word->weak && count == 0))
			continue;
		if (word->weak)
			break;
		if (count++ > 0)
			buf_char(&text, ' ');
		add_lower((Span){word->at, word->len});
	}
	if (count == 0)
		buf_text(&text, "nothing");
}

/*
 * The longest word that carries meaning; for elements of an array, the n-th.
 */
static void
add_significant(const Maker *maker, size_t turn)
{
	const Word *best = NULL;
	size_t seen = 0;

	for (size_t i = 0; i < maker->words.count; i++)
	{
		const Word *word = &maker->words.word[i];

		if (word->weak)
			continue;
		if (turn > 0 && ++seen == turn)
		{
			best = word;
			break;
		}
		if (best == NULL || word->len > best->len)
			best = word;
	}
	if (best != NULL)
		add_lower((Span){best->at, best->len});
	else
		buf_text(&text, "other");
}

/*
 * How many words the prompt allows ("at most 20 words"), up to our own number.
 */
static size_t
summary_words(Span hints)
{
	static const Span words = {" words", 6};
	const char *at = span_find(hints, words);
	const char *digits = at;
	size_t number = 0;

	while (digits != NULL && digits > hints.at && at - digits < 6 && digits[-1] >= '0' &&
		   digits[-1] <= '9')
		digits--;
	for (; digits < at; digits++)
		number = number * 10 + (size_t) (*digits - '0');
	return number > 0 && number < SUMMARY_WORDS ? number : SUMMARY_WORDS;
}

/* ---- formats and patterns ---- */

/*
 * The input as far as it is searched, NUL-terminated; good until the next call.
 */
static const char *
searched_input(const Maker *maker)
{
	static char copy[LOOKED_AT + 1];
	size_t len = utf8_cut(maker->chat->input.at, maker->chat->input.len, LOOKED_AT);

	if (len > 0)
		memcpy(copy, maker->chat->input.at, len);
	copy[len] = '\0';
	return copy;
}

/*
 * Take the first piece of the input that fits a pattern.
 */
static bool
add_found(const Maker *maker, const regex_t *regex)
{
	const char *input = searched_input(maker);
	regmatch_t found[1];

	if (regex == NULL || regexec(regex, input, 1, found, 0) != 0 ||
		found[0].rm_eo == found[0].rm_so)
		return false;
	buf_add(&text, input + found[0].rm_so, (size_t) (found[0].rm_eo - found[0].rm_so));
	return true;
}

static const struct
{
	const char *format;
	const char *pattern; /* looked for in the input */
	const char *otherwise;
} formats[] = {
	{.format = "date-time",
	 .pattern =
		 "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](Z|[+-][0-9]{2}:[0-9]{2})",
	 .otherwise = "2024-01-01T00:00:00Z"},
	{.format = "date",
	 .pattern = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
	 .otherwise = "2024-01-01"},
	{.format = "time",
	 .pattern = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-][0-9]{2}:[0-9]{2})",
	 .otherwise = "00:00:00Z"},
	{.format = "duration", .pattern = NULL, .otherwise = "P1D"},
	{.format = "email",
	 .pattern = "[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)+",
	 .otherwise = "user@example.com"},
	{.format = "hostname", .pattern = NULL, .otherwise = "example.com"},
	{.format = "ipv4", .pattern = NULL, .otherwise = "192.0.2.1"},
	{.format = "ipv6", .pattern = NULL, .otherwise = "2001:db8::1"},
	{.format = "uuid",
	 .pattern = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
	 .otherwise = "00000000-0000-4000-8000-000000000000"},
	{.format = "uri",
	 .pattern = "https?://[A-Za-z0-9./?&=_%-]+",
	 .otherwise = "https://example.com/"},
};

/*
 * A string of a known format; false if the format is not known.
 */
static bool
add_format(const Maker *maker, Span format)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
	{
		regex_t regex;
		bool found = false;

		if (!span_is(format, formats[i].format))
			continue;
		if (formats[i].pattern != NULL && regcomp(&regex, formats[i].pattern, REG_EXTENDED) == 0)
		{
			found = add_found(maker, &regex);
			regfree(&regex);
		}
		if (!found)
			buf_text(&text, formats[i].otherwise);
		return true;
	}
	return false;
}

/* ---- strings ---- */

/*
 * Bring the text to the length that the schema asks for, and add the mark
 * where it fits.
 */
static void
add_mark_and_fit(const Maker *maker, const Node *node, bool marked)
{
	size_t mark_len = marked && maker->chat->mark.len > 0 ? maker->chat->mark.len + 10 : 0;
	size_t most = node->max_length >= 0 ? (size_t) node->max_length : SIZE_MAX;

	if (mark_len > most)
		mark_len = 0;
	while (text.len > 0 && utf8_chars(text.at, text.len) > most - mark_len)
		text.len = utf8_cut(text.at, text.len, text.len - 1);
	if (mark_len > 0)
	{
		buf_text(&text, " [[mark:");
		buf_add(&text, maker->chat->mark.at, maker->chat->mark.len);
		buf_text(&text, "]]");
	}
	for (long have = (long) utf8_chars(text.at, text.len); have < node->min_length && have < 100000;
		 have++)
		buf_char(&text, '.');
}

/*
 * Add the input with placeholders for words with "@" in them, and for telephone numbers.
 */
static void
add_redacted(const Maker *maker)
{
	Span input = maker->chat->input;
	size_t i = 0;

	while (i < input.len)
	{
		size_t end = i;
		size_t digits = 0;
		bool email = false;

		while (end < input.len && !isspace((unsigned char) input.at[end]))
			email = (input.at[end++] == '@') || email;
		if (!email)
		{
			for (end = i; end < input.len && strchr("+-() 0123456789", input.at[end]) != NULL; end++)
				digits += input.at[end] >= '0' && input.at[end] <= '9';
			while (end > i && input.at[end - 1] == ' ')
				end--;
		}
		if (email || digits >= 7)
		{
			buf_text(&text, email ? "[EMAIL]" : "[PHONE]");
			i = end;
		}
		while (i < input.len && (i < end || isspace((unsigned char) input.at[i]) == 0))
			buf_char(&text, input.at[i++]);
		while (i < input.len && isspace((unsigned char) input.at[i]))
			buf_char(&text, input.at[i++]);
	}
}

/*
 * Choose what a free string says; returns whether it carries the mark.
 */
static bool
add_by_name(const Maker *maker, Span name, size_t turn)
{
	if (span_is_nocase(name, "verb"))
		add_verb(maker);
	else if (span_is_nocase(name, "object"))
		add_object(maker);
	else if (span_is_nocase(name, "mark"))
		buf_add(&text, maker->chat->mark.at, maker->chat->mark.len);
	else if (span_is_nocase(name, "redacted"))
		add_redacted(maker);
	else
	{
		if (turn > 0 || span_is_nocase(name, "label"))
			add_significant(maker, turn);
		else if (span_is_nocase(name, "summary"))
			add_first_words(maker, summary_words(maker->chat->hints));
		else
			add_first_words(maker, FEW_WORDS);
		return true;
	}
	return false;
}

void
content_string(Maker *maker, const Node *node, const Property *property, size_t turn)
{
	Span name = property != NULL ? property->name : (Span){"", 0};

	text.len = 0;
	if (node->format.len > 0 && add_format(maker, node->format))
		;
	else if (node->pattern != NULL)
	{
		if (!add_found(maker, node->regex))
			regex_example(&text, node->pattern);
		if (!valid_utf8((Span){text.at, text.len}))
			text.len = 0; /* half a character, from a class that holds such */
	}
	else
		add_mark_and_fit(maker, node, add_by_name(maker, name, turn));
	buf_char(maker->out, '"');
	buf_json(maker->out, (Span){text.at, text.len});
	buf_char(maker->out, '"');
	if (text.room > 1024 * 1024)
		buf_free(&text);
}

/* ---- numbers ---- */

/*
 * Read the next number that stands in the input; false at the end.
 */
static bool
next_number(Span input, size_t *at, double *number)
{
	char digits[32];
	size_t len = 0;
	size_t i = *at;

	while (i < input.len && !(input.at[i] >= '0' && input.at[i] <= '9'))
		i++;
	if (i == input.len)
		return false;
	if (i > 0 && input.at[i - 1] == '-' && (i == 1 || input.at[i - 2] == ' '))
		digits[len++] = '-';
	for (; i < input.len && len < sizeof(digits) - 1; i++)
	{
		char c = input.at[i];
		bool digit_follows = i + 1 < input.len && input.at[i + 1] >= '0' && input.at[i + 1] <= '9';

		if (c >= '0' && c <= '9')
			digits[len++] = c;
		else if (c == '.' && digit_follows && memchr(digits, '.', len) == NULL)
			digits[len++] = c;
		else if (c != ',' || !digit_follows)
			break;
	}
	digits[len] = '\0';
	*number = strtod(digits, NULL);
	*at = i;
	return true;
}

static bool
number_fits(const Node *node, double number, bool whole)
{
	if (number < node->minimum || number > node->maximum || (whole && number != floor(number)))
		return false;
	return node->multiple <= 0 || fabs(remainder(number, node->multiple)) < 1e-9;
}

/*
 * Find the n-th fitting number of the input, or the last one there is.
 */
static bool
find_number(const Maker *maker, const Node *node, bool whole, size_t turn, double *number)
{
	size_t at = 0;
	size_t found = 0;
	double one;

	while (next_number(maker->chat->input, &at, &one))
	{
		if (!number_fits(node, one, whole))
			continue;
		*number = one;
		if (++found >= turn)
			break;
	}
	return found > 0;
}

bool
content_has_number(const Maker *maker, const Node *node, bool whole)
{
	double number;

	return find_number(maker, node, whole, 0, &number);
}

/*
 * A number of the input that fits; else the smallest allowed one, or 0.
 */
void
content_number(Maker *maker, const Node *node, bool whole, size_t turn)
{
	double number;

	if (!find_number(maker, node, whole, turn, &number))
	{
		number = isfinite(node->minimum) ? node->minimum : node->maximum < 0 ? node->maximum
																			 : 0;
		if (node->multiple > 0)
			number = ceil(number / node->multiple) * node->multiple;
		if (whole)
			number = isfinite(node->minimum) ? ceil(number) : floor(number);
	}
	buf_print(maker->out, number == floor(number) && fabs(number) < 1e15 ? "%.0f" : "%.15g",
			  number == 0 ? 0.0 : number); /* no "-0" */
}

void
content_free(void)
{
	buf_free(&text);
}
