/*-------------------------------------------------------------------------
 *
 * buffer.c
 *	  Growing buffers, arenas and spans, and the writing of JSON text.
 *
 * A Buf owns its bytes and grows; a Span points into someone else's.  Running
 * out of memory ends the program: a simulation has nothing to save.  Called by
 * every other file.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct ArenaBlock
{
	ArenaBlock *next;
	size_t used;
	size_t size;
	_Alignas(16) char bytes[];
};

/*
 * Pass an allocation through, or end the program.
 */
void *
need(void *memory)
{
	if (memory == NULL)
	{
		fputs("llm-provider: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

void
buf_reserve(Buf *buf, size_t more)
{
	size_t room = buf->room > 0 ? buf->room : 256;

	if (buf->room - buf->len >= more)
		return;
	while (room - buf->len < more)
		room *= 2;
	buf->at = need(realloc(buf->at, room));
	buf->room = room;
}

void
buf_add(Buf *buf, const void *bytes, size_t len)
{
	if (len == 0)
		return;
	buf_reserve(buf, len);
	memcpy(buf->at + buf->len, bytes, len);
	buf->len += len;
}

void
buf_text(Buf *buf, const char *text)
{
	buf_add(buf, text, strlen(text));
}

void
buf_char(Buf *buf, char c)
{
	buf_add(buf, &c, 1);
}

void
buf_uint(Buf *buf, uint64_t number)
{
	char digits[20];
	size_t at = sizeof(digits);

	do
	{
		digits[--at] = (char) ('0' + number % 10);
		number /= 10;
	} while (number > 0);
	buf_add(buf, digits + at, sizeof(digits) - at);
}

/*
 * Add sixteen hexadecimal digits.
 */
void
buf_hex(Buf *buf, uint64_t number)
{
	char digits[16];

	for (int i = 15; i >= 0; i--, number >>= 4)
		digits[i] = "0123456789abcdef"[number & 15];
	buf_add(buf, digits, sizeof(digits));
}

void
buf_print(Buf *buf, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0)
		return;
	buf_reserve(buf, (size_t) len + 1);
	va_start(args, format);
	vsnprintf(buf->at + buf->len, (size_t) len + 1, format, args);
	va_end(args);
	buf->len += (size_t) len;
}

/*
 * Add a text as the inside of a JSON string, without the quotes.  Runs that
 * need no escape are copied whole.
 */
void
buf_json(Buf *buf, Span text)
{
	const char *at = text.at;
	const char *end = at + text.len;
	const char *plain = at;

	for (; at < end; at++)
	{
		unsigned char c = (unsigned char) *at;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buf_add(buf, plain, (size_t) (at - plain));
		plain = at + 1;
		switch (c)
		{
			case '"':
				buf_add(buf, "\\\"", 2);
				break;
			case '\\':
				buf_add(buf, "\\\\", 2);
				break;
			case '\n':
				buf_add(buf, "\\n", 2);
				break;
			default:
				buf_print(buf, "\\u%04x", c);
		}
	}
	buf_add(buf, plain, (size_t) (end - plain));
}

void
buf_free(Buf *buf)
{
	free(buf->at);
	*buf = (Buf){0};
}

void *
arena_alloc(Arena *arena, size_t size)
{
	ArenaBlock *block = arena->blocks;
	void *memory;

	size = (size + 15) & ~(size_t) 15;
	if (block == NULL || block->size - block->used < size)
	{
		size_t room = size > 4000 ? size : 4000;

		block = need(malloc(sizeof(ArenaBlock) + room));
		block->next = arena->blocks;
		block->used = 0;
		block->size = room;
		arena->blocks = block;
		arena->bytes += room;
	}
	memory = block->bytes + block->used;
	block->used += size;
	memset(memory, 0, size);
	return memory;
}

/*
 * Copy bytes and add a terminating NUL.
 */
char *
arena_copy(Arena *arena, const char *bytes, size_t len)
{
	char *copy = arena_alloc(arena, len + 1);

	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}

void
arena_free(Arena *arena)
{
	while (arena->blocks != NULL)
	{
		ArenaBlock *next = arena->blocks->next;

		free(arena->blocks);
		arena->blocks = next;
	}
}

Span
span_of(const char *text)
{
	return (Span){text, strlen(text)};
}

bool
span_is(Span span, const char *text)
{
	return span.len == strlen(text) && memcmp(span.at, text, span.len) == 0;
}

bool
span_is_nocase(Span span, const char *text)
{
	return span.len == strlen(text) && strncasecmp(span.at, text, span.len) == 0;
}

/*
 * Find a byte string; NULL if it is not there.  An empty one is always there.
 */
const char *
span_find(Span haystack, Span needle)
{
	if (needle.len == 0)
		return haystack.at;
	if (haystack.len < needle.len)
		return NULL;
	return memmem(haystack.at, haystack.len, needle.at, needle.len);
}

/*
 * Hash eight bytes at a time; only used inside one process.
 */
uint64_t
hash_bytes(const void *bytes, size_t len, uint64_t seed)
{
	const unsigned char *at = bytes;
	uint64_t hash = seed ^ (len * 0x9e3779b97f4a7c15u);
	uint64_t piece;

	for (; len >= 8; at += 8, len -= 8)
	{
		memcpy(&piece, at, 8);
		hash = (hash ^ piece) * 0xff51afd7ed558ccdu;
		hash ^= hash >> 32;
	}
	if (len > 0)
	{
		piece = 0;
		memcpy(&piece, at, len);
		hash = (hash ^ piece) * 0xff51afd7ed558ccdu;
		hash ^= hash >> 32;
	}
	hash *= 0xc4ceb9fe1a85ec53u;
	return hash ^ (hash >> 29);
}

/*
 * Largest length up to limit that does not split a character.
 */
size_t
utf8_cut(const char *text, size_t len, size_t limit)
{
	if (limit >= len)
		return len;
	while (limit > 0 && ((unsigned char) text[limit] & 0xc0) == 0x80)
		limit--;
	return limit;
}

size_t
utf8_chars(const char *text, size_t len)
{
	size_t chars = 0;

	for (size_t i = 0; i < len; i++)
		chars += ((unsigned char) text[i] & 0xc0) != 0x80;
	return chars;
}
