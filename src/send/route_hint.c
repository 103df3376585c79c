/*-------------------------------------------------------------------------
 *
 * route_hint.c
 *	  What to type so that a target can be used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "catalog/fdw.h"
#include "dialect/dialect.h"
#include "send/route_hint.h"

/* Where the key comes from says how to give another one. */
static char *
key_hint(const LlmTarget *target)
{
	const char *server = quote_identifier(target->server);

	switch (target->key_source)
	{
		case LLM_KEY_FILE:
			return psprintf("Put the right key into \"%s\"; then SELECT pg_reload_conf();", target->key_name);
		case LLM_KEY_ENV:
			return psprintf("Set \"%s\" to the right key where PostgreSQL is started, and restart it.",
							target->key_name);
		case LLM_KEY_MAPPING:
			return psprintf("ALTER USER MAPPING FOR ... SERVER %s OPTIONS (SET " LLM_FDW_KEY_OPTION " '...');", server);
		case LLM_KEY_NONE:
			break;
	}
	return psprintf("ALTER SERVER %s OPTIONS (ADD api_key_file '...'); or CREATE USER MAPPING FOR ... SERVER %s OPTIONS (" LLM_FDW_KEY_OPTION " '...');",
					server, server);
}

/* What to type for a failure of the way to the host; NULL: it is none of these. */
static char *
way_hint(const LlmTarget *target, LlmHttpCause cause)
{
	const char *server = quote_identifier(target->server);
	const char *host = target->endpoint.base_url;

	switch (cause)
	{
		case LLM_HTTP_CAUSE_CA:
			return psprintf("The certificate of %s is not from an authority that is known here, or is another host's:"
							" ALTER SERVER %s OPTIONS (%s ca_file '/path/to/authority.pem');",
							host, server, target->network.ca_file == NULL ? "ADD" : "SET");
		case LLM_HTTP_CAUSE_CLIENT_CERT:
			return psprintf("%s wants a client certificate: ALTER SERVER %s OPTIONS (%s client_cert_file '...', %s client_key_file '...');",
							host, server, target->network.client_cert_file == NULL ? "ADD" : "SET",
							target->network.client_key_file == NULL ? "ADD" : "SET");
		case LLM_HTTP_CAUSE_FILE:
			return psprintf("The files of ca_file, client_cert_file and client_key_file of server %s must exist, be PEM, and be"
							" readable for the operating system user that runs PostgreSQL; then SELECT pg_reload_conf();",
							server);
		case LLM_HTTP_CAUSE_PROXY_PASSWORD:
			return psprintf("The proxy wants another user or password: ALTER SERVER %s OPTIONS (SET proxy 'http://USER@HOST:PORT',"
							" %s proxy_password_file '...');",
							server, target->proxy_password_file == NULL ? "ADD" : "SET");
		case LLM_HTTP_CAUSE_PROXY:
			return psprintf("The proxy cannot be reached, or refuses: ALTER SERVER %s OPTIONS (SET proxy '...');", server);
		case LLM_HTTP_CAUSE_HEAD:
		case LLM_HTTP_CAUSE_HEAD_OR_MEMORY:
		case LLM_HTTP_CAUSE_NONE:
			break;
	}
	return NULL;
}

/* What to type; NULL for classes that need no action. */
static char *
what_to_type(const LlmTarget *target, LlmErrorClass class)
{
	switch (class)
	{
		case LLM_ERR_AUTH:
			return key_hint(target);
		case LLM_ERR_QUOTA:
			return pstrdup("Raise the limit with the provider; sending goes on by itself then.");
		case LLM_ERR_UNKNOWN_MODEL:
			return psprintf("SELECT llm.alter_model(%s, model => '...'); or give the key access to \"%s\".",
							quote_literal_cstr(target->alias), target->model);
		case LLM_ERR_WRONG_KIND:
			return psprintf("Name another model: model => '...'; or SELECT llm.alter_model(%s, model => '...');",
							quote_literal_cstr(target->alias));
		case LLM_ERR_CONFIG:
			return psprintf("ALTER SERVER %s OPTIONS (SET base_url '...');", quote_identifier(target->server));
		default:
			return NULL;
	}
}

/* What the provider's own advice is, and how the key goes to it. */
static char *
advise(const LlmTarget *target, LlmErrorClass class)
{
	const LlmDialect *dialect = llm_dialect_find(target->dialect);
	const char *header = target->endpoint.key_header;
	const char *words = dialect == NULL ? NULL : llm_dialect_advice(dialect, class);
	int name;

	if (class != LLM_ERR_AUTH || dialect == NULL)
		return words == NULL ? NULL : pstrdup(words);
	header = header != NULL ? header : dialect->key_header;
	name = (int) strcspn(header, ":");
	return psprintf("The key is sent in the header \"%.*s\". %s", name, header, words == NULL ? "" : words);
}

char *
llm_route_command(const LlmTarget *target, LlmErrorClass class, LlmHttpCause cause)
{
	char *way = way_hint(target, cause);

	return way != NULL ? way : what_to_type(target, class);
}

char *
llm_route_hint(const LlmTarget *target, LlmErrorClass class, LlmHttpCause cause)
{
	char *way = way_hint(target, cause);
	char *type = way != NULL ? way : what_to_type(target, class);
	char *advice = way != NULL || type == NULL ? NULL : advise(target, class);

	/* what to type comes first: where there is little room the rest is cut */
	return advice == NULL ? type : psprintf("%s %s", type, advice);
}

char *
llm_route_trial_hint(const LlmTarget *target, LlmErrorClass class, LlmHttpCause cause, bool answered)
{
	char *hint = llm_route_hint(target, class, cause);

	if (hint != NULL || class == LLM_OK)
		return hint;
	if (!answered && (class == LLM_ERR_TRANSIENT || class == LLM_ERR_TIMEOUT || class == LLM_ERR_UNKNOWN))
		return psprintf("Can this machine reach %s? If the address is wrong: ALTER SERVER %s OPTIONS (SET base_url '...');"
						" behind a proxy: ALTER SERVER %s OPTIONS (ADD proxy 'http://HOST:PORT');",
						target->endpoint.base_url, quote_identifier(target->server), quote_identifier(target->server));
	return advise(target, class);
}
