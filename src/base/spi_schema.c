/*-------------------------------------------------------------------------
 *
 * spi_schema.c
 *	  Our schema, its owner and its relations.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/spi.h"

/*
 * Schema "llm" and its owner, known to belong to the extension; InvalidOid: look
 * again.  Written by find_schema(), forgotten on any change of a schema, which
 * CREATE and DROP EXTENSION are, too.
 */
static Oid cached_schema = InvalidOid;
static Oid cached_owner = InvalidOid;
static bool callback_registered = false;

static void
forget_schema(Datum arg, int cache, uint32 hash)
{
	cached_schema = InvalidOid;
	cached_owner = InvalidOid;
}

/*
 * Fill the cache; false when the extension is not in this database.  Only a find is
 * kept.  The schema is asked for first: where there is none, which is the case in
 * most databases, that costs one look into a cache.
 */
static bool
find_schema(void)
{
	Oid schema;
	HeapTuple tuple;

	if (OidIsValid(cached_schema))
		return true;
	if (!callback_registered)
	{
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_schema, (Datum) 0);
		callback_registered = true;
	}
	schema = get_namespace_oid(LLM_SCHEMA, true);
	if (!OidIsValid(schema) || !OidIsValid(get_extension_oid(LLM_LIBRARY, true)))
		return false;
	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	if (!HeapTupleIsValid(tuple))
		return false;
	cached_owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	cached_schema = schema;
	ReleaseSysCache(tuple);
	return true;
}

Oid
llm_spi_owner(void)
{
	return find_schema() ? cached_owner : InvalidOid;
}

bool
llm_spi_extension_exists(void)
{
	return find_schema();
}

Oid
llm_spi_schema(void)
{
	if (!find_schema())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" is not installed in this database", LLM_LIBRARY),
				 errhint("Run CREATE EXTENSION %s.", LLM_LIBRARY)));
	return cached_schema;
}

/* Is the relation in our schema?  Once that is known, this is one look into a cache. */
bool
llm_spi_owns(Oid relation)
{
	return find_schema() && get_rel_namespace(relation) == cached_schema;
}

/* OID of a table, view or sequence of ours. */
Oid
llm_spi_relation(const char *name)
{
	Oid relation = get_relname_relid(name, llm_spi_schema());

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s.%s\" does not exist", LLM_SCHEMA, name),
				 errhint("Run ALTER EXTENSION %s UPDATE.", LLM_LIBRARY)));
	return relation;
}

Oid
llm_relation_owner(Oid relation)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}
