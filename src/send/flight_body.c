/*-------------------------------------------------------------------------
 *
 * flight_body.c
 *	  What is sent: the exchange of a request, made of the texts of its tasks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/guc.h"
#include "send/flight_body.h"

/* As much of an input is kept as an error may quote from; few quote from the end of a long one. */
#define QUOTABLE_BYTES 16384

/* Everything of the exchange but the body. */
static void
fill_exchange(LlmRequest *request, LlmRequestKind kind)
{
	LlmHttpExchange *exchange = &request->exchange;
	const LlmRoute *route = request->route;
	const LlmRouteAddress *address = &route->addresses[kind];

	exchange->method = address->method;
	exchange->url = address->url;
	exchange->headers = (const char *const *) address->headers;
	exchange->secret = route->key;
	exchange->network = &route->network;
	exchange->timeout_ms = route->target->timeout_ms;
	exchange->connect_timeout_ms = route->target->connect_timeout_ms;
	exchange->answer_limit = (size_t) llm_guc_max_answer_kb * 1024;
	exchange->owner = request;
}

/* One question: the row's text in the words of its recipe. */
static void
append_chat(const LlmRequest *request, const LlmClaim *claim, StringInfo body)
{
	LlmChat chat = {{claim->input, claim->input_len}, claim->last_answer, claim->fault};

	request->route->dialect->body(llm_flight_frame(request->recipe, request->route, claim->cap), &chat, body);
}

/* The rows' texts as they are. */
static void
append_embed(const LlmRequest *request, LlmClaim *const *claims, StringInfo body)
{
	int n = request->nflights;
	LlmText *inputs = palloc(sizeof(LlmText) * n);
	LlmEmbed ask = {inputs, n, request->recipe->recipe->dimensions, request->recipe->recipe->params.extra_body};

	for (int i = 0; i < n; i++)
		inputs[i] = (LlmText){claims[i]->input, claims[i]->input_len};
	request->route->dialect->embed(&request->route->endpoint, &ask, body);
	pfree(inputs);
}

/* What an error may quote: the beginning of each text, one behind the other. */
static char *
make_quotable(LlmClaim *const *claims, int n)
{
	size_t each = Max(QUOTABLE_BYTES / n, 1);
	StringInfoData quotable;

	if (n == 1)
		return pnstrdup(claims[0]->input, Min(claims[0]->input_len, each));
	initStringInfo(&quotable);
	for (int i = 0; i < n; i++)
	{
		appendBinaryStringInfo(&quotable, claims[i]->input, Min(claims[i]->input_len, each));
		appendStringInfoChar(&quotable, '\n');
	}
	return quotable.data;
}

void
llm_flight_fill_body(LlmRequest *request, LlmClaim *const *claims)
{
	LlmRequestKind kind = request->recipe->recipe->op->kind;
	StringInfoData body;

	if (request->route->addresses[kind].url == NULL)
		return;
	initStringInfo(&body);
	if (kind == LLM_REQUEST_EMBED)
		append_embed(request, claims, &body);
	else
		append_chat(request, claims[0], &body);
	request->input = make_quotable(claims, request->nflights);
	request->input_tokens = llm_dialect_estimate_tokens(body.data, body.len);
	request->exchange.body = body.data;
	request->exchange.body_len = body.len;
	request->bytes += body.len;
	for (int i = 0; i < request->nflights; i++)
	{
		request->flights[i].settlement.recipe = request->recipe->id;
		/* a row's tokens follow its own text, of which vectors are made alone */
		request->flights[i].settlement.body_bytes =
			kind == LLM_REQUEST_EMBED ? (int64) Max(claims[i]->input_len, 1) : body.len;
	}
	fill_exchange(request, kind);
}

int
llm_flight_used(const LlmRecipe *recipe, const LlmHabits *habits)
{
	bool apart = habits->system_role == NULL || strcmp(habits->system_role, "user") != 0;
	int used = 0;

	if (recipe->schema != NULL && habits->answer_form != LLM_ANSWER_TEXT)
		used |= LLM_USED_FORM;
	if (recipe->params.max_tokens > 0)
		used |= LLM_USED_CAP;
	if (recipe->system[0] != '\0' && apart)
		used |= LLM_USED_ROLE;
	return used;
}
