/*-------------------------------------------------------------------------
 *
 * blank.c
 *	  Text that shows nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/blank.h"

/* Ranges above ASCII, in order: white space of Unicode, and what has no width. */
static const struct
{
	uint32 first;
	uint32 last;
} blanks[] = {
	{0x0085, 0x0085}, /* next line */
	{0x00A0, 0x00A0}, /* no-break space */
	{0x00AD, 0x00AD}, /* soft hyphen */
	{0x034F, 0x034F}, /* combining grapheme joiner */
	{0x061C, 0x061C}, /* Arabic letter mark */
	{0x115F, 0x1160}, /* Hangul fillers */
	{0x1680, 0x1680}, /* Ogham space mark */
	{0x180E, 0x180E}, /* Mongolian vowel separator */
	{0x2000, 0x200F}, /* spaces, zero width ones, marks of direction */
	{0x2028, 0x202F}, /* separators, directions, narrow no-break space */
	{0x205F, 0x206F}, /* mathematical space, word joiner, invisible operators, directions */
	{0x2800, 0x2800}, /* blank of Braille */
	{0x3000, 0x3000}, /* ideographic space */
	{0x3164, 0x3164}, /* Hangul filler */
	{0xFE00, 0xFE0F}, /* variation selectors */
	{0xFEFF, 0xFEFF}, /* zero width no-break space, byte order mark */
	{0xFFA0, 0xFFA0}, /* halfwidth Hangul filler */
};

static bool
is_blank(uint32 c)
{
	if (c < 0x80)
		return c == ' ' || (c >= '\t' && c <= '\r');
	for (int i = 0; i < lengthof(blanks) && c >= blanks[i].first; i++)
	{
		if (c <= blanks[i].last)
			return true;
	}
	return false;
}

/* The character at "c", of which "left" bytes are there; its width is 0 where it cannot be a blank. */
static uint32
decode(const unsigned char *c, size_t left, size_t *width)
{
	*width = c[0] < 0x80 ? 1 : (c[0] & 0xE0) == 0xC0 ? 2
						   : (c[0] & 0xF0) == 0xE0	 ? 3
													 : 0;
	if (*width > left)
		*width = 0;
	switch (*width)
	{
		case 1:
			return c[0];
		case 2:
			return (c[0] & 0x1F) << 6 | (c[1] & 0x3F);
		case 3:
			return (c[0] & 0x0F) << 12 | (c[1] & 0x3F) << 6 | (c[2] & 0x3F);
		default:
			return 0;
	}
}

size_t
llm_blank_prefix(const char *str, size_t len)
{
	size_t at = 0;

	while (at < len)
	{
		size_t width;
		uint32 c = decode((const unsigned char *) str + at, len - at, &width);

		if (width == 0 || !is_blank(c))
			break;
		at += width;
	}
	return at;
}
