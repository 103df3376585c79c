/*-------------------------------------------------------------------------
 *
 * input.h
 *	  The text that a call asks about, as it comes from a table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_INPUT_H
#define LLM_INPUT_H

#include "base/llm_enrich.h"

/* Raise 54000 when an input is longer than any model takes; without fetching it. */
extern void llm_input_check_size(const char *function, Datum input);

/* Is there nothing but white space?  The text is not out of line; it may be compressed. */
extern bool llm_input_is_blank(text *input);

#endif /* LLM_INPUT_H */
