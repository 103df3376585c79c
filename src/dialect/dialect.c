/*-------------------------------------------------------------------------
 *
 * dialect.c
 *	  The table of dialects, and what all of them need.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dialect/dialect.h"

/* Tokens that a message costs besides its text. */
#define MESSAGE_TOKENS 8

static const LlmDialect *const dialects[] = {
	&llm_dialect_openai,
};

const LlmDialect *
llm_dialect_find(const char *name)
{
	int i;

	for (i = 0; i < lengthof(dialects); i++)
	{
		if (strcmp(dialects[i]->name, name) == 0)
			return dialects[i];
	}
	return NULL;
}

const char *
llm_dialect_names(void)
{
	StringInfoData buf;
	int i;

	initStringInfo(&buf);
	for (i = 0; i < lengthof(dialects); i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", dialects[i]->name);
	return buf.data;
}

/*
 * English has about 3.6 ASCII characters in a token, other scripts about one
 * character in 1.1 tokens.  Good to a factor of two, which is what limits and
 * reservations need.
 */
int64
llm_dialect_estimate_tokens(const char *str, size_t len)
{
	size_t ascii = 0;
	size_t others = 0; /* characters, counted by their first byte */
	size_t i;

	for (i = 0; i < len; i++)
	{
		ascii += (unsigned char) str[i] < 0x80;
		others += (unsigned char) str[i] >= 0xC0;
	}
	return (int64) (ascii * 10 + 35) / 36 + (int64) (others * 11 + 9) / 10 + MESSAGE_TOKENS;
}
