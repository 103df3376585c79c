/*-------------------------------------------------------------------------
 *
 * launcher_census.h
 *	  Which databases there are, and which of them are to be looked at.
 *
 *	  sweep()           at the launcher's start, and once a minute
 *	  ask_for_probes()  whenever the launcher is awake
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_LAUNCHER_CENSUS_H
#define LLM_LAUNCHER_CENSUS_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"

/* May workers run in this database now?  *name is set when it exists. */
extern bool llm_census_look_up(Oid database, NameData *name);

/*
 * Read pg_database, and note what is to be looked at: new databases, those with the
 * extension, and all when there are more than shared memory has entries for.
 */
extern void llm_census_sweep(void);

/* Let the next few be looked at.  True when some are left over. */
extern bool llm_census_ask_for_probes(TimestampTz now);

/* Treat this database like a new one at the next sweep. */
extern void llm_census_look_again(Oid database);

#endif /* LLM_LAUNCHER_CENSUS_H */
