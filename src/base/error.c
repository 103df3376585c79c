/*-------------------------------------------------------------------------
 *
 * error.c
 *	  Names of the classes of errors, what a pause for one means, and who has raised one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/error.h"

static const char *const class_names[] = {
	[LLM_OK] = "ok",
	[LLM_ERR_TRANSIENT] = "transient",
	[LLM_ERR_RATE_LIMITED] = "rate_limited",
	[LLM_ERR_OVERLOADED] = "overloaded",
	[LLM_ERR_TIMEOUT] = "timeout",
	[LLM_ERR_UNKNOWN] = "unknown",
	[LLM_ERR_INVALID] = "invalid",
	[LLM_ERR_REFUSED] = "refused",
	[LLM_ERR_TRUNCATED] = "truncated",
	[LLM_ERR_TOO_LONG] = "too_long",
	[LLM_ERR_TOO_LARGE] = "too_large",
	[LLM_ERR_BAD_REQUEST] = "bad_request",
	[LLM_ERR_WRONG_KIND] = "wrong_model",
	[LLM_ERR_AUTH] = "auth",
	[LLM_ERR_QUOTA] = "quota",
	[LLM_ERR_UNKNOWN_MODEL] = "unknown_model",
	[LLM_ERR_CONFIG] = "config",
	[LLM_ERR_LOCAL] = "local",
	[LLM_ERR_DROPPED] = "dropped",
};

const char *
llm_error_name(LlmErrorClass class)
{
	return class >= 0 && class < lengthof(class_names) ? class_names[class] : "unknown";
}

const char *
llm_error_pause_text(LlmErrorClass class)
{
	switch (class)
	{
		case LLM_ERR_AUTH:
			return "the provider refuses the key";
		case LLM_ERR_QUOTA:
			return "the quota or spending limit of the key is used up";
		case LLM_ERR_UNKNOWN_MODEL:
			return "the provider does not know the model";
		default:
			return "the target cannot be used as it is set up";
	}
}

/* What the server itself raises is of its own domain of messages, and also what extensions without one do. */
bool
llm_error_is_said(const ErrorData *error)
{
	const char *server = PG_TEXTDOMAIN("postgres");

	return error->domain != NULL && strcmp(error->domain, server) != 0;
}
