/*-------------------------------------------------------------------------
 *
 * planner_target.c
 *	  Can the rows that a statement stores be found again, and by what?
 *
 * The answer is written through the relation that the statement named, so for a
 * view the key must be visible in it.  The rewriter has put the table in its
 * place; the views are still in the range table, and the way back is found by
 * what each of them selects from.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "cell/marker.h"

/* Columns that the fence of a cell compares at most; and that are tried whether they are the input. */
#define LLM_MOST_READS 50
#define LLM_MOST_CANDIDATES 20

/* How the columns of the table are seen in the relation that the statement named. */
typedef struct NamedRelation
{
	Oid relation;
	int natts; /* of the table */
	AttrNumber *attnos; /* by the table's attribute number less one; 0: not shown */
	List *views; /* of LlmFoundView, the innermost first */
} NamedRelation;

const char *
llm_planner_column_fault(Oid type)
{
	LlmCellType cell = llm_marker_cell_type(type);

	if (cell == LLM_CELL_JSONB || cell == LLM_CELL_JSON)
		return NULL;
	return psprintf("Type %s cannot show a marker.", format_type_be(type));
}

static void
refuse_relation(const LlmFound *found, LlmFoundTarget *target, Oid relation, const char *detail, const char *hint)
{
	LlmRefusal refusal = {target->call, get_rel_name(relation), NULL, detail, hint};

	llm_planner_refuse(found, &refusal);
}

/* The relation that a simple view selects from, with the view's query; InvalidOid for all other views. */
static Oid
view_source(Oid view, Query **query, int *varno)
{
	Relation rel = table_open(view, NoLock);
	Oid source = InvalidOid;

	*varno = 0;
	*query = copyObject(get_view_query(rel));
	table_close(rel, NoLock);
	if (list_length((*query)->jointree->fromlist) == 1 && IsA(linitial((*query)->jointree->fromlist), RangeTblRef))
	{
		RangeTblEntry *rte;

		*varno = linitial_node(RangeTblRef, (*query)->jointree->fromlist)->rtindex;
		rte = rt_fetch(*varno, (*query)->rtable);
		if (rte->rtekind == RTE_RELATION)
			source = rte->relid;
	}
	return source;
}

/* Look at the named relation through one more view. */
static void
map_through_view(NamedRelation *named, Oid view, Query *query, int varno)
{
	LlmFoundView *found = palloc(sizeof(LlmFoundView));

	found->view = view;
	found->query = query;
	found->varno = varno;
	named->views = lappend(named->views, found);

	for (int i = 0; i < named->natts; i++)
	{
		AttrNumber shown = 0;

		foreach_ptr(TargetEntry, entry, query->targetList)
		{
			Var *var = (Var *) entry->expr;

			if (!entry->resjunk && IsA(var, Var) && var->varno == varno && var->varlevelsup == 0 &&
				named->attnos[i] != 0 && var->varattno == named->attnos[i])
			{
				shown = entry->resno;
				break;
			}
		}
		named->attnos[i] = shown;
	}
	named->relation = view;
}

/*
 * Index of the first range table entry that may be a view between the statement and its
 * table: what stands before is of the statement that a rule replaced or followed.
 */
static int
first_own_entry(Query *query)
{
	int first = 1;

	if (query->querySource == QSRC_ORIGINAL)
		return first;
	foreach_ptr(RangeTblEntry, rte, query->rtable)
	{
		if (rte->rtekind == RTE_RELATION && !rte->inFromCl && rte->eref != NULL &&
			strcmp(rte->eref->aliasname, "new") == 0)
			first = foreach_current_index(rte) + 2;
	}
	return first;
}

/* Start at the table and follow the views that the rewriter took away, up to the outermost. */
static void
find_named_relation(Query *query, Relation table, NamedRelation *named)
{
	int index;
	int last = list_length(query->rtable);
	Bitmapset *seen = NULL;

	named->relation = RelationGetRelid(table);
	named->views = NIL;
	named->natts = RelationGetNumberOfAttributes(table);
	named->attnos = palloc(named->natts * sizeof(AttrNumber));
	for (index = 0; index < named->natts; index++)
		named->attnos[index] = TupleDescAttr(RelationGetDescr(table), index)->attisdropped ? 0 : index + 1;

	index = first_own_entry(query);
	while (index <= last)
	{
		RangeTblEntry *rte = rt_fetch(index, query->rtable);
		Query *view_query;
		int varno;

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW && !bms_is_member(index, seen) &&
			view_source(rte->relid, &view_query, &varno) == named->relation)
		{
			map_through_view(named, rte->relid, view_query, varno);
			seen = bms_add_member(seen, index);
			index = first_own_entry(query);
		}
		else
			index++;
	}
}

/* Refuse relations that no answer can be written to. */
static void
check_relation(const LlmFound *found, LlmFoundTarget *target, Relation rel)
{
	const char *detail = NULL;
	const char *hint = "Store the rows in an ordinary table.";

	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_VIEW:
			detail = "What happens to a row of this view is up to its INSTEAD OF trigger, so there is no row to bind the answer to.";
			hint = "Write to the table below the view, or move the call into the trigger's own INSERT or UPDATE.";
			break;
		case RELKIND_FOREIGN_TABLE:
			detail = "It is a foreign table, and its rows are stored elsewhere.";
			break;
		default:
			detail = "It is not a table.";
	}
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		detail = "It is a temporary table, which only this session can see.";
	if (IsCatalogRelation(rel))
		detail = "It is a system catalog.";
	if (detail != NULL)
		refuse_relation(found, target, RelationGetRelid(rel), detail, hint);
}

/* Can this index find a row again?  Unique, at once, over plain columns that are never NULL. */
static bool
is_key(Relation rel, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid || form->indisexclusion ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		AttrNumber attno = form->indkey.values[i];

		if (attno <= 0 || !TupleDescAttr(RelationGetDescr(rel), attno - 1)->attnotnull)
			return false;
	}
	return true;
}

/* The key indexes of a table as lists of attribute numbers: the primary key first, then as they were made. */
static List *
find_keys(Relation rel)
{
	List *keys = NIL;
	ListCell *cell;

	foreach(cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		List *key = NIL;

		if (is_key(rel, index))
		{
			for (int i = 0; i < index->rd_index->indnkeyatts; i++)
				key = lappend_int(key, index->rd_index->indkey.values[i]);
			keys = index->rd_index->indisprimary ? lcons(key, keys) : lappend(keys, key);
		}
		index_close(index, AccessShareLock);
	}
	return keys;
}

static bool
key_is_shown(List *key, NamedRelation *named)
{
	ListCell *cell;

	foreach(cell, key)
	{
		if (named->attnos[lfirst_int(cell) - 1] == 0)
			return false;
	}
	return true;
}

/* Has the child a key over columns of the same names, in any order? */
static bool
child_has_key(Relation rel, Relation child, List *key)
{
	ListCell *child_key;
	ListCell *cell;

	foreach(child_key, find_keys(child))
	{
		bool same = list_length(lfirst(child_key)) == list_length(key);

		foreach(cell, key)
		{
			AttrNumber attno = get_attnum(RelationGetRelid(child),
										  NameStr(TupleDescAttr(RelationGetDescr(rel), lfirst_int(cell) - 1)->attname));

			same = same && list_member_int(lfirst(child_key), attno);
		}
		if (same)
			return true;
	}
	return false;
}

/* The name of a child that lacks the key, or NULL.  Locks as the planner will in a moment. */
static char *
find_child_without_key(RangeTblEntry *rte, Relation rel, List *key)
{
	char *fault = NULL;
	ListCell *cell;

	if (!rte->inh || rel->rd_rel->relkind != RELKIND_RELATION || !rel->rd_rel->relhassubclass)
		return NULL;
	foreach(cell, find_all_inheritors(RelationGetRelid(rel), rte->rellockmode, NULL))
	{
		Relation child = table_open(lfirst_oid(cell), NoLock);

		/* the planner leaves out temporary children of other sessions, too */
		if (child != rel && !RELATION_IS_OTHER_TEMP(child) && !child_has_key(rel, child, key))
			fault = pstrdup(RelationGetRelationName(child));
		table_close(child, NoLock);
		if (fault != NULL)
			break;
	}
	return fault;
}

/* The key to find rows by, or an error that says why there is none. */
static List *
choose_key(const LlmFound *found, LlmFoundTarget *target, Relation rel, NamedRelation *named)
{
	RangeTblEntry *rte = rt_fetch(target->query->resultRelation, target->query->rtable);
	List *keys = find_keys(rel);
	char *child = NULL;
	bool shown = false;
	ListCell *cell;

	foreach(cell, keys)
	{
		if (!key_is_shown(lfirst(cell), named))
			continue;
		shown = true;
		child = find_child_without_key(rte, rel, lfirst(cell));
		if (child == NULL)
			return lfirst(cell);
	}
	if (keys == NIL)
		refuse_relation(found, target, RelationGetRelid(rel),
						"It has no key by which a row could be found again when the answer is there: a primary key or unique index over columns that are NOT NULL and no expressions, and that is neither deferrable nor partial nor WITHOUT OVERLAPS.",
						"Add a primary key.");
	if (!shown)
		refuse_relation(found, target, named->relation,
						psprintf("The view does not show the key of table \"%s\", so that the row could not be found again through it when the answer is there.",
								 RelationGetRelationName(rel)),
						"Add the key columns to the view.");
	refuse_relation(found, target, RelationGetRelid(rel),
					psprintf("Its child table \"%s\" has no such key as the parent.", child),
					"Add a primary key over the same columns to each child.");
	return NIL; /* not reached */
}

static const char *
shown_name(NamedRelation *named, AttrNumber attno)
{
	AttrNumber shown = named->attnos[attno - 1];

	return shown == 0 ? "" : get_attname(named->relation, shown, false);
}

/* The number of a column of the table in the table at the top of its partitions. */
static AttrNumber
number_at_top(const LlmDeferTarget *spec, Relation rel, AttrNumber attno)
{
	if (!OidIsValid(spec->root) || spec->root == RelationGetRelid(rel))
		return attno;
	return get_attnum(spec->root, NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname));
}

/* Returns the column's index. */
static int
add_column(LlmFoundTarget *target, Relation rel, NamedRelation *named, AttrNumber attno)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	LlmDeferTarget *spec = target->spec;

	target->column_attnos[spec->ncolumns] = attno;
	spec->columns[spec->ncolumns].name = shown_name(named, attno);
	spec->columns[spec->ncolumns].type = llm_marker_cell_type(att->atttypid);
	spec->columns[spec->ncolumns].attno = number_at_top(spec, rel, attno);
	return spec->ncolumns++;
}

static void
check_shown(const LlmFound *found, LlmFoundTarget *target, Relation rel, NamedRelation *named, AttrNumber attno)
{
	if (named->attnos[attno - 1] == 0)
		refuse_relation(found, target, named->relation,
						psprintf("The view does not show column \"%s\", so that the answer could not be written through it.",
								 get_attname(RelationGetRelid(rel), attno, false)),
						"Add the column to the view.");
}

/* All columns that can show a marker, the assigned ones first. */
static void
add_columns(const LlmFound *found, LlmFoundTarget *target, Relation rel, NamedRelation *named)
{
	Bitmapset *assigned = NULL;
	int attno;

	foreach_ptr(LlmFoundValue, value, target->values)
	{
		attno = value->entry->resno;
		if (value->quiet != NULL || bms_is_member(attno, assigned))
			continue;
		assigned = bms_add_member(assigned, attno);
		check_shown(found, target, rel, named, attno);
		(void) add_column(target, rel, named, attno);
	}
	for (attno = 1; attno <= named->natts; attno++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);

		if (!att->attisdropped && !att->attgenerated && !bms_is_member(attno, assigned) &&
			llm_planner_column_fault(att->atttypid) == NULL)
			(void) add_column(target, rel, named, attno);
	}
	target->spec->nshowing = target->spec->ncolumns;
}

/* Where a quiet column is read by its fence: what its expressions read, or else what may be the input. */
static List *
fence_columns(LlmFoundTarget *target, Relation rel, NamedRelation *named, AttrNumber quiet)
{
	Bitmapset *reads = NULL;
	bool is_open = false; /* some expression reads nothing */
	List *columns = NIL;
	int attno = -1;

	foreach_ptr(LlmFoundValue, value, target->values)
	{
		if (value->quiet == NULL || value->entry->resno != quiet)
			continue;
		reads = bms_add_members(reads, value->quiet->reads);
		is_open = is_open || bms_is_empty(value->quiet->reads);
	}
	for (attno = 1; is_open && attno <= named->natts; attno++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);

		if (!att->attisdropped && attno != quiet && TypeCategory(getBaseType(att->atttypid)) == TYPCATEGORY_STRING &&
			bms_num_members(reads) < LLM_MOST_CANDIDATES)
			reads = bms_add_member(reads, attno);
	}
	attno = -1;
	while ((attno = bms_next_member(reads, attno)) > 0 && list_length(columns) < LLM_MOST_READS)
	{
		if (named->attnos[attno - 1] != 0)
			columns = lappend_int(columns, attno);
	}
	return columns;
}

/* A view has no xmin: what is read must be visible in it. */
static void
check_reads_shown(const LlmFound *found, LlmFoundTarget *target, Relation rel, NamedRelation *named,
				  const LlmFoundValue *value)
{
	int attno = -1;

	while (named->relation != RelationGetRelid(rel) && (attno = bms_next_member(value->quiet->reads, attno)) > 0)
	{
		if (named->attnos[attno - 1] == 0)
			refuse_relation(found, target, named->relation,
							psprintf("The view does not show column \"%s\", which the call reads, so that nobody could tell whether the row is still the one that was asked about.",
									 get_attname(RelationGetRelid(rel), attno, false)),
							"Add the column to the view.");
	}
}

/* The domain, of the type or one that it is made of, that takes no NULL; InvalidOid: none. */
static Oid
strict_domain(Oid type)
{
	HeapTuple tuple;

	while (get_typtype(type) == TYPTYPE_DOMAIN && (tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type))) != NULL)
	{
		Form_pg_type form = (Form_pg_type) GETSTRUCT(tuple);
		bool takes_null = !form->typnotnull;
		Oid base = form->typbasetype;

		ReleaseSysCache(tuple);
		if (!takes_null)
			return type;
		type = base;
	}
	return InvalidOid;
}

/* A NOT NULL column without a default has nothing to hold until the answer is there. */
static void
check_meanwhile(const LlmFound *found, LlmFoundTarget *target, Relation rel, const LlmFoundValue *value)
{
	AttrNumber attno = value->entry->resno;
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	LlmRefusal refusal = {value->quiet->call, RelationGetRelationName(rel), NameStr(att->attname), NULL, NULL};
	Oid domain;

	if (value->is_update || build_column_default(rel, attno) != NULL)
		return;
	domain = strict_domain(att->atttypid);
	if (!att->attnotnull && !OidIsValid(domain))
		return;
	refusal.detail = psprintf("The column is NOT NULL%s%s and has no default, so that there is nothing that it could hold until the answer is there.",
							  OidIsValid(domain) ? " by its domain " : "", OidIsValid(domain) ? format_type_be(domain) : "");
	refusal.hint = psprintf("Give the column a default (ALTER TABLE %s ALTER COLUMN %s SET DEFAULT ...), or let it be NULL.",
							quote_identifier(RelationGetRelationName(rel)), quote_identifier(NameStr(att->attname)));
	llm_planner_refuse(found, &refusal);
}

/* The quiet columns, behind those that can show a marker. */
static void
add_quiet_columns(const LlmFound *found, LlmFoundTarget *target, Relation rel, NamedRelation *named)
{
	Bitmapset *assigned = NULL;

	foreach_ptr(LlmFoundValue, value, target->values)
	{
		AttrNumber attno = value->entry->resno;
		LlmFoundQuietColumn *column;

		if (value->quiet == NULL)
			continue;
		check_meanwhile(found, target, rel, value);
		check_reads_shown(found, target, rel, named, value);
		if (bms_is_member(attno, assigned))
			continue;
		assigned = bms_add_member(assigned, attno);
		check_shown(found, target, rel, named, attno);
		column = palloc0(sizeof(LlmFoundQuietColumn));
		column->attno = attno;
		column->column = add_column(target, rel, named, attno);
		column->reads = fence_columns(target, rel, named, attno);
		target->quiet = lappend(target->quiet, column);
	}
}

/*
 * Fill target->spec and the attribute numbers beside it; "number" is the target's own in
 * the statement.  Raises 0A000 with the reason where rows cannot be found again.
 */
void
llm_planner_target(const LlmFound *found, LlmFoundTarget *target, int number)
{
	RangeTblEntry *rte = rt_fetch(target->query->resultRelation, target->query->rtable);
	Relation rel = table_open(rte->relid, NoLock); /* locked by the parser */
	NamedRelation named;
	LlmDeferTarget *spec = palloc0(sizeof(LlmDeferTarget));
	List *key;
	ListCell *cell;

	check_relation(found, target, rel);
	find_named_relation(target->query, rel, &named);
	key = choose_key(found, target, rel, &named);

	target->spec = spec;
	spec->number = number;
	spec->relation = named.relation;
	if (rel->rd_rel->relispartition)
		spec->root = llast_oid(get_partition_ancestors(RelationGetRelid(rel)));
	else if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		spec->root = RelationGetRelid(rel);
	spec->keys = palloc(list_length(key) * sizeof(char *));
	spec->key_attnos = palloc(list_length(key) * sizeof(AttrNumber));
	target->key_attnos = palloc(list_length(key) * sizeof(AttrNumber));
	foreach(cell, key)
	{
		target->key_attnos[spec->nkeys] = lfirst_int(cell);
		spec->key_attnos[spec->nkeys] = number_at_top(spec, rel, lfirst_int(cell));
		spec->keys[spec->nkeys++] = shown_name(&named, lfirst_int(cell));
	}
	/* a column may be assigned both ways, by actions of its own */
	spec->columns = palloc(2 * named.natts * sizeof(LlmDeferColumn));
	target->column_attnos = palloc(2 * named.natts * sizeof(AttrNumber));
	target->shown = named.attnos;
	add_columns(found, target, rel, &named);
	add_quiet_columns(found, target, rel, &named);
	target->views = named.views;
	llm_planner_conditions(found, target, rel);
	table_close(rel, NoLock);
}
