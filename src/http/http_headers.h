/*-------------------------------------------------------------------------
 *
 * http_headers.h
 *	  The headers of one answer, by name.  All of them are kept; what they mean is
 *	  for every caller.
 *
 *	  reset()    before each answer, and when the head of another one begins
 *	  add()      for each line as it came
 *	  hide()     when the answer is whole: our key, should it have come back
 *	  llm_http_header()  the value of a name
 *	  free()     at last
 *
 * Nothing here raises or allocates from a memory context, since add() is called from
 * within libcurl.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HTTP_HEADERS_H
#define LLM_HTTP_HEADERS_H

#include "base/llm_enrich.h"

/* A longer value is cut: nothing that is looked at comes near it. */
#define LLM_HTTP_HEADER_VALUE_MAX 255

typedef struct LlmHttpHeaders
{
	char *bytes; /* name, NUL, value, NUL, and so on; malloc'ed */
	size_t len;
	size_t room;
} LlmHttpHeaders;

extern void llm_http_headers_reset(LlmHttpHeaders *headers);

/* What cannot be kept for want of memory, or beyond 32 kB, counts as not sent. */
extern void llm_http_headers_add(LlmHttpHeaders *headers, const char *line, size_t len);

/* Value of the first header of a name in lower case, in printable ASCII; NULL: there is none. */
extern const char *llm_http_header(const LlmHttpHeaders *headers, const char *name);

/* Black out a secret wherever it stands in some bytes, also where JSON has escaped it; the length stays. */
extern void llm_http_hide(char *bytes, size_t len, const char *secret);

extern void llm_http_headers_hide(LlmHttpHeaders *headers, const char *secret);
extern void llm_http_headers_free(LlmHttpHeaders *headers);

#endif /* LLM_HTTP_HEADERS_H */
