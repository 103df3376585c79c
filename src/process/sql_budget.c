/*-------------------------------------------------------------------------
 *
 * sql_budget.c
 *	  llm.set_budget() and llm.drop_budget(): arguments and rights, then one call down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "base/spi.h"
#include "bind/control.h"
#include "catalog/catalog_target.h"
#include "catalog/fdw.h"
#include "money/reserve.h"
#include "tables/budget.h"

/* No more is meant by anybody; sums of budgets fit 64 bits then. */
#define MOST_DOLLARS 1000000000

PG_FUNCTION_INFO_V1(llm_enrich_drop_budget);
PG_FUNCTION_INFO_V1(llm_enrich_set_budget);
PG_FUNCTION_INFO_V1(llm_enrich_spent_before);

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

/* A role's number, or that of none when it is not given. */
static Oid
read_role(FunctionCallInfo fcinfo, int argument)
{
	const char *name = PG_ARGISNULL(argument) ? NULL : NameStr(*PG_GETARG_NAME(argument));
	Oid role = name == NULL ? InvalidOid : get_role_oid(name, true);

	if (name != NULL && !OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("argument \"role\": role \"%s\" does not exist", name),
				 errhint("Roles are in pg_roles. Leave the argument out for the calls of all roles.")));
	return role;
}

/* A table or view that statements may name; or none when it is not given. */
static Oid
read_relation(FunctionCallInfo fcinfo, int argument)
{
	static const char hint[] = "Name the table or view as statements do: relation => 'public.tickets'. Leave the argument out for all.";
	Oid relation = PG_ARGISNULL(argument) ? InvalidOid : PG_GETARG_OID(argument);
	char kind;

	if (PG_ARGISNULL(argument))
		return InvalidOid;
	kind = get_rel_relkind(relation);
	if (kind == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("argument \"relation\": there is no relation %u", relation),
				 errhint("%s", hint)));
	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE && kind != RELKIND_VIEW) ||
		IsCatalogNamespace(get_rel_namespace(relation)) || llm_spi_owns(relation))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("argument \"relation\": \"%s\" is no table or view that answers are written to",
						get_rel_name(relation)),
				 errhint("%s", hint)));
	return relation;
}

static char *
read_server(FunctionCallInfo fcinfo, int argument)
{
	char *name = LLM_GETARG_CSTRING(argument);
	ForeignServer *server = name == NULL ? NULL : GetForeignServerByName(name, true);

	if (name == NULL)
		return NULL;
	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("argument \"server\": server \"%s\" does not exist", name),
				 errhint("Servers are in pg_foreign_server; \\des lists them.")));
	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, LLM_FDW_NAME) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("argument \"server\": server \"%s\" is not one of foreign-data wrapper \"%s\"", name, LLM_FDW_NAME),
				 errhint("Name a server that models are asked at.")));
	return name;
}

/* Is it an offset, which names of zones count westward and most people eastward? */
static bool
is_offset(const char *name)
{
	if (pg_strncasecmp(name, "UTC", 3) == 0 || pg_strncasecmp(name, "GMT", 3) == 0)
		return (name[3] == '+' || name[3] == '-') && strcmp(name + 4, "0") != 0;
	return name[0] == '+' || name[0] == '-' || isdigit((unsigned char) name[0]);
}

/* NULL when it is not given: the session's. */
static char *
read_time_zone(FunctionCallInfo fcinfo, int argument)
{
	static const char hint[] = "For instance time_zone => 'Europe/Berlin'; their names are in pg_timezone_names.";
	char *name = LLM_GETARG_CSTRING(argument);
	pg_tz *zone = name == NULL || strlen(name) > TZ_STRLEN_MAX ? NULL : pg_tzset(name);

	if (name != NULL && is_offset(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"time_zone\": \"%s\" is an offset, and no name of a time zone", name),
				 errdetail("As a name it would be taken for one in the other direction."),
				 errhint("%s", hint)));
	if (name != NULL && (zone == NULL || !pg_tz_acceptable(zone)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"time_zone\": there is no time zone \"%s\"", name),
				 errhint("%s", hint)));
	return name;
}

/* A smallest request: what is asked, and an answer of a word, as an operation needs it that gives no max_tokens. */
#define SMALLEST_BODY 200
#define SMALLEST_NEED 16

/* Say that nothing can be paid of it. */
static void
warn_if_too_small(int64 id, const LlmBudgetRule *rule)
{
	double amount = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, rule->amount));
	int output = llm_reserve_cap(SMALLEST_NEED, false, 0, 0);
	double least;

	if (amount == 0 ||
		!llm_budget_cheapest(rule->server, rule->model, llm_reserve_input(SMALLEST_BODY), output, &least) ||
		least <= amount)
		return;
	ereport(WARNING,
			(errmsg("budget " INT64_FORMAT " is smaller than what one small request may cost: %.2g US dollars", id, least),
			 errdetail("So much is reserved before it is sent; jobs will wait for this budget, and send nothing."),
			 errhint("Set a larger one. Calls with a small max_tokens reserve less: options => '{\"max_tokens\": 20}'.")));
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
	char *per = LLM_GETARG_CSTRING(1);

	for (int i = 0; per != NULL && i < lengthof(periods); i++)
	{
		if (strcmp(per, periods[i]) == 0)
			return per;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 per == NULL ? errmsg("a budget is per day, week, month or total, not NULL")
						 : errmsg("a budget is per day, week, month or total, not \"%s\"", per),
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
	PreventCommandIfReadOnly("llm.set_budget()");
	rule.amount = read_amount(fcinfo);
	rule.per = read_per(fcinfo);
	rule.role = read_role(fcinfo, 2);
	rule.relation = read_relation(fcinfo, 3);
	rule.model = LLM_GETARG_CSTRING(4);
	rule.server = read_server(fcinfo, 5);
	rule.tag = LLM_GETARG_CSTRING(6);
	rule.value = LLM_GETARG_CSTRING(7);
	rule.time_zone = read_time_zone(fcinfo, 8);
	rule.set_by = GetUserNameFromId(GetUserId(), false);
	if ((rule.tag == NULL) != (rule.value == NULL) || (rule.tag != NULL && rule.tag[0] == '\0'))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a budget of a tag needs the tag and its value"),
				 errhint("tag => 'team', value => 'support'")));
	if (rule.model != NULL)
		llm_catalog_check_call(rule.model, GetUserId());
	if (rule.server == NULL && rule.model != NULL)
		check_right(llm_catalog_target(rule.model, GetUserId())->server);
	else
		check_right(rule.server);
	id = llm_budget_set(&rule, llm_control_is_admin());
	if (id == 0)
		refuse_others();
	warn_if_too_small(id, &rule);
	PG_RETURN_INT64(id);
}

/* SQL: llm.spent_before(budget, since) -> US dollars; NULL where there is no such budget, or it may not be seen */
Datum
llm_enrich_spent_before(PG_FUNCTION_ARGS)
{
	Datum spent = (Datum) 0;

	llm_shmem_require_preload();
	if (!llm_budget_spent(PG_GETARG_INT64(0), PG_GETARG_TIMESTAMPTZ(1), &spent))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(spent);
}

/* SQL: llm.drop_budget(id) */
Datum
llm_enrich_drop_budget(PG_FUNCTION_ARGS)
{
	int64 id = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);
	char *server = NULL;

	llm_shmem_require_preload();
	PreventCommandIfReadOnly("llm.drop_budget()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("llm.drop_budget() needs the number of a budget"),
				 errhint("For instance: SELECT llm.drop_budget(id) FROM llm.budget WHERE per = 'week';")));
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
