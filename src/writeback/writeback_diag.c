/*-------------------------------------------------------------------------
 *
 * writeback_diag.c
 *	  Find out why rows were not written.
 *
 *	  no such row                        row_gone
 *	  ... but in a former part of it     relation_gone
 *	  row there, marker another or none  superseded
 *	  marker there, row was locked by us the write was suppressed: not_writable
 *	  marker there, its owner can lock   the role cannot see it: not_visible
 *	  marker there, locked by another    later
 *
 * The role cannot be asked, since row security hides rows from it.  The table's
 * owner sees all, also under FORCE ROW LEVEL SECURITY as foreign key checks do;
 * what the key's types and indexes run meanwhile is restricted as in a VACUUM.
 * Views are followed down to their table: a view may have lost a row just
 * because its cell holds a marker now.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "base/compat.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/spi.h"
#include "writeback/writeback_diag.h"
#include "writeback/writeback_session.h"
#include "writeback/writeback_sql.h"

/* The column of the table below the view that the view's column shows; NULL when it is an expression. */
static char *
column_below(Query *query, Oid below, const char *column)
{
	foreach_node(TargetEntry, entry, query->targetList)
	{
		Var *var = (Var *) entry->expr;

		if (entry->resjunk || entry->resname == NULL || strcmp(entry->resname, column) != 0)
			continue;
		if (!IsA(var, Var) || var->varattno <= 0)
			return NULL;
		return get_attname(below, var->varattno, true);
	}
	return NULL;
}

/* One view down: relation and all names are replaced.  False when it cannot be followed. */
static bool
step_below(Oid *relation, char **column, char **keys, int nkeys)
{
	Relation view = table_open(*relation, AccessShareLock);
	Query *query = get_view_query(view);
	Node *from = list_length(query->jointree->fromlist) == 1 ? linitial(query->jointree->fromlist) : NULL;
	bool followed = false;

	if (from != NULL && IsA(from, RangeTblRef))
	{
		RangeTblEntry *entry = rt_fetch(((RangeTblRef *) from)->rtindex, query->rtable);

		if (entry->rtekind == RTE_RELATION)
		{
			followed = (*column = column_below(query, entry->relid, *column)) != NULL;
			for (int k = 0; followed && k < nkeys; k++)
				followed = (keys[k] = column_below(query, entry->relid, keys[k])) != NULL;
			*relation = entry->relid;
		}
	}
	table_close(view, NoLock);
	return followed;
}

/* Be the owner of a table, under the restrictions that the file's header tells of. */
static void
become_owner(Oid owner, int context)
{
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION |
									  SECURITY_NOFORCE_RLS);
}

/* As the owner: which tasks stand in the cells, and can they be locked? */
static void
look_and_lock(LlmWriteTarget *target, LlmWriteRow **rows, int n)
{
	int64 *found = palloc(sizeof(int64) * n);
	LlmWriteRow **hidden = palloc(sizeof(LlmWriteRow *) * n);
	int nhidden = 0;

	llm_writeback_look(target, rows, n, found);
	for (int i = 0; i < n; i++)
	{
		if (found[i] == -1)
			rows[i]->fate = LLM_FATE_ROW_GONE;
		else if (found[i] != rows[i]->task)
			rows[i]->fate = LLM_FATE_SUPERSEDED;
		else if (rows[i]->locked)
			llm_writeback_fail(rows[i], "not_writable",
							   psprintf("a trigger or rule of %s suppressed the write", target->name));
		else
			hidden[nhidden++] = rows[i];
	}
	if (nhidden == 0)
		return;
	llm_writeback_lock(target, hidden, nhidden, false);
	for (int i = 0; i < nhidden; i++)
	{
		if (hidden[i]->locked)
			llm_writeback_fail(hidden[i], "not_visible",
							   psprintf("the role does not see the row in %s any more, or may not update it", target->name));
		else
			hidden[i]->fate = LLM_FATE_WAITING;
	}
}

/*
 * Rows that are not in the table, but still in the partition or child that held them,
 * marker and all: it was detached.  As that table's owner; "rows" have one leaf.
 */
static void
look_into_leaf(const LlmWriteJob *job, Oid leaf, LlmWriteRow **rows, int n, int context)
{
	LlmWriteTarget target = {0};
	int64 *found = palloc(sizeof(int64) * n);
	const char *reason;
	char *explanation;

	LockRelationOid(leaf, AccessShareLock);
	if (get_rel_relkind(leaf) != RELKIND_RELATION ||
		!llm_writeback_describe(&target, leaf, job, job->column, job->keys, &reason, &explanation))
		return;
	become_owner(llm_relation_owner(leaf), context);
	llm_writeback_look(&target, rows, n, found);
	for (int i = 0; i < n; i++)
		if (found[i] == rows[i]->task)
			llm_writeback_fail(rows[i], "relation_gone",
							   psprintf("the row is in %s, which is no part of %s any more",
										target.name, job->relation_name));
}

/* Look for rows that seem to be gone in the leaves that held them, one leaf at a time. */
static void
look_for_detached(const LlmWriteJob *job, LlmWriteRow **rows, int n, int context)
{
	LlmWriteRow **missing = palloc(sizeof(LlmWriteRow *) * n);
	bool *seen = palloc0(sizeof(bool) * n);

	for (int i = 0; i < n; i++)
	{
		int nmissing = 0;

		for (int j = i; j < n; j++)
			if (!seen[j] && rows[j]->fate == LLM_FATE_ROW_GONE && rows[j]->leaf == rows[i]->leaf)
			{
				seen[j] = true;
				missing[nmissing++] = rows[j];
			}
		if (nmissing > 0 && missing[0]->leaf != job->relation)
			look_into_leaf(job, missing[0]->leaf, missing, nmissing, context);
	}
}

void
llm_writeback_diagnose(const LlmWriteJob *job, LlmWriteRow **rows, int n)
{
	LlmWriteTarget target = {0};
	LlmWriteJob below = *job; /* with the names of the table below a view */
	bool followed;
	const char *reason;
	char *explanation;
	Oid saved_user;
	int saved_context;
	Oid owner;

	below.keys = palloc(sizeof(char *) * job->nkeys);
	followed = llm_writeback_follow_names(job, &below.column, below.keys, &reason, &explanation);
	while (followed && get_rel_relkind(below.relation) == RELKIND_VIEW)
		followed = step_below(&below.relation, &below.column, below.keys, job->nkeys);
	owner = llm_relation_owner(below.relation);
	if (!followed || !OidIsValid(owner) ||
		!llm_writeback_describe(&target, below.relation, &below, below.column, below.keys, &reason, &explanation))
	{
		for (int i = 0; i < n; i++)
			llm_writeback_fail(rows[i], "not_visible",
							   psprintf("the role does not see the row in %s", job->relation_name));
		return;
	}
	GetUserIdAndSecContext(&saved_user, &saved_context);
	llm_writeback_pin_path();
	become_owner(owner, saved_context);
	look_and_lock(&target, rows, n);
	look_for_detached(&below, rows, n, saved_context);
	SetUserIdAndSecContext(saved_user, saved_context);
}
