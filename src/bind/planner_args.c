/*-------------------------------------------------------------------------
 *
 * planner_args.c
 *	  Arguments of the functions that the hook puts into statements.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "utils/rel.h"

#include "bind/planner.h"

/* The first argument of all functions that the hook puts in: what SQL cannot give. */
static Const *
magic_const(void)
{
	return makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(LLM_DEFER_MAGIC), false,
					 FLOAT8PASSBYVAL);
}

/* The two arguments that the functions which the hook puts in begin with. */
List *
llm_rewrite_fixed_args(text *spec)
{
	Const *words = makeConst(TEXTOID, -1, InvalidOid, -1, PointerGetDatum(spec), false, false);

	return list_make2(magic_const(), words);
}

/* A column of the target's table. */
Node *
llm_rewrite_column(LlmFoundTarget *target, Relation rel, AttrNumber attno)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);

	return (Node *) makeVar(target->query->resultRelation, attno, att->atttypid, att->atttypmod,
							att->attcollation, 0);
}

/* The table that holds the row, and its key there. */
List *
llm_rewrite_row(LlmFoundTarget *target, Relation rel)
{
	List *columns = list_make1(makeVar(target->query->resultRelation, TableOidAttributeNumber,
									   OIDOID, -1, InvalidOid, 0));

	for (int i = 0; i < target->spec->nkeys; i++)
		columns = lappend(columns, llm_rewrite_column(target, rel, target->key_attnos[i]));
	return columns;
}
