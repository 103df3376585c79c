/*-------------------------------------------------------------------------
 *
 * shape.c
 *	  What a write to a relation runs and obeys, as one hash.
 *
 * Concerned are the relation, its partitions and children, and what a view or rule of
 * them names.  Of each: owner, row security, triggers, rules, policies, constraints,
 * generated columns, indexes with expressions, domains, also within arrays, composite types
 * and ranges; and of the functions that these name the source, owner and settings.  What such
 * a function calls in turn is not followed.
 *
 * The shape of a relation and role is remembered until any catalog that it is made of
 * changes: single-row statements would spend most of their time here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/spi.h"
#include "tables/shape.h"

/* Locking lets changes in; after so many the caller tries again later. */
#define MAX_ROUNDS 4

/* Relations of this role whose shapes are remembered; when full, all are forgotten. */
#define MAX_SHAPES 256

typedef struct ShapeKey
{
	Oid relation;
	Oid role;
} ShapeKey;

typedef struct Shape
{
	ShapeKey key; /* hash key: must be first */
	char *hash; /* or NULL: nobody is to be feared */
	int nrelations;
	Oid *relations; /* those concerned, by their numbers */
} Shape;

/* Written by find_shape() and forget_shapes(); the context goes with all that is in it. */
static HTAB *shapes = NULL;
static MemoryContext shapes_context = NULL;
static bool catalogs_changed = false; /* since shapes were remembered */

/*
 * Relation $1 and role $2: the hash, and the relations.  A definition is told apart from another
 * object's by the relation in front of it.
 */
/* clang-format off */
static LlmStatement shape_statement = {
	.sql = "WITH RECURSIVE concerned(oid) AS (SELECT $1 UNION SELECT x.oid FROM concerned c CROSS JOIN LATERAL ("
		   "  SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid UNION ALL"
		   "  SELECT d.refobjid FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass"
		   "   AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass WHERE w.ev_class = c.oid) AS x(oid)),"
		   " rel AS MATERIALIZED (SELECT r.oid, r.relowner, r.relkind, r.relrowsecurity, r.relforcerowsecurity"
		   "  FROM concerned c JOIN pg_class r ON r.oid = c.oid),"
		   " domain(rel, oid) AS (SELECT a.attrelid, a.atttypid FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid"
		   "   AND NOT a.attisdropped AND a.attnum > 0 AND a.atttypid >= 16384::oid"
		   "  UNION SELECT d.rel, x.oid FROM domain d JOIN pg_type t ON t.oid = d.oid CROSS JOIN LATERAL ("
		   "   VALUES (t.typbasetype), (t.typelem) UNION ALL SELECT a.atttypid FROM pg_attribute a"
		   "   WHERE a.attrelid = t.typrelid AND NOT a.attisdropped AND a.attnum > 0 UNION ALL SELECT g.rngsubtype"
		   "   FROM pg_range g WHERE t.oid IN (g.rngtypid, g.rngmultitypid)) AS x(oid) WHERE x.oid >= 16384::oid),"
		   " part(rel, class, oid, line) AS MATERIALIZED ("
		   "  SELECT r.oid, 'pg_class'::regclass::oid, r.oid, pg_catalog.concat_ws(' ', r.relowner, r.relkind,"
		   "    r.relrowsecurity, r.relforcerowsecurity) FROM rel r"
		   "  UNION ALL SELECT r.oid, 'pg_trigger'::regclass, t.oid,"
		   "   pg_catalog.concat_ws(' ', t.tgenabled, pg_catalog.pg_get_triggerdef(t.oid))"
		   "   FROM rel r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal"
		   "  UNION ALL SELECT r.oid, 'pg_rewrite'::regclass, w.oid,"
		   "   pg_catalog.concat_ws(' ', w.ev_enabled, pg_catalog.pg_get_ruledef(w.oid))"
		   "   FROM rel r JOIN pg_rewrite w ON w.ev_class = r.oid"
		   "  UNION ALL SELECT r.oid, 'pg_policy'::regclass, p.oid, pg_catalog.concat_ws(' ', p.polname, p.polcmd,"
		   "    p.polpermissive, p.polroles, pg_catalog.pg_get_expr(p.polqual, r.oid), '/',"
		   "    pg_catalog.pg_get_expr(p.polwithcheck, r.oid))"
		   "   FROM rel r JOIN pg_policy p ON p.polrelid = r.oid"
		   "  UNION ALL SELECT r.oid, 'pg_constraint'::regclass, c.oid,"
		   "   pg_catalog.concat_ws(' ', c.conname, pg_catalog.pg_get_constraintdef(c.oid))"
		   "   FROM rel r JOIN pg_constraint c ON c.conrelid = r.oid"
		   "  UNION ALL SELECT d.rel, 'pg_constraint'::regclass, c.oid,"
		   "   pg_catalog.concat_ws(' ', d.oid, c.conname, pg_catalog.pg_get_constraintdef(c.oid))"
		   "   FROM domain d JOIN pg_constraint c ON c.contypid = d.oid"
		   "  UNION ALL SELECT r.oid, 'pg_attrdef'::regclass, d.oid,"
		   "   pg_catalog.concat_ws(' ', a.attname, a.attgenerated, pg_catalog.pg_get_expr(d.adbin, r.oid))"
		   "   FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attgenerated <> ''"
		   "   JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum"
		   "  UNION ALL SELECT r.oid, 'pg_class'::regclass, i.indexrelid, pg_catalog.pg_get_indexdef(i.indexrelid)"
		   "   FROM rel r JOIN pg_index i ON i.indrelid = r.oid"
		   "   WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL),"
		   " called AS (SELECT DISTINCT part.rel, COALESCE(o.oprcode::oid, d.refobjid) AS oid FROM part"
		   "  JOIN pg_depend d ON d.classid = part.class AND d.objid = part.oid"
		   "   AND d.refclassid = ANY (ARRAY['pg_proc'::regclass::oid, 'pg_operator'::regclass::oid])"
		   "  LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid),"
		   " line(line) AS (SELECT pg_catalog.concat_ws(' ', part.rel, part.class, part.line) FROM part"
		   "  UNION ALL SELECT pg_catalog.concat_ws(' ', called.rel, p.oid, p.proowner, p.prolang, p.prosecdef,"
		   "   p.proconfig, p.probin, p.prosrc, p.prosqlbody) FROM called JOIN pg_proc p ON p.oid = called.oid)"
		   " SELECT CASE WHEN (SELECT pg_catalog.bool_or(NOT pg_catalog.pg_has_role(r.relowner, $2, " LLM_CAN_ACT_AS "))"
		   "   FROM rel r) OR EXISTS (SELECT FROM domain d JOIN pg_type t ON t.oid = d.oid AND t.typtype = 'd'::\"char\""
		   "   WHERE NOT pg_catalog.pg_has_role(t.typowner, $2, " LLM_CAN_ACT_AS "))"
		   "  THEN (SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to("
		   "   pg_catalog.string_agg(l.line, E'\\n' ORDER BY l.line COLLATE \"C\"), 'UTF8')), 'hex') FROM line l) END,"
		   " (SELECT pg_catalog.array_agg(r.oid ORDER BY r.oid) FROM rel r)",
	.nargs = 2,
	.args = {OIDOID, OIDOID},
	.fresh = true};
/* clang-format on */

static void
note_relation_change(Datum arg, Oid relation)
{
	catalogs_changed = true;
}

static void
note_catalog_change(Datum arg, int cache, uint32 hash)
{
	catalogs_changed = true;
}

/* Once, and whenever something has changed. */
static void
forget_shapes(void)
{
	HASHCTL ctl = {.keysize = sizeof(ShapeKey), .entrysize = sizeof(Shape)};

	if (shapes_context == NULL)
	{
		shapes_context = AllocSetContextCreate(TopMemoryContext, "llm_enrich shapes", ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(note_relation_change, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, note_catalog_change, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, note_catalog_change, (Datum) 0);
		CacheRegisterSyscacheCallback(CONSTROID, note_catalog_change, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, note_catalog_change, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, note_catalog_change, (Datum) 0);
	}
	MemoryContextReset(shapes_context);
	ctl.hcxt = shapes_context;
	shapes = hash_create("llm_enrich shapes", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	catalogs_changed = false;
}

/* A column of a type that is not PostgreSQL's may be of another's domain, whose conditions a write runs. */
static bool
has_other_types(Oid relation, int natts)
{
	bool found = false;

	for (int i = 1; i <= natts && !found; i++)
	{
		HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relation), Int16GetDatum(i));

		if (!HeapTupleIsValid(tuple))
			continue;
		found = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid >= FirstNormalObjectId;
		ReleaseSysCache(tuple);
	}
	return found;
}

/* The common case, without a query: a table of its own, whose owner could ask itself. */
static bool
is_own_table(Oid relation, Oid role)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Form_pg_class form;
	Oid owner;
	int natts;
	bool simple;

	if (!HeapTupleIsValid(tuple))
		return true; /* nothing can be written to it */
	form = (Form_pg_class) GETSTRUCT(tuple);
	owner = form->relowner;
	natts = form->relnatts;
	simple = form->relkind == RELKIND_RELATION && !form->relhasrules && !form->relhassubclass;
	ReleaseSysCache(tuple);
	return simple && llm_can_act_as(owner, role) && !has_other_types(relation, natts);
}

static void
read_shape(const ShapeKey *key, Shape *shape)
{
	Datum values[2];
	Datum *relations;
	Datum value;
	bool isnull;

	values[0] = ObjectIdGetDatum(key->relation);
	values[1] = ObjectIdGetDatum(key->role);
	llm_spi_execute(&shape_statement, values, NULL, false);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	shape->key = *key;
	shape->hash = isnull ? NULL : MemoryContextStrdup(shapes_context, TextDatumGetCString(value));
	shape->nrelations = 0;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
	if (!isnull)
	{
		deconstruct_array(DatumGetArrayTypeP(value), OIDOID, sizeof(Oid), true, TYPALIGN_INT, &relations, NULL,
						  &shape->nrelations);
		shape->relations = MemoryContextAlloc(shapes_context, sizeof(Oid) * shape->nrelations);
		for (int i = 0; i < shape->nrelations; i++)
			shape->relations[i] = DatumGetObjectId(relations[i]);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Valid until the next call, or until something is locked. */
static const Shape *
find_shape(const ShapeKey *key)
{
	Shape read = {{0}};
	Shape *shape;

	if (shapes == NULL || catalogs_changed || hash_get_num_entries(shapes) >= MAX_SHAPES)
		forget_shapes();
	shape = hash_search(shapes, key, HASH_FIND, NULL);
	if (shape != NULL)
		return shape;
	read_shape(key, &read);
	shape = hash_search(shapes, key, HASH_ENTER, NULL);
	*shape = read;
	return shape;
}

/* Lock all that are concerned.  True: nothing changed while that was done. */
static bool
lock_relations(const Shape *shape, LOCKMODE lock)
{
	for (int i = 0; i < shape->nrelations; i++)
		LockRelationOid(shape->relations[i], lock);
	AcceptInvalidationMessages();
	return !catalogs_changed;
}

char *
llm_shape_of(Oid relation, Oid role, LOCKMODE lock)
{
	ShapeKey key = {relation, role};

	if (is_own_table(relation, role))
		return NULL;
	AcceptInvalidationMessages();
	for (int i = 0; i < MAX_ROUNDS; i++)
	{
		const Shape *shape = find_shape(&key);

		if (lock == NoLock || lock_relations(shape, lock))
			return shape->hash == NULL ? NULL : pstrdup(shape->hash);
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("definitions of relation \"%s\" or others changed while its rows were to be written",
					get_rel_name(relation))));
}
