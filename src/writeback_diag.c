/*-------------------------------------------------------------------------
 *
 * writeback_diag.c
 *	  Find out why rows were not written.
 *
 *	  no such row                        row_gone
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
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "writeback_diag.h"
#include "writeback_sql.h"

/* The column of the table below the view that the view's column shows; NULL when it is an expression. */
static char *
column_below(Query *query, Oid below, const char *column)
{
	ListCell *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
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

/* The table's owner; InvalidOid when it was dropped. */
static Oid
relation_owner(Oid relation)
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

/* As the owner: who stands in the cells, and can they be locked? */
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

void
llm_writeback_diagnose(LlmWriteJob *job, LlmWriteRow **rows, int n)
{
	LlmWriteTarget target = {0};
	Oid relation = job->relation;
	char *column = job->column;
	char **keys = palloc(sizeof(char *) * job->nkeys);
	bool followed = true;
	const char *reason;
	char *explanation;
	Oid saved_user;
	int saved_context;
	Oid owner;

	memcpy(keys, job->keys, sizeof(char *) * job->nkeys);
	while (followed && get_rel_relkind(relation) == RELKIND_VIEW)
		followed = step_below(&relation, &column, keys, job->nkeys);
	owner = relation_owner(relation);
	if (!followed || !OidIsValid(owner) ||
		!llm_writeback_describe(&target, relation, column, keys, job->nkeys, &reason, &explanation))
	{
		for (int i = 0; i < n; i++)
			llm_writeback_fail(rows[i], "not_visible",
							   psprintf("the role does not see the row in %s", job->relation_name));
		return;
	}
	GetUserIdAndSecContext(&saved_user, &saved_context);
	SetUserIdAndSecContext(owner, saved_context | SECURITY_LOCAL_USERID_CHANGE |
									  SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
	look_and_lock(&target, rows, n);
	SetUserIdAndSecContext(saved_user, saved_context);
}
