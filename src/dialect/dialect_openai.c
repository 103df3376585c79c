/*-------------------------------------------------------------------------
 *
 * dialect_openai.c
 *	  Chat Completions as OpenAI defined them and most others speak them: the
 *	  question.
 *
 * What the rows share comes first in the body and the row's own text last, so
 * that a request costs one copy of the text, and providers can cache the rest.
 * Optional parameters are absent unless the user set them, since many models
 * refuse them.  The instructions have the role "system", which most servers of
 * this form understand.
 *
 * A schema goes along with "strict": true when it lies within OpenAI's strict
 * subset as it is.  When it does not (a property that is not required,
 * additionalProperties not false, a keyword that the subset lacks), it goes
 * with "strict": false, which asks the model for the best it can do; the answer
 * is checked here in any case.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_openai.h"
#include "dialect/dialect_question.h"

static const char message_end[] = "\"}";

const LlmTurns llm_dialect_openai_turns = {
	.user = "{\"role\":\"user\",\"content\":\"",
	.model = "{\"role\":\"assistant\",\"content\":\"",
	.end = message_end,
};

static const LlmOpenaiNames own_names = {"max_completion_tokens", "seed", "dimensions"};

static void
append_response_format(StringInfo buf, const LlmRecipe *recipe, LlmAnswerForm form)
{
	JsonbValue schema;

	if (recipe->schema == NULL || form == LLM_ANSWER_TEXT)
		return;
	if (form == LLM_ANSWER_JSON_OBJECT)
	{
		appendStringInfoString(buf, ",\"response_format\":{\"type\":\"json_object\"}");
		return;
	}
	if (!llm_json_tree(recipe->schema, &schema))
		return;
	appendStringInfo(buf, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"%s\",\"strict\":%s,\"schema\":",
					 recipe->schema_name, llm_dialect_openai_is_strict(recipe->schema) ? "true" : "false");
	llm_json_append(buf, &schema);
	appendStringInfoString(buf, "}}");
}

static void
append_params(StringInfo buf, const LlmParams *params, const LlmHabits *habits, const LlmOpenaiNames *names)
{
	const char *field = habits->max_tokens_field;

	if (field == NULL)
		field = names->max_tokens;

	llm_dialect_append_number(buf, "temperature", params->temperature);
	llm_dialect_append_number(buf, "top_p", params->top_p);
	llm_dialect_append_number(buf, names->seed, params->seed);
	if (params->max_tokens > 0)
		appendStringInfo(buf, ",\"%s\":%d", field, params->max_tokens);
	llm_dialect_append_word(buf, "reasoning_effort", params->reasoning_effort);
	llm_dialect_append_word(buf, "verbosity", params->verbosity);
	llm_dialect_append_word(buf, "service_tier", params->service_tier);
}

static void
begin_message(StringInfo buf, const char *role)
{
	appendStringInfo(buf, "{\"role\":\"%s\",\"content\":\"", role);
}

void
llm_dialect_openai_instructions(StringInfo head, const char *system, const char *role)
{
	bool apart = strcmp(role, "user") != 0;

	if (system[0] != '\0' && apart)
	{
		begin_message(head, role);
		llm_json_escape(head, system, strlen(system));
		appendStringInfo(head, "%s,", message_end);
	}
	begin_message(head, "user");
	if (system[0] != '\0' && !apart)
	{
		llm_json_escape(head, system, strlen(system));
		llm_json_escape(head, "\n\n", 2);
	}
}

LlmFrame *
llm_dialect_openai_prepare_as(const LlmRecipe *recipe, const LlmEndpoint *endpoint, const LlmOpenaiNames *names)
{
	const LlmHabits *habits = &endpoint->habits;
	LlmFrame *frame = palloc0(sizeof(LlmFrame));
	StringInfo head = &frame->head;

	initStringInfo(head);
	initStringInfo(&frame->tail);
	appendStringInfoString(head, "{\"model\":");
	llm_json_append_string(head, endpoint->model, strlen(endpoint->model));
	append_params(head, &recipe->params, habits, names);
	llm_dialect_append_extra(head, 0, recipe->params.extra_body, habits);
	append_response_format(head, recipe, habits->answer_form);
	appendStringInfoString(head, ",\"messages\":[");
	llm_dialect_openai_instructions(head, recipe->system, habits->system_role != NULL ? habits->system_role : "system");
	appendStringInfoString(&frame->tail, "]}");
	return frame;
}

LlmFrame *
llm_dialect_openai_prepare(const LlmRecipe *recipe, const LlmEndpoint *endpoint)
{
	return llm_dialect_openai_prepare_as(recipe, endpoint, &own_names);
}

void
llm_dialect_openai_body(const LlmFrame *frame, const LlmChat *chat, StringInfo body)
{
	llm_dialect_append_turns(body, frame, chat, &llm_dialect_openai_turns);
}

void
llm_dialect_openai_embed_as(const LlmEndpoint *endpoint, const LlmEmbed *ask, const LlmOpenaiNames *names,
							StringInfo body)
{
	appendStringInfoString(body, "{\"model\":");
	llm_json_append_string(body, endpoint->model, strlen(endpoint->model));
	if (ask->dimensions > 0)
		appendStringInfo(body, ",\"%s\":%d", names->dimensions, ask->dimensions);
	llm_dialect_append_extra(body, 0, ask->extra_body, &endpoint->habits);
	appendStringInfoString(body, ",\"input\":");
	for (int i = 0; i < ask->ninputs; i++)
	{
		appendStringInfoChar(body, i == 0 ? '[' : ',');
		llm_json_append_string(body, ask->inputs[i].at, ask->inputs[i].len);
	}
	appendStringInfoString(body, "]}");
}

void
llm_dialect_openai_embed(const LlmEndpoint *endpoint, const LlmEmbed *ask, StringInfo body)
{
	llm_dialect_openai_embed_as(endpoint, ask, &own_names, body);
}

void
llm_dialect_openai_address(const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address)
{
	address->url = psprintf("%s%s", endpoint->base_url, kind == LLM_REQUEST_EMBED ? "/embeddings" : "/chat/completions");
}

/* OpenAI takes 2,048 inputs; some others of this form fewer, which the caller's own bound sees to. */
static const LlmAdvice advice[] = {
	{LLM_ERR_AUTH, "Keys are made on the provider's page of API keys; a key of a project is good for that project's models only."},
	{LLM_ERR_QUOTA, "The credit or the monthly limit is used up; see Billing and Limits on the provider's page."},
	{LLM_ERR_UNKNOWN_MODEL, "GET {base_url}/models lists the names that the key may use."},
	{LLM_ERR_RATE_LIMITED, "See Limits on the provider's page: they hold per model, and grow with the tier."},
	{LLM_ERR_CONFIG, "base_url usually ends in /v1, without /chat/completions."},
	{LLM_OK, NULL},
};

const LlmDialect llm_dialect_openai = {
	.name = "openai",
	.key_header = "Authorization: Bearer %s",
	.most_inputs = 2048,
	.simpler = LLM_USED_FORM | LLM_USED_CAP | LLM_USED_ROLE,
	.max_tokens_field = "max_completion_tokens",
	.other_max_tokens_field = "max_tokens",
	.advice = advice,
	.address = llm_dialect_openai_address,
	.prepare = llm_dialect_openai_prepare,
	.body = llm_dialect_openai_body,
	.embed = llm_dialect_openai_embed,
	.read = llm_dialect_openai_read,
};
