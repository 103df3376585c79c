/*-------------------------------------------------------------------------
 *
 * dialect_bedrock.c
 *	  Converse of AWS Bedrock, with a Bedrock API key.
 *
 * One form for the models of many houses.  A schema goes as a string that holds JSON; a model
 * that has no structured output is made to call a tool whose input is the answer (json_object).
 * What is wrong is named in the header x-amzn-errortype, its sentence in the body.
 *
 * Converse has no embeddings: each house has a form of its own for them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_question.h"
#include "dialect/dialect_take.h"

#define TOOL_NAME "answer"

static const LlmTurns turns = {
	.user = "{\"role\":\"user\",\"content\":[{\"text\":\"",
	.model = "{\"role\":\"assistant\",\"content\":[{\"text\":\"",
	.end = "\"}]}",
};

/* ---- the question ---- */

static void
append_config(StringInfo buf, const LlmParams *params, const LlmHabits *habits)
{
	StringInfoData config;

	/* a comma before each, the first of which is left out */
	initStringInfo(&config);
	if (params->max_tokens > 0)
		appendStringInfo(&config, ",\"maxTokens\":%d", params->max_tokens);
	llm_dialect_append_number(&config, "temperature", params->temperature);
	llm_dialect_append_number(&config, "topP", params->top_p);
	llm_dialect_append_extra_of(&config, 0, params->extra_body, habits, "inferenceConfig");
	appendStringInfo(buf, "\"inferenceConfig\":{%s}", config.len > 0 ? config.data + 1 : "");
	pfree(config.data);
}

static void
append_form(StringInfo buf, const LlmRecipe *recipe, LlmAnswerForm form)
{
	JsonbValue schema;
	StringInfoData words;

	if (recipe->schema == NULL || form == LLM_ANSWER_TEXT || !llm_json_tree(recipe->schema, &schema))
		return;
	initStringInfo(&words);
	llm_json_append(&words, &schema);
	if (form == LLM_ANSWER_JSON_OBJECT)
		appendStringInfo(buf, ",\"toolConfig\":{\"tools\":[{\"toolSpec\":{\"name\":\"" TOOL_NAME "\",\"description\":\"Give the answer.\",\"inputSchema\":{\"json\":%s}}}],\"toolChoice\":{\"tool\":{\"name\":\"" TOOL_NAME "\"}}}",
						 words.data);
	else
	{
		appendStringInfo(buf, ",\"outputConfig\":{\"textFormat\":{\"type\":\"json_schema\",\"structure\":{\"jsonSchema\":{\"name\":\"%s\",\"schema\":",
						 recipe->schema_name);
		llm_json_append_string(buf, words.data, words.len);
		appendStringInfoString(buf, "}}}}");
	}
	pfree(words.data);
}

static LlmFrame *
prepare(const LlmRecipe *recipe, const LlmEndpoint *endpoint)
{
	const LlmHabits *habits = &endpoint->habits;
	LlmFrame *frame = palloc0(sizeof(LlmFrame));
	StringInfo head = &frame->head;

	initStringInfo(head);
	initStringInfo(&frame->tail);
	appendStringInfoChar(head, '{');
	append_config(head, &recipe->params, habits);
	if (recipe->params.service_tier != NULL)
	{
		appendStringInfoString(head, ",\"serviceTier\":{\"type\":");
		llm_json_append_string(head, recipe->params.service_tier, strlen(recipe->params.service_tier));
		appendStringInfoChar(head, '}');
	}
	llm_dialect_append_extra(head, 0, recipe->params.extra_body, habits);
	append_form(head, recipe, habits->answer_form);
	if (recipe->system[0] != '\0')
	{
		appendStringInfoString(head, ",\"system\":[{\"text\":");
		llm_json_append_string(head, recipe->system, strlen(recipe->system));
		appendStringInfoString(head, "}]");
	}
	appendStringInfo(head, ",\"messages\":[%s", turns.user);
	appendStringInfoString(&frame->tail, "]}");
	return frame;
}

static void
append_body(const LlmFrame *frame, const LlmChat *chat, StringInfo body)
{
	llm_dialect_append_turns(body, frame, chat, &turns);
}

/* A model's id may have colons, and be a path of its own. */
static void
make_address(const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address)
{
	Assert(kind == LLM_REQUEST_CHAT);
	address->url = psprintf("%s/model/%s/converse", endpoint->base_url, llm_dialect_path_step(endpoint->model));
}

/* ---- the answer ---- */

static const LlmTake places[] = {
	LLM_TAKE("message", STRING, error.message),
	LLM_TAKE("Message", STRING, error.message),
	LLM_TAKE("__type", STRING, error.type),
	LLM_TAKE("output.message", SEEN, answered),
	LLM_TAKE("output.message.content[].text", TEXT, content),
	LLM_TAKE("output.message.content[].toolUse.input", JSON, content),
	LLM_TAKE("stopReason", STRING, finish),
	LLM_TAKE("usage.inputTokens", COUNT, usage.prompt),
	LLM_TAKE("usage.outputTokens", COUNT, usage.output),
	LLM_TAKE("usage.totalTokens", COUNT, usage.total),
	LLM_TAKE("usage.cacheReadInputTokens", COUNT, usage.cached),
	LLM_TAKE("usage.cacheWriteInputTokens", COUNT, usage.cache_write),
	LLM_TAKE("serviceTier.type", STRING, tier),
	LLM_TAKE_END};

static const LlmErrorWord codes[] = {
	{"accessdeniedexception", LLM_ERR_AUTH},
	{"expiredtokenexception", LLM_ERR_AUTH},
	{"incompletesignatureexception", LLM_ERR_AUTH},
	{"internalserverexception", LLM_ERR_TRANSIENT},
	{"invalidsignatureexception", LLM_ERR_AUTH},
	{"modelerrorexception", LLM_ERR_TRANSIENT},
	{"modelnotreadyexception", LLM_ERR_OVERLOADED},
	{"modeltimeoutexception", LLM_ERR_TRANSIENT},
	{"resourcenotfoundexception", LLM_ERR_UNKNOWN_MODEL},
	{"servicequotaexceededexception", LLM_ERR_QUOTA},
	{"serviceunavailableexception", LLM_ERR_OVERLOADED},
	{"throttlingexception", LLM_ERR_RATE_LIMITED},
	{"unrecognizedclientexception", LLM_ERR_AUTH},
	{NULL, LLM_OK}};

/* The first is how it asks to slow down, which elsewhere is a question that is too long. */
static const LlmErrorWord phrases[] = {
	{"too many tokens, please wait", LLM_ERR_RATE_LIMITED},
	{"too many tokens per day", LLM_ERR_QUOTA},
	{"model identifier is invalid", LLM_ERR_UNKNOWN_MODEL},
	{"with on-demand throughput", LLM_ERR_UNKNOWN_MODEL},
	{NULL, LLM_OK}};

/* The name of the error, without the address that may follow it. */
static LlmJsonSlice
error_type(const LlmRawAnswer *raw)
{
	const char *told = llm_dialect_header(raw, "x-amzn-errortype");

	return told == NULL ? (LlmJsonSlice){0} : (LlmJsonSlice){told, strcspn(told, ":"), false};
}

/*
 * Are tokens of the cache counted apart from the input?  Where the total has room for them, they
 * are; a total that is input and output alone holds them.
 */
static bool
is_apart(const LlmToldUsage *usage)
{
	return usage->total < 0 || usage->total != Max(usage->prompt, 0) + Max(usage->output, 0);
}

static void
read_answer(const LlmRawAnswer *raw, LlmReply *reply)
{
	LlmTaken taken;
	const char *problem;
	LlmErrorClass class = llm_dialect_take(raw, places, &taken, &problem);
	LlmToldUsage *usage = &taken.usage;

	if (usage->prompt >= 0 && is_apart(usage))
		usage->prompt += Max(usage->cached, 0) + Max(usage->cache_write, 0);
	taken.error.code = error_type(raw);
	taken.error.codes = codes;
	taken.error.phrases = phrases;
	llm_dialect_settle(raw, class, problem, &taken, reply);
}

static const LlmAdvice advice[] = {
	{LLM_ERR_AUTH, "It has to be a Bedrock API key of this region, and its role needs bedrock:InvokeModel."},
	{LLM_ERR_QUOTA, "See Service Quotas of Amazon Bedrock in this region."},
	{LLM_ERR_UNKNOWN_MODEL, "Bedrock's names look like anthropic.claude-haiku-4-5-20251001-v1:0, often with the region's prefix (us., eu.); access to a model is granted under Model access."},
	{LLM_ERR_RATE_LIMITED, "Bedrock has a quota per model and region; see Service Quotas."},
	{LLM_ERR_CONFIG, "base_url is 'https://bedrock-runtime.REGION.amazonaws.com'."},
	{LLM_OK, NULL},
};

const LlmDialect llm_dialect_bedrock = {
	.name = "bedrock",
	.key_header = "Authorization: Bearer %s",
	.simpler = LLM_USED_FORM,
	.max_tokens_field = "maxTokens",
	.other_max_tokens_field = "maxTokens",
	.advice = advice,
	.address = make_address,
	.prepare = prepare,
	.body = append_body,
	.read = read_answer,
};
