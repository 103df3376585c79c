/*-------------------------------------------------------------------------
 *
 * sql_budget.c
 *	  llm.set_budget() and llm.drop_budget(): arguments and rights, then one call down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "bind/control.h"
#include "catalog/catalog_target.h"
#include "tables/budget.h"

/* No more is meant by anybody; sums of budgets fit 64 bits then. */
#define MOST_DOLLARS 1000000000

PG_FUNCTION_INFO_V1(llm_enrich_drop_budget);
PG_FUNCTION_INFO_V1(llm_enrich_set_budget);

/* llm_admin, and the owner of the server that the budget is of. */
static void
check_right(const char *server)
{
	ForeignServer *found;

	if (llm_control_is_admin())
		return;
	found = server == NULL ? NULL : GetForeignServerByName(server, true);
	if (found == NULL || !llm_owns_server(found->serverid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set this budget"),
				 errdetail("Members of llm_admin set budgets, and the owner of a server sets those of the server."),
				 errhint("Ask for GRANT llm_admin TO %s, or name a server of yours: server => '...'.",
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

/* The owner of a server cannot undo what an administrator has set for it, or another owner before. */
static void
refuse_others(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to change a budget that another role has set"),
			 errdetail("The owner of a server sets budgets for it, and changes those that the same role has set."),
			 errhint("Ask a member of llm_admin, or set one for another period: the tighter one holds.")));
}

static char *
text_or_null(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

static Datum
read_amount(FunctionCallInfo fcinfo)
{
	Datum amount = PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0);
	Datum none = NumericGetDatum(int64_to_numeric(0));
	Datum most = NumericGetDatum(int64_to_numeric(MOST_DOLLARS));

	/* NaN is above all numbers */
	if (PG_ARGISNULL(0) || DatumGetBool(DirectFunctionCall2(numeric_lt, amount, none)) ||
		DatumGetBool(DirectFunctionCall2(numeric_ge, amount, most)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the amount of a budget must be a number from 0 to below %d", MOST_DOLLARS),
				 errdetail("It is in US dollars."),
				 errhint("llm.drop_budget() takes a budget away.")));
	return amount;
}

static char *
read_per(FunctionCallInfo fcinfo)
{
	static const char *const periods[] = {"day", "week", "month", "total"};
	char *per = text_or_null(fcinfo, 1);

	for (int i = 0; per != NULL && i < lengthof(periods); i++)
	{
		if (strcmp(per, periods[i]) == 0)
			return per;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a budget is per day, week, month or total, not \"%s\"", per == NULL ? "NULL" : per),
			 errhint("per => 'day'")));
	return NULL; /* keep the compiler quiet */
}

/* SQL: llm.set_budget(amount, per, role, relation, model, server, tag, value, time_zone) -> number of the budget */
Datum
llm_enrich_set_budget(PG_FUNCTION_ARGS)
{
	LlmBudgetRule rule = {0};
	int64 id;

	llm_shmem_require_preload();
	rule.amount = read_amount(fcinfo);
	rule.per = read_per(fcinfo);
	rule.role = PG_ARGISNULL(2) ? InvalidOid : get_role_oid(NameStr(*PG_GETARG_NAME(2)), false);
	rule.relation = PG_ARGISNULL(3) ? InvalidOid : PG_GETARG_OID(3);
	rule.model = text_or_null(fcinfo, 4);
	rule.server = text_or_null(fcinfo, 5);
	rule.tag = text_or_null(fcinfo, 6);
	rule.value = text_or_null(fcinfo, 7);
	rule.time_zone = text_or_null(fcinfo, 8);
	rule.set_by = GetUserNameFromId(GetUserId(), false);
	if ((rule.tag == NULL) != (rule.value == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a budget of a tag needs the tag and its value"),
				 errhint("tag => 'team', value => 'support'")));
	if (rule.server != NULL)
		(void) GetForeignServerByName(rule.server, false);
	if (rule.model != NULL)
		llm_catalog_check_call(rule.model, GetUserId());
	if (rule.server == NULL && rule.model != NULL)
		check_right(llm_catalog_target(rule.model, GetUserId())->server);
	else
		check_right(rule.server);
	id = llm_budget_set(&rule, llm_control_is_admin());
	if (id == 0)
		refuse_others();
	PG_RETURN_INT64(id);
}

/* SQL: llm.drop_budget(id) */
Datum
llm_enrich_drop_budget(PG_FUNCTION_ARGS)
{
	int64 id = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);
	char *server = NULL;

	llm_shmem_require_preload();
	if (!llm_budget_server_of(id, &server))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no budget " INT64_FORMAT, id),
				 errhint("See llm.budget.")));
	check_right(server);
	if (!llm_budget_drop(id, GetUserNameFromId(GetUserId(), false), llm_control_is_admin()))
		refuse_others();
	PG_RETURN_VOID();
}
