/*-------------------------------------------------------------------------
 *
 * sender.h
 *	  The process that owns the sockets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SENDER_H
#define LLM_SENDER_H

#include "base/llm_enrich.h"

/* Main function; the argument is the database's OID. */
extern PGDLLEXPORT void llm_sender_main(Datum arg);

#endif /* LLM_SENDER_H */
