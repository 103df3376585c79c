/*-------------------------------------------------------------------------
 *
 * fdw.h
 *	  Options of the foreign servers and user mappings that describe providers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FDW_H
#define LLM_FDW_H

#include "base/llm_enrich.h"

#include "dialect/dialect.h"
#include "nodes/pg_list.h"

/* The foreign-data wrapper whose servers are providers. */
#define LLM_FDW_NAME "llm_enrich"

#define LLM_FDW_KEY_OPTION "api_key"

/* CREATE SERVER for a hint, with the server's name in between. */
#define LLM_FDW_EXAMPLE_BEGIN "CREATE SERVER "
#define LLM_FDW_EXAMPLE_END                                              \
	" FOREIGN DATA WRAPPER " LLM_FDW_NAME " OPTIONS (provider 'openai'," \
	" api_key_file '/etc/postgresql/openai.key')"

/*
 * Options of a server, parsed, with what its provider's preset fills in.  Strings are borrowed
 * from the list given, or belong to the current context.
 */
typedef struct LlmServerOptions
{
	const char *dialect; /* NULL when neither option nor preset tells it */
	const char *base_url; /* as typed; NULL likewise */
	const char *key_file; /* NULL when missing */
	const char *key_env; /* NULL when missing */
	int requests_per_minute; /* 0: no limit told */
	int tokens_per_minute;
	int max_concurrency;
	int timeout_ms;
	int connect_timeout_ms;
	const char *note; /* of the provider's preset: what else is needed; or NULL */

	/* NULL when missing */
	const char *query;
	const char *key_header;
	const char *headers; /* JSON object */
	LlmHabits habits;
	const char *ca_file;
	const char *client_cert_file;
	const char *client_key_file;
	const char *proxy;
	const char *proxy_password_file;
} LlmServerOptions;

/* Read the options of a server as the catalog has them (a list of DefElem).  Never raises. */
extern void llm_fdw_server_options(List *options, LlmServerOptions *result);

/* Value of an option in such a list, or NULL. */
extern const char *llm_fdw_option(List *options, const char *name);

/* Is this an https URL, so that a key is to be expected? */
extern bool llm_fdw_url_is_https(const char *url);

#endif /* LLM_FDW_H */
