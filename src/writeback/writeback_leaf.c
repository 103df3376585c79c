/*-------------------------------------------------------------------------
 *
 * writeback_leaf.c
 *	  Rows of a partitioned table are written to their partitions by name.
 *
 * A statement that names the partitioned table is planned and begun for each of its
 * partitions, which takes half a second where there are 1,500, for the few that have rows.
 * Where they are is known since the rows were bound.  To name the partition comes to the
 * same, as far as anybody can see, where
 *
 *	  the partitioned table has no rule, no triggers FOR EACH STATEMENT on UPDATE, and no row
 *	  security that is in force for the role
 *	  the partition has none of these either
 *	  the column is in no partition key on the way, so that no row moves
 *
 * The role's right to UPDATE is that on the partitioned table, which is asked for here; on
 * the partition it needs none (writeback_sql.c).  Whatever is not written this way (it moved,
 * it is locked, a trigger refuses) goes by the partitioned table, as any other row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "base/compat.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "writeback/writeback_leaf.h"

/* With fewer partitions, and all of them directly below, one statement for all is as good. */
#define FEW_PARTITIONS 8

/* Would an UPDATE that names the relation run or obey something of its own? */
static bool
has_own_ways(Relation relation)
{
	const TriggerDesc *triggers = relation->trigdesc;

	if (relation->rd_rules != NULL || check_enable_rls(RelationGetRelid(relation), InvalidOid, true) != RLS_NONE)
		return true;
	return triggers != NULL && (triggers->trig_update_before_statement || triggers->trig_update_after_statement ||
								triggers->trig_update_old_table || triggers->trig_update_new_table);
}

/* Is the column in the relation's partition key? */
static bool
decides_place(Relation relation, AttrNumber attnum)
{
	Bitmapset *column = bms_make_singleton(attnum - FirstLowInvalidHeapAttributeNumber);
	bool decides = has_partition_attrs(relation, column, NULL);

	bms_free(column);
	return decides;
}

static bool
may_update(Oid relation, AttrNumber attnum)
{
	return pg_class_aclcheck(relation, GetUserId(), ACL_UPDATE) == ACLCHECK_OK ||
		   pg_attribute_aclcheck(relation, attnum, GetUserId(), ACL_UPDATE) == ACLCHECK_OK;
}

/* Are there enough partitions that it is worth while? */
static bool
has_many(Relation relation)
{
	PartitionDesc partitions = RelationGetPartitionDesc(relation, true);

	if (partitions->nparts > FEW_PARTITIONS)
		return true;
	for (int i = 0; i < partitions->nparts; i++)
	{
		if (!partitions->is_leaf[i])
			return true;
	}
	return false;
}

bool
llm_writeback_leaf_may(const LlmWriteTarget *target, const char *column)
{
	AttrNumber attnum = get_attnum(target->relation, column);
	Relation relation;
	bool may;

	if (get_rel_relkind(target->relation) != RELKIND_PARTITIONED_TABLE || attnum <= 0)
		return false;
	relation = table_open(target->relation, NoLock);
	may = !has_own_ways(relation) && has_many(relation) && may_update(target->relation, attnum);
	table_close(relation, NoLock);
	return may;
}

/* From the partition's parent up to the target: is the target there, and the column in no partition key? */
static bool
is_below(Oid leaf, const LlmWriteTarget *target, const char *column)
{
	List *ancestors = get_partition_ancestors(leaf);
	bool below = false;

	foreach_oid(ancestor, ancestors)
	{
		AttrNumber attnum = get_attnum(ancestor, column);
		Relation relation = attnum > 0 ? try_table_open(ancestor, AccessShareLock) : NULL;
		bool moves = relation == NULL || decides_place(relation, attnum);

		if (relation != NULL)
			table_close(relation, NoLock);
		if (moves)
			break;
		below = (ancestor == target->relation);
		if (below)
			break;
	}
	list_free(ancestors);
	return below;
}

LlmLeafWay
llm_writeback_leaf_way(const LlmWriteTarget *target, const LlmWriteJob *job, Oid relation, const char *column,
					   char **keys, LlmWriteTarget *leaf)
{
	const char *reason;
	char *explanation;
	Relation opened;
	bool own_ways;

	if (!ConditionalLockRelationOid(relation, RowExclusiveLock))
		return LLM_LEAF_LOCKED;
	if (get_rel_relkind(relation) != RELKIND_RELATION || !is_below(relation, target, column))
		return LLM_LEAF_BY_PARENT;
	opened = table_open(relation, NoLock);
	own_ways = has_own_ways(opened);
	table_close(opened, NoLock);
	memset(leaf, 0, sizeof(*leaf));
	if (own_ways || !llm_writeback_describe(leaf, relation, job, column, keys, &reason, &explanation))
		return LLM_LEAF_BY_PARENT;
	leaf->is_leaf = true;
	return LLM_LEAF_WRITE;
}
