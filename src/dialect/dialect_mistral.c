/*-------------------------------------------------------------------------
 *
 * dialect_mistral.c
 *	  Mistral's form of Chat Completions: OpenAI's, with names of its own for three members.
 *
 * What is particular in its answers (errors at the top level and in "detail", content in
 * parts) others of this form do as well, so the reading is theirs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dialect/dialect_openai.h"

static const LlmOpenaiNames names = {"max_tokens", "random_seed", "output_dimension"};

static LlmFrame *
prepare(const LlmRecipe *recipe, const LlmEndpoint *endpoint)
{
	return llm_dialect_openai_prepare_as(recipe, endpoint, &names);
}

static void
append_embed(const LlmEndpoint *endpoint, const LlmEmbed *ask, StringInfo body)
{
	llm_dialect_openai_embed_as(endpoint, ask, &names, body);
}

static const LlmAdvice advice[] = {
	{LLM_ERR_AUTH, "Mistral's keys are made in its console under API keys, and are in force after a few minutes."},
	{LLM_ERR_QUOTA, "The plan's limit or the spending limit of the workspace is used up; see Limits in Mistral's console."},
	{LLM_ERR_UNKNOWN_MODEL, "Mistral's names look like mistral-small-latest."},
	{LLM_ERR_RATE_LIMITED, "Limits hold per workspace and model; see Limits in Mistral's console."},
	{LLM_ERR_CONFIG, "base_url ends in /v1."},
	{LLM_OK, NULL},
};

const LlmDialect llm_dialect_mistral = {
	.name = "mistral",
	.key_header = "Authorization: Bearer %s",
	.most_inputs = 128,
	.simpler = LLM_USED_FORM | LLM_USED_ROLE,
	.max_tokens_field = "max_tokens",
	.other_max_tokens_field = "max_tokens",
	.advice = advice,
	.address = llm_dialect_openai_address,
	.prepare = prepare,
	.body = llm_dialect_openai_body,
	.embed = append_embed,
	.read = llm_dialect_openai_read,
};
