/*-------------------------------------------------------------------------
 *
 * fuzz_answer.c
 *	  A whole answer as it comes over the wire: status line, headers, body; then
 *	  read by each dialect, checked by an operation, and told to the model again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/json.h"
#include "dialect/dialect_shared.h"
#include "fuzz.h"
#include "http/http_answer.h"
#include "limiter/limiter.h"
#include "operation/operation.h"

/* It must not come back, in whatever place the provider repeats it. */
#define KEY "sk-fuzz-4711"

#define MS_PER_DAY (INT64CONST(24) * 3600 * 1000)

/* Larger than a seed, so that the limit is met too. */
#define ANSWER_LIMIT 20000

/* More tokens than any of the counts may be. */
#define MOST_TOKENS INT64CONST(1000000000000)

/* Bytes of a faulty answer that are kept for the second asking. */
#define LAST_ANSWER_BYTES 8192

static LlmHttpAnswer wire;

/* Take the head apart, line by line, as libcurl would.  Returns the status. */
static int
read_head(const uint8 **at, const uint8 *end)
{
	int status = 200;
	size_t len;

	while (*at < end)
	{
		const uint8 *start = *at;
		char *line = llm_fuzz_piece(at, end, '\n', &len);

		llm_http_answer_header(&wire, line, len);
		if (*at == end && start + len == end)
			break;
		if (len > 5 && strncmp(line, "HTTP/", 5) == 0 && strchr(line, ' ') != NULL)
			status = abs(atoi(strchr(line, ' ')) % 1000);
		if (len == 0 || (len == 1 && line[0] == '\r'))
			break;
		pfree(line);
	}
	return status;
}

/* The rest in pieces of various sizes.  False when it is too large. */
static bool
read_pieces(const uint8 *at, const uint8 *end)
{
	while (at < end)
	{
		size_t len = Min((size_t) (end - at), (size_t) 1 + *at * 16);

		if (!llm_http_answer_append(&wire, (const char *) at, len))
		{
			must(wire.too_large && wire.len + len > ANSWER_LIMIT);
			return false;
		}
		at += len;
	}
	must(wire.len <= ANSWER_LIMIT && wire.room <= ANSWER_LIMIT + 1);
	return true;
}

static void
check_header(const char *value)
{
	if (value == NULL)
		return;
	must(strlen(value) <= LLM_HTTP_HEADER_VALUE_MAX);
	must(strstr(value, KEY) == NULL);
	for (; *value != '\0'; value++)
		must(*value >= ' ' && *value < 0x7f);
}

static void
check_headers(const LlmHttpExchange *exchange)
{
	static const char *const names[] = {
		"date",
		"retry-after",
		"retry-after-ms",
		"request-id",
		"x-request-id",
		"x-ratelimit-limit-requests",
		"x-ratelimit-remaining-tokens",
		"x-ratelimit-reset-requests",
	};

	for (int i = 0; i < lengthof(names); i++)
	{
		const char *value = llm_http_header(exchange->answer_headers, names[i]);
		int64 ms = llm_limiter_parse_duration_ms(value);

		check_header(value);
		must(llm_limiter_parse_count(value) >= -1);
		must(ms >= -1 && ms <= MS_PER_DAY);
	}
}

static void
check_usage(const LlmUsage *usage)
{
	must(usage->input >= 0 && usage->cached >= 0 && usage->cache_write >= 0);
	must(usage->output >= 0 && usage->reasoning >= 0 && usage->reasoning <= usage->output);
	must(usage->input + usage->cached + usage->cache_write + usage->output <= 4 * MOST_TOKENS);
	must(usage->known || usage->input + usage->cached + usage->cache_write + usage->output == 0);
}

/* Text, but for null characters, which the check of the answer refuses. */
static bool
is_text(const char *str, size_t len)
{
	const uint8 *at = (const uint8 *) str;
	const uint8 *end = at + len;
	bool clean = true;
	size_t n;

	while (at < end && clean)
	{
		char *piece = llm_fuzz_piece(&at, end, '\0', &n);

		clean = llm_json_is_utf8(piece, n);
		pfree(piece);
	}
	return clean;
}

static void
check_reply(const LlmReply *reply)
{
	must(reply->class >= LLM_OK && reply->class <= LLM_ERR_LOCAL);
	must((reply->class == LLM_OK) == (reply->message == NULL));
	must(reply->class != LLM_OK || reply->content_len > 0);
	must(reply->message == NULL || llm_fuzz_is_shown(reply->message, LLM_DIALECT_TEXT_MAX));
	must(reply->code == NULL || llm_fuzz_is_shown(reply->code, LLM_DIALECT_TEXT_MAX));
	must(reply->request_id == NULL || llm_fuzz_is_shown(reply->request_id, LLM_HTTP_HEADER_VALUE_MAX));
	must(reply->retry_after_ms >= -1 && reply->retry_after_ms <= MS_PER_DAY);
	must(reply->content == NULL || is_text(reply->content, reply->content_len));
	check_usage(&reply->usage);
}

static LlmRecipe *
make_recipe(void)
{
	static LlmRecipe *recipe;
	MemoryContext outer = MemoryContextSwitchTo(llm_fuzz_lasting);

	if (recipe == NULL)
		recipe = llm_operation_load(1, "classify", DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{\"labels\": [\"bug\", \"billing\"]}"))));
	MemoryContextSwitchTo(outer);
	return recipe;
}

/* A faulty answer goes into the next request, which must be JSON all the same. */
static void
ask_again(const LlmDialect *dialect, const LlmReply *reply, const char *fault)
{
	LlmEndpoint endpoint = {.base_url = "https://host", .model = "m"};
	LlmFrame *frame = dialect->prepare(make_recipe(), &endpoint);
	LlmChat chat = {.input = {"input", 5}, .fault = fault};
	char *last = pnstrdup(reply->content, pg_mbcliplen(reply->content, reply->content_len, LAST_ANSWER_BYTES));
	StringInfoData body;
	StringInfoData problem;
	JsonbValue tree;

	initStringInfo(&body);
	initStringInfo(&problem);
	chat.last_answer = last;
	dialect->body(frame, &chat, &body);
	must(llm_json_parse(body.data, body.len, &tree, &problem));
}

static void
read_as(const LlmDialect *dialect, const LlmRawAnswer *raw)
{
	LlmReply reply;
	LlmCandidate given;
	StringInfoData fault;
	Jsonb *answer;

	must(dialect != NULL);
	dialect->read(raw, &reply);
	check_reply(&reply);
	if (reply.class != LLM_OK)
		return;
	initStringInfo(&fault);
	given = (LlmCandidate){reply.content, reply.content_len, NULL, 0};
	answer = make_recipe()->op->check(make_recipe(), &given, &fault);
	must((answer == NULL) == (fault.len > 0));
	if (answer == NULL)
		ask_again(dialect, &reply, fault.data);
}

/* The same bytes as the answer to a request for vectors. */
static void
read_vectors(const LlmRawAnswer *raw)
{
	LlmRawAnswer asked = *raw;
	LlmReply reply;

	asked.kind = LLM_REQUEST_EMBED;
	asked.ninputs = 3;
	llm_dialect_openai.read(&asked, &reply);
	must(reply.class != LLM_OK || reply.vectors != NULL);
	for (int i = 0; reply.class == LLM_OK && i < asked.ninputs; i++)
		must(reply.vectors[i].values != NULL && reply.vectors[i].n > 0);
}

static void
run(const uint8 *data, size_t size)
{
	LlmHttpExchange exchange = {.secret = KEY};
	const uint8 *at = data;
	const uint8 *end = data + size;
	char *names = pstrdup(llm_dialect_names());
	bool whole;

	llm_http_answer_start(&wire, ANSWER_LIMIT);
	exchange.status = read_head(&at, end);
	whole = read_pieces(at, end);
	llm_http_answer_publish(&wire, &exchange, whole);
	check_headers(&exchange);
	if (whole)
	{
		LlmRawAnswer raw = {
			.status = exchange.status,
			.len = exchange.answer_len,
			.headers = exchange.answer_headers,
			.ninputs = 1,
			.now = 1792567680,
		};
		char *exact = palloc(raw.len);

		must(strlen(exchange.answer) <= raw.len);
		must(memmem(exchange.answer, raw.len, KEY, strlen(KEY)) == NULL);
		/* no byte behind it, which the dialects must not count on */
		memcpy(exact, exchange.answer, raw.len);
		raw.body = exact;
		for (char *name = strtok(names, ", "); name != NULL; name = strtok(NULL, ", "))
			read_as(llm_dialect_find(name), &raw);
		read_vectors(&raw);
	}
	llm_http_answer_clear(&exchange);
	llm_http_answer_trim(&wire);
	/* each input has a connection of its own, so that it alone decides */
	llm_http_answer_free(&wire);
}

const LlmFuzzTarget llm_fuzz_answer = {
	.name = "answer",
	.run = run,
	.fixed = 200000,
	.per_byte = 400,
};
