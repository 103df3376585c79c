/*-------------------------------------------------------------------------
 *
 * catalog_read.h
 *	  Reading our tables of servers and models, in a user's statement or the sender.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CATALOG_READ_H
#define LLM_CATALOG_READ_H

#include "base/llm_enrich.h"

#include "base/spi.h"

/*
 * Read between begin and end: as the owner of our tables, with a fresh snapshot, and
 * with what is palloc'ed in between gone after it.
 */
extern void llm_catalog_begin_reading(LlmOwnScope *scope);
extern void llm_catalog_end_reading(LlmOwnScope *scope);

/* First column of a statement's rows as a list in double quotes, for a hint; NULL when there are none. */
extern char *llm_catalog_list_names(LlmStatement *statement);

#endif /* LLM_CATALOG_READ_H */
