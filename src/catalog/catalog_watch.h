/*-------------------------------------------------------------------------
 *
 * catalog_watch.h
 *	  Notice that a server, mapping, role, model or price may have changed.
 *
 * llm_catalog_generation(), which tells of it, is declared in catalog.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CATALOG_WATCH_H
#define LLM_CATALOG_WATCH_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"

/* Count up when this time has come, too: a price begins or ends. */
extern void llm_catalog_watch_time(TimestampTz at);

#endif /* LLM_CATALOG_WATCH_H */
