/*-------------------------------------------------------------------------
 *
 * fdw.c
 *	  Options of the foreign servers and user mappings that describe providers.
 *
 * The validator sees the options as they would be after the statement, and
 * judges those: a server that reads a file or a variable, goes through a proxy, or has an
 * http address is a superuser's, whichever option is being changed.  So its owner cannot
 * point base_url at another host and have the worker send the key there.
 *
 * No message repeats the value of a key.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/guc.h"
#include "catalog/fdw.h"
#include "catalog/fdw_habit.h"
#include "catalog/preset.h"
#include "catalog/secret.h"
#include "dialect/dialect.h"

/*
 * The usual client libraries wait 600 s for an answer, which pays for long
 * streamed chats.  An enrichment answers in seconds; a request that has not done
 * so after two minutes only holds a connection.
 */
#define DEFAULT_TIMEOUT_MS 120000
#define DEFAULT_CONNECT_TIMEOUT_MS 10000

/* Shorter than this no network answers, longer than an hour no provider works. */

/* What kind of value an option takes; says how it is checked. */
typedef struct FdwOption
{
	Oid context; /* catalog of the object that carries it */
	const char *name;
	void (*check)(const char *name, const char *value);
	bool superuser_only; /* it reads a file, or changes where a request and the key go */
} FdwOption;

static void check_concurrency(const char *name, const char *value);
static void check_count(const char *name, const char *value);
static void check_dialect(const char *name, const char *value);
static void check_key(const char *name, const char *value);
static void check_path(const char *name, const char *value);
static void check_provider(const char *name, const char *value);
static void check_url(const char *name, const char *value);
static void check_variable(const char *name, const char *value);

/* Every option there is; the order is that of the hints. */
static const FdwOption fdw_options[] = {
	{ForeignServerRelationId, "provider", check_provider, false},
	{ForeignServerRelationId, "dialect", check_dialect, false},
	{ForeignServerRelationId, "base_url", check_url, false},
	{ForeignServerRelationId, "api_key_file", check_path, true},
	{ForeignServerRelationId, "api_key_env", check_variable, true},
	{ForeignServerRelationId, "requests_per_minute", check_count, false},
	{ForeignServerRelationId, "tokens_per_minute", check_count, false},
	{ForeignServerRelationId, "max_concurrency", check_concurrency, false},
	{ForeignServerRelationId, LLM_HABIT_TIMEOUT, llm_habit_check_duration, false},
	{ForeignServerRelationId, LLM_HABIT_CONNECT_TIMEOUT, llm_habit_check_duration, false},
	{ForeignServerRelationId, "headers", llm_habit_check_headers, false},
	{ForeignServerRelationId, "query", llm_habit_check_query, false},
	{ForeignServerRelationId, "key_header", llm_habit_check_key_header, false},
	{ForeignServerRelationId, LLM_HABIT_EXTRA_BODY, llm_habit_check_extra_body, false},
	{ForeignServerRelationId, LLM_HABIT_ANSWER_FORM, llm_habit_check_answer_form, false},
	{ForeignServerRelationId, LLM_HABIT_CONTEXT_TOKENS, llm_habit_check_context_tokens, false},
	{ForeignServerRelationId, LLM_HABIT_MAX_TOKENS_FIELD, llm_habit_check_max_tokens_field, false},
	{ForeignServerRelationId, LLM_HABIT_SYSTEM_ROLE, llm_habit_check_system_role, false},
	{ForeignServerRelationId, "ca_file", check_path, true},
	{ForeignServerRelationId, "client_cert_file", check_path, true},
	{ForeignServerRelationId, "client_key_file", check_path, true},
	{ForeignServerRelationId, "proxy", llm_habit_check_proxy, true},
	{ForeignServerRelationId, "proxy_password_file", check_path, true},
	{UserMappingRelationId, LLM_FDW_KEY_OPTION, check_key, false},
};

/* Options that make sense with another one only. */
static const struct
{
	const char *name;
	const char *needs;
} fdw_pairs[] = {
	{"client_key_file", "client_cert_file"},
	{"proxy_password_file", "proxy"},
};

/* Paths that a base_url must not end with: the dialect appends its own. */
static const char *const url_ends[] = {
	"/chat/completions",
	"/completions",
	"/embeddings",
	"/messages",
	"/responses",
	"/models",
	"/api/chat",
	"/api/generate",
	"/api/embed",
	"/converse",
};

PG_FUNCTION_INFO_V1(llm_enrich_fdw_validator);

/* A count of something per minute or at a time: a whole number from 1. */
static bool
parse_count(const char *value, int *result)
{
	return parse_int(value, result, 0, NULL) && *result >= 1;
}

/*
 * What is wrong with a base_url, as a sentence; NULL when nothing is.  We append
 * a path to it and send a key there, so there may be no doubt about its host.
 */
static const char *
find_url_fault(const char *url)
{
	const char *host;
	const char *p;
	size_t authority;

	if (pg_strncasecmp(url, "https://", 8) == 0)
		host = url + 8;
	else if (pg_strncasecmp(url, "http://", 7) == 0)
		host = url + 7;
	else
		return "It must begin with \"https://\".";
	for (p = url; *p != '\0'; p++)
	{
		if ((unsigned char) *p <= ' ' || (unsigned char) *p >= 0x7f || strchr("\\\"<>^`{|}", *p) != NULL)
			return "It holds a character that no URL may have.";
	}
	if (strpbrk(url, "?#") != NULL)
		return "It may have no query and no fragment.";
	authority = strcspn(host, "/");
	if (authority == 0 || host[0] == ':')
		return "It names no host.";
	if (memchr(host, '@', authority) != NULL)
		return "It may hold no user name and no password.";
	return NULL;
}

/* Raise for an address that ends in the path which is appended to it. */
static void
check_url_end(const char *name, const char *url)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	for (int i = 0; i < lengthof(url_ends); i++)
	{
		size_t end_len = strlen(url_ends[i]);

		if (len <= end_len || pg_strncasecmp(url + len - end_len, url_ends[i], end_len) != 0)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail("It ends with \"%s\", which is appended to it for each request.", url_ends[i]),
				 errhint("%s '%.*s'", name, (int) (len - end_len), url)));
	}
}

/* A key would go over the network unencrypted. */
static void
check_encrypted(const char *name, const char *url)
{
	if (!llm_fdw_url_is_https(url) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only a superuser may use a \"%s\" without https", name),
				 errdetail("Every change of a server whose address is http needs a superuser, whichever option it changes."),
				 errhint("Use https, or ask a superuser.")));
}

static void
check_url(const char *name, const char *value)
{
	const char *fault = find_url_fault(value);

	/* The value is not repeated: it may hold a password, which is what is wrong with it. */
	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail_internal("%s", fault),
				 errhint("An example is https://api.openai.com/v1.")));
	check_url_end(name, value);
	check_encrypted(name, value);
}

static void
check_provider(const char *name, const char *value)
{
	const LlmPreset *preset = llm_preset_find(value);

	if (preset == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
				 errhint("Providers are: %s. For others give dialect and base_url.", llm_preset_names())));
}

static void
check_dialect(const char *name, const char *value)
{
	if (llm_dialect_find(value) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
				 errhint("Dialects are: %s.", llm_dialect_names())));
}

static void
check_path(const char *name, const char *value)
{
	if (!is_absolute_path(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail("It must be an absolute path."),
				 errhint("The server's operating system user must be able to read the file. That of a key or a password holds it and nothing else.")));
}

static void
check_variable(const char *name, const char *value)
{
	size_t len = strlen(value);

	if (len == 0 || (value[0] >= '0' && value[0] <= '9') ||
		strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != len)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail("It must be the name of an environment variable, not the key itself.")));
}

static void
check_count(const char *name, const char *value)
{
	int count;

	if (!parse_count(value, &count))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
				 errdetail("It must be a whole number between 1 and %d.", INT_MAX),
				 errhint("Omit the option for no limit.")));
}

/* More than one target ever gets is no error, and does not come true. */
static void
check_concurrency(const char *name, const char *value)
{
	int most = llm_guc_max_connections - llm_guc_max_connections / 4;
	int count;

	check_count(name, value);
	if (parse_count(value, &count) && count > most)
		ereport(NOTICE,
				(errmsg("option \"%s\" is %d, and one target has %d requests in flight at most", name, count, most),
				 errdetail("That is three quarters of \"llm_enrich.max_connections\", now %d.", llm_guc_max_connections),
				 errhint("ALTER SYSTEM SET llm_enrich.max_connections = %d; then restart the server.",
						 (int) Min((int64) count * 4 / 3 + 1, 10000))));
}

static void
check_key(const char *name, const char *value)
{
	const char *fault = llm_secret_fault(value);

	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail("The key %s.", fault)));
}

static const FdwOption *
find_option(Oid context, const char *name)
{
	for (int i = 0; i < lengthof(fdw_options); i++)
	{
		if (fdw_options[i].context == context && strcmp(fdw_options[i].name, name) == 0)
			return &fdw_options[i];
	}
	return NULL;
}

/* Raise for an option that the object cannot have; the hint names those it can. */
static void
refuse_option(Oid context, const char *name)
{
	StringInfoData hint;
	const char *separator = "Valid options are: ";

	initStringInfo(&hint);
	if (find_option(UserMappingRelationId, name) != NULL)
		appendStringInfo(&hint, "Option \"%s\" belongs in CREATE USER MAPPING. ", name);
	else if (find_option(ForeignServerRelationId, name) != NULL)
		appendStringInfo(&hint, "Option \"%s\" belongs in CREATE SERVER. ", name);
	for (int i = 0; i < lengthof(fdw_options); i++)
	{
		if (fdw_options[i].context != context)
			continue;
		appendStringInfo(&hint, "%s%s", separator, fdw_options[i].name);
		separator = ", ";
	}
	appendStringInfoString(&hint, separator[0] == ',' ? "." : "There are no valid options here.");
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 errhint("%s", hint.data)));
}

/* Rights first, so that the value of an option says nothing to a role that may not set it. */
static void
check_option(const FdwOption *option, const char *value)
{
	if (option->superuser_only && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only a superuser may change a server with option \"%s\"", option->name),
				 errdetail("This holds for every change of its options: it reads a file or a variable of the server, or decides by which way the key goes."),
				 errhint("Ask a superuser, or use a server without it and CREATE USER MAPPING ... OPTIONS (%s '...').",
						 LLM_FDW_KEY_OPTION)));
	option->check(option->name, value);
}

static void
refuse_missing(const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
			 errmsg("option \"%s\" is missing", name),
			 errhint("%s", hint)));
}

/* Rules about several options of a server at once. */
static void
check_server(List *options)
{
	LlmServerOptions server;

	llm_fdw_server_options(options, &server);
	if (server.dialect == NULL)
		refuse_missing(server.base_url == NULL ? "provider" : "dialect",
					   "Examples are OPTIONS (provider 'openai', api_key_file '/etc/postgresql/openai.key'),"
					   " and OPTIONS (dialect 'openai', base_url 'https://llm.example.com/v1').");
	if (server.base_url == NULL)
		refuse_missing("base_url", server.note != NULL ? server.note : "An example is base_url 'https://llm.example.com/v1'.");
	else
		check_encrypted(llm_fdw_option(options, "base_url") != NULL ? "base_url" : "provider", server.base_url);
	if (server.key_file != NULL && server.key_env != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options \"%s\" and \"%s\" exclude each other", "api_key_file", "api_key_env")));
	for (int i = 0; i < lengthof(fdw_pairs); i++)
	{
		if (llm_fdw_option(options, fdw_pairs[i].name) != NULL && llm_fdw_option(options, fdw_pairs[i].needs) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
					 errmsg("option \"%s\" needs option \"%s\"", fdw_pairs[i].name, fdw_pairs[i].needs)));
	}
}

/*
 * SQL: llm.fdw_validator(options, catalog).  Called by CREATE and ALTER of a wrapper,
 * server, user mapping or foreign table with the options that would result.
 */
Datum
llm_enrich_fdw_validator(PG_FUNCTION_ARGS)
{
	List *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid context = PG_GETARG_OID(1);
	ListCell *cell;

	foreach(cell, options)
	{
		DefElem *given = (DefElem *) lfirst(cell);
		const FdwOption *option = find_option(context, given->defname);

		if (option == NULL)
			refuse_option(context, given->defname);
		else
			check_option(option, defGetString(given));
	}
	if (context == ForeignServerRelationId)
		check_server(options);
	PG_RETURN_VOID();
}

const char *
llm_fdw_option(List *options, const char *name)
{
	ListCell *cell;

	foreach(cell, options)
	{
		DefElem *option = (DefElem *) lfirst(cell);

		if (strcmp(option->defname, name) == 0)
			return option->arg != NULL ? strVal(option->arg) : NULL;
	}
	return NULL;
}

bool
llm_fdw_url_is_https(const char *url)
{
	return pg_strncasecmp(url, "https://", 8) == 0;
}

/* Limit named in the options; 0 when there is none. */
static int
get_count(List *options, const char *name)
{
	const char *value = llm_fdw_option(options, name);
	int count;

	return value != NULL && parse_count(value, &count) ? count : 0;
}

/* Time named in the options, in milliseconds. */
static int
get_duration(List *options, const char *name, int otherwise)
{
	int duration = llm_habit_duration(llm_fdw_option(options, name));

	return duration > 0 ? duration : otherwise;
}

/* What the provider of that name fills in; what the options say comes after it. */
static void
apply_preset(List *options, LlmServerOptions *result)
{
	const char *provider = llm_fdw_option(options, "provider");
	const LlmPreset *preset = provider == NULL ? NULL : llm_preset_find(provider);

	if (preset == NULL)
		return;
	result->dialect = preset->dialect;
	result->base_url = preset->base_url;
	result->note = preset->note;
	if (preset->max_concurrency != NULL)
		(void) parse_count(preset->max_concurrency, &result->max_concurrency);
	llm_habit_apply(&result->habits, LLM_HABIT_ANSWER_FORM, preset->answer_form);
	llm_habit_apply(&result->habits, LLM_HABIT_MAX_TOKENS_FIELD, preset->max_tokens_field);
}

/* The value of an option where it is given. */
static void
override(const char **value, List *options, const char *name)
{
	const char *given = llm_fdw_option(options, name);

	if (given != NULL)
		*value = given;
}

void
llm_fdw_server_options(List *options, LlmServerOptions *result)
{
	static const char *const habits[] = {
		LLM_HABIT_ANSWER_FORM, LLM_HABIT_MAX_TOKENS_FIELD, LLM_HABIT_SYSTEM_ROLE, LLM_HABIT_EXTRA_BODY,
		LLM_HABIT_CONTEXT_TOKENS};
	int count;

	memset(result, 0, sizeof(*result));
	apply_preset(options, result);
	override(&result->dialect, options, "dialect");
	override(&result->base_url, options, "base_url");
	result->key_file = llm_fdw_option(options, "api_key_file");
	result->key_env = llm_fdw_option(options, "api_key_env");
	result->requests_per_minute = get_count(options, "requests_per_minute");
	result->tokens_per_minute = get_count(options, "tokens_per_minute");
	count = get_count(options, "max_concurrency");
	if (count > 0)
		result->max_concurrency = count;
	result->timeout_ms = get_duration(options, LLM_HABIT_TIMEOUT, DEFAULT_TIMEOUT_MS);
	result->connect_timeout_ms = get_duration(options, LLM_HABIT_CONNECT_TIMEOUT, DEFAULT_CONNECT_TIMEOUT_MS);
	result->query = llm_fdw_option(options, "query");
	result->key_header = llm_fdw_option(options, "key_header");
	result->headers = llm_fdw_option(options, "headers");
	for (int i = 0; i < lengthof(habits); i++)
		llm_habit_apply(&result->habits, habits[i], llm_fdw_option(options, habits[i]));
	result->ca_file = llm_fdw_option(options, "ca_file");
	result->client_cert_file = llm_fdw_option(options, "client_cert_file");
	result->client_key_file = llm_fdw_option(options, "client_key_file");
	result->proxy = llm_fdw_option(options, "proxy");
	result->proxy_password_file = llm_fdw_option(options, "proxy_password_file");
}
