/*-------------------------------------------------------------------------
 *
 * http_answer.h
 *	  What comes back for one exchange: the growing answer and its headers.  Only
 *	  http.c uses it, from within libcurl's callbacks, so nothing here raises or
 *	  allocates from a memory context.
 *
 *	  start()    before each exchange
 *	  header()   for each header line, append() for each piece of the answer
 *	  publish()  when it is whole: the exchange points into it from then on
 *	  trim()     when the exchange was released; free() at last
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HTTP_ANSWER_H
#define LLM_HTTP_ANSWER_H

#include "base/llm_enrich.h"

#include "http/http.h"

typedef struct LlmHttpAnswer
{
	char *bytes; /* malloc'ed, kept from one exchange to the next */
	size_t len;
	size_t room; /* without the final NUL */
	size_t limit;
	size_t head_len; /* bytes of all header lines so far */
	bool too_large; /* more came than limit */
	bool no_memory; /* more came than there is memory for */
	LlmHttpHeaders headers; /* kept from one exchange to the next */
} LlmHttpAnswer;

extern void llm_http_answer_start(LlmHttpAnswer *answer, size_t limit);

/* One line as it came, line end included.  False when there are too many: too_large. */
extern bool llm_http_answer_header(LlmHttpAnswer *answer, const char *line, size_t len);

/* False when it cannot be taken: too_large or no_memory says why. */
extern bool llm_http_answer_append(LlmHttpAnswer *answer, const char *bytes, size_t len);

/* Headers go to the exchange always, the answer only when it is whole. */
extern void llm_http_answer_publish(LlmHttpAnswer *answer, LlmHttpExchange *exchange, bool whole);

/* Undo publish(): nothing in the exchange points anywhere any more. */
extern void llm_http_answer_clear(LlmHttpExchange *exchange);

extern void llm_http_answer_trim(LlmHttpAnswer *answer);
extern void llm_http_answer_free(LlmHttpAnswer *answer);

#endif /* LLM_HTTP_ANSWER_H */
