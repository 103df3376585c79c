/*-------------------------------------------------------------------------
 *
 * dialect_gemini.c
 *	  Google's generateContent, as the Gemini API and its gateways speak it.
 *
 * The model stands in the address, the key in a header (in the query it would get into logs).
 * Parameters share the object generationConfig, as do members of that name in extra_body.  A
 * schema goes as responseJsonSchema with the keywords that the provider knows.
 *
 * A prompt that is blocked comes with status 200 and no candidates.  Tokens that the model
 * thought with are counted beside those of the answer, and are output.  How long to wait is told in
 * the body of an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_question.h"
#include "dialect/dialect_take.h"

static const LlmTurns turns = {
	.user = "{\"role\":\"user\",\"parts\":[{\"text\":\"",
	.model = "{\"role\":\"model\",\"parts\":[{\"text\":\"",
	.end = "\"}]}",
};

static const char *const keywords[] = {
	"$anchor", "$defs", "$id", "$ref", "additionalProperties", "anyOf", "description", "enum", "format", "items",
	"maxItems", "maximum", "minItems", "minimum", "oneOf", "prefixItems", "properties", "propertyOrdering",
	"required", "title", "type", NULL};

static const LlmSchemaRules schema_rules = {
	.keywords = keywords,
	.const_as_enum = true,
	.most_min_items = -1,
};

/* ---- the question ---- */

/* Older models take a number of tokens to think with, later ones a word. */
static void
append_thinking(StringInfo buf, const LlmEndpoint *endpoint, const char *effort)
{
	static const struct
	{
		const char *effort;
		const char *level;
		int budget;
	} efforts[] = {
		{"none", NULL, 0},
		{"minimal", "MINIMAL", 512},
		{"low", "LOW", 1024},
		{"medium", "MEDIUM", 8192},
		{"high", "HIGH", 24576},
	};
	bool older = strstr(endpoint->model, "gemini-2") != NULL;

	for (int i = 0; effort != NULL && i < lengthof(efforts); i++)
	{
		if (strcmp(effort, efforts[i].effort) != 0)
			continue;
		if (older || efforts[i].level == NULL)
			appendStringInfo(buf, ",\"thinkingConfig\":{\"thinkingBudget\":%d}", efforts[i].budget);
		else
			appendStringInfo(buf, ",\"thinkingConfig\":{\"thinkingLevel\":\"%s\"}", efforts[i].level);
	}
}

static void
append_form(StringInfo buf, const LlmRecipe *recipe, LlmAnswerForm form)
{
	JsonbValue schema;

	if (recipe->schema == NULL || form == LLM_ANSWER_TEXT)
		return;
	appendStringInfoString(buf, ",\"responseMimeType\":\"application/json\"");
	if (form == LLM_ANSWER_JSON_OBJECT || !llm_json_tree(recipe->schema, &schema))
		return;
	appendStringInfoString(buf, ",\"responseJsonSchema\":");
	llm_dialect_append_schema(buf, &schema, &schema_rules);
}

static LlmFrame *
prepare(const LlmRecipe *recipe, const LlmEndpoint *endpoint)
{
	const LlmParams *params = &recipe->params;
	const LlmHabits *habits = &endpoint->habits;
	LlmFrame *frame = palloc0(sizeof(LlmFrame));
	StringInfo head = &frame->head;
	int from;

	initStringInfo(head);
	initStringInfo(&frame->tail);
	appendStringInfoString(head, "{\"generationConfig\":{");
	from = head->len;
	appendStringInfoString(head, "\"candidateCount\":1");
	llm_dialect_append_number(head, "temperature", params->temperature);
	llm_dialect_append_number(head, "topP", params->top_p);
	llm_dialect_append_number(head, "seed", params->seed);
	if (params->max_tokens > 0)
		appendStringInfo(head, ",\"maxOutputTokens\":%d", params->max_tokens);
	append_thinking(head, endpoint, params->reasoning_effort);
	llm_dialect_append_extra_of(head, from, params->extra_body, habits, "generationConfig");
	append_form(head, recipe, habits->answer_form);
	appendStringInfoChar(head, '}');
	llm_dialect_append_word(head, "serviceTier", params->service_tier);
	llm_dialect_append_extra(head, 0, params->extra_body, habits);
	if (recipe->system[0] != '\0')
	{
		appendStringInfoString(head, ",\"systemInstruction\":{\"parts\":[{\"text\":");
		llm_json_append_string(head, recipe->system, strlen(recipe->system));
		appendStringInfoString(head, "}]}");
	}
	appendStringInfo(head, ",\"contents\":[%s", turns.user);
	appendStringInfoString(&frame->tail, "]}");
	return frame;
}

static void
append_body(const LlmFrame *frame, const LlmChat *chat, StringInfo body)
{
	llm_dialect_append_turns(body, frame, chat, &turns);
}

/* "models/NAME", or the whole of a name that says what it is. */
static char *
model_path(const char *model)
{
	return strchr(model, '/') != NULL ? pstrdup(model) : psprintf("models/%s", llm_dialect_path_step(model));
}

static void
append_embed(const LlmEndpoint *endpoint, const LlmEmbed *ask, StringInfo body)
{
	char *model = model_path(endpoint->model);

	appendStringInfoString(body, "{\"requests\":[");
	for (int i = 0; i < ask->ninputs; i++)
	{
		int from = body->len;

		appendStringInfoString(body, i > 0 ? ",{\"model\":" : "{\"model\":");
		llm_json_append_string(body, model, strlen(model));
		if (ask->dimensions > 0)
			appendStringInfo(body, ",\"outputDimensionality\":%d", ask->dimensions);
		llm_dialect_append_extra(body, from, ask->extra_body, &endpoint->habits);
		appendStringInfoString(body, ",\"content\":{\"parts\":[{\"text\":");
		llm_json_append_string(body, ask->inputs[i].at, ask->inputs[i].len);
		appendStringInfoString(body, "}]}}");
	}
	appendStringInfoString(body, "]}");
}

static void
make_address(const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address)
{
	address->url = psprintf("%s/%s:%s", endpoint->base_url, model_path(endpoint->model),
							kind == LLM_REQUEST_EMBED ? "batchEmbedContents" : "generateContent");
}

/* ---- the answer ---- */

static const LlmTake places[] = {
	LLM_TAKE("error", SEEN, has_error),
	LLM_TAKE("error.status", STRING, error.code),
	LLM_TAKE("error.message", STRING, error.message),
	LLM_TAKE("error.details[].reason", STRING, error.type),
	LLM_TAKE("error.details[].retryDelay", STRING, error.delay),
	LLM_TAKE("error.details[].violations[].quotaId", STRING, word),
	LLM_TAKE("responseId", STRING, id),
	LLM_TAKE("promptFeedback.blockReason", STRING, blocked),
	LLM_TAKE("candidates[0]", SEEN, answered),
	LLM_TAKE("candidates[0].finishReason", STRING, finish),
	LLM_TAKE("candidates[0].finishMessage", STRING, reason),
	LLM_TAKE("candidates[0].content.parts[].text", TEXT, content),
	LLM_TAKE("candidates[0].content.parts[].thought", HIDDEN, content),
	LLM_TAKE("embeddings[].values", VECTOR, vectors),
	LLM_TAKE("usageMetadata.promptTokenCount", COUNT, usage.prompt),
	LLM_TAKE("usageMetadata.toolUsePromptTokenCount", COUNT, extra),
	LLM_TAKE("usageMetadata.cachedContentTokenCount", COUNT, usage.cached),
	LLM_TAKE("usageMetadata.candidatesTokenCount", COUNT, usage.output),
	LLM_TAKE("usageMetadata.thoughtsTokenCount", COUNT, usage.reasoning),
	LLM_TAKE("usageMetadata.totalTokenCount", COUNT, usage.total),
	LLM_TAKE_END};

static const LlmErrorWord codes[] = {
	{"deadline_exceeded", LLM_ERR_TRANSIENT},
	{"failed_precondition", LLM_ERR_QUOTA},
	{"internal", LLM_ERR_TRANSIENT},
	{"unavailable", LLM_ERR_OVERLOADED},
	{NULL, LLM_OK}};

/* "The input token count (…) exceeds the maximum number of tokens allowed (…)." is common. */
static const LlmErrorWord phrases[] = {
	{"api key not valid", LLM_ERR_AUTH},
	{"prepayment credits are depleted", LLM_ERR_QUOTA},
	{NULL, LLM_OK}};

/* Does the quota that was used up last a day? */
static bool
is_daily(const LlmJsonSlice *quota)
{
	return quota->at != NULL && memmem(quota->at, quota->len, "PerDay", 6) != NULL;
}

static void
read_answer(const LlmRawAnswer *raw, LlmReply *reply)
{
	LlmTaken taken;
	const char *problem;
	LlmErrorClass class = llm_dialect_take(raw, places, &taken, &problem);
	LlmToldUsage *usage = &taken.usage;

	if (usage->prompt >= 0)
		usage->prompt += Max(taken.extra, 0);
	if (usage->output >= 0 || usage->reasoning >= 0)
		usage->output = Max(usage->output, 0) + Max(usage->reasoning, 0);
	/* it answers no question in that language, however often it is asked */
	if (llm_json_is(&taken.finish, "LANGUAGE"))
		taken.blocked = taken.finish;
	taken.error.codes = codes;
	taken.error.phrases = phrases;
	llm_dialect_settle(raw, class, problem, &taken, reply);
	/* the delay that comes with it is that of the minute */
	if (reply->class == LLM_ERR_RATE_LIMITED && is_daily(&taken.word))
	{
		reply->class = LLM_ERR_QUOTA;
		reply->retry_after_ms = -1;
	}
}

static const LlmAdvice advice[] = {
	{LLM_ERR_AUTH, "Gemini's keys are made in Google AI Studio; the Generative Language API must be enabled for their project, and a restriction of the key must let this machine through."},
	{LLM_ERR_QUOTA, "The quota of the key's project is used up; see Usage in Google AI Studio."},
	{LLM_ERR_UNKNOWN_MODEL, "Gemini's names look like gemini-2.5-flash, without models/ before them."},
	{LLM_ERR_RATE_LIMITED, "Limits hold per project and model, and depend on its tier; see Usage in Google AI Studio."},
	{LLM_ERR_CONFIG, "base_url ends in /v1beta."},
	{LLM_OK, NULL},
};

const LlmDialect llm_dialect_gemini = {
	.name = "gemini",
	.key_header = "x-goog-api-key: %s",
	.most_inputs = 100,
	.simpler = LLM_USED_FORM,
	.max_tokens_field = "maxOutputTokens",
	.other_max_tokens_field = "maxOutputTokens",
	.advice = advice,
	.address = make_address,
	.prepare = prepare,
	.body = append_body,
	.embed = append_embed,
	.read = read_answer,
};
