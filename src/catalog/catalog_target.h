/*-------------------------------------------------------------------------
 *
 * catalog_target.h
 *	  Servers, user mappings, models and prices: read, checked, resolved.
 *
 * In a user's statement check_call() raises what is wrong; in the sender
 * target() never raises for a wrong catalog but says what to type next, so
 * that one typo stalls nothing else.  Only the sender reads keys (secret.c).
 *
 * A role's key is the one in its own user mapping, else the server's file or
 * variable, else the one in the mapping of PUBLIC.  Without an alias the default
 * model is meant; llm_enrich.model is the caller's to apply.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CATALOG_TARGET_H
#define LLM_CATALOG_TARGET_H

#include "base/llm_enrich.h"

#include "dialect/dialect.h"
#include "http/http.h"

typedef enum LlmKeySource
{
	LLM_KEY_NONE = 0,
	LLM_KEY_FILE, /* server option api_key_file */
	LLM_KEY_ENV, /* server option api_key_env */
	LLM_KEY_MAPPING /* user mapping option api_key */
} LlmKeySource;

/* Requests at a time where neither server nor model tell how many: polite to small servers. */
#define LLM_TARGET_CONCURRENCY 64

/* Where a task is sent.  All strings live in the context given to target(). */
typedef struct LlmTarget
{
	/* NULL when usable; else one sentence, and what to type next */
	const char *problem;
	const char *hint;
	LlmErrorClass problem_class; /* CONFIG, or AUTH when the role may not use the server */

	const char *alias;
	const char *fallback; /* alias of the model that is asked where this one cannot be; or NULL */
	const char *server;
	Oid server_oid;
	const char *model; /* the provider's name */
	const char *dialect;
	const char *base_url; /* no trailing slash */
	LlmEndpoint endpoint; /* what the dialect is told */
	LlmHttpNetwork network; /* the password is not read yet */
	const char *proxy_password_file; /* or NULL */
	LlmKeySource key_source;
	const char *key_name; /* path or variable; the key itself for a mapping (wipe it after use) */
	int requests_per_minute; /* 0: no limit told */
	int tokens_per_minute; /* 0: no limit told */
	int max_concurrency; /* 0: no limit told, see LLM_TARGET_CONCURRENCY */
	int timeout_ms;
	int connect_timeout_ms;
	int max_output_tokens; /* 0: not known */
	int context_tokens; /* of input that fit the model; 0: not known */
	int64 price; /* llm.price.id in force, 0: unknown */
	bool gives_vectors; /* and no text, as is known */
} LlmTarget;

/*
 * In a user's statement: raise unless the alias (NULL: the default model) exists
 * and the role may use its server; NOTICE when an https server has no key for the role.
 */
extern void llm_catalog_check_call(const char *alias, Oid role);

/*
 * The same, and raise where it is known that the model does not take requests of this kind; "function" is the
 * one that is called.
 */
extern void llm_catalog_check_call_of(LlmRequestKind kind, const char *function, const char *alias, Oid role);

/* check_call(), and whether the model is known to give vectors, and no text. */
extern bool llm_catalog_call_gives_vectors(const char *alias, Oid role);

/*
 * Raise unless the current role may give a server this name: models name their server, so
 * a role that takes a name that became free gets the calls of all roles that may use its server.
 */
extern void llm_catalog_check_server_name(const char *name);

/* A server gets another name: models, prices that hold from now on, habits and pauses follow. */
extern void llm_catalog_rename_server(const char *name, const char *new_name);

/* " Known names: ..." of the models that the price list has for a server's provider; "" where it has none. */
extern char *llm_catalog_known_models(const char *server);

/*
 * Before the current role drops a server: raise while models name it, or with "cascade" drop them, too.  Nothing
 * of that in a script of pg_dump's, which drops the extension next.
 */
extern void llm_catalog_drop_server(const char *name, bool cascade);

/* In the sender, inside a transaction, or in a user's statement.  Result in the current context. */
extern LlmTarget *llm_catalog_target(const char *alias, Oid role);

/*
 * In the sender: where somebody has paused a usable target for the role, that is its problem.  A pause is
 * obeyed where a request would leave; what sends nothing, as estimates and previews, does not ask.
 */
extern void llm_catalog_obey_pause(LlmTarget *target, Oid role);

/* Counts up whenever a server, mapping, model or price may have changed; valid between transactions. */
extern uint64 llm_catalog_generation(void);

#endif /* LLM_CATALOG_TARGET_H */
