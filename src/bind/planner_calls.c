/*-------------------------------------------------------------------------
 *
 * planner_calls.c
 *	  Which functions are ours, what is a call of one, and the error for a call that
 *	  cannot be deferred.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "bind/planner.h"

/* C symbol of the functions whose calls are deferred. */
#define CALL_SYMBOL "llm_enrich_call"

/*
 * What resolve_calls() found, and whether that still holds.  Any change of a function
 * anywhere in the database, CREATE and DROP EXTENSION among them, makes it look again.
 */
static LlmPlannerCalls calls;
static bool calls_valid = false;
static bool callback_registered = false;

static void
forget_calls(Datum arg, int cache, uint32 hash)
{
	calls_valid = false;
}

/* Note the function if it is one of those that the hook deals with. */
static void
note_function(Oid function, LlmPlannerCalls *found)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Datum value;
	bool is_null;
	char *symbol;

	if (!HeapTupleIsValid(tuple))
		return;
	value = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId && !is_null)
	{
		symbol = TextDatumGetCString(value);
		if (strcmp(symbol, CALL_SYMBOL) == 0)
			found->calls = lappend_oid(found->calls, function);
		else if (strcmp(symbol, "llm_enrich_issue") == 0)
			found->issue = function;
		else if (strcmp(symbol, "llm_enrich_keep") == 0)
			found->keep = function;
		else if (strcmp(symbol, "llm_enrich_bind") == 0)
			found->bind = function;
		else if (strcmp(symbol, "llm_enrich_seen") == 0)
			found->seen = function;
		else if (strcmp(symbol, "llm_enrich_keep_quiet") == 0)
			found->keep_quiet = function;
		else if (strcmp(symbol, "llm_enrich_carried") == 0)
			found->carried = function;
		else if (strcmp(symbol, "llm_enrich_bind_quiet") == 0)
			found->bind_quiet = function;
	}
	ReleaseSysCache(tuple);
}

/* Look at every function that belongs to the extension. */
static void
find_functions(Oid extension, LlmPlannerCalls *found)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend member = (Form_pg_depend) GETSTRUCT(tuple);

		if (member->classid == ProcedureRelationId && member->deptype == DEPENDENCY_EXTENSION)
			note_function(member->objid, found);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
}

/* Fill "calls".  Raised to valid before the look, so that a change meanwhile is not missed. */
static void
resolve_calls(void)
{
	LlmPlannerCalls found = {0};
	MemoryContext caller;
	Oid extension;

	if (!callback_registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget_calls, (Datum) 0);
		callback_registered = true;
	}
	calls_valid = true;
	PG_TRY();
	{
		extension = get_extension_oid(LLM_LIBRARY, true);
		if (OidIsValid(extension))
			find_functions(extension, &found);
	}
	PG_CATCH();
	{
		calls_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();

	list_free(calls.calls);
	calls.calls = NIL;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	found.calls = list_copy(found.calls);
	MemoryContextSwitchTo(caller);
	calls = found;
}

const LlmPlannerCalls *
llm_planner_calls(void)
{
	if (!calls_valid)
		resolve_calls();
	return calls.calls == NIL ? NULL : &calls;
}

/* For check_functions_in_node(). */
static bool
is_call_oid(Oid function, void *unused)
{
	return list_member_oid(calls.calls, function);
}

bool
llm_planner_is_call(const Node *node)
{
	return node != NULL && IsA(node, FuncExpr) && list_member_oid(calls.calls, ((const FuncExpr *) node)->funcid);
}

bool
llm_planner_has_call(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_call_oid, NULL))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, llm_planner_has_call, NULL, 0);
	return expression_tree_walker(node, llm_planner_has_call, NULL);
}

/* For llm_planner_any_call(). */
static bool
any_call_walker(Node *node, FuncExpr **found)
{
	if (node == NULL)
		return false;
	if (llm_planner_is_call(node))
	{
		*found = (FuncExpr *) node;
		return true;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, any_call_walker, found, 0);
	return expression_tree_walker(node, any_call_walker, found);
}

FuncExpr *
llm_planner_any_call(Node *node)
{
	FuncExpr *found = NULL;

	(void) any_call_walker(node, &found);
	return found;
}

void
llm_planner_refuse(const LlmFound *found, const LlmRefusal *refusal)
{
	char *function = get_func_name(refusal->call->funcid);
	char *what;
	int position = 0;

	if (found->query_string != NULL && refusal->call->location >= 0 &&
		refusal->call->location < strlen(found->query_string))
		position = pg_mbstrlen_with_len(found->query_string, refusal->call->location) + 1;
	if (refusal->column != NULL)
		what = psprintf("cannot defer %s() for column \"%s\" of relation \"%s\"", function,
						refusal->column, refusal->relation);
	else if (refusal->relation != NULL)
		what = psprintf("cannot defer %s() for relation \"%s\"", function, refusal->relation);
	else
		what = psprintf("cannot defer %s() where it stands", function);
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s", what),
			 errdetail("%s", refusal->detail),
			 errhint("%s", refusal->hint),
			 position > 0 ? errposition(position) : 0));
}
