/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Every difference between PostgreSQL 15, 16, 17, 18 and 19, and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_COMPAT_H
#define LLM_COMPAT_H

#include "postgres.h"

/* macros of varlenas, which came with postgres.h */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "llm_enrich needs PostgreSQL 15 or later"
#endif

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_proc.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/jsonb.h"

#if PG_VERSION_NUM < 160000
#define llm_owns_database(db, role) pg_database_ownercheck(db, role)
#define llm_owns_extension(ext, role) pg_extension_ownercheck(ext, role)
#define llm_owns_server(server, role) pg_foreign_server_ownercheck(server, role)
#define llm_owns_relation(rel, role) pg_class_ownercheck(rel, role)
#define llm_acl_server(server, role, mode) pg_foreign_server_aclcheck(server, role, mode)
#define llm_acl_function(func, role, mode) pg_proc_aclcheck(func, role, mode)
#else
#define llm_owns_database(db, role) object_ownercheck(DatabaseRelationId, db, role)
#define llm_owns_extension(ext, role) object_ownercheck(ExtensionRelationId, ext, role)
#define llm_owns_server(server, role) object_ownercheck(ForeignServerRelationId, server, role)
#define llm_owns_relation(rel, role) object_ownercheck(RelationRelationId, rel, role)
#define llm_acl_server(server, role, mode) object_aclcheck(ForeignServerRelationId, server, role, mode)
#define llm_acl_function(func, role, mode) object_aclcheck(ProcedureRelationId, func, role, mode)
#endif

/* Has the member the rights of the role, or may it take them?  A membership may bring neither from 16 on. */
#if PG_VERSION_NUM < 160000
#define llm_can_act_as(member, role) is_member_of_role(member, role)
#define LLM_CAN_ACT_AS "'MEMBER'" /* for pg_has_role() */
#else
#define LLM_CAN_ACT_AS "'USAGE, SET, MEMBER WITH ADMIN OPTION'"
#define llm_can_act_as(member, role) \
	(has_privs_of_role(member, role) || member_can_set_role(member, role) || is_admin_of_role(member, role))
#endif

/* Lists are walked as in 17 and later. */
#if PG_VERSION_NUM < 170000
#define llm_foreach(type, pointer, var, list, get)                                                   \
	for (type pointer var = 0, pointer var##__once = (type pointer) 1; var##__once; var##__once = 0) \
		for (ForEachState var##__state = {(list), 0};                                                \
			 var##__state.l != NIL && var##__state.i < var##__state.l->length &&                     \
			 (var = (type pointer) get(&var##__state.l->elements[var##__state.i]), true);            \
			 var##__state.i++)
#define foreach_ptr(type, var, list) llm_foreach(type, *, var, list, lfirst)
#define foreach_int(var, list) llm_foreach(int, , var, list, lfirst_int)
#define foreach_oid(var, list) llm_foreach(Oid, , var, list, lfirst_oid)
#define foreach_node(type, var, list)                                                    \
	for (type *var = 0, *var##__once = (type *) 1; var##__once; var##__once = 0)         \
		for (ForEachState var##__state = {(list), 0};                                    \
			 var##__state.l != NIL && var##__state.i < var##__state.l->length &&         \
			 (var = lfirst_node(type, &var##__state.l->elements[var##__state.i]), true); \
			 var##__state.i++)
#endif

/* A setting of 17 and later that a worker must not have (worker.c). */
#if PG_VERSION_NUM < 170000
#define LLM_TRANSACTION_TIMEOUT_SETTING
#else
#define LLM_TRANSACTION_TIMEOUT_SETTING \
	{                                   \
		"transaction_timeout", "0"      \
	}
#endif

/* Mark of a database whose DROP was interrupted; came with the minor releases of August 2023. */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB -2
#endif

/* Needs utils/datetime.h.  16 added an argument for details of an error. */
#if PG_VERSION_NUM < 160000
#define llm_decode_datetime(field, ftype, nf, dtype, tm, fsec, tz) \
	DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tz)
#else
#define llm_decode_datetime(field, ftype, nf, dtype, tm, fsec, tz) \
	DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tz, &(DateTimeErrorExtra){0})
#endif

/* Number of this process among those that have a PGPROC.  Needs storage/proc.h. */
#if PG_VERSION_NUM < 170000
#define llm_process_number() (MyProc->pgprocno)
#else
#define llm_process_number() (MyProcNumber)
#endif

/* 18 writes it before the declaration, and has no pg_attribute_noreturn any more. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Headers of 15 with declarations that are no prototypes; include them by way of this one. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include "commands/explain.h"
#include "nodes/extensible.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "utils/selfuncs.h"
#pragma GCC diagnostic pop

/* planner_hook and standard_planner() got an argument for EXPLAIN in 19. */
#if PG_VERSION_NUM < 190000
#define LLM_PLANNER_PARAMS Query *query, const char *query_string, int options, ParamListInfo params
#define LLM_PLANNER_ARGS query, query_string, options, params
#else
#define LLM_PLANNER_PARAMS \
	Query *query, const char *query_string, int options, ParamListInfo params, ExplainState *explain
#define LLM_PLANNER_ARGS query, query_string, options, params, explain
#endif

/*
 * Called when the planner has read what it knows of a relation: a hook of 19 that is called for everything in
 * FROM took the place of the one for relations.  LLM_RELATION_INFO_OID is InvalidOid for what is no relation.
 */
#if PG_VERSION_NUM < 190000
typedef get_relation_info_hook_type llm_relation_info_hook_type;
#define llm_relation_info_hook get_relation_info_hook
#define LLM_RELATION_INFO_PARAMS PlannerInfo *root, Oid relation, bool inhparent, RelOptInfo *rel
#define LLM_RELATION_INFO_ARGS root, relation, inhparent, rel
#define LLM_RELATION_INFO_OID relation
#else
typedef build_simple_rel_hook_type llm_relation_info_hook_type;
#define llm_relation_info_hook build_simple_rel_hook
#define LLM_RELATION_INFO_PARAMS PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte
#define LLM_RELATION_INFO_ARGS root, rel, rte
#define LLM_RELATION_INFO_OID (rte->rtekind == RTE_RELATION ? rte->relid : InvalidOid)
#endif

/* 18 moved what EXPLAIN writes with. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* What the planner hook looks at: 17 moved the condition of MERGE, 18 the expressions of GROUP BY. */
#if PG_VERSION_NUM < 170000
#define llm_query_merge_condition(query) ((Node *) NULL)
#else
#define llm_query_merge_condition(query) ((query)->mergeJoinCondition)
#endif
#if PG_VERSION_NUM < 180000
#define llm_rte_group_exprs(rte) ((List *) NIL)
#else
#define llm_rte_group_exprs(rte) ((rte)->rtekind == RTE_GROUP ? (rte)->groupexprs : (List *) NIL)
#endif

/* RETURNING old.column came with 18. */
#if PG_VERSION_NUM < 180000
#define llm_is_old_value(var) false
#else
#define llm_is_old_value(var) ((var)->varreturningtype == VAR_RETURNING_OLD)
#endif

/* ExecutorRun_hook lost its last argument in 18. */
#if PG_VERSION_NUM < 180000
#define LLM_EXECUTOR_RUN_PARAMS QueryDesc *query_desc, ScanDirection direction, uint64 count, bool execute_once
#define LLM_EXECUTOR_RUN_ARGS query_desc, direction, count, execute_once
#else
#define LLM_EXECUTOR_RUN_PARAMS QueryDesc *query_desc, ScanDirection direction, uint64 count
#define LLM_EXECUTOR_RUN_ARGS query_desc, direction, count
#endif

/* The same for callers of the executor.  Needs executor/executor.h. */
#if PG_VERSION_NUM < 180000
#define llm_executor_run(query_desc) ExecutorRun(query_desc, ForwardScanDirection, 0, true)
#else
#define llm_executor_run(query_desc) ExecutorRun(query_desc, ForwardScanDirection, 0)
#endif

/* Needs tcop/tcopprot.h.  19 has an argument for EXPLAIN. */
#if PG_VERSION_NUM < 190000
#define llm_plan_query(query, source) pg_plan_query(query, source, 0, NULL)
#else
#define llm_plan_query(query, source) pg_plan_query(query, source, 0, NULL, NULL)
#endif

/* Since 17 a set of wait events may hang on a resource owner instead of a memory context. */
#if PG_VERSION_NUM < 170000
#define llm_create_wait_event_set(nevents) CreateWaitEventSet(TopMemoryContext, nevents)
#else
#define llm_create_wait_event_set(nevents) CreateWaitEventSet(NULL, nevents)
#endif

/*
 * Since 17 an extension may name what its processes wait for.  "number" is a static variable of the caller, 0 at first.
 * Needs utils/wait_event.h.
 */
#if PG_VERSION_NUM < 170000
#define llm_wait_event(number, name) ((void) (number), PG_WAIT_EXTENSION)
#else
#define llm_wait_event(number, name) ((number) != 0 ? (number) : ((number) = WaitEventExtensionNew(name)))
#endif

/* Rights that a query asks for: kept in its range table, later in a list of their own. */
#if PG_VERSION_NUM < 160000
typedef RangeTblEntry LlmPermission;
#define llm_query_permissions(query) ((query)->rtable)
#define llm_target_permission(query, rte) (rte)
#else
typedef RTEPermissionInfo LlmPermission;
#define llm_query_permissions(query) ((query)->rteperminfos)
/* Needs parser/parse_relation.h. */
#define llm_target_permission(query, rte) getRTEPermissionInfo((query)->rteperminfos, rte)
#endif

/* ExecutorCheckPerms_hook: the same change. */
#if PG_VERSION_NUM < 160000
#define LLM_CHECK_PERMS_PARAMS List *range_table, bool raise
#define LLM_CHECK_PERMS_ARGS range_table, raise
#define llm_check_perms_list range_table
#else
#define LLM_CHECK_PERMS_PARAMS List *range_table, List *permissions, bool raise
#define LLM_CHECK_PERMS_ARGS range_table, permissions, raise
#define llm_check_perms_list permissions
#endif

/* All settings and their number; the array is not ours.  Needs utils/guc_tables.h. */
#if PG_VERSION_NUM < 160000
#define llm_settings(n) (*(n) = GetNumConfigOptions(), get_guc_variables())
#else
#define llm_settings(n) get_guc_variables(n)
#endif

/* Needs executor/executor.h.  16 added an argument for UPDATE; 19 has flags. */
#if PG_VERSION_NUM < 160000
#define llm_insert_index_tuples(target, slot, estate) \
	ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL)
#elif PG_VERSION_NUM < 190000
#define llm_insert_index_tuples(target, slot, estate) \
	ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL, false)
#else
#define llm_insert_index_tuples(target, slot, estate) ExecInsertIndexTuples(target, estate, 0, slot, NIL, NULL)
#endif

/* Which indexes an UPDATE has to do with: all or none; since 16 some may be asked for a summary only. */
#if PG_VERSION_NUM < 160000
typedef bool LlmUpdateIndexes;
#define llm_update_index_tuples(target, slot, estate, which) \
	((which) ? list_free(ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL)) : (void) 0)
#elif PG_VERSION_NUM < 190000
#define LlmUpdateIndexes TU_UpdateIndexes
#define llm_update_index_tuples(target, slot, estate, which)                                       \
	((which) != TU_None ? list_free(ExecInsertIndexTuples(target, slot, estate, true, false, NULL, \
														  NIL, (which) == TU_Summarizing))         \
						: (void) 0)
#else
#define LlmUpdateIndexes TU_UpdateIndexes
#define llm_update_index_tuples(target, slot, estate, which)                                                         \
	((which) != TU_None                                                                                              \
		 ? list_free(ExecInsertIndexTuples(target, estate,                                                           \
										   EIIT_IS_UPDATE | ((which) == TU_Summarizing ? EIIT_ONLY_SUMMARIZING : 0), \
										   slot, NIL, NULL))                                                         \
		 : (void) 0)
#endif

/* Needs access/tableam.h, access/xact.h and utils/snapmgr.h.  It waits for others.  19 has options. */
#if PG_VERSION_NUM < 190000
#define llm_tuple_update(table, tid, slot, failure, mode, which)                                                \
	table_tuple_update(table, tid, slot, GetCurrentCommandId(true), GetActiveSnapshot(), InvalidSnapshot, true, \
					   failure, mode, which)
#else
#define llm_tuple_update(table, tid, slot, failure, mode, which)                                                   \
	table_tuple_update(table, tid, slot, GetCurrentCommandId(true), 0, GetActiveSnapshot(), InvalidSnapshot, true, \
					   failure, mode, which)
#endif

/* What ExecutorStart() raises where a right is missing.  Needs executor/executor.h.  16 keeps rights apart. */
#if PG_VERSION_NUM >= 160000
#define llm_check_plan_rights(plan) ((void) ExecCheckPermissions((plan)->rtable, (plan)->permInfos, true))
#else
#define llm_check_plan_rights(plan) ((void) ExecCheckRTPerms((plan)->rtable, true))
#endif

/* Needs executor/tuptable.h.  19 has flags. */
#if PG_VERSION_NUM < 190000
#define llm_alloc_table_slot(table, desc, ops) ExecAllocTableSlot(table, desc, ops)
#else
#define llm_alloc_table_slot(table, desc, ops) ExecAllocTableSlot(table, desc, ops, 0)
#endif

/* Needs access/genam.h.  18 counts what a scan does, for EXPLAIN; 19 has flags. */
#if PG_VERSION_NUM < 180000
#define llm_index_beginscan(table, index, snapshot, nkeys) index_beginscan(table, index, snapshot, nkeys, 0)
#elif PG_VERSION_NUM < 190000
#define llm_index_beginscan(table, index, snapshot, nkeys) index_beginscan(table, index, snapshot, NULL, nkeys, 0)
#else
#define llm_index_beginscan(table, index, snapshot, nkeys) index_beginscan(table, index, snapshot, NULL, nkeys, 0, 0)
#endif

/* Signal handlers of 19 are told which process sent the signal. */
#if PG_VERSION_NUM < 190000
#define LLM_SIG_IGN SIG_IGN
#define llm_cancel_statement(signo) StatementCancelHandler(signo)
#else
#define LLM_SIG_IGN PG_SIG_IGN
#define llm_cancel_statement(signo) StatementCancelHandler(signo, &(pg_signal_info){0})
#endif

/*
 * A jsonb value that is built piece by piece; begins as {0}.  llm_jsonb_push() returns the value when it is
 * complete.  The result was returned up to 18, and is in the state since.
 */
#if PG_VERSION_NUM < 190000
typedef JsonbParseState *LlmJsonbState;
#define llm_jsonb_push(state, token, value) pushJsonbValue(state, token, value)
#else
typedef JsonbInState LlmJsonbState;
static inline JsonbValue *
llm_jsonb_push(LlmJsonbState *state, JsonbIteratorToken token, JsonbValue *value)
{
	pushJsonbValue(state, token, value);
	return state->result;
}
#endif

/* Needs utils/rel.h.  18 asks whether a deferrable one will do. */
#if PG_VERSION_NUM < 180000
#define llm_primary_key(table) RelationGetPrimaryKeyIndex(table)
#else
#define llm_primary_key(table) RelationGetPrimaryKeyIndex(table, true)
#endif

/* A type, and the parts of a name, as written.  Need parser/parse_type.h and utils/regproc.h. */
#if PG_VERSION_NUM < 160000
#define llm_parse_type(name, type, typmod) parseTypeString(name, type, typmod, false)
#define llm_name_list(name) stringToQualifiedNameList(name)
#else
#define llm_parse_type(name, type, typmod) ((void) parseTypeString(name, type, typmod, NULL))
#define llm_name_list(name) stringToQualifiedNameList(name, NULL)
#endif

#endif /* LLM_COMPAT_H */
