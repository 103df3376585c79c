/*-------------------------------------------------------------------------
 *
 * defer_right.c
 *	  May the role store the answer that it asks for?
 *
 * An answer is written by an UPDATE of the relation that the statement named, as the
 * role that asked.  A statement that only inserts needs no such right, and would pay for
 * answers that are refused when they come.  So it is asked for when the first cell of a
 * column is bound: not when the statement is planned, since plans are cached, and not
 * where nothing is asked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "bind/defer.h"

/* A column that the write-back updates, and the role that has to be allowed to. */
typedef struct Written
{
	Oid relation; /* InvalidOid: no more */
	AttrNumber attno;
	Oid role;
	Bitmapset *read; /* columns that a view reads there, as permissions have them */
} Written;

static void
refuse(const Written *written, bool is_read)
{
	char *column = get_attname(written->relation, written->attno, false);
	char *relation = get_rel_name(written->relation);
	const char *role = GetUserNameFromId(written->role, false);
	const char *place = quote_qualified_identifier(get_namespace_name(get_rel_namespace(written->relation)), relation);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to store answers in column \"%s\" of relation \"%s\"", column, relation),
			 errdetail("An answer is written by an UPDATE of the column as role \"%s\", which may not %s: it would be paid for and never stored.",
					   role, is_read ? "read what the view reads" : "do so"),
			 is_read ? errhint("GRANT SELECT ON %s TO %s;", place, quote_identifier(role))
					 : errhint("GRANT UPDATE (%s) ON %s TO %s;", quote_identifier(column), place, quote_identifier(role))));
}

static bool
may_update(const Written *written)
{
	return pg_class_aclcheck(written->relation, written->role, ACL_UPDATE) == ACLCHECK_OK ||
		   pg_attribute_aclcheck(written->relation, written->attno, written->role, ACL_UPDATE) == ACLCHECK_OK;
}

/* The write-back has to find its row, and so reads what a view reads; not so the named relation (writeback_sql.c). */
static bool
may_read(const Written *written)
{
	int member = -1;

	if (written->read == NULL || pg_class_aclcheck(written->relation, written->role, ACL_SELECT) == ACLCHECK_OK)
		return true;
	while ((member = bms_next_member(written->read, member)) >= 0)
	{
		AttrNumber attno = member + FirstLowInvalidHeapAttributeNumber;

		if (attno == InvalidAttrNumber ||
			pg_attribute_aclcheck(written->relation, attno, written->role, ACL_SELECT) != ACLCHECK_OK)
			return false;
	}
	return true;
}

/* What a view's column is below it, and as whom it is written there; a table has nothing below. */
static void
step_down(Written *written, Oid asker)
{
	Relation view;
	Query *query;
	Var *column;
	RangeTblEntry *below;

	if (get_rel_relkind(written->relation) != RELKIND_VIEW)
	{
		written->relation = InvalidOid;
		return;
	}
	view = table_open(written->relation, AccessShareLock);
	query = get_view_query(view);
	column = (Var *) get_tle_by_resno(query->targetList, written->attno)->expr;
	if (!IsA(column, Var))
		elog(ERROR, "column %d of view \"%s\" is none of a table", written->attno, RelationGetRelationName(view));
	below = rt_fetch(column->varno, query->rtable);
	written->relation = below->relid;
	written->attno = column->varattno;
	written->role = RelationHasSecurityInvoker(view) ? asker : view->rd_rel->relowner;
	written->read = bms_copy(llm_target_permission(query, below)->selectedCols);
	table_close(view, NoLock);
}

void
llm_defer_check_right(LlmTargetState *target, int column)
{
	LlmSlotState *slot = &target->slots[column];
	Oid asker = GetUserId();
	Written written = {target->spec->relation, InvalidAttrNumber, asker, NULL};

	if (slot->writer == asker)
		return;
	written.attno = get_attnum(written.relation, target->spec->columns[column].name);
	while (OidIsValid(written.relation))
	{
		if (!may_update(&written))
			refuse(&written, false);
		if (!may_read(&written))
			refuse(&written, true);
		step_down(&written, asker);
	}
	slot->writer = asker;
}
