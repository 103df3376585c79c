/*-------------------------------------------------------------------------
 *
 * utility.c
 *	  Commands that need a database or the extension for themselves, or that
 *	  bring new work.
 *
 * PostgreSQL refuses DROP DATABASE and the like while anybody is connected, and
 * DROP EXTENSION would wait for a worker's transaction.  So before such a command
 * the workers of that database are stopped, and none is started until the
 * transaction is over, however it ends: then the launcher serves again whatever is
 * left.  Only a role that may run the command can cause that; for any other role
 * PostgreSQL is left to refuse it.
 *
 * Our tables get no trigger, rule or policy of a user, and no lock but that of a reader
 * (guard.c).  A server gets no name that models use, unless an administrator gives it
 * (catalog_model.c).  One that models name is not dropped without them, and renamed with them.
 *
 * The hook looks at the kind of the statement only, so others pay next to nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/committing.h"
#include "base/compat.h"
#include "base/guard.h"
#include "base/shmem.h"
#include "base/spi.h"
#include "base/wake.h"
#include "bind/session.h"
#include "catalog/catalog_target.h"
#include "catalog/fdw.h"
#include "process/utility.h"
#include "tables/budget.h"
#include "tables/recipe_stat.h"

/* Workers end within milliseconds; after this PostgreSQL says which process is in the way. */
#define STOP_TIMEOUT_MS 5000

/* Set once, at preload. */
static ProcessUtility_hook_type previous_hook = NULL;

/* What this transaction does; reset at its end.  The list lives in TopMemoryContext. */
static List *blocked_databases = NIL;
static Oid dropped_database = InvalidOid;
static bool extension_arrived = false;
static bool databases_changed = false;

/*
 * End of the transaction.  An error or the end of the session comes here, too, so
 * no database stays blocked.
 */
static void
end_transaction(XactEvent event, void *arg)
{
	bool committed = (event == XACT_EVENT_COMMIT);
	ListCell *cell;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (committed && OidIsValid(dropped_database))
		llm_shmem_forget(dropped_database);
	if (committed && extension_arrived)
		llm_shmem_probe(MyDatabaseId);
	foreach(cell, blocked_databases)
		llm_shmem_unblock(lfirst_oid(cell));
	if (committed && databases_changed)
		llm_shmem_request_sweep();
	list_free(blocked_databases);
	blocked_databases = NIL;
	dropped_database = InvalidOid;
	extension_arrived = false;
	databases_changed = false;
}

/* Stop the workers of a database until the end of this transaction. */
static void
stop_workers(Oid database)
{
	MemoryContext old_context;

	if (!list_member_oid(blocked_databases, database))
	{
		/* remembered first, so that an error in between cannot leave it blocked */
		old_context = MemoryContextSwitchTo(TopMemoryContext);
		blocked_databases = lappend_oid(blocked_databases, database);
		MemoryContextSwitchTo(old_context);
		llm_shmem_block(database);
	}
	(void) llm_shmem_wait_stopped(database, STOP_TIMEOUT_MS);
}

/* Stop them if the current user owns the database.  Its OID, or InvalidOid. */
static Oid
stop_owned(const char *name)
{
	Oid database = get_database_oid(name, true);

	if (!OidIsValid(database) || !llm_owns_database(database, GetUserId()))
		return InvalidOid;
	stop_workers(database);
	return database;
}

static bool
may_create_databases(void)
{
	HeapTuple tuple;
	bool may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return may;
}

/* A template is copied while nobody is connected to it. */
static void
before_create_database(const CreatedbStmt *stmt)
{
	const char *template = "template1";

	databases_changed = true;
	foreach_node(DefElem, option, stmt->options)
	{
		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			template = defGetString(option);
	}
	if (may_create_databases())
		(void) stop_owned(template);
}

/* SET TABLESPACE moves its files; the other two require that nobody is connected. */
static void
before_alter_database(const AlterDatabaseStmt *stmt)
{
	ListCell *cell;

	foreach(cell, stmt->options)
	{
		const char *option = lfirst_node(DefElem, cell)->defname;

		if (strcmp(option, "tablespace") != 0 && strcmp(option, "is_template") != 0 &&
			strcmp(option, "allow_connections") != 0)
			continue;
		databases_changed = true;
		(void) stop_owned(stmt->dbname);
		break;
	}
}

/* The tables of the extension are about to change or to go. */
static void
before_extension_change(void)
{
	Oid extension = get_extension_oid(LLM_LIBRARY, true);

	if (OidIsValid(extension) && llm_owns_extension(extension, GetUserId()))
		stop_workers(MyDatabaseId);
}

static bool
names_extension(const DropStmt *stmt)
{
	ListCell *cell;

	if (stmt->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, stmt->objects)
	{
		if (strcmp(strVal(lfirst(cell)), LLM_LIBRARY) == 0)
			return true;
	}
	return false;
}

/* Models name servers; a table of ours is no object that PostgreSQL would know to depend on one. */
static void
before_drop(const DropStmt *stmt)
{
	ListCell *cell;

	if (names_extension(stmt))
		before_extension_change();
	if (stmt->removeType != OBJECT_FOREIGN_SERVER)
		return;
	foreach(cell, stmt->objects)
		llm_catalog_drop_server(strVal(lfirst(cell)), stmt->behavior == DROP_CASCADE);
}

/*
 * What names it follows, in the same transaction.  Who may not rename it is refused by PostgreSQL, as is a name that
 * is taken.
 */
static void
before_rename_server(const ForeignServer *server, const char *new_name)
{
	int64 left;

	if (!llm_spi_extension_exists() || !llm_owns_server(server->serverid, GetUserId()) ||
		OidIsValid(get_foreign_server_oid(new_name, true)))
		return;
	left = llm_budget_rename_server(server->servername, new_name);
	if (left != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot rename server \"%s\" to \"%s\" because a budget is left of a server of that name",
						server->servername, new_name),
				 errhint("SELECT llm.drop_budget(" INT64_FORMAT "); or choose another name.", left)));
	llm_catalog_rename_server(server->servername, new_name);
	llm_recipe_stat_rename_server(server->servername, new_name);
}

/* A database's workers are in the way; a server's name may be one that models use. */
static void
before_rename(const RenameStmt *stmt)
{
	if (stmt->renameType == OBJECT_DATABASE && may_create_databases())
		(void) stop_owned(stmt->subname);
	if (stmt->renameType == OBJECT_FOREIGN_SERVER)
	{
		ForeignServer *server = GetForeignServerByName(strVal(stmt->object), true);

		if (server != NULL && strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, LLM_FDW_NAME) == 0)
		{
			llm_catalog_check_server_name(stmt->newname);
			before_rename_server(server, stmt->newname);
		}
	}
}

/* A session that reads, and pg_dump, holds up nobody. */
static void
before_lock(const LockStmt *stmt)
{
	ListCell *cell;

	foreach(cell, stmt->relations)
	{
		if (stmt->mode > AccessShareLock)
			llm_guard_check_command(lfirst(cell), "lock");
	}
}

static void
before_command(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CreatedbStmt:
			before_create_database((CreatedbStmt *) stmt);
			break;
		case T_DropdbStmt:
			dropped_database = stop_owned(((DropdbStmt *) stmt)->dbname);
			break;
		case T_AlterDatabaseStmt:
			before_alter_database((AlterDatabaseStmt *) stmt);
			break;
		case T_RenameStmt:
			before_rename((RenameStmt *) stmt);
			break;
		case T_DropStmt:
			before_drop((DropStmt *) stmt);
			break;
		case T_AlterExtensionStmt:
			if (strcmp(((AlterExtensionStmt *) stmt)->extname, LLM_LIBRARY) == 0)
			{
				before_extension_change();
				extension_arrived = true;
			}
			break;
		case T_CreateExtensionStmt:
			if (strcmp(((CreateExtensionStmt *) stmt)->extname, LLM_LIBRARY) == 0)
				extension_arrived = true;
			break;
		case T_CreateForeignServerStmt:
			if (strcmp(((CreateForeignServerStmt *) stmt)->fdwname, LLM_FDW_NAME) == 0)
				llm_catalog_check_server_name(((CreateForeignServerStmt *) stmt)->servername);
			llm_wake_known_at_commit(LLM_WORKER_SENDER);
			break;
		case T_AlterForeignServerStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_DropUserMappingStmt:
		case T_GrantStmt:
		case T_GrantRoleStmt:
			/* this may end what jobs wait for: the sender looks again at commit */
			llm_wake_known_at_commit(LLM_WORKER_SENDER);
			break;
		case T_CreateTrigStmt:
			llm_guard_check_command(((CreateTrigStmt *) stmt)->relation, "create a trigger on");
			break;
		case T_RuleStmt:
			llm_guard_check_command(((RuleStmt *) stmt)->relation, "create a rule on");
			break;
		case T_CreatePolicyStmt:
			llm_guard_check_command(((CreatePolicyStmt *) stmt)->table, "create a policy on");
			break;
		case T_LockStmt:
			before_lock((LockStmt *) stmt);
			break;
		default:
			break;
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node *stmt = pstmt->utilityStmt;

	before_command(stmt);
	if (!IsA(stmt, TransactionStmt) || ((TransactionStmt *) stmt)->kind != TRANS_STMT_COMMIT_PREPARED)
	{
		previous_hook(pstmt, query, read_only_tree, context, params, environment, dest, completion);
		if (IsA(stmt, DiscardStmt) && ((DiscardStmt *) stmt)->target == DISCARD_ALL)
			llm_session_forget();
		return;
	}
	/* it runs no callbacks at its commit */
	llm_committing_begin_prepared(((TransactionStmt *) stmt)->gid);
	PG_TRY();
	{
		previous_hook(pstmt, query, read_only_tree, context, params, environment, dest, completion);
	}
	PG_FINALLY();
	{
		llm_committing_end();
	}
	PG_END_TRY();
	llm_shmem_wake_known(MyDatabaseId, LLM_WORKER_SENDER);
}

void
llm_utility_init(void)
{
	RegisterXactCallback(end_transaction, NULL);
	previous_hook = ProcessUtility_hook != NULL ? ProcessUtility_hook : standard_ProcessUtility;
	ProcessUtility_hook = process_utility;
}
