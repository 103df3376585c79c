/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What the fuzz targets share.
 *
 * A target takes bytes that a provider, a model or a user may send and gives them
 * to the real sources, within a real backend: memory contexts, jsonb, numeric and
 * error reports are the server's own.  It ends the process when a promise is broken.
 *
 *	  run()      once per input, in a context of its own, which is emptied afterwards
 *	  must()     ends the process, saying what did not hold
 *	  raises()   runs a step that may raise; any other error ends the process
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FUZZ_H
#define LLM_FUZZ_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "base/compat.h"

typedef struct LlmFuzzTarget
{
	const char *name;
	void (*run)(const uint8 *data, size_t size);

	/* An input of n bytes may take fixed + n * per_byte bytes of memory. */
	size_t fixed;
	size_t per_byte;
} LlmFuzzTarget;

extern const LlmFuzzTarget llm_fuzz_answer;
extern const LlmFuzzTarget llm_fuzz_check;
extern const LlmFuzzTarget llm_fuzz_json;
extern const LlmFuzzTarget llm_fuzz_marker;
extern const LlmFuzzTarget llm_fuzz_schema;
extern const LlmFuzzTarget llm_fuzz_words;

/* fuzz.c: end the process; the sentence says what should have held. */
pg_noreturn extern void llm_fuzz_fail(const char *sentence, const char *file, int line);

#define must(holds) ((holds) ? (void) 0 : llm_fuzz_fail(#holds, __FILE__, __LINE__))

/* Run a step; the SQLSTATE when it raised, 0 when it did not. */
extern int llm_fuzz_raises(void (*step)(void *arg), void *arg);

/* For what outlives an input. */
extern MemoryContext llm_fuzz_lasting;

/* Bytes up to the next such byte or the end; *at moves behind it.  A copy, so that its bounds are watched. */
extern char *llm_fuzz_piece(const uint8 **at, const uint8 *end, char until, size_t *len);

/* Is it UTF-8 without control characters, of at most max bytes? */
extern bool llm_fuzz_is_shown(const char *str, size_t max);

/* fuzz_memory.c: bytes that our sources hold, now and at most since the last call of start(). */
extern void llm_fuzz_memory_start(void);
extern size_t llm_fuzz_memory_peak(void);
extern size_t llm_fuzz_memory_held(void);

#endif /* LLM_FUZZ_H */
