/*-------------------------------------------------------------------------
 *
 * dialect_azure.c
 *	  Azure OpenAI: Chat Completions under addresses of Azure's own.
 *
 * The model is the name of a deployment.  With an api-version in the query it stands in the
 * address; without one the address is that of the later form, which has no versions.  A blocked
 * prompt is an error with the code content_filter, a blocked answer has it as its end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dialect/dialect_openai.h"

#define LATER_FORM "/openai/v1"

static bool
ends_with(const char *str, const char *end)
{
	size_t len = strlen(str);
	size_t end_len = strlen(end);

	return len >= end_len && strcmp(str + len - end_len, end) == 0;
}

static void
make_address(const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address)
{
	const char *path = kind == LLM_REQUEST_EMBED ? "embeddings" : "chat/completions";
	const char *base = endpoint->base_url;
	/* it may be given as far as either form has it */
	const char *between = ends_with(base, LATER_FORM) ? "" : ends_with(base, "/openai") ? "/v1"
																						: LATER_FORM;

	if (!ends_with(base, LATER_FORM) && endpoint->query != NULL && strstr(endpoint->query, "api-version=") != NULL)
		address->url = psprintf("%s%s/deployments/%s/%s", base, ends_with(base, "/openai") ? "" : "/openai",
								llm_dialect_path_step(endpoint->model), path);
	else
		address->url = psprintf("%s%s/%s", base, between, path);
}

static const LlmAdvice advice[] = {
	{LLM_ERR_AUTH, "The key is one of the two under Keys and Endpoint of that very resource; for a token of Entra ID set key_header to 'Authorization: Bearer %s'."},
	{LLM_ERR_QUOTA, "The quota of the subscription is used up; see Quotas in the Azure portal."},
	{LLM_ERR_UNKNOWN_MODEL, "What Azure wants is the name of a deployment of this resource, not that of the model; one that was just made takes five minutes."},
	{LLM_ERR_RATE_LIMITED, "Each deployment has tokens per minute of its own; see Quotas in the Azure portal."},
	{LLM_ERR_CONFIG, "base_url is 'https://NAME.openai.azure.com', query 'api-version=...'."},
	{LLM_OK, NULL},
};

const LlmDialect llm_dialect_azure = {
	.name = "azure",
	.key_header = "api-key: %s",
	.most_inputs = 2048,
	.simpler = LLM_USED_FORM | LLM_USED_CAP | LLM_USED_ROLE,
	.max_tokens_field = "max_completion_tokens",
	.other_max_tokens_field = "max_tokens",
	.advice = advice,
	.address = make_address,
	.prepare = llm_dialect_openai_prepare,
	.body = llm_dialect_openai_body,
	.embed = llm_dialect_openai_embed,
	.read = llm_dialect_openai_read,
};
