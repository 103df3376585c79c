/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The one process that starts senders and writers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LAUNCHER_H
#define LLM_LAUNCHER_H

#include "base/llm_enrich.h"

/* Called by init.c while the library is preloaded: register the launcher. */
extern void llm_launcher_init(void);

/* Its main function. */
extern PGDLLEXPORT void llm_launcher_main(Datum arg);

#endif /* LLM_LAUNCHER_H */
