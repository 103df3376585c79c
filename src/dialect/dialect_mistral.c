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

const LlmDialect llm_dialect_mistral = {
	.name = "mistral",
	.key_header = "Authorization: Bearer %s",
	.most_inputs = 128,
	.simpler = LLM_USED_FORM | LLM_USED_ROLE,
	.max_tokens_field = "max_tokens",
	.other_max_tokens_field = "max_tokens",
	.address = llm_dialect_openai_address,
	.prepare = prepare,
	.body = llm_dialect_openai_body,
	.embed = append_embed,
	.read = llm_dialect_openai_read,
};
