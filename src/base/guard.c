/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  Nobody but the extension writes its tables.
 *
 * A role that could add a task could have anything written with anybody's rights, a superuser's
 * among them.  Row security keeps ordinary roles out, but not one with BYPASSRLS and the
 * rights of pg_write_all_data.  Triggers of our own could be turned off, or be passed over
 * by session_replication_role.  So the executor is asked (ADR 38): a statement or COPY that
 * names one of our tables to be written or locked is refused, whichever role runs it, unless
 *
 *	- it is a statement of ours (spi.c);
 *	- a function of the owner's, SECURITY DEFINER, runs it, as our own in SQL do;
 *	- a script of the extension runs, or pg_upgrade;
 *	- a superuser inserts what a dump carries: rows of the tables that
 *	  pg_extension_config_dump() names, and their sequences' values;
 *	- a superuser has set llm_enrich.allow_table_writes.
 *
 * Rows that logical replication brings pass by the executor; triggers see to those
 * (replica.c).  What a sequence is set to can be seen nowhere but in the call of setval():
 * the planner hook puts a function of ours in its place where the role could do harm.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/guard.h"
#include "base/guc.h"
#include "base/spi.h"

/* Written by enter() and leave(). */
static bool within = false;

static ExecutorCheckPerms_hook_type next_perms_hook = NULL;
static object_access_hook_type next_access_hook = NULL;
static planner_hook_type next_planner_hook = NULL;

PG_FUNCTION_INFO_V1(llm_enrich_setval);

bool
llm_guard_enter(void)
{
	bool before = within;

	within = true;
	return before;
}

void
llm_guard_leave(bool before)
{
	within = before;
}

/* What to do instead, by the name of a table. */
static const char *
advice(const char *table)
{
	static const struct
	{
		const char *table;
		const char *advice;
	} advices[] = {
		{"model", "Use llm.add_model(), llm.alter_model() and llm.drop_model()."},
		{"price", "Use llm.set_price()."},
		{"queue", "Use llm.cancel() and llm.retry()."},
		{"ledger", "CALL llm.prune(before) deletes old rows."},
		{"dead_letter", "llm.retry() asks again; CALL llm.prune(before) deletes old rows."},
		{"job", "CALL llm.prune(before) deletes old rows."},
		{"habit", "Use llm.forget_habits()."},
		{"recipe", "CALL llm.prune(before) deletes those that nothing refers to."},
	};

	for (int i = 0; i < lengthof(advices); i++)
	{
		if (strcmp(table, advices[i].table) == 0)
			return advices[i].advice;
	}
	return "Use the functions in schema \"" LLM_SCHEMA "\".";
}

pg_noreturn static void
refuse(Oid relation, const char *what)
{
	char *name = get_rel_name(relation);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot %s \"%s.%s\"", what, LLM_SCHEMA, name),
			 errdetail("It belongs to extension \"%s\", which alone writes it.", LLM_LIBRARY),
			 superuser() ? errhint("%s To repair it by hand, set \"llm_enrich.allow_table_writes\".", advice(name))
						 : errhint("%s", advice(name))));
}

/* Does the code that runs belong to us, or to somebody whom nothing can be kept from? */
static bool
is_open(void)
{
	if (within || IsBinaryUpgrade)
		return true;
	if (creating_extension && CurrentExtensionObject == get_extension_oid(LLM_LIBRARY, true))
		return true;
	if (InLocalUserIdChange() && GetUserId() == llm_spi_owner())
		return true;
	return llm_guc_allow_table_writes && superuser();
}

/* Is it one of the tables and sequences whose contents a dump carries? */
static bool
is_dumped(Oid relation)
{
	Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
	bool dumped = false;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(LLM_LIBRARY));
	scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool is_null;
		Datum value = heap_getattr(tuple, Anum_pg_extension_extconfig, RelationGetDescr(extensions), &is_null);
		Datum *elements = NULL;
		int n = 0;

		if (!is_null)
			deconstruct_array(DatumGetArrayTypeP(value), OIDOID, sizeof(Oid), true, TYPALIGN_INT, &elements, NULL, &n);
		for (int i = 0; i < n; i++)
			dumped = dumped || DatumGetObjectId(elements[i]) == relation;
	}
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	return dumped;
}

static void
check_write(Oid relation, AclMode asked)
{
	AclMode writes = asked & (ACL_INSERT | ACL_UPDATE | ACL_DELETE);

	if (writes == 0 || !llm_spi_owns(relation) || is_open())
		return;
	if (writes == ACL_INSERT && superuser() && is_dumped(relation))
		return;
	refuse(relation, "write or lock rows of");
}

/* ExecutorCheckPerms_hook: a statement is about to run, or COPY. */
static bool
check_permissions(LLM_CHECK_PERMS_PARAMS)
{
	foreach_ptr(LlmPermission, permission, llm_check_perms_list)
	{
		if (OidIsValid(permission->relid))
			check_write(permission->relid, permission->requiredPerms);
	}
	return next_perms_hook == NULL || next_perms_hook(LLM_CHECK_PERMS_ARGS);
}

/* May the role change sequences that it does not own, and yet is none whom nothing can be kept from? */
static bool
writes_all(void)
{
	return !superuser() && has_privs_of_role(GetUserId(), ROLE_PG_WRITE_ALL_DATA);
}

/* object_access_hook */
static void
check_access(ObjectAccessType access, Oid class, Oid object, int part, void *arg)
{
	if (next_access_hook)
		next_access_hook(access, class, object, part, arg);
	if (access == OAT_TRUNCATE && llm_spi_owns(object) && !is_open())
		refuse(object, "truncate");
	/* where no planner has seen it: a default in COPY, say */
	if (access == OAT_FUNCTION_EXECUTE && (object == F_SETVAL_REGCLASS_INT8 || object == F_SETVAL_REGCLASS_INT8_BOOL) &&
		writes_all() && llm_spi_extension_exists())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a member of \"pg_write_all_data\" cannot call setval() here"),
				 errdetail("Which sequence it sets cannot be seen, and those of extension \"%s\" are not to be set.",
						   LLM_LIBRARY),
				 errhint("Call it in a statement of its own: SELECT setval(...).")));
}

/* Our function with the arguments of setval(); InvalidOid when there is none. */
static Oid
find_setval(int nargs)
{
	Oid types[3] = {REGCLASSOID, INT8OID, BOOLOID};

	return LookupFuncName(list_make2(makeString(LLM_SCHEMA), makeString("setval")), nargs, types, true);
}

/* Put ours in its place wherever setval() stands. */
static bool
replace_setval(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, replace_setval, context, 0);
	if (IsA(node, FuncExpr))
	{
		FuncExpr *call = (FuncExpr *) node;

		if (call->funcid == F_SETVAL_REGCLASS_INT8 || call->funcid == F_SETVAL_REGCLASS_INT8_BOOL)
		{
			Oid ours = find_setval(list_length(call->args));

			if (OidIsValid(ours))
				call->funcid = ours;
		}
	}
	return expression_tree_walker(node, replace_setval, context);
}

/* planner_hook: statements on our tables are rare, and no other query is looked at. */
static PlannedStmt *
plan(LLM_PLANNER_PARAMS)
{
	if (query->commandType != CMD_UTILITY && writes_all() && llm_spi_extension_exists())
		(void) replace_setval((Node *) query, NULL);
	if (next_planner_hook)
		return next_planner_hook(LLM_PLANNER_ARGS);
	return standard_planner(LLM_PLANNER_ARGS);
}

/* SQL: llm.setval(regclass, bigint [, boolean]): setval(), but not of our sequences. */
Datum
llm_enrich_setval(PG_FUNCTION_ARGS)
{
	Oid sequence = PG_GETARG_OID(0);

	if (llm_spi_owns(sequence) && !is_open())
		refuse(sequence, "set");
	return DirectFunctionCall3(setval3_oid, ObjectIdGetDatum(sequence), PG_GETARG_DATUM(1),
							   BoolGetDatum(PG_NARGS() < 3 || PG_GETARG_BOOL(2)));
}

void
llm_guard_check_command(const RangeVar *relation, const char *what)
{
	Oid oid = relation == NULL ? InvalidOid : RangeVarGetRelid(relation, NoLock, true);

	if (OidIsValid(oid) && llm_spi_owns(oid) && !is_open())
		refuse(oid, what);
}

void
llm_guard_init(void)
{
	next_perms_hook = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_permissions;
	next_access_hook = object_access_hook;
	object_access_hook = check_access;
	next_planner_hook = planner_hook;
	planner_hook = plan;
}
