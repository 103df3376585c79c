/*-------------------------------------------------------------------------
 *
 * catalog_watch.h
 *	  Notice that a server, mapping, role, model or price may have changed.
 *
 * llm_catalog_generation(), which tells of all but mappings, is declared in catalog_target.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CATALOG_WATCH_H
#define LLM_CATALOG_WATCH_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"

/* The user mappings of a role and of PUBLIC for a server, as they were; PG_UINT64_MAX changes: not as they are. */
typedef struct LlmMappingWatch
{
	uint32 own;
	uint32 common;
	uint64 changes;
} LlmMappingWatch;

/* How often mappings have changed: what was read of one between two equal numbers is of one time. */
extern uint64 llm_catalog_mapping_changes(void);

/* From now on; valid between transactions, as llm_catalog_generation() is. */
extern void llm_catalog_watch_mapping(Oid role, Oid server, LlmMappingWatch *watch);

/* Since then?  Rarely it is another's that has. */
extern bool llm_catalog_has_mapping_changed(const LlmMappingWatch *watch);

/* Count up when this time has come, too: a price begins or ends. */
extern void llm_catalog_watch_time(TimestampTz at);

#endif /* LLM_CATALOG_WATCH_H */
