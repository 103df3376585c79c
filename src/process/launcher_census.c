/*-------------------------------------------------------------------------
 *
 * launcher_census.c
 *	  Which databases there are, and which of them are to be looked at.
 *
 * Only a process inside a database can tell whether it has the extension, and work
 * to do, so a look (a probe) is a worker that ends at once when there is nothing to
 * do.  New databases are looked at once.  Those with the extension are looked at
 * at every sweep: work that came without a wake (COMMIT PREPARED while the server
 * was starting, for instance) is found then at the latest.
 *
 * Part of the launcher, which alone calls it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/shmem_layout.h"
#include "base/spi.h"
#include "process/launcher_census.h"

/*
 * Probes at a time.  Each needs a process, which somebody with work may be waiting
 * for; one that is still there after PROBE_MS has found something to do.
 */
#define PROBES_AT_ONCE 2
#define PROBE_MS 2000

typedef struct CensusRow
{
	Oid database;
	bool pending; /* to be looked at */
} CensusRow;

/* As of the last sweep; all of it lives as long as the launcher. */
static CensusRow *census = NULL; /* by OID */
static int census_length = 0;
static int census_next = 0; /* all before it have been looked at */

/* May workers run there: not in templates, and not where connections are not allowed. */
static bool
is_servable(Form_pg_database row)
{
	return row->datallowconn && !row->datistemplate && row->datconnlimit != DATCONNLIMIT_INVALID_DB;
}

bool
llm_census_look_up(Oid database, NameData *name)
{
	HeapTuple tuple;
	bool servable = false;

	llm_spi_begin("looking up a database");
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		*name = row->datname;
		servable = is_servable(row);
		ReleaseSysCache(tuple);
	}
	llm_spi_commit();
	return servable;
}

static int
compare_rows(const void *a, const void *b)
{
	Oid left = ((const CensusRow *) a)->database;
	Oid right = ((const CensusRow *) b)->database;

	return (left > right) - (left < right);
}

/* All servable databases, by OID, none of them pending.  *rows is the caller's to free. */
static int
list_databases(CensusRow **rows)
{
	int n = 0;
	int room = 64;
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;

	*rows = MemoryContextAlloc(TopMemoryContext, room * sizeof(CensusRow));
	llm_spi_begin("looking at all databases");
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		if (!is_servable(row))
			continue;
		if (n == room)
		{
			room *= 2;
			*rows = repalloc(*rows, room * sizeof(CensusRow));
		}
		(*rows)[n].database = row->oid;
		(*rows)[n].pending = false;
		n++;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	llm_spi_commit();
	qsort(*rows, n, sizeof(CensusRow), compare_rows);
	return n;
}

void
llm_census_sweep(void)
{
	CensusRow *rows;
	int n = list_databases(&rows);

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	llm_shared->sweep_wanted = false;
	for (int i = 0; i < n; i++)
	{
		LlmDatabase *entry = llm_shmem_find(rows[i].database);
		CensusRow *former = NULL;

		if (census != NULL)
			former = bsearch(&rows[i], census, census_length, sizeof(CensusRow), compare_rows);
		rows[i].pending = llm_shared->crowded || former == NULL || former->pending ||
						  (entry != NULL && entry->extension == LLM_EXTENSION_PRESENT);
	}
	LWLockRelease(llm_shared->lock);

	if (census != NULL)
		pfree(census);
	census = rows;
	census_length = n;
	census_next = 0;
}

/* How many probes are under way or about to start, and entries that are no longer needed. */
static int
count_probes(TimestampTz now)
{
	int probes = 0;
	int kind;

	LWLockAcquire(llm_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < LLM_MAX_DATABASES; i++)
	{
		LlmDatabase *entry = &llm_shared->databases[i];

		if (!OidIsValid(llm_shared->oids[i]))
			continue;
		if (entry->extension == LLM_EXTENSION_ABSENT && llm_shmem_is_at_rest(entry))
		{
			llm_shmem_free(entry);
			continue;
		}
		for (kind = 0; kind < LLM_WORKER_KINDS; kind++)
		{
			LlmWorkerEntry *worker = &entry->workers[kind];

			if (worker->pid != 0)
				probes += worker->probe && now - worker->since < PROBE_MS * INT64CONST(1000);
			else
				probes += worker->wanted == LLM_WANTED_PROBE && entry->blocked == 0 && worker->not_before <= now;
		}
	}
	LWLockRelease(llm_shared->lock);
	return probes;
}

bool
llm_census_ask_for_probes(TimestampTz now)
{
	int room = PROBES_AT_ONCE - count_probes(now);

	while (census_next < census_length)
	{
		if (census[census_next].pending)
		{
			if (room-- <= 0)
				return true;
			census[census_next].pending = false;
			llm_shmem_probe(census[census_next].database);
		}
		census_next++;
	}
	return false;
}

void
llm_census_look_again(Oid database)
{
	CensusRow key = {.database = database};
	CensusRow *row = NULL;

	if (census != NULL)
		row = bsearch(&key, census, census_length, sizeof(CensusRow), compare_rows);
	if (row != NULL)
		row->pending = true;
}
