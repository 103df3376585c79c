/*-------------------------------------------------------------------------
 *
 * redaction.h
 *	  Is a text another one but for placeholders, and does it still show what it should not?
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_REDACTION_H
#define LLM_REDACTION_H

#include "base/llm_enrich.h"

#include "lib/stringinfo.h"

/* A placeholder such as "[NAME]". */
typedef struct LlmPlaceholder
{
	const char *str;
	int len;
} LlmPlaceholder;

/*
 * Is the text the input, but that placeholders stand for parts of it?  If not, append one
 * sentence that says where they part.  Time is linear in both texts.  Never raises.
 */
extern bool llm_redaction_check(const char *input, size_t input_len, const char *words, size_t len,
								const LlmPlaceholder *placeholders, int n, StringInfo fault);

/* The first place of a text in another one, or NULL; in time linear in both. */
extern const char *llm_redaction_find(const char *where, size_t where_len, const char *what, size_t what_len);

/* The place of an e-mail address, a card number or an IBAN in the text; NULL: there is none. */
extern const char *llm_redaction_find_email(const char *words, size_t len, size_t *found_len);
extern const char *llm_redaction_find_card(const char *words, size_t len, size_t *found_len);
extern const char *llm_redaction_find_iban(const char *words, size_t len, size_t *found_len);

#endif /* LLM_REDACTION_H */
