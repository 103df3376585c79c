/*-------------------------------------------------------------------------
 *
 * catalog_target.c
 *	  Servers, user mappings, models and prices: read, checked, resolved.
 *
 * One way leads from an alias to a server; what is wrong on the way is a Problem.  In
 * a user's statement check_call() raises it, in the sender target() puts it
 * into words.
 *
 * Models are read with a snapshot taken at that moment and as the owner of
 * our tables: neither the user's rights nor the age of the transaction's own
 * snapshot decide what is found.
 *
 * catalog_model.c has what llm.add_model() and the functions beside it write,
 * catalog_watch.c how changes become known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/spi.h"
#include "catalog/catalog_kind.h"
#include "catalog/catalog_read.h"
#include "catalog/catalog_target.h"
#include "catalog/catalog_watch.h"
#include "catalog/fdw.h"
#include "catalog/fdw_habit.h"
#include "catalog/habit.h"
#include "dialect/dialect.h"

#define CREATE_SERVER_EXAMPLE LLM_FDW_EXAMPLE_BEGIN "openai" LLM_FDW_EXAMPLE_END

/*
 * What check_call() found last, in TopMemoryContext; good while the generation stands.
 * "wanted" is NULL when it was asked for the default model.
 */
static struct
{
	uint64 generation; /* 0: nothing */
	char *wanted;
	char *alias;
	char *server;
	char *model;
	LlmModelKind kind;
} checked;

/* What is wrong with a call's way to its provider. */
typedef struct Problem
{
	int sqlstate;
	LlmErrorClass class;
	const char *message;
	const char *hint;
} Problem;

/* A row of llm.model with what else is known of it by name. */
typedef struct Model
{
	char *alias;
	char *server;
	char *model;
	int requests_per_minute;
	int tokens_per_minute;
	int max_concurrency;
	int max_output_tokens;
	int context_tokens;
	int64 price;
	Jsonb *options; /* or NULL */
	Jsonb *learned; /* habits of its host; or NULL */
	char *fallback; /* or NULL */
	LlmModelKind kind;
} Model;

static LlmStatement select_model = {
	"SELECT m.alias, m.server, m.model, m.requests_per_minute, m.tokens_per_minute, m.max_concurrency,"
	" (SELECT pg_catalog.min(l.max_output_tokens) FROM llm.price_list l WHERE l.model = m.model),"
	" (SELECT p.id FROM llm.price p"
	"   WHERE p.server = m.server AND p.model = m.model"
	"   AND p.valid_from <= $2 AND p.valid_until > $2),"
	" (SELECT pg_catalog.min(t.at) FROM llm.price p, LATERAL (VALUES (p.valid_from), (p.valid_until)) t(at)"
	"   WHERE p.server = m.server AND p.model = m.model"
	"   AND t.at > $2 AND t.at < 'infinity'::pg_catalog.timestamptz)"
	", m.options, (SELECT pg_catalog.jsonb_object_agg(h.name, h.value) FROM llm.habit h"
	"   WHERE h.server = m.server AND h.model = m.model), m.fallback,"
	" (SELECT pg_catalog.min(l.context_tokens) FROM llm.price_list l WHERE l.model = m.model),"
	/* 2: vectors, 1: text, 0: not known, or lists do not agree */
	" (SELECT CASE WHEN pg_catalog.min(l.kind) = pg_catalog.max(l.kind) THEN CASE pg_catalog.min(l.kind) WHEN 'embed' THEN 2"
	"   WHEN 'chat' THEN 1 END END FROM llm.price_list l WHERE l.model = m.model)"
	" FROM llm.model m"
	" WHERE CASE WHEN $1 IS NULL THEN m.is_default ELSE m.alias = $1 END",
	2,
	{TEXTOID, TIMESTAMPTZOID}};

static LlmStatement select_aliases = {
	"SELECT m.alias FROM llm.model m ORDER BY m.alias",
	0};

static LlmStatement select_servers = {
	"SELECT s.srvname::pg_catalog.text FROM pg_catalog.pg_foreign_server s"
	" JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw"
	" WHERE w.fdwname = '" LLM_FDW_NAME "' ORDER BY 1",
	0};

/* A pause of server $1, model $2, or of role $3; one without any of them is of everything. */
static LlmStatement select_pause = {
	"SELECT COALESCE(NULLIF(pg_catalog.concat_ws(' at ', 'model \"' || p.model || '\"', 'server \"' || p.server || '\"'),"
	"  ''), 'everything'), p.paused_by,"
	" COALESCE(NULLIF(pg_catalog.concat_ws(', ', 'server => ' || pg_catalog.quote_literal(p.server),"
	"  'model => ' || pg_catalog.quote_literal(p.model)), ''), 'everything => true')"
	" FROM llm.pause p WHERE (p.server IS NULL OR p.server = $1) AND (p.model IS NULL OR p.model = $2)"
	" AND (p.role IS NULL OR p.role = $3) ORDER BY p.id LIMIT 1",
	3,
	{TEXTOID, TEXTOID, OIDOID}};

/* Column of the first row found, 0 for NULL. */
static int64
get_number(int column, bool wide)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

	if (isnull)
		return 0;
	return wide ? DatumGetInt64(value) : DatumGetInt32(value);
}

/* An object of the first row, in the context given; NULL for NULL. */
static Jsonb *
get_object(int column, MemoryContext context)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
	MemoryContext saved;
	Jsonb *object;

	if (isnull)
		return NULL;
	saved = MemoryContextSwitchTo(context);
	object = DatumGetJsonbPCopy(value);
	MemoryContextSwitchTo(saved);
	return object;
}

/* Copy the first row of select_model, in the context given. */
static void
copy_model(Model *model, MemoryContext context)
{
	HeapTuple row = SPI_tuptable->vals[0];
	TupleDesc desc = SPI_tuptable->tupdesc;
	int64 change = get_number(9, true);
	const char *fallback = SPI_getvalue(row, desc, 12);

	model->alias = MemoryContextStrdup(context, SPI_getvalue(row, desc, 1));
	model->server = MemoryContextStrdup(context, SPI_getvalue(row, desc, 2));
	model->model = MemoryContextStrdup(context, SPI_getvalue(row, desc, 3));
	model->requests_per_minute = (int) get_number(4, false);
	model->tokens_per_minute = (int) get_number(5, false);
	model->max_concurrency = (int) get_number(6, false);
	model->max_output_tokens = (int) get_number(7, false);
	model->context_tokens = (int) get_number(13, false);
	model->kind = (LlmModelKind) get_number(14, false);
	model->price = get_number(8, true);
	model->options = get_object(10, context);
	model->learned = get_object(11, context);
	model->fallback = fallback == NULL ? NULL : MemoryContextStrdup(context, fallback);
	if (change != 0)
		llm_catalog_watch_time(change);
}

/*
 * Fill in a model by its alias, NULL: the default one; false when there is none.  The
 * clock is read after the snapshot was taken, so that a price is found from its commit on.
 */
static bool
read_model(const char *alias, Model *model)
{
	MemoryContext context = CurrentMemoryContext;
	LlmOwnScope scope;
	Datum values[2] = {0};
	char nulls[2] = {'n', ' '};
	bool found;

	llm_catalog_begin_reading(&scope);
	if (alias != NULL)
	{
		values[0] = CStringGetTextDatum(alias);
		nulls[0] = ' ';
	}
	values[1] = TimestampTzGetDatum(llm_clock_now());
	found = llm_spi_execute(&select_model, values, nulls, true) > 0;
	if (found)
		copy_model(model, context);
	llm_catalog_end_reading(&scope);
	return found;
}

char *
llm_catalog_known_models(const char *server)
{
	static LlmStatement select_known = {
		"SELECT pg_catalog.string_agg(l.model, ', ' ORDER BY l.model) FROM llm.price_list l"
		" JOIN pg_catalog.pg_foreign_server s ON s.srvname = $1::pg_catalog.name"
		" WHERE l.provider = COALESCE((SELECT o.option_value FROM pg_catalog.pg_options_to_table(s.srvoptions) o"
		"  WHERE o.option_name = 'provider'), (SELECT o.option_value FROM pg_catalog.pg_options_to_table(s.srvoptions) o"
		"  WHERE o.option_name = 'dialect'))",
		1,
		{TEXTOID}};
	MemoryContext caller = CurrentMemoryContext;
	Datum value = CStringGetTextDatum(server);
	LlmOwnScope scope;
	char *names = NULL;

	llm_catalog_begin_reading(&scope);
	if (llm_spi_execute(&select_known, &value, NULL, true) > 0)
		names = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (names != NULL)
		names = MemoryContextStrdup(caller, psprintf(" Known names: %s.", names));
	llm_catalog_end_reading(&scope);
	return names == NULL ? pstrdup("") : names;
}

/* How to add a model, and a server first where there is none. */
static char *
add_model_hint(const char *alias)
{
	const char *servers = llm_catalog_list_names(&select_servers);

	if (servers == NULL)
		return psprintf("First " CREATE_SERVER_EXAMPLE "; then"
						" SELECT llm.add_model(%s, server => 'openai', model => 'gpt-5-mini', is_default => true);",
						quote_literal_cstr(alias));
	return psprintf("SELECT llm.add_model(%s, server => '...', model => '...', is_default => true); servers are: %s.",
					quote_literal_cstr(alias), servers);
}

static bool
find_model(const char *alias, Model *model, Problem *problem)
{
	const char *aliases;

	if (read_model(alias, model))
		return true;
	aliases = llm_catalog_list_names(&select_aliases);
	problem->class = LLM_ERR_CONFIG;
	if (alias == NULL)
	{
		problem->sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
		problem->message = "there is no default model";
		if (aliases == NULL)
			problem->hint = add_model_hint("fast");
		else
			problem->hint = psprintf("Name one (%s) by model => '...', or make one the default:"
									 " SELECT llm.alter_model('...', is_default => true);",
									 aliases);
		return false;
	}
	problem->sqlstate = ERRCODE_UNDEFINED_OBJECT;
	problem->message = psprintf("model \"%s\" does not exist", alias);
	if (aliases == NULL)
		problem->hint = add_model_hint(alias);
	else
		problem->hint = psprintf("Models are: %s. Another one: SELECT llm.add_model(%s, server => '...', model => '...');",
								 aliases, quote_literal_cstr(alias));
	return false;
}

/* The model's server, if it is one of ours; else NULL and the problem. */
static ForeignServer *
find_server(const char *alias, const char *name, Problem *problem)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	const char *servers;

	if (server != NULL && strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, LLM_FDW_NAME) == 0)
		return server;
	servers = llm_catalog_list_names(&select_servers);
	problem->class = LLM_ERR_CONFIG;
	if (server != NULL)
	{
		problem->sqlstate = ERRCODE_WRONG_OBJECT_TYPE;
		problem->message = psprintf("server \"%s\" of model \"%s\" is not one of foreign-data wrapper \"%s\"",
									name, alias, LLM_FDW_NAME);
	}
	else
	{
		problem->sqlstate = ERRCODE_UNDEFINED_OBJECT;
		problem->message = psprintf("server \"%s\" of model \"%s\" does not exist", name, alias);
	}
	if (servers == NULL)
		problem->hint = "There is no server: " CREATE_SERVER_EXAMPLE ";";
	else
		problem->hint = psprintf("SELECT llm.alter_model(%s, server => '...'); servers are: %s.",
								 quote_literal_cstr(alias), servers);
	return NULL;
}

static bool
check_usage(const ForeignServer *server, Oid role, Problem *problem)
{
	char *name = GetUserNameFromId(role, true);

	if (name != NULL && llm_acl_server(server->serverid, role, ACL_USAGE) == ACLCHECK_OK)
		return true;
	problem->sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
	problem->class = LLM_ERR_AUTH;
	if (name == NULL)
	{
		problem->message = psprintf("role %u does not exist any more", role);
		problem->hint = "Its tasks end as role_gone.";
	}
	else
	{
		problem->message = psprintf("role \"%s\" may not use server \"%s\"", name, server->servername);
		problem->hint = psprintf("GRANT USAGE ON FOREIGN SERVER %s TO %s;",
								 quote_identifier(server->servername), quote_identifier(name));
	}
	return false;
}

/* Key in the user mapping of just this role (InvalidOid: PUBLIC), or NULL. */
static const char *
find_mapped_key(Oid server, Oid role)
{
	HeapTuple tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server));
	const char *key = NULL;
	Datum options;
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		key = llm_fdw_option(untransformRelOptions(options), LLM_FDW_KEY_OPTION);
	ReleaseSysCache(tuple);
	return key;
}

/*
 * Where the role's key is: what was made for the role itself comes first, then the
 * server's, then the mapping of PUBLIC.
 */
static LlmKeySource
find_key(Oid server, Oid role, const LlmServerOptions *options, const char **name)
{
	*name = find_mapped_key(server, role);
	if (*name != NULL)
		return LLM_KEY_MAPPING;
	*name = options->key_file;
	if (*name != NULL)
		return LLM_KEY_FILE;
	*name = options->key_env;
	if (*name != NULL)
		return LLM_KEY_ENV;
	*name = find_mapped_key(server, InvalidOid);
	return *name != NULL ? LLM_KEY_MAPPING : LLM_KEY_NONE;
}

static void
raise_problem(const Problem *problem)
{
	ereport(ERROR,
			(errcode(problem->sqlstate),
			 errmsg_internal("%s", problem->message),
			 errhint("%s", problem->hint)));
}

static bool
is_checked(const char *alias)
{
	if (checked.generation != llm_catalog_generation())
		return false;
	return alias == NULL ? checked.wanted == NULL : checked.wanted != NULL && strcmp(alias, checked.wanted) == 0;
}

static char *
keep_string(char *old, const char *value)
{
	if (old != NULL)
		pfree(old);
	return value != NULL ? MemoryContextStrdup(TopMemoryContext, value) : NULL;
}

/* Find a call's model and keep it in "checked", so that small statements do not read tables each. */
static void
read_checked(const char *alias)
{
	uint64 before = llm_catalog_generation();
	Model model;
	Problem problem;

	checked.generation = 0;
	if (!find_model(alias, &model, &problem))
		raise_problem(&problem);
	checked.wanted = keep_string(checked.wanted, alias);
	checked.alias = keep_string(checked.alias, model.alias);
	checked.server = keep_string(checked.server, model.server);
	checked.model = keep_string(checked.model, model.model);
	checked.kind = model.kind;
	checked.generation = before;
}

/* Raise unless there is the model and the role may use its server; "options" of that. */
static void
check_call(const char *alias, Oid role, LlmServerOptions *options)
{
	ForeignServer *server;
	const char *key;
	Problem problem;

	if (!is_checked(alias))
		read_checked(alias);
	server = find_server(checked.alias, checked.server, &problem);
	if (server == NULL || !check_usage(server, role, &problem))
	{
		raise_problem(&problem);
		return;
	}
	llm_fdw_server_options(server->options, options);
	if (options->base_url != NULL && llm_fdw_url_is_https(options->base_url) &&
		find_key(server->serverid, role, options, &key) == LLM_KEY_NONE)
		ereport(NOTICE,
				(errmsg("server \"%s\" has no key for role \"%s\"", server->servername, GetUserNameFromId(role, false)),
				 errhint("ALTER SERVER %s OPTIONS (ADD api_key_file '...'); or CREATE USER MAPPING FOR %s SERVER %s OPTIONS (api_key '...');",
						 quote_identifier(server->servername), quote_identifier(GetUserNameFromId(role, false)),
						 quote_identifier(server->servername))));
}

void
llm_catalog_check_call(const char *alias, Oid role)
{
	LlmServerOptions options;

	check_call(alias, role, &options);
}

/* The same, and what is known of the kind of the model. */
static LlmAskedModel
check_asked(const char *alias, Oid role)
{
	LlmServerOptions options;

	check_call(alias, role, &options);
	return (LlmAskedModel){checked.alias, checked.model, checked.kind, options.base_url, options.dialect};
}

void
llm_catalog_check_call_of(LlmRequestKind kind, const char *function, const char *alias, Oid role)
{
	LlmAskedModel asked = check_asked(alias, role);

	llm_catalog_check_kind(&asked, kind, function);
}

bool
llm_catalog_call_gives_vectors(const char *alias, Oid role)
{
	LlmAskedModel asked = check_asked(alias, role);

	return llm_catalog_is_of_vectors(&asked);
}

/* The lesser of two limits of which 0 is none. */
static int
tighter(int a, int b)
{
	if (a == 0 || b == 0)
		return a + b;
	return Min(a, b);
}

/* Copy without trailing slashes, scheme and host in lower case: limits are kept by host. */
static char *
normalize_url(const char *url)
{
	size_t len = strlen(url);
	char *copy;
	char *p;
	int slashes = 0;

	while (len > 0 && url[len - 1] == '/')
		len--;
	copy = pnstrdup(url, len);
	for (p = copy; *p != '\0' && slashes < 3; p++)
	{
		if (*p == '/')
			slashes++;
		*p = pg_tolower((unsigned char) *p);
	}
	return copy;
}

static const char *
copy_word(const char *word)
{
	return word == NULL ? NULL : pstrdup(word);
}

/* How the server's host is spoken to, and by which way it is reached; strings in the current context. */
static void
fill_endpoint(LlmTarget *target, const LlmServerOptions *options)
{
	LlmEndpoint *endpoint = &target->endpoint;
	LlmHttpNetwork *network = &target->network;
	char *user = NULL;

	endpoint->base_url = target->base_url;
	endpoint->query = copy_word(options->query);
	endpoint->key_header = copy_word(options->key_header);
	endpoint->headers = llm_habit_header_lines(options->headers);
	endpoint->habits.answer_form = options->habits.answer_form;
	endpoint->habits.max_tokens_field = copy_word(options->habits.max_tokens_field);
	endpoint->habits.system_role = copy_word(options->habits.system_role);
	endpoint->habits.extra_body = copy_word(options->habits.extra_body);
	network->ca_file = copy_word(options->ca_file);
	network->client_cert_file = copy_word(options->client_cert_file);
	network->client_key_file = copy_word(options->client_key_file);
	network->proxy = options->proxy == NULL ? NULL : llm_habit_split_proxy(options->proxy, &user);
	network->proxy_user = user;
	target->proxy_password_file = copy_word(options->proxy_password_file);
}

/* Copy what a server says into the target, strings into the context; false when it is of no use. */
static bool
fill_from_server(LlmTarget *target, const ForeignServer *server, Oid role, MemoryContext context, Problem *problem)
{
	LlmServerOptions options;
	MemoryContext saved;
	const char *key_name;

	llm_fdw_server_options(server->options, &options);
	if (options.dialect == NULL || options.base_url == NULL || llm_dialect_find(options.dialect) == NULL)
	{
		problem->class = LLM_ERR_CONFIG;
		problem->message = psprintf("server \"%s\" has no usable dialect and base_url", server->servername);
		problem->hint = psprintf("ALTER SERVER %s OPTIONS (ADD provider '...'); or ADD dialect and base_url; dialects are: %s.",
								 quote_identifier(server->servername), llm_dialect_names());
		return false;
	}
	target->server_oid = server->serverid;
	target->dialect = MemoryContextStrdup(context, options.dialect);
	target->base_url = MemoryContextStrdup(context, normalize_url(options.base_url));
	saved = MemoryContextSwitchTo(context);
	fill_endpoint(target, &options);
	MemoryContextSwitchTo(saved);
	target->key_source = find_key(server->serverid, role, &options, &key_name);
	if (key_name != NULL)
		target->key_name = MemoryContextStrdup(context, key_name);
	target->requests_per_minute = options.requests_per_minute;
	target->tokens_per_minute = options.tokens_per_minute;
	target->max_concurrency = options.max_concurrency;
	target->timeout_ms = options.timeout_ms;
	target->connect_timeout_ms = options.connect_timeout_ms;
	return true;
}

/* Copy what a model says into the target, strings into the context. */
static void
fill_from_model(LlmTarget *target, const Model *model, MemoryContext context)
{
	MemoryContext saved;

	target->alias = MemoryContextStrdup(context, model->alias);
	target->fallback = model->fallback == NULL ? NULL : MemoryContextStrdup(context, model->fallback);
	target->server = MemoryContextStrdup(context, model->server);
	target->model = MemoryContextStrdup(context, model->model);
	target->endpoint.model = target->model;
	saved = MemoryContextSwitchTo(context);
	llm_habit_apply_model(&target->endpoint.habits, model->options);
	llm_habit_apply_learned(&target->endpoint, model->learned);
	MemoryContextSwitchTo(saved);
	target->requests_per_minute = tighter(target->requests_per_minute, model->requests_per_minute);
	target->tokens_per_minute = tighter(target->tokens_per_minute, model->tokens_per_minute);
	target->max_concurrency = tighter(target->max_concurrency, model->max_concurrency);
	target->timeout_ms = tighter(target->timeout_ms, llm_habit_model_duration(model->options, LLM_HABIT_TIMEOUT));
	target->connect_timeout_ms =
		tighter(target->connect_timeout_ms, llm_habit_model_duration(model->options, LLM_HABIT_CONNECT_TIMEOUT));
	target->max_output_tokens = model->max_output_tokens;
	target->context_tokens = target->endpoint.habits.context_tokens;
	if (target->context_tokens == 0)
		target->context_tokens = model->context_tokens;
	target->price = model->price;
}

void
llm_catalog_obey_pause(LlmTarget *target, Oid role)
{
	LlmOwnScope scope;
	Datum values[3];
	MemoryContext caller = CurrentMemoryContext;

	if (target->problem != NULL)
		return;
	llm_catalog_begin_reading(&scope);
	values[0] = CStringGetTextDatum(target->server);
	values[1] = CStringGetTextDatum(target->alias);
	values[2] = ObjectIdGetDatum(role);
	if (llm_spi_execute(&select_pause, values, NULL, true) > 0)
	{
		TupleDesc desc = SPI_tuptable->tupdesc;
		HeapTuple row = SPI_tuptable->vals[0];

		target->problem_class = LLM_ERR_CONFIG;
		target->problem = MemoryContextStrdup(caller, psprintf("%s is paused by \"%s\"", SPI_getvalue(row, desc, 1),
															   SPI_getvalue(row, desc, 2)));
		target->hint = MemoryContextStrdup(caller, psprintf("SELECT llm.resume(%s);", SPI_getvalue(row, desc, 3)));
	}
	llm_catalog_end_reading(&scope);
}

LlmTarget *
llm_catalog_target(const char *alias, Oid role)
{
	MemoryContext result = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(result, "llm_enrich target", ALLOCSET_SMALL_SIZES);
	LlmTarget *target = palloc0(sizeof(LlmTarget));
	ForeignServer *server;
	Model model;
	Problem problem;
	bool usable = false;

	MemoryContextSwitchTo(scratch);
	if (find_model(alias, &model, &problem))
	{
		server = find_server(model.alias, model.server, &problem);
		usable = server != NULL && check_usage(server, role, &problem) &&
				 fill_from_server(target, server, role, result, &problem);
		fill_from_model(target, &model, result);
		target->gives_vectors = usable && llm_catalog_is_of_vectors(&(LlmAskedModel){
											  model.alias, model.model, model.kind, target->base_url, target->dialect});
	}
	if (!usable)
	{
		target->problem = MemoryContextStrdup(result, problem.message);
		target->hint = MemoryContextStrdup(result, problem.hint);
		target->problem_class = problem.class;
	}
	MemoryContextSwitchTo(result);
	MemoryContextDelete(scratch);
	return target;
}
