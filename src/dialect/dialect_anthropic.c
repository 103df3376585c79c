/*-------------------------------------------------------------------------
 *
 * dialect_anthropic.c
 *	  Anthropic's Messages.
 *
 * The instructions are apart from the messages and carry the mark up to which the provider
 * caches, once they are long enough for any model to cache them: all rows of a job have them
 * in common.  A cap on output is required, so there is one where the call has none.
 *
 * The form of an answer is asked for natively where model and schema allow it: the provider
 * takes a part of JSON schema, the rest is left out and checked here.  Otherwise the model must
 * call a tool whose input is the answer; that is also the simpler way (json_object) for a host
 * that refuses the native one.
 *
 * Input tokens are told without those of the cache, so all three are added up first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_openai.h"
#include "dialect/dialect_question.h"
#include "dialect/dialect_take.h"

/* Where the call sets no cap: what all models take, and what the oldest do. */
#define MOST_OUTPUT 8192
#define MOST_OUTPUT_OLD 4096

/* No model caches less; a shorter mark would say nothing. */
#define CACHED_TOKENS 512

/* Beyond these the provider finds a schema too complex. */
#define MOST_OPTIONAL 24
#define MOST_UNIONS 16

#define TOOL_NAME "answer"

static const LlmSchemaRules native_rules = {
	.keywords = (const char *const[]){"$defs", "$ref", "allOf", "anyOf", "const", "definitions", "description",
									  "enum", "format", "items", "minItems", "properties", "required", "title",
									  "type", NULL},
	.closed = true,
	.most_min_items = 1,
};

/* ---- which way a form is asked for ---- */

/* Models from before the native form; a name that is not known is taken for a newer one. */
static bool
is_older_model(const char *model)
{
	static const char *const older[] = {"claude-2", "claude-3", "claude-instant", "claude-opus-4-0", "claude-opus-4-1",
										"claude-opus-4-2025", "claude-sonnet-4-0", "claude-sonnet-4-2025"};

	for (int i = 0; i < lengthof(older); i++)
	{
		if (strncmp(model, older[i], strlen(older[i])) == 0)
			return true;
	}
	return false;
}

typedef struct Totals
{
	int optional;
	int unions;
	bool open; /* something in it that the native form cannot say */
} Totals;

static void count_node(const JsonbValue *schema, Totals *totals);

static void
count_values(const JsonbValue *value, Totals *totals)
{
	if (value != NULL && value->type == jbvArray)
	{
		for (int i = 0; i < value->val.array.nElems; i++)
			count_node(&value->val.array.elems[i], totals);
	}
	else if (value != NULL && value->type == jbvObject)
	{
		for (int i = 0; i < value->val.object.nPairs; i++)
			count_node(&value->val.object.pairs[i].value, totals);
	}
}

/* Any reference may lead back to where it stands, which is not taken; so none is. */
static void
count_node(const JsonbValue *schema, Totals *totals)
{
	const JsonbValue *properties = llm_json_get(schema, "properties");
	const JsonbValue *required = llm_json_get(schema, "required");
	const JsonbValue *type = llm_json_get(schema, "type");
	const JsonbValue *any = llm_json_get(schema, "anyOf");

	if (schema->type != jbvObject || schema->val.object.nPairs == 0 || llm_json_get(schema, "$ref") != NULL ||
		llm_json_get(schema, "oneOf") != NULL || llm_json_get(schema, "patternProperties") != NULL)
		totals->open = true;
	if (properties == NULL && type != NULL && llm_json_string_is(type, "object"))
		totals->open = true;
	if (properties != NULL && properties->type == jbvObject)
		totals->optional += properties->val.object.nPairs -
							(required != NULL && required->type == jbvArray ? required->val.array.nElems : 0);
	totals->unions += any != NULL || (type != NULL && type->type == jbvArray);
	count_values(properties, totals);
	count_values(any, totals);
	count_values(llm_json_get(schema, "allOf"), totals);
	if (llm_json_get(schema, "items") != NULL)
		count_node(llm_json_get(schema, "items"), totals);
}

static bool
is_native(const LlmEndpoint *endpoint, const JsonbValue *schema)
{
	Totals totals = {0};

	count_node(schema, &totals);
	return endpoint->habits.answer_form == LLM_ANSWER_JSON_SCHEMA && !is_older_model(endpoint->model) &&
		   !totals.open && totals.optional <= MOST_OPTIONAL && totals.unions <= MOST_UNIONS;
}

/* ---- the question ---- */

/* How hard the model is to think; "none" is said elsewhere. */
static const char *
effort_of(const LlmParams *params)
{
	const char *effort = params->reasoning_effort;

	if (effort == NULL || strcmp(effort, "none") == 0)
		return NULL;
	return strcmp(effort, "minimal") == 0 ? "low" : effort;
}

/* The form of the answer and the effort share an object. */
static void
append_output(StringInfo buf, const LlmRecipe *recipe, const LlmEndpoint *endpoint)
{
	const char *effort = effort_of(&recipe->params);
	JsonbValue schema;
	bool asked = recipe->schema != NULL && endpoint->habits.answer_form != LLM_ANSWER_TEXT &&
				 llm_json_tree(recipe->schema, &schema);
	bool native = asked && is_native(endpoint, &schema);

	if (native || effort != NULL)
	{
		appendStringInfoString(buf, ",\"output_config\":{");
		if (effort != NULL)
		{
			appendStringInfoString(buf, "\"effort\":");
			llm_json_append_string(buf, effort, strlen(effort));
		}
		if (native)
		{
			appendStringInfo(buf, "%s\"format\":{\"type\":\"json_schema\",\"schema\":", effort != NULL ? "," : "");
			llm_dialect_append_schema(buf, &schema, &native_rules);
			appendStringInfoChar(buf, '}');
		}
		appendStringInfoChar(buf, '}');
	}
	if (asked && !native)
	{
		appendStringInfoString(buf, ",\"tools\":[{\"name\":\"" TOOL_NAME "\",\"description\":\"Give the answer.\",\"input_schema\":");
		llm_json_append(buf, &schema);
		appendStringInfoString(buf, "}],\"tool_choice\":{\"type\":\"tool\",\"name\":\"" TOOL_NAME "\",\"disable_parallel_tool_use\":true}");
	}
}

static void
append_system(StringInfo buf, const char *system)
{
	if (system[0] == '\0')
		return;
	appendStringInfoString(buf, ",\"system\":[{\"type\":\"text\",\"text\":");
	llm_json_append_string(buf, system, strlen(system));
	if (llm_dialect_estimate_tokens(system, strlen(system)) >= CACHED_TOKENS)
		appendStringInfoString(buf, ",\"cache_control\":{\"type\":\"ephemeral\"}");
	appendStringInfoString(buf, "}]");
}

static int
most_output(const LlmRecipe *recipe, const char *model)
{
	if (recipe->params.max_tokens > 0)
		return recipe->params.max_tokens;
	return strncmp(model, "claude-3-", 9) == 0 && strncmp(model, "claude-3-5", 10) != 0 ? MOST_OUTPUT_OLD : MOST_OUTPUT;
}

static LlmFrame *
prepare(const LlmRecipe *recipe, const LlmEndpoint *endpoint)
{
	const LlmParams *params = &recipe->params;
	LlmFrame *frame = palloc0(sizeof(LlmFrame));
	StringInfo head = &frame->head;

	initStringInfo(head);
	initStringInfo(&frame->tail);
	appendStringInfoString(head, "{\"model\":");
	llm_json_append_string(head, endpoint->model, strlen(endpoint->model));
	appendStringInfo(head, ",\"max_tokens\":%d", most_output(recipe, endpoint->model));
	llm_dialect_append_number(head, "temperature", params->temperature);
	llm_dialect_append_number(head, "top_p", params->top_p);
	llm_dialect_append_word(head, "service_tier", params->service_tier);
	if (params->reasoning_effort != NULL && strcmp(params->reasoning_effort, "none") == 0)
		appendStringInfoString(head, ",\"thinking\":{\"type\":\"disabled\"}");
	llm_dialect_append_extra(head, 0, params->extra_body, &endpoint->habits);
	append_output(head, recipe, endpoint);
	append_system(head, recipe->system);
	appendStringInfo(head, ",\"messages\":[%s", llm_dialect_openai_turns.user);
	appendStringInfoString(&frame->tail, "]}");
	return frame;
}

static void
make_address(const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address)
{
	Assert(kind == LLM_REQUEST_CHAT);
	address->url = psprintf("%s/messages", endpoint->base_url);
	address->headers = lappend(address->headers, pstrdup("anthropic-version: 2023-06-01"));
}

/* ---- the answer ---- */

static const LlmTake places[] = {
	LLM_TAKE("error", SEEN, has_error),
	LLM_TAKE("error.type", STRING, error.type),
	LLM_TAKE("error.message", STRING, error.message),
	LLM_TAKE("error.details.error_code", STRING, error.code),
	LLM_TAKE("request_id", STRING, id),
	LLM_TAKE("id", STRING, id),
	LLM_TAKE("content", SEEN, answered),
	LLM_TAKE("content[].text", TEXT, content),
	LLM_TAKE("content[].input", JSON, content),
	LLM_TAKE("stop_reason", STRING, finish),
	LLM_TAKE("stop_details.explanation", STRING, reason),
	LLM_TAKE("usage.input_tokens", COUNT, usage.prompt),
	LLM_TAKE("usage.cache_read_input_tokens", COUNT, usage.cached),
	LLM_TAKE("usage.cache_creation_input_tokens", COUNT, usage.cache_write),
	LLM_TAKE("usage.output_tokens", COUNT, usage.output),
	LLM_TAKE("usage.service_tier", STRING, tier),
	LLM_TAKE("usage.output_tokens_details.thinking_tokens", COUNT, usage.reasoning),
	LLM_TAKE_END};

static const LlmLimitNames request_limits[] = {
	{"anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"},
	{NULL, NULL, NULL}};

static const LlmLimitNames input_limits[] = {
	{"anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"},
	{"anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"},
	{NULL, NULL, NULL}};

static const LlmLimitNames output_limits[] = {
	{"anthropic-ratelimit-output-tokens-limit", "anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"},
	{NULL, NULL, NULL}};

static const LlmErrorWord phrases[] = {
	{"credit balance is too low", LLM_ERR_QUOTA},
	{NULL, LLM_OK}};

/* Input and output have limits of their own; that of the input paces, unless no output is left. */
static const LlmLimitNames *
limits_that_bind(const LlmRawAnswer *raw)
{
	const char *left = llm_dialect_header(raw, output_limits[0].remaining);

	return left != NULL && llm_limiter_parse_count(left) == 0 ? output_limits : input_limits;
}

static void
read_answer(const LlmRawAnswer *raw, LlmReply *reply)
{
	LlmTaken taken;
	const char *problem;
	LlmErrorClass class = llm_dialect_take(raw, places, &taken, &problem);
	LlmToldUsage *usage = &taken.usage;
	char *message = llm_dialect_clean_slice(&taken.error.message);

	if (usage->prompt >= 0)
		usage->prompt += Max(usage->cached, 0) + Max(usage->cache_write, 0);
	taken.requests = request_limits;
	taken.tokens = limits_that_bind(raw);
	taken.error.phrases = phrases;
	/* the schema is fine but too much for the native form: a tool takes it */
	if (message != NULL && strstr(message, "too complex") != NULL)
		taken.error.param = (LlmJsonSlice){"output_config", strlen("output_config"), false};
	llm_dialect_settle(raw, class, problem, &taken, reply);
}

static const LlmAdvice advice[] = {
	{LLM_ERR_AUTH, "Anthropic's keys begin with sk-ant-; see API keys in its console."},
	{LLM_ERR_QUOTA, "The credit balance or the spending limit of the workspace is used up; see Billing and Limits in Anthropic's console."},
	{LLM_ERR_UNKNOWN_MODEL, "Anthropic's names look like claude-haiku-4-5; one without a date follows the newest of its kind."},
	{LLM_ERR_RATE_LIMITED, "Requests, input and output tokens per minute are counted apart; see Limits in Anthropic's console."},
	{LLM_ERR_OVERLOADED, "Anthropic has no room for anybody at the moment (529); it is no limit of yours."},
	{LLM_OK, NULL},
};

const LlmDialect llm_dialect_anthropic = {
	.name = "anthropic",
	.key_header = "x-api-key: %s",
	.simpler = LLM_USED_FORM,
	.max_tokens_field = "max_tokens",
	.other_max_tokens_field = "max_tokens",
	.advice = advice,
	.address = make_address,
	.prepare = prepare,
	.body = llm_dialect_openai_body,
	.read = read_answer,
};
