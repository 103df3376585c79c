/*-------------------------------------------------------------------------
 *
 * called.c
 *	  Which functions an expression calls, so that it does not call others when it is read again.
 *
 * In pg_catalog only a superuser creates anything, so what is there is left out.  A function
 * is known by its signature, not by its number: one that was dropped and made again is the same.
 * But functions of pg_catalog may run a text that they are given.  So the conditions of domains
 * are among the signatures themselves, word for word.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "parser/parse_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/called.h"
#include "base/compat.h"

typedef struct Called
{
	List *functions; /* of Oid */
	List *conditions; /* of Condition */
	List *types; /* of Oid, that were looked at */
} Called;

/* Of a domain. */
typedef struct Condition
{
	Oid domain;
	const char *signature; /* its name, and what it says */
} Condition;

static bool called_walker(Node *node, Called *called);

/* For check_functions_in_node(). */
static bool
note_function(Oid function, void *context)
{
	Called *called = context;

	if (function >= FirstNormalObjectId)
		called->functions = list_append_unique_oid(called->functions, function);
	return false;
}

static void
note_condition(Oid domain, Oid constraint, Called *called)
{
	Condition *condition = palloc(sizeof(Condition));
	Datum words = OidFunctionCall1(F_PG_GET_CONSTRAINTDEF_OID, ObjectIdGetDatum(constraint));

	condition->domain = domain;
	condition->signature = psprintf("%s %s", format_type_be_qualified(domain), TextDatumGetCString(words));
	called->conditions = lappend(called->conditions, condition);
}

/*
 * The conditions of a domain, as they are stored: the type cache would plan them, which calls what is
 * immutable in them.
 */
static void
note_conditions(Oid domain, Called *called)
{
	Relation constraints = table_open(ConstraintRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_constraint_contypid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(domain));
	scan = systable_beginscan(constraints, ConstraintTypidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Datum condition = heap_getattr(tuple, Anum_pg_constraint_conbin, RelationGetDescr(constraints), &isnull);

		if (isnull)
			continue;
		note_condition(domain, ((Form_pg_constraint) GETSTRUCT(tuple))->oid, called);
		(void) called_walker(stringToNode(TextDatumGetCString(condition)), called);
	}
	systable_endscan(scan);
	table_close(constraints, AccessShareLock);
}

/* What the domain is over, which may be another domain. */
static Oid
domain_over(Oid domain)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(domain));
	Oid over;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	over = ((Form_pg_type) GETSTRUCT(tuple))->typbasetype;
	ReleaseSysCache(tuple);
	return over;
}

static void note_type(Oid type, Called *called);

static void
note_columns(Oid type, Called *called)
{
	TupleDesc desc = lookup_rowtype_tupdesc_copy(type, -1);

	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			note_type(TupleDescAttr(desc, i)->atttypid, called);
	}
}

/* The domains that a value of the type passes through when it is read as text, or made. */
static void
note_type(Oid type, Called *called)
{
	check_stack_depth();
	if (type < FirstNormalObjectId || list_member_oid(called->types, type))
		return;
	called->types = lappend_oid(called->types, type);
	switch (get_typtype(type))
	{
		case TYPTYPE_DOMAIN:
			note_conditions(type, called);
			note_type(domain_over(type), called);
			break;
		case TYPTYPE_COMPOSITE:
			note_columns(type, called);
			break;
		case TYPTYPE_RANGE:
			note_type(get_range_subtype(type), called);
			break;
		case TYPTYPE_MULTIRANGE:
			note_type(get_multirange_range(type), called);
			break;
		default:
			note_type(get_element_type(type), called);
			break;
	}
}

static bool
called_walker(Node *node, Called *called)
{
	if (node == NULL)
		return false;
	(void) check_functions_in_node(node, note_function, called);
	switch (nodeTag(node))
	{
		case T_ArrayCoerceExpr:
		case T_ArrayExpr:
		case T_CoerceToDomain:
		case T_CoerceViaIO:
		case T_Const:
		case T_ConvertRowtypeExpr:
		case T_FuncExpr:
		case T_OpExpr:
		case T_Param:
		case T_RelabelType:
		case T_RowExpr:
		case T_Var:
			note_type(exprType(node), called);
			break;
		default:
			break;
	}
	return expression_tree_walker(node, called_walker, called);
}

List *
llm_called_by(Node *expr)
{
	Called called = {0};
	List *signatures = NIL;
	ListCell *cell;

	(void) called_walker(expr, &called);
	foreach(cell, called.functions)
		signatures = lappend(signatures, format_procedure_qualified(lfirst_oid(cell)));
	foreach(cell, called.conditions)
		signatures = lappend(signatures, unconstify(char *, ((Condition *) lfirst(cell))->signature));
	return signatures;
}

/* Its owner could ask as this role, or it is gone. */
static bool
is_of_member(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		return true;
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return llm_can_act_as(owner, GetUserId());
}

static bool
is_domain_of_member(Oid domain)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(domain));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		return true;
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	ReleaseSysCache(tuple);
	return llm_can_act_as(owner, GetUserId());
}

static bool
is_among(const char *signature, const List *signatures)
{
	ListCell *cell;

	foreach(cell, signatures)
	{
		if (strcmp(signature, lfirst(cell)) == 0)
			return true;
	}
	return false;
}

static void
check_functions(const Called *called, const List *signatures)
{
	ListCell *cell;

	foreach(cell, called->functions)
	{
		const char *signature = format_procedure_qualified(lfirst_oid(cell));

		if (!is_among(signature, signatures) && !is_of_member(lfirst_oid(cell)))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("function %s would be called, and would not have been when it was asked", signature),
					 errdetail("It is another role's, and came with a cast, an operator, a domain or its arguments since."),
					 errhint("Look at it. When it is gone, llm.retry() goes on with the answer that is there.")));
	}
	foreach(cell, called->conditions)
	{
		const Condition *condition = lfirst(cell);

		if (!is_among(condition->signature, signatures) && !is_domain_of_member(condition->domain))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a value would pass through a condition that domain %s had not when it was asked",
							format_type_be_qualified(condition->domain)),
					 errdetail("The domain is another role's, and has it since: %s", condition->signature),
					 errhint("Look at it. When it is gone, llm.retry() goes on with the answer that is there.")));
	}
}

void
llm_called_check(Node *expr, const List *signatures)
{
	Called called = {0};

	(void) called_walker(expr, &called);
	check_functions(&called, signatures);
}

/* What a raw tree names; one that is not there is an error of the parser's. */
static bool
names_walker(Node *node, Called *called)
{
	if (node == NULL)
		return false;
	if (IsA(node, TypeName))
	{
		Oid type = LookupTypeNameOid(NULL, (TypeName *) node, true);

		if (OidIsValid(type))
			note_type(type, called);
	}
	return raw_expression_tree_walker(node, names_walker, called);
}

void
llm_called_check_literals(Node *raw, Oid target, const List *signatures)
{
	Called called = {0};

	(void) names_walker(raw, &called);
	note_type(target, &called);
	check_functions(&called, signatures);
}
