/*-------------------------------------------------------------------------
 *
 * truncate.c
 *	  A text that is too long for a model is cut, where its call allows that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "operation/truncate.h"

/* Stands for what is missing in the middle. */
#define GAP "\n[\xE2\x80\xA6]\n"

static const char *const names[] = {
	[LLM_TRUNCATE_START] = "start",
	[LLM_TRUNCATE_MIDDLE] = "middle",
	[LLM_TRUNCATE_END] = "end",
};

LlmTruncate
llm_truncate_find(const char *name)
{
	for (int i = 0; i < lengthof(names); i++)
	{
		if (names[i] != NULL && name != NULL && strcmp(name, names[i]) == 0)
			return (LlmTruncate) i;
	}
	return LLM_TRUNCATE_NOT;
}

static bool
is_inside(unsigned char byte)
{
	return (byte & 0xC0) == 0x80;
}

/* The longest beginning of at most so many bytes that ends with a character. */
static size_t
clip_end(const char *str, size_t len, size_t keep)
{
	if (keep >= len)
		return len;
	while (keep > 0 && is_inside((unsigned char) str[keep]))
		keep--;
	return keep;
}

/* The longest end of at most so many bytes that begins with a character. */
static size_t
clip_start(const char *str, size_t len, size_t keep)
{
	if (keep >= len)
		return len;
	while (keep > 0 && is_inside((unsigned char) str[len - keep]))
		keep--;
	return keep;
}

char *
llm_truncate(const char *str, size_t len, LlmTruncate where, size_t keep, size_t *kept)
{
	size_t gap = where == LLM_TRUNCATE_MIDDLE ? strlen(GAP) : 0;
	size_t room = keep > gap ? keep - gap : 0;
	size_t head = 0;
	size_t tail = 0;
	char *cut;

	if (where == LLM_TRUNCATE_END)
		head = clip_end(str, len, room);
	else if (where == LLM_TRUNCATE_START)
		tail = clip_start(str, len, room);
	else
	{
		head = clip_end(str, len, room - room / 2);
		tail = clip_start(str, len, room / 2);
	}
	cut = palloc_extended(head + gap + tail + 1, MCXT_ALLOC_HUGE);
	memcpy(cut, str, head);
	memcpy(cut + head, GAP, gap);
	memcpy(cut + head + gap, str + len - tail, tail);
	*kept = head + gap + tail;
	cut[*kept] = '\0';
	return cut;
}
