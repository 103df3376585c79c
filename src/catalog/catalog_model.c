/*-------------------------------------------------------------------------
 *
 * catalog_model.c
 *	  llm.add_model() and the functions beside it: what writes llm.model, and which
 *	  roles may have a server of a name that is used there.
 *
 * Models may be changed by a superuser, a member of llm_admin, or the owner of the
 * server; the default model, which decides where the calls of all others go, is for the
 * first two alone.  Rights are asked of the calling role; then the tables are
 * written as their owner.  Writers take turns by a lock on llm.model and
 * llm.price, which no reader meets.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/spi.h"
#include "catalog/catalog_price.h"
#include "catalog/catalog_target.h"
#include "catalog/fdw.h"
#include "catalog/fdw_habit.h"
#include "catalog/habit.h"

#define ADMIN_ROLE "llm_admin"

/* The limits of a model: requests and tokens per minute, concurrency. */
#define LIMITS 3

static const char *const limit_names[LIMITS] = {
	"requests_per_minute", "tokens_per_minute", "max_concurrency"};

static LlmStatement insert_model = {
	"INSERT INTO llm.model (alias, server, model, is_default, requests_per_minute, tokens_per_minute, max_concurrency,"
	" options, fallback) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (alias) DO NOTHING",
	9,
	{TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, INT4OID, INT4OID, JSONBOID, TEXTOID}};

static LlmStatement select_model = {
	"SELECT server, model FROM llm.model WHERE alias = $1",
	1,
	{TEXTOID}};

static LlmStatement update_model = {
	"UPDATE llm.model SET server = COALESCE($2, server), model = COALESCE($3, model),"
	" is_default = COALESCE($4, is_default),"
	" requests_per_minute = CASE WHEN $5 IS NULL THEN requests_per_minute ELSE NULLIF($5, 0) END,"
	" tokens_per_minute = CASE WHEN $6 IS NULL THEN tokens_per_minute ELSE NULLIF($6, 0) END,"
	" max_concurrency = CASE WHEN $7 IS NULL THEN max_concurrency ELSE NULLIF($7, 0) END,"
	" options = CASE WHEN $8 IS NULL THEN options ELSE NULLIF($8, '{}') END,"
	" fallback = CASE WHEN $9 IS NULL THEN fallback ELSE NULLIF($9, '') END"
	" WHERE alias = $1",
	9,
	{TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, INT4OID, INT4OID, JSONBOID, TEXTOID}};

static LlmStatement clear_default = {
	"UPDATE llm.model SET is_default = false WHERE is_default AND alias <> $1",
	1,
	{TEXTOID}};

static LlmStatement select_falling_back = {
	"SELECT alias FROM llm.model WHERE fallback = $1 ORDER BY alias LIMIT 1",
	1,
	{TEXTOID}};

static LlmStatement delete_model = {
	"DELETE FROM llm.model WHERE alias = $1",
	1,
	{TEXTOID}};

PG_FUNCTION_INFO_V1(llm_enrich_add_model);
PG_FUNCTION_INFO_V1(llm_enrich_alter_model);
PG_FUNCTION_INFO_V1(llm_enrich_drop_model);
PG_FUNCTION_INFO_V1(llm_enrich_set_price);

/* Text argument number i, or NULL; neither it nor a given "" may be where a name is needed. */
static char *
get_name(FunctionCallInfo fcinfo, int i, const char *name, bool required)
{
	char *value = LLM_GETARG_CSTRING(i);

	if (value == NULL && required)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	if (value != NULL && value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", name)));
	for (const char *c = value; c != NULL && *c != '\0'; c++)
	{
		/* it is shown in messages, the log and llm.health */
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" must not hold control characters", name)));
	}
	return value;
}

/* Limits from argument number i on into the arrays; "least" is 1, or 0 where that takes a limit away. */
static void
get_limits(FunctionCallInfo fcinfo, int i, int least, Datum *values, char *nulls)
{
	for (int j = 0; j < LIMITS; j++)
	{
		nulls[j] = PG_ARGISNULL(i + j) ? 'n' : ' ';
		values[j] = PG_ARGISNULL(i + j) ? (Datum) 0 : PG_GETARG_DATUM(i + j);
		if (!PG_ARGISNULL(i + j) && PG_GETARG_INT32(i + j) < least)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" must be at least %d", limit_names[j], least)));
	}
}

/* Options of a model from argument number i, checked. */
static void
get_options(FunctionCallInfo fcinfo, int i, Datum *value, char *null)
{
	*null = PG_ARGISNULL(i) ? 'n' : ' ';
	*value = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	if (!PG_ARGISNULL(i))
		llm_habit_check_model(PG_GETARG_JSONB_P(i));
}

/* Fallback from argument number i: another model, or "" for none where that takes one away. */
static char *
get_fallback(FunctionCallInfo fcinfo, int i, const char *alias, bool may_be_empty, Datum *value, char *null)
{
	char *fallback = i >= PG_NARGS() ? NULL : LLM_GETARG_CSTRING(i);

	*null = fallback == NULL ? 'n' : ' ';
	*value = fallback == NULL ? (Datum) 0 : PG_GETARG_DATUM(i);
	if (fallback == NULL || (may_be_empty && fallback[0] == '\0'))
		return NULL;
	if (strcmp(fallback, alias) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" cannot be its own fallback", alias)));
	return fallback;
}

static bool
is_admin(void)
{
	Oid admin = get_role_oid(ADMIN_ROLE, true);

	return superuser() || (OidIsValid(admin) && has_privs_of_role(GetUserId(), admin));
}

/* Names of our servers for a hint. */
static char *
list_servers(void)
{
	static LlmStatement select_servers = {
		"SELECT pg_catalog.string_agg(pg_catalog.quote_ident(s.srvname), ', ' ORDER BY s.srvname)"
		" FROM pg_catalog.pg_foreign_server s"
		" JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw"
		" WHERE w.fdwname = '" LLM_FDW_NAME "'",
		0};
	MemoryContext context = CurrentMemoryContext;
	LlmOwnScope scope;
	char *names;

	llm_spi_own_begin(&scope);
	SPI_connect();
	llm_spi_execute(&select_servers, NULL, NULL, false);
	names = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (names != NULL)
		names = MemoryContextStrdup(context, names);
	SPI_finish();
	llm_spi_own_end(&scope);
	return names;
}

/* The server by its name; raises when it is none of ours. */
static ForeignServer *
get_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	const char *names;
	const char *hint;

	if (server == NULL)
	{
		names = list_servers();
		if (names != NULL)
			hint = psprintf("Servers are: %s.", names);
		else
			hint = psprintf(LLM_FDW_EXAMPLE_BEGIN "%s" LLM_FDW_EXAMPLE_END ";", quote_identifier(name));
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 errhint("%s", hint)));
	}
	else if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, LLM_FDW_NAME) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not one of foreign-data wrapper \"%s\"", name, LLM_FDW_NAME)));
	return server;
}

/* Raise unless the current role may manage models of a server; one that is gone is left to admins. */
static void
check_right(const char *name)
{
	Oid server = get_foreign_server_oid(name, true);

	if (is_admin() || (OidIsValid(server) && llm_owns_server(server, GetUserId())))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for the models of server \"%s\"", name),
			 errdetail("Its owner, members of \"%s\" and superusers may change them.", ADMIN_ROLE)));
}

static void
check_default_right(void)
{
	if (!is_admin())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to choose the default model"),
				 errdetail("Members of \"%s\" and superusers may, since it decides where the calls of all roles go.",
						   ADMIN_ROLE),
				 errhint("Set \"llm_enrich.model\" to choose for yourself.")));
}

void
llm_catalog_check_server_name(const char *name)
{
	static LlmStatement find_model = {
		"SELECT m.alias FROM llm.model m WHERE m.server = $1 LIMIT 1",
		1,
		{TEXTOID}};
	Oid server = get_foreign_server_oid(name, true);
	Datum value = CStringGetTextDatum(name);
	LlmOwnScope scope;

	/* CREATE SERVER IF NOT EXISTS of one's own is none */
	if (!llm_spi_extension_exists() || is_admin() || (OidIsValid(server) && llm_owns_server(server, GetUserId())))
		return;
	llm_spi_own_begin(&scope);
	SPI_connect();
	if (llm_spi_execute(&find_model, &value, NULL, false) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to give a server the name \"%s\"", name),
				 errdetail("Model \"%s\" names it, and its calls would go there.",
						   SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
				 errhint("Choose another name, or ask a member of \"%s\".", ADMIN_ROLE)));
	SPI_finish();
	llm_spi_own_end(&scope);
}

/*
 * Between begin_writing() and end_writing(): raise when tasks of others wait for a model of
 * this name, which was dropped.  The owner of another server would get their inputs.
 */
static void
check_alias(const char *alias, Oid caller)
{
	static LlmStatement find_job = {
		"SELECT j.role_name FROM llm.job j WHERE j.state <> 'finished'"
		" AND j.model = $1 AND NOT pg_catalog.pg_has_role($2, j.role, 'USAGE') LIMIT 1",
		2,
		{TEXTOID, OIDOID}};
	Datum values[2];

	values[0] = CStringGetTextDatum(alias);
	values[1] = ObjectIdGetDatum(caller);
	if (llm_spi_execute(&find_job, values, NULL, false) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to give a model the name \"%s\"", alias),
				 errdetail("Tasks of role \"%s\" wait for a model of that name, and would go there.",
						   SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
				 errhint("Choose another name, or ask a member of \"%s\".", ADMIN_ROLE)));
}

/* Write between begin and end: one at a time, as the owner of our tables. */
static void
begin_writing(LlmOwnScope *scope)
{
	LockRelationOid(llm_spi_relation("model"), ShareRowExclusiveLock);
	LockRelationOid(llm_spi_relation("price"), ShareRowExclusiveLock);
	llm_spi_own_begin(scope);
	SPI_connect();
}

static void
end_writing(LlmOwnScope *scope)
{
	SPI_finish();
	llm_spi_own_end(scope);
}

/* Raise for an alias that is not there. */
static void
refuse_alias(const char *alias)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("model \"%s\" does not exist", alias),
			 errhint("The models are in llm.model.")));
}

/* Between begin_writing() and end_writing(): a fallback is a model that there is. */
static void
check_fallback(const char *fallback)
{
	Datum value;

	if (fallback == NULL)
		return;
	value = CStringGetTextDatum(fallback);
	if (llm_spi_execute(&select_model, &value, NULL, false) == 0)
		refuse_alias(fallback);
}

/* The same: raise for a model that others have as their fallback. */
static void
check_no_fallback(const char *alias)
{
	Datum value = CStringGetTextDatum(alias);
	const char *other;

	if (llm_spi_execute(&select_falling_back, &value, NULL, false) == 0)
		return;
	other = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("model \"%s\" is the fallback of model \"%s\"", alias, other),
			 errhint("SELECT llm.alter_model(%s, fallback => '...'); where '' is none.", quote_literal_cstr(other))));
}

/*
 * Lock the tables and read a model's server and name, after which the caller's right is
 * checked; only then anything is written.  The strings belong to the current context.
 */
static void
lock_model(const char *alias, char **server, char **model)
{
	MemoryContext context = CurrentMemoryContext;
	LlmOwnScope scope;
	Datum values[1];

	begin_writing(&scope);
	values[0] = CStringGetTextDatum(alias);
	if (llm_spi_execute(&select_model, values, NULL, false) == 0)
		refuse_alias(alias);
	*server = MemoryContextStrdup(context, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	*model = MemoryContextStrdup(context, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	end_writing(&scope);
	check_right(*server);
}

/* Say that its requests will be booked by an estimate; of one without any price llm_price_provide() says so. */
static void
tell_gap(const char *alias)
{
	LlmTarget *target = llm_catalog_target(alias, GetUserId());
	char *hint = NULL;
	char *gap = target->price == 0 ? NULL : llm_price_gap(target, &hint);

	if (gap != NULL)
		ereport(NOTICE,
				(errmsg("%s", gap),
				 errhint("%s", hint)));
}

/*
 * SQL: llm.add_model(alias, server, model, is_default, six prices, three limits, options, fallback).
 */
Datum
llm_enrich_add_model(PG_FUNCTION_ARGS)
{
	char *alias = get_name(fcinfo, 0, "alias", true);
	ForeignServer *server = get_server(get_name(fcinfo, 1, "server", true));
	char *model = get_name(fcinfo, 2, "model", true);
	bool is_default = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	Oid caller = GetUserId();
	bool admin = is_admin();
	LlmOwnScope scope;
	LlmPrices prices;
	Datum values[6 + LIMITS];
	char nulls[6 + LIMITS];
	char *fallback;
	bool priced;

	PreventCommandIfReadOnly("llm.add_model()");
	for (int i = 0; i < LLM_PRICES; i++)
		llm_price_argument(fcinfo, 4 + i, &prices, i);
	prices.no_tiers = true;
	priced = llm_price_check(&prices);
	memset(nulls, ' ', sizeof(nulls));
	get_limits(fcinfo, 4 + LLM_PRICES, 1, &values[4], &nulls[4]);
	get_options(fcinfo, 4 + LLM_PRICES + LIMITS, &values[4 + LIMITS], &nulls[4 + LIMITS]);
	fallback = get_fallback(fcinfo, 5 + LLM_PRICES + LIMITS, alias, false, &values[5 + LIMITS], &nulls[5 + LIMITS]);
	check_right(server->servername);
	if (is_default)
		check_default_right();

	begin_writing(&scope);
	if (!admin)
		check_alias(alias, caller);
	check_fallback(fallback);
	values[0] = CStringGetTextDatum(alias);
	values[1] = CStringGetTextDatum(server->servername);
	values[2] = CStringGetTextDatum(model);
	values[3] = BoolGetDatum(is_default);
	if (is_default)
		llm_spi_execute(&clear_default, values, NULL, false);
	if (llm_spi_execute(&insert_model, values, nulls, false) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("model \"%s\" already exists", alias),
				 errhint("Use llm.alter_model() to change it, or llm.set_price() for its price.")));
	if (priced)
		llm_price_set(server->servername, model, &prices, llm_clock_now());
	else
		llm_price_provide(alias, server, NULL, model);
	end_writing(&scope);
	tell_gap(alias);
	PG_RETURN_VOID();
}

/*
 * SQL: llm.alter_model(alias, server, model, is_default, three limits, options, fallback); NULL: as
 * it is, a limit of 0: none, options of {}: none, a fallback of '': none.
 */
Datum
llm_enrich_alter_model(PG_FUNCTION_ARGS)
{
	char *alias = get_name(fcinfo, 0, "alias", true);
	char *server_name = get_name(fcinfo, 1, "server", false);
	char *model = get_name(fcinfo, 2, "model", false);
	char *old_server;
	char *old_model;
	LlmOwnScope scope;
	char *fallback;
	Datum values[6 + LIMITS] = {0};
	char nulls[6 + LIMITS];

	PreventCommandIfReadOnly("llm.alter_model()");
	memset(nulls, ' ', sizeof(nulls));
	get_limits(fcinfo, 4, 0, &values[4], &nulls[4]);
	get_options(fcinfo, 4 + LIMITS, &values[4 + LIMITS], &nulls[4 + LIMITS]);
	fallback = get_fallback(fcinfo, 5 + LIMITS, alias, true, &values[5 + LIMITS], &nulls[5 + LIMITS]);
	lock_model(alias, &old_server, &old_model);
	if (server_name != NULL)
	{
		(void) get_server(server_name);
		check_right(server_name);
	}
	if (!PG_ARGISNULL(3))
		check_default_right();

	begin_writing(&scope);
	check_fallback(fallback);
	values[0] = CStringGetTextDatum(alias);
	values[1] = server_name != NULL ? CStringGetTextDatum(server_name) : (Datum) 0;
	nulls[1] = server_name != NULL ? ' ' : 'n';
	values[2] = model != NULL ? CStringGetTextDatum(model) : (Datum) 0;
	nulls[2] = model != NULL ? ' ' : 'n';
	values[3] = PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3);
	nulls[3] = PG_ARGISNULL(3) ? 'n' : ' ';
	if (!PG_ARGISNULL(3) && PG_GETARG_BOOL(3))
		llm_spi_execute(&clear_default, values, NULL, false);
	llm_spi_execute(&update_model, values, nulls, false);
	if (!PG_ARGISNULL(4 + LIMITS))
		llm_habit_forget(old_server, old_model);
	if (server_name != NULL || model != NULL)
		llm_price_provide(alias, get_server(server_name != NULL ? server_name : old_server),
						  OidIsValid(get_foreign_server_oid(old_server, true)) ? NULL : old_server,
						  model != NULL ? model : old_model);
	end_writing(&scope);
	tell_gap(alias);
	PG_RETURN_VOID();
}

/* SQL: llm.drop_model(alias).  Its prices stay: the ledger's rows were computed by them. */
Datum
llm_enrich_drop_model(PG_FUNCTION_ARGS)
{
	char *alias = get_name(fcinfo, 0, "alias", true);
	char *server;
	char *model;
	LlmOwnScope scope;
	Datum values[1];

	PreventCommandIfReadOnly("llm.drop_model()");
	lock_model(alias, &server, &model);
	begin_writing(&scope);
	check_no_fallback(alias);
	values[0] = CStringGetTextDatum(alias);
	llm_spi_execute(&delete_model, values, NULL, false);
	end_writing(&scope);
	PG_RETURN_VOID();
}

/* Between begin_writing() and end_writing(), as the next one. */
static void
drop_models(const char *name)
{
	static LlmStatement delete_models = {
		"DELETE FROM llm.model WHERE server = $1 RETURNING alias",
		1,
		{TEXTOID}};
	static LlmStatement forget_fallbacks = {
		"UPDATE llm.model m SET fallback = NULL WHERE m.fallback IS NOT NULL"
		" AND NOT EXISTS (SELECT FROM llm.model o WHERE o.alias = m.fallback)"};
	Datum value = CStringGetTextDatum(name);

	llm_spi_execute(&delete_models, &value, NULL, false);
	for (uint64 i = 0; i < SPI_processed; i++)
		ereport(NOTICE,
				(errmsg("drop cascades to model \"%s\"", SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1))));
	llm_spi_execute(&forget_fallbacks, NULL, NULL, false);
}

static void
refuse_drop(const char *name)
{
	static LlmStatement select_models = {
		"SELECT pg_catalog.string_agg(pg_catalog.format('\"%s\"', m.alias), ', ' ORDER BY m.alias), pg_catalog.min(m.alias)"
		" FROM llm.model m WHERE m.server = $1",
		1,
		{TEXTOID}};
	Datum value = CStringGetTextDatum(name);
	const char *aliases;

	llm_spi_execute(&select_models, &value, NULL, false);
	aliases = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (aliases == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot drop server \"%s\" because models use it", name),
			 errdetail("Models: %s.", aliases),
			 errhint("SELECT llm.drop_model(%s); or DROP SERVER %s CASCADE; for all of them.",
					 quote_literal_cstr(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2)),
					 quote_identifier(name))));
}

void
llm_catalog_drop_server(const char *name, bool cascade)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	LlmOwnScope scope;

	if (server == NULL || !check_function_bodies || !llm_spi_extension_exists() ||
		strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, LLM_FDW_NAME) != 0 ||
		!llm_owns_server(server->serverid, GetUserId()))
		return;
	begin_writing(&scope);
	if (cascade)
		drop_models(name);
	else
		refuse_drop(name);
	end_writing(&scope);
}

/*
 * SQL: llm.set_price(alias, input, output, cached_input, cache_write, batch_input,
 * batch_output, valid_from, tiers).  The default of valid_from is the start of the
 * transaction, which means this moment.
 */
Datum
llm_enrich_set_price(PG_FUNCTION_ARGS)
{
	static const int columns[LLM_PRICES] = {LLM_PRICE_INPUT, LLM_PRICE_OUTPUT, LLM_PRICE_CACHED_INPUT,
											LLM_PRICE_CACHE_WRITE, LLM_PRICE_BATCH_INPUT, LLM_PRICE_BATCH_OUTPUT};
	char *alias = get_name(fcinfo, 0, "alias", true);
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	TimestampTz start = PG_ARGISNULL(LLM_PRICES + 1) ? now : PG_GETARG_TIMESTAMPTZ(LLM_PRICES + 1);
	char *server;
	char *model;
	LlmOwnScope scope;
	LlmPrices prices;

	PreventCommandIfReadOnly("llm.set_price()");
	for (int i = 0; i < LLM_PRICES; i++)
		llm_price_argument(fcinfo, 1 + i, &prices, columns[i]);
	prices.no_tiers = true;
	if (!llm_price_check(&prices))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("no price was given"),
				 errhint("Give input_per_mtok => ... and output_per_mtok => ..., US dollars per million tokens.")));
	if (TIMESTAMP_IS_NOEND(start))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a price must begin at a finite time")));
	if (start < now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a price cannot begin in the past"),
				 errdetail("Costs that were booked at the former price stay as they are.")));
	lock_model(alias, &server, &model);
	begin_writing(&scope);
	llm_price_tiers_argument(fcinfo, LLM_PRICES + 2, &prices);
	llm_price_set(server, model, &prices, Max(start, llm_clock_now()));
	end_writing(&scope);
	tell_gap(alias);
	PG_RETURN_VOID();
}
