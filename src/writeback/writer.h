/*-------------------------------------------------------------------------
 *
 * writer.h
 *	  The process that writes answers back: one per database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_WRITER_H
#define LLM_WRITER_H

#include "base/llm_enrich.h"

/* Entry point of the background worker; the argument is the database's OID. */
extern PGDLLEXPORT void llm_writer_main(Datum arg);

#endif /* LLM_WRITER_H */
