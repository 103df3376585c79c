/*-------------------------------------------------------------------------
 *
 * sql_prune.c
 *	  llm.prune(): retention.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "base/shmem.h"
#include "tables/prune.h"

#define ADMIN_ROLE "llm_admin"

PG_FUNCTION_INFO_V1(llm_enrich_prune);

static void
check_may_prune(FunctionCallInfo fcinfo)
{
	Oid admin = get_role_oid(ADMIN_ROLE, true);

	if (!superuser() && (!OidIsValid(admin) || !has_privs_of_role(GetUserId(), admin)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to prune"),
				 errhint("It is for members of role \"%s\".", ADMIN_ROLE)));
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("llm.prune() cannot run inside a transaction block"),
				 errdetail("It commits after each step."),
				 errhint("CALL it in a statement of its own.")));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("llm.prune() needs to know before when"),
				 errhint("CALL llm.prune(now() - interval '1 year').")));
}

/* SQL: CALL llm.prune(before timestamptz) */
Datum
llm_enrich_prune(PG_FUNCTION_ARGS)
{
	TimestampTz before;
	char line[256] = ""; /* no memory of a transaction: each step ends one */

	llm_shmem_require_preload();
	PreventCommandIfReadOnly("llm.prune()");
	check_may_prune(fcinfo);
	before = PG_GETARG_TIMESTAMPTZ(0);
	for (LlmPruneKind kind = 0; kind < LLM_PRUNE_KINDS; kind++)
	{
		int64 deleted;
		size_t used = strlen(line);

		if (kind == LLM_PRUNE_RECIPES && !llm_prune_await_recipe_readers())
		{
			ereport(NOTICE,
					(errmsg("recipes that nothing refers to are left to the next llm.prune()"),
					 errdetail("A transaction that may have found one of them has not ended yet.")));
			break;
		}
		deleted = llm_prune(kind, before);
		if (llm_prune_name(kind) != NULL)
			snprintf(line + used, sizeof(line) - used, "%s%s " INT64_FORMAT, used > 0 ? ", " : "", llm_prune_name(kind),
					 deleted);
	}
	ereport(NOTICE,
			(errmsg("rows deleted: %s", line)));
	PG_RETURN_VOID();
}
