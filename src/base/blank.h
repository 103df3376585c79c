/*-------------------------------------------------------------------------
 *
 * blank.h
 *	  Text that shows nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_BLANK_H
#define LLM_BLANK_H

#include "base/llm_enrich.h"

/*
 * So many bytes at the beginning, in UTF-8, show nothing: white space, also that of Unicode, and
 * characters without any width.  A character that is cut off is not counted.
 */
extern size_t llm_blank_prefix(const char *str, size_t len);

#endif /* LLM_BLANK_H */
