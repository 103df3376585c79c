/*-------------------------------------------------------------------------
 *
 * redaction.c
 *	  Is a text another one but for placeholders, and does it still show what it should not?
 *
 * A redaction is pieces of the input with placeholders between them, each of which stands for
 * something.  Where it is one, it is also one with each piece as far to the left as it can be
 * (the last one ends where the input does): so one walk finds out.  Pieces are searched by
 * Knuth, Morris and Pratt, so that no text makes it slow.
 *
 * Addresses, card numbers and IBANs have a form of their own, with which a model need not be
 * trusted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "operation/redaction.h"

/* A placeholder that stands for more bytes than this, on the average, hides more than it says. */
#define MOST_HIDDEN 1000

/* Digits of card numbers. */
#define CARD_MIN 13
#define CARD_MAX 19

/* Characters of IBANs. */
#define IBAN_MIN 15
#define IBAN_MAX 34

/* What is left of a text. */
typedef struct Piece
{
	const char *at;
	size_t len;
} Piece;

static size_t
placeholder_at(const char *at, size_t len, const LlmPlaceholder *placeholders, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (placeholders[i].len <= len && memcmp(at, placeholders[i].str, placeholders[i].len) == 0)
			return placeholders[i].len;
	}
	return 0;
}

/*
 * Cut the next piece off: up to a placeholder, which is passed.  False: there was none, and the
 * piece is all that was left.
 */
static bool
next_piece(Piece *rest, Piece *piece, const LlmPlaceholder *placeholders, int n)
{
	const char *end = rest->at + rest->len;
	const char *at = rest->at;

	piece->at = rest->at;
	while ((at = memchr(at, '[', end - at)) != NULL)
	{
		size_t len = placeholder_at(at, end - at, placeholders, n);

		if (len > 0)
		{
			piece->len = at - piece->at;
			rest->at = at + len;
			rest->len = end - rest->at;
			return true;
		}
		at++;
	}
	piece->len = rest->len;
	rest->at = end;
	rest->len = 0;
	return false;
}

/* The first place of the piece in the text, or NULL; in time linear in both. */
static const char *
find_piece(const Piece *where, const Piece *piece)
{
	size_t *borders;
	size_t matched = 0;
	const char *found = NULL;

	if (piece->len == 0)
		return where->at;
	if (piece->len > where->len)
		return NULL;
	borders = MemoryContextAllocHuge(CurrentMemoryContext, piece->len * sizeof(size_t));
	borders[0] = 0;
	for (size_t i = 1; i < piece->len; i++)
	{
		while (matched > 0 && piece->at[i] != piece->at[matched])
			matched = borders[matched - 1];
		if (piece->at[i] == piece->at[matched])
			matched++;
		borders[i] = matched;
	}
	matched = 0;
	for (size_t i = 0; i < where->len && found == NULL; i++)
	{
		while (matched > 0 && where->at[i] != piece->at[matched])
			matched = borders[matched - 1];
		if (where->at[i] == piece->at[matched])
			matched++;
		if (matched == piece->len)
			found = where->at + i + 1 - piece->len;
	}
	pfree(borders);
	return found;
}

const char *
llm_redaction_find(const char *where, size_t where_len, const char *what, size_t what_len)
{
	Piece whole = {where, where_len};
	Piece piece = {what, what_len};

	return find_piece(&whole, &piece);
}

/* How many bytes two texts begin with in common. */
static size_t
common_len(const Piece *a, const Piece *b)
{
	size_t len = 0;

	while (len < a->len && len < b->len && a->at[len] == b->at[len])
		len++;
	return len;
}

static bool
is_continuation(char c)
{
	return ((unsigned char) c & 0xC0) == 0x80;
}

/*
 * Say where the text leaves the input.  What stands there is not said: the sentence is kept where
 * inputs are not.
 */
static bool
report_place(const char *words, const char *place, StringInfo fault)
{
	int number = 1;

	for (const char *at = words; at < place; at++)
		number += is_continuation(*at) ? 0 : 1;
	appendStringInfo(fault, "From character %d on, the text is not the message with placeholders for parts of it.", number);
	return false;
}

bool
llm_redaction_check(const char *input, size_t input_len, const char *words, size_t len,
					const LlmPlaceholder *placeholders, int n, StringInfo fault)
{
	Piece left = {input, input_len};
	Piece rest = {words, len};
	Piece piece;
	size_t kept = 0;
	size_t count = 0;
	bool more = next_piece(&rest, &piece, placeholders, n);

	/* the first piece is where the input begins */
	if (piece.len > left.len || memcmp(left.at, piece.at, piece.len) != 0)
		return report_place(words, words + common_len(&piece, &left), fault);
	left.at += piece.len;
	left.len -= piece.len;
	kept += piece.len;
	if (!more)
		return left.len == 0 ? true : report_place(words, words + len, fault);
	while (more)
	{
		const char *found;

		/* the placeholder stands for one character at least */
		count++;
		if (left.len == 0)
		{
			appendStringInfoString(fault, "A placeholder of the text stands for nothing in the message.");
			return false;
		}
		do
		{
			left.at++;
			left.len--;
		} while (left.len > 0 && is_continuation(*left.at));
		more = next_piece(&rest, &piece, placeholders, n);
		kept += piece.len;
		if (!more)
		{
			/* the last piece is where the input ends */
			if (piece.len > left.len || memcmp(left.at + left.len - piece.len, piece.at, piece.len) != 0)
				return report_place(words, piece.at, fault);
			break;
		}
		found = find_piece(&left, &piece);
		if (found == NULL)
			return report_place(words, piece.at, fault);
		left.len -= found + piece.len - left.at;
		left.at = found + piece.len;
	}
	if ((input_len - kept) / count > MOST_HIDDEN)
	{
		appendStringInfoString(fault, "The placeholders of the text hide too much of the message.");
		return false;
	}
	return true;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_local_part(char c)
{
	return (c & 0x80) != 0 || is_letter(c) || is_digit(c) || strchr(".!#$%&'*+/=?^_`{|}~-", c) != NULL;
}

/* An "@" with a name before it, and a domain with a point in it behind. */
const char *
llm_redaction_find_email(const char *words, size_t len, size_t *found_len)
{
	const char *end = words + len;
	const char *at = words;

	while ((at = memchr(at, '@', end - at)) != NULL)
	{
		const char *first = at;
		const char *last = at + 1;
		const char *point = NULL;

		/* a name is short, so that many "@" in a row of such characters cost no more */
		while (first > words && at - first < 64 && first[-1] != '\0' && is_local_part(first[-1]))
			first--;
		while (last < end && last - at < 255 && (is_letter(*last) || is_digit(*last) || *last == '-' || *last == '.'))
		{
			if (*last == '.' && last > at + 1 && last + 2 < end && is_letter(last[1]) && is_letter(last[2]))
				point = last;
			last++;
		}
		if (first < at && point != NULL)
		{
			*found_len = last - first;
			return first;
		}
		at++;
	}
	return NULL;
}

/* Luhn's check of the digits between two places. */
static bool
is_card(const char *from, const char *to)
{
	int sum = 0;
	int n = 0;

	for (const char *at = to; at > from; at--)
	{
		int digit = at[-1] - '0';

		if (!is_digit(at[-1]))
			continue;
		if (n++ % 2 == 1)
			digit = digit > 4 ? digit * 2 - 9 : digit * 2;
		sum += digit;
	}
	return n >= CARD_MIN && n <= CARD_MAX && sum % 10 == 0;
}

/* A run of digits as cards have them, with single blanks or hyphens among them, that passes Luhn's check as a whole. */
const char *
llm_redaction_find_card(const char *words, size_t len, size_t *found_len)
{
	const char *end = words + len;
	const char *at = words;

	while (at < end)
	{
		const char *last = at;

		if (!is_digit(*at))
		{
			at++;
			continue;
		}
		while (last < end && (is_digit(*last) || ((*last == ' ' || *last == '-') && last + 1 < end && is_digit(last[1]))))
			last++;
		if (*at >= '2' && *at <= '6' && (at == words || !is_letter(at[-1])) && is_card(at, last))
		{
			*found_len = last - at;
			return at;
		}
		at = last;
	}
	return NULL;
}

/* The check of an IBAN without its blanks. */
static bool
is_iban(const char *plain, int n)
{
	int rest = 0;

	for (int i = 0; i < n; i++)
	{
		char c = plain[(i + 4) % n];

		rest = is_digit(c) ? (rest * 10 + c - '0') % 97 : (rest * 100 + c - 'A' + 10) % 97;
	}
	return n >= IBAN_MIN && rest == 1;
}

/* The end of an IBAN that begins here, which is that of a word; NULL: none does. */
static const char *
iban_end(const char *at, const char *end)
{
	char plain[IBAN_MAX];
	int n = 0;

	for (; at < end && n < IBAN_MAX; at++)
	{
		if (*at == ' ' && is_iban(plain, n))
			return at;
		if (is_digit(*at) || (*at >= 'A' && *at <= 'Z'))
			plain[n++] = *at;
		else if (*at != ' ')
			break;
	}
	return is_iban(plain, n) ? at : NULL;
}

/* Two letters and two digits, and what follows passes the check of IBANs. */
const char *
llm_redaction_find_iban(const char *words, size_t len, size_t *found_len)
{
	const char *end = words + len;

	for (const char *at = words; at + IBAN_MIN <= end; at++)
	{
		const char *last;

		if (!(at[0] >= 'A' && at[0] <= 'Z' && at[1] >= 'A' && at[1] <= 'Z' && is_digit(at[2]) && is_digit(at[3])) ||
			(at > words && (is_letter(at[-1]) || is_digit(at[-1]))))
			continue;
		last = iban_end(at, end);
		if (last != NULL)
		{
			*found_len = last - at;
			return at;
		}
	}
	return NULL;
}
