/*-------------------------------------------------------------------------
 *
 * catalog_watch.c
 *	  Notice that a server, mapping, role, model or price may have changed.
 *
 * Nothing is polled: PostgreSQL's own invalidation messages tell it, at commit and
 * to every process that is in this database.  Of servers, mappings and roles
 * they tell because those are catalogs; of our tables because a trigger on
 * them, llm.catalog_changed(), sends one.  A price whose time comes is the one
 * change without a message, so generation() looks at the clock for it.
 *
 * Messages are taken in when a transaction begins or takes a lock, which is
 * why the generation is "valid between transactions".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/spi.h"
#include "base/wake.h"
#include "catalog/catalog_target.h"
#include "catalog/catalog_watch.h"

/* Counted up by the callbacks and by generation(); 0 is no generation. */
static uint64 generation = 1;
static bool callbacks_registered = false;

/* Changes of user mappings, by hash of role and server, so now and then one is taken for another; and in all. */
#define MAPPINGS 1024
static uint64 mappings[MAPPINGS];
static uint64 mapping_changes = 0;
static uint64 unknown_mappings = 0; /* any of them may be it */

/* Earliest time told to watch_time(), DT_NOEND: none. */
static TimestampTz next_time = DT_NOEND;

/*
 * Our tables, to know their messages by; InvalidOid: not known, then every table's
 * count.  Filled in by find_tables(), forgotten when a schema changes.
 */
static const char *const watched_names[] = {"model", "price", "price_list", "habit", "pause"};
static Oid watched[lengthof(watched_names)];

PG_FUNCTION_INFO_V1(llm_enrich_catalog_changed);

static void
count_up(Datum arg, int cache, uint32 hash)
{
	generation++;
}

static void
mapping_changed(Datum arg, int cache, uint32 hash)
{
	mapping_changes++;
	if (hash == 0)
		unknown_mappings++;
	else
		mappings[hash % MAPPINGS]++;
}

/* CREATE or DROP EXTENSION perhaps, and our tables are others. */
static void
forget_tables(Datum arg, int cache, uint32 hash)
{
	memset(watched, 0, sizeof(watched));
	generation++;
}

static void
table_changed(Datum arg, Oid relation)
{
	for (int i = 0; i < lengthof(watched); i++)
	{
		if (relation == InvalidOid || watched[i] == InvalidOid || watched[i] == relation)
		{
			generation++;
			return;
		}
	}
}

static void
find_tables(void)
{
	if (OidIsValid(watched[0]) || !IsTransactionState() || !llm_spi_extension_exists())
		return;
	for (int i = 0; i < lengthof(watched); i++)
		watched[i] = llm_spi_relation(watched_names[i]);
}

static void
register_callbacks(void)
{
	CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, count_up, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, count_up, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGUSERSERVER, mapping_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, count_up, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, count_up, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_tables, (Datum) 0);
	CacheRegisterRelcacheCallback(table_changed, (Datum) 0);
	callbacks_registered = true;
}

uint64
llm_catalog_generation(void)
{
	if (!callbacks_registered)
		register_callbacks();
	find_tables();
	if (next_time != DT_NOEND && next_time <= llm_clock_now())
	{
		next_time = DT_NOEND;
		generation++;
	}
	return generation;
}

uint64
llm_catalog_mapping_changes(void)
{
	if (!callbacks_registered)
		register_callbacks();
	return mapping_changes;
}

static uint64
changes_of(const LlmMappingWatch *watch)
{
	return unknown_mappings + mappings[watch->own] + mappings[watch->common];
}

void
llm_catalog_watch_mapping(Oid role, Oid server, LlmMappingWatch *watch)
{
	watch->own = GetSysCacheHashValue2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server)) %
				 MAPPINGS;
	watch->common = GetSysCacheHashValue2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
										  ObjectIdGetDatum(server)) %
					MAPPINGS;
	watch->changes = changes_of(watch);
}

bool
llm_catalog_has_mapping_changed(const LlmMappingWatch *watch)
{
	return watch->changes != changes_of(watch);
}

void
llm_catalog_watch_time(TimestampTz at)
{
	if (at < next_time)
		next_time = at;
}

/*
 * SQL: trigger llm.catalog_changed() on our tables, once per statement.  Sends the
 * message that the description of the table is to be read again.
 */
Datum
llm_enrich_catalog_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("\"%s\" may only be called as a trigger", "llm.catalog_changed")));
	CacheInvalidateRelcache(trigger->tg_relation);
	if (llm_shmem_is_preloaded())
		llm_wake_at_commit(LLM_WORKER_SENDER);
	return PointerGetDatum(NULL);
}
