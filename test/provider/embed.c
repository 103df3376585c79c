/*-------------------------------------------------------------------------
 *
 * embed.c
 *	  Vectors of inputs: not by meaning, but so that a test can tell whose each is.
 *
 *-------------------------------------------------------------------------
 */
#include "embed.h"

#include <stdlib.h>

static Span *inputs; /* of the present request */
static size_t count;
static size_t room;

void
embed_forget(void)
{
	count = 0;
}

void
embed_free(void)
{
	free(inputs);
	inputs = NULL;
	count = room = 0;
}

bool
embed_add(ChatRequest *chat, Span input, size_t most)
{
	if (input.len == 0)
		return chat_refuse(chat, "input", NULL, "%s cannot be an empty string.", "'input'");
	if (count == most)
		return chat_refuse(chat, "input", NULL, "%s has too many inputs.", "'input'");
	if (count == room)
	{
		room = room == 0 ? 256 : 2 * room;
		inputs = need(realloc(inputs, room * sizeof(Span)));
	}
	inputs[count++] = input;
	chat->embeds = true;
	if (count == 1)
		chat->user = input;
	return true;
}

size_t
embed_count(void)
{
	return count;
}

Span
embed_input(size_t number)
{
	return inputs[number];
}

uint64_t
embed_tokens(void)
{
	uint64_t tokens = 0;

	for (size_t i = 0; i < count; i++)
		tokens += (inputs[i].len + 3) / 4;
	return tokens;
}

uint64_t
embed_longest(void)
{
	uint64_t longest = 0;

	for (size_t i = 0; i < count; i++)
	{
		if ((inputs[i].len + 3) / 4 > longest)
			longest = (inputs[i].len + 3) / 4;
	}
	return longest;
}

/*
 * The number at the end of the input's mark; 0 if there is none.
 */
static uint64_t
number_of(Span input)
{
	Span whole;
	Span mark = chat_find_mark(input, &whole);
	size_t at = mark.len;
	uint64_t number = 0;

	while (at > 0 && mark.at[at - 1] >= '0' && mark.at[at - 1] <= '9')
		at--;
	for (; at < mark.len; at++)
		number = number * 10 + (uint64_t) (mark.at[at] - '0');
	return number;
}

void
embed_write(Buf *out, const ChatRequest *chat, size_t number, bool lame)
{
	Span input = inputs[number];
	int64_t dimensions = chat->dimensions > 0 ? chat->dimensions : EMBED_DIMENSIONS;

	buf_char(out, '[');
	for (int64_t i = 0; i < dimensions - (lame ? 1 : 0); i++)
	{
		if (i > 0)
			buf_char(out, ',');
		if (i == 0)
			buf_uint(out, number_of(input));
		else if (i == 1)
			buf_uint(out, input.len);
		else
		{
			uint64_t hash = hash_bytes(input.at, input.len, (uint64_t) i);

			buf_text(out, hash & 1 ? "-0." : "0.");
			buf_uint(out, 1000000 + (hash >> 1) % 9000000);
		}
	}
	buf_char(out, ']');
}
