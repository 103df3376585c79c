/*-------------------------------------------------------------------------
 *
 * dialect_ollama.c
 *	  Ollama's own form (/api/chat, /api/embed).
 *
 * Unlike its copy of OpenAI's form, it takes the size of the context: num_ctx among "options" of
 * extra_body.  A prompt longer than that would be cut without a word, which "truncate": false
 * forbids; older servers do not know it.  Answers stream unless that is switched off.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_openai.h"
#include "dialect/dialect_take.h"

/* ---- the question ---- */

static void
append_options(StringInfo buf, const LlmParams *params, const LlmHabits *habits)
{
	StringInfoData options;

	/* a comma before each, the first of which is left out */
	initStringInfo(&options);
	llm_dialect_append_number(&options, "temperature", params->temperature);
	llm_dialect_append_number(&options, "top_p", params->top_p);
	llm_dialect_append_number(&options, "seed", params->seed);
	if (params->max_tokens > 0)
		appendStringInfo(&options, ",\"num_predict\":%d", params->max_tokens);
	llm_dialect_append_extra_of(&options, 0, params->extra_body, habits, "options");
	if (options.len > 0)
		appendStringInfo(buf, ",\"options\":{%s}", options.data + 1);
	pfree(options.data);
}

static void
append_thinking(StringInfo buf, const char *effort)
{
	if (effort != NULL && (strcmp(effort, "none") == 0 || strcmp(effort, "minimal") == 0))
		appendStringInfoString(buf, ",\"think\":false");
	else
		llm_dialect_append_word(buf, "think", effort);
}

static LlmFrame *
prepare(const LlmRecipe *recipe, const LlmEndpoint *endpoint)
{
	const LlmHabits *habits = &endpoint->habits;
	LlmFrame *frame = palloc0(sizeof(LlmFrame));
	StringInfo head = &frame->head;
	JsonbValue schema;

	initStringInfo(head);
	initStringInfo(&frame->tail);
	appendStringInfoString(head, "{\"model\":");
	llm_json_append_string(head, endpoint->model, strlen(endpoint->model));
	appendStringInfoString(head, ",\"stream\":false,\"truncate\":false");
	append_thinking(head, recipe->params.reasoning_effort);
	append_options(head, &recipe->params, habits);
	llm_dialect_append_extra(head, 0, recipe->params.extra_body, habits);
	if (recipe->schema != NULL && habits->answer_form == LLM_ANSWER_JSON_OBJECT)
		appendStringInfoString(head, ",\"format\":\"json\"");
	else if (recipe->schema != NULL && habits->answer_form == LLM_ANSWER_JSON_SCHEMA &&
			 llm_json_tree(recipe->schema, &schema))
	{
		appendStringInfoString(head, ",\"format\":");
		llm_json_append(head, &schema);
	}
	appendStringInfoString(head, ",\"messages\":[");
	llm_dialect_openai_instructions(head, recipe->system, habits->system_role != NULL ? habits->system_role : "system");
	appendStringInfoString(&frame->tail, "]}");
	return frame;
}

static void
append_embed(const LlmEndpoint *endpoint, const LlmEmbed *ask, StringInfo body)
{
	appendStringInfoString(body, "{\"model\":");
	llm_json_append_string(body, endpoint->model, strlen(endpoint->model));
	appendStringInfoString(body, ",\"truncate\":false");
	if (ask->dimensions > 0)
		appendStringInfo(body, ",\"dimensions\":%d", ask->dimensions);
	llm_dialect_append_extra(body, 0, ask->extra_body, &endpoint->habits);
	for (int i = 0; i < ask->ninputs; i++)
	{
		appendStringInfoString(body, i == 0 ? ",\"input\":[" : ",");
		llm_json_append_string(body, ask->inputs[i].at, ask->inputs[i].len);
	}
	appendStringInfoString(body, "]}");
}

static void
make_address(const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address)
{
	address->url = psprintf("%s%s", endpoint->base_url, kind == LLM_REQUEST_EMBED ? "/api/embed" : "/api/chat");
}

/* ---- the answer ---- */

static const LlmTake places[] = {
	LLM_TAKE("error", STRING, error.message),
	LLM_TAKE("message", SEEN, answered),
	LLM_TAKE("message.content", TEXT, content),
	LLM_TAKE("done_reason", STRING, finish),
	LLM_TAKE("embeddings[]", VECTOR, vectors),
	LLM_TAKE("prompt_eval_count", COUNT, usage.prompt),
	LLM_TAKE("eval_count", COUNT, usage.output),
	LLM_TAKE_END};

static const LlmErrorWord phrases[] = {
	{"exceeds the context length", LLM_ERR_TOO_LONG},
	{"exceeds maximum context length", LLM_ERR_TOO_LONG},
	{"requires more system memory", LLM_ERR_CONFIG},
	{"server busy", LLM_ERR_OVERLOADED},
	{NULL, LLM_OK}};

static void
read_answer(const LlmRawAnswer *raw, LlmReply *reply)
{
	LlmTaken taken;
	const char *problem;
	LlmErrorClass class = llm_dialect_take(raw, places, &taken, &problem);

	taken.has_error = taken.error.message.at != NULL;
	taken.error.phrases = phrases;
	llm_dialect_settle(raw, class, problem, &taken, reply);
}

/* An own server takes as many inputs as one likes; more only delay the first. */
static const LlmAdvice advice[] = {
	{LLM_ERR_AUTH, "Ollama itself wants no key: something before it does."},
	{LLM_ERR_UNKNOWN_MODEL, "Ollama has what was pulled: 'ollama list' shows the names, 'ollama pull NAME' brings one."},
	{LLM_ERR_OVERLOADED, "Its queue is full: lower max_concurrency, or raise OLLAMA_NUM_PARALLEL or OLLAMA_MAX_QUEUE there."},
	{LLM_ERR_CONFIG, "base_url is without a path: 'http://127.0.0.1:11434'."},
	{LLM_OK, NULL},
};

const LlmDialect llm_dialect_ollama = {
	.name = "ollama",
	.key_header = "Authorization: Bearer %s",
	.most_inputs = 256,
	.simpler = LLM_USED_FORM | LLM_USED_ROLE,
	.max_tokens_field = "num_predict",
	.other_max_tokens_field = "num_predict",
	.advice = advice,
	.address = make_address,
	.prepare = prepare,
	.body = llm_dialect_openai_body,
	.embed = append_embed,
	.read = read_answer,
};
