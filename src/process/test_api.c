/*-------------------------------------------------------------------------
 *
 * test_api.c
 *	  Pure functions, opened for tests.
 *
 * No function of the extension is bound to these symbols: a test creates SQL
 * functions for them, which takes a superuser.  They read no table, no key and
 * no network.
 *
 *	  llm_enrich_test_spec     operation, arguments          → recipe's content
 *	  llm_enrich_test_load     operation, content            → schema and system text
 *	  llm_enrich_test_body     operation, content, model, …  → request body
 *	  llm_enrich_test_address  dialect, kind, model, endpoint → method, URL and headers
 *	  llm_enrich_test_embed    dialect, model, inputs, …     → request body
 *	  llm_enrich_test_read     dialect, status, body, headers → what was read
 *	  llm_enrich_test_check    operation, content, answer    → checked answer or fault
 *	  llm_enrich_test_job      options                       → what steers the job
 *	  llm_enrich_test_tokens   words                         → estimated tokens
 *	  llm_enrich_test_clean    words                         → fit to be kept
 *	  llm_enrich_test_clock    set the clock of all processes forward, and wake them
 *	  llm_enrich_test_forget   forget the workers of this database, in shared memory
 *	  llm_enrich_test_linger   hold up this transaction's end when others see it already
 *	  llm_enrich_test_speed    rounds of body, read and check → microseconds per round
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/shmem_layout.h"
#include "dialect/dialect_shared.h"
#include "operation/operation.h"
#include "operation/spec.h"

PG_FUNCTION_INFO_V1(llm_enrich_test_spec);
PG_FUNCTION_INFO_V1(llm_enrich_test_load);
PG_FUNCTION_INFO_V1(llm_enrich_test_body);
PG_FUNCTION_INFO_V1(llm_enrich_test_address);
PG_FUNCTION_INFO_V1(llm_enrich_test_embed);
PG_FUNCTION_INFO_V1(llm_enrich_test_read);
PG_FUNCTION_INFO_V1(llm_enrich_test_check);
PG_FUNCTION_INFO_V1(llm_enrich_test_job);
PG_FUNCTION_INFO_V1(llm_enrich_test_tokens);
PG_FUNCTION_INFO_V1(llm_enrich_test_clean);
PG_FUNCTION_INFO_V1(llm_enrich_test_clock);
PG_FUNCTION_INFO_V1(llm_enrich_test_forget);
PG_FUNCTION_INFO_V1(llm_enrich_test_linger);
PG_FUNCTION_INFO_V1(llm_enrich_test_speed);

/* The clock of an answer without a Date: 21 October 2026, 07:28:00. */
#define TEST_NOW INT64CONST(1792567680)

static const LlmOperation *
find_operation(Datum name)
{
	const LlmOperation *op = llm_operation_find(TextDatumGetCString(name));

	if (op == NULL)
		elog(ERROR, "no such operation");
	return op;
}

static const LlmDialect *
find_dialect(const char *name)
{
	const LlmDialect *dialect = llm_dialect_find(name);

	if (dialect == NULL)
		elog(ERROR, "no such dialect");
	return dialect;
}

static LlmRecipe *
load_recipe(Datum operation, Jsonb *spec)
{
	return llm_operation_load(1, find_operation(operation)->name, spec);
}

/* A list of strings and nulls as text[]. */
static ArrayType *
labels_array(const JsonbValue *list)
{
	int n;
	Datum *elements;
	bool *nulls;
	int lower = 1;

	n = list->val.array.nElems;
	elements = palloc0(Max(n, 1) * sizeof(Datum));
	nulls = palloc0(Max(n, 1) * sizeof(bool));
	for (int i = 0; i < n; i++)
	{
		const JsonbValue *label = &list->val.array.elems[i];

		nulls[i] = label->type != jbvString;
		if (!nulls[i])
			elements[i] = CStringGetTextDatum(llm_json_cstring(label));
	}
	if (n == 0)
		return construct_empty_array(TEXTOID);
	return construct_md_array(elements, nulls, 1, &n, &lower, TEXTOID, -1, false, TYPALIGN_INT);
}

/* A member of a JSON object as an argument of that type. */
static Datum
argument_value(LlmArg arg, const JsonbValue *value)
{
	switch (llm_arguments[arg].type)
	{
		case LLM_ARG_TYPE_BOOL:
			return BoolGetDatum(value->val.boolean);
		case LLM_ARG_TYPE_INT:
			return Int32GetDatum(llm_json_to_int(value));
		case LLM_ARG_TYPE_FLOAT8:
			return DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric));
		case LLM_ARG_TYPE_TEXT:
			return CStringGetTextDatum(llm_json_cstring(value));
		case LLM_ARG_TYPE_TEXTS:
			return PointerGetDatum(labels_array(value));
		case LLM_ARG_TYPE_JSONB:
			break;
	}
	return JsonbPGetDatum(llm_json_store(value));
}

/* SQL: (operation text, arguments jsonb) → jsonb */
Datum
llm_enrich_test_spec(PG_FUNCTION_ARGS)
{
	const LlmOperation *op = find_operation(PG_GETARG_DATUM(0));
	LlmCallArgs args = {0};
	JsonbValue given;

	if (!llm_json_tree(PG_GETARG_JSONB_P(1), &given))
		elog(ERROR, "arguments nest too deep");
	for (int arg = 0; arg < LLM_ARGS; arg++)
	{
		JsonbValue *value = llm_json_get(&given, llm_arguments[arg].name);

		if (value != NULL)
			llm_argument_set(&args, arg, argument_value(arg, value));
	}
	PG_RETURN_JSONB_P(llm_operation_spec(op, &args));
}

/* SQL: (operation text, spec jsonb) → jsonb */
Datum
llm_enrich_test_load(PG_FUNCTION_ARGS)
{
	LlmRecipe *recipe = load_recipe(PG_GETARG_DATUM(0), PG_GETARG_JSONB_P(1));
	JsonbPair pairs[2];
	JsonbValue result;
	JsonbValue schema;
	int n = 0;

	llm_json_set_pair(&pairs[n++], "system", llm_json_make_text(recipe->system));
	if (recipe->schema != NULL && llm_json_tree(recipe->schema, &schema))
		llm_json_set_pair(&pairs[n++], "schema", schema);
	result = llm_json_make_object(pairs, n);
	PG_RETURN_JSONB_P(llm_json_store(&result));
}

/* A member that is a string, or NULL. */
static char *
word(const JsonbValue *object, const char *key)
{
	JsonbValue *value = llm_json_get(object, key);

	return value == NULL ? NULL : llm_json_cstring(value);
}

/* An endpoint of a model, with what the object tells of it; NULL: nothing. */
static void
read_endpoint(LlmEndpoint *endpoint, const char *model, Jsonb *told)
{
	JsonbValue object = {.type = jbvNull};
	char *form;

	if (told != NULL && !llm_json_tree(told, &object))
		elog(ERROR, "endpoint nests too deep");
	memset(endpoint, 0, sizeof(*endpoint));
	endpoint->model = model;
	endpoint->base_url = word(&object, "base_url");
	endpoint->query = word(&object, "query");
	endpoint->key_header = word(&object, "key_header");
	endpoint->habits.max_tokens_field = word(&object, "max_tokens_field");
	endpoint->habits.system_role = word(&object, "system_role");
	endpoint->habits.extra_body = word(&object, "extra_body");
	form = word(&object, "answer_form");
	if (form != NULL)
		endpoint->habits.answer_form = strcmp(form, "text") == 0 ? LLM_ANSWER_TEXT : LLM_ANSWER_JSON_OBJECT;
	if (endpoint->base_url == NULL)
		endpoint->base_url = "https://host.example/v1";
}

/* SQL: (dialect, kind "chat" or "embed", model, endpoint jsonb) → jsonb: method, url, headers */
Datum
llm_enrich_test_address(PG_FUNCTION_ARGS)
{
	const LlmDialect *dialect = find_dialect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	bool embed = strcmp(TextDatumGetCString(PG_GETARG_DATUM(1)), "embed") == 0;
	LlmEndpoint endpoint;
	LlmAddress address;
	JsonbPair pairs[3];
	JsonbValue result;
	JsonbValue *lines;
	ListCell *cell;
	int n = 0;

	read_endpoint(&endpoint, TextDatumGetCString(PG_GETARG_DATUM(2)), PG_GETARG_JSONB_P(3));
	llm_dialect_address(dialect, &endpoint, embed ? LLM_REQUEST_EMBED : LLM_REQUEST_CHAT, &address);
	lines = palloc(list_length(address.headers) * sizeof(JsonbValue));
	foreach(cell, address.headers)
		lines[n++] = llm_json_make_text(lfirst(cell));
	llm_json_set_pair(&pairs[0], "method", llm_json_make_text(address.method));
	llm_json_set_pair(&pairs[1], "url", llm_json_make_text(address.url));
	llm_json_set_pair(&pairs[2], "headers", llm_json_make_array(lines, n));
	result = llm_json_make_object(pairs, 3);
	PG_RETURN_JSONB_P(llm_json_store(&result));
}

/* SQL: (dialect, model, inputs text[], dimensions int, endpoint jsonb) → text */
Datum
llm_enrich_test_embed(PG_FUNCTION_ARGS)
{
	const LlmDialect *dialect = find_dialect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	LlmEndpoint endpoint;
	LlmEmbed ask = {.dimensions = PG_GETARG_INT32(3)};
	LlmText *inputs;
	Datum *elements;
	StringInfoData body;

	if (dialect->embed == NULL)
		PG_RETURN_NULL();
	read_endpoint(&endpoint, TextDatumGetCString(PG_GETARG_DATUM(1)), PG_GETARG_JSONB_P(4));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &ask.ninputs);
	inputs = palloc(Max(ask.ninputs, 1) * sizeof(LlmText));
	for (int i = 0; i < ask.ninputs; i++)
	{
		text *input = DatumGetTextPP(elements[i]);

		inputs[i] = (LlmText){VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input)};
	}
	ask.inputs = inputs;
	initStringInfo(&body);
	dialect->embed(&endpoint, &ask, &body);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(body.data, body.len));
}

/* SQL: (dialect, operation, spec jsonb, model, input, last_answer, fault[, endpoint jsonb]) → text */
Datum
llm_enrich_test_body(PG_FUNCTION_ARGS)
{
	const LlmDialect *dialect = find_dialect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	LlmRecipe *recipe = load_recipe(PG_GETARG_DATUM(1), PG_GETARG_JSONB_P(2));
	LlmEndpoint endpoint = {0};
	text *input = PG_GETARG_TEXT_PP(4);
	LlmChat chat = {.input = {VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input)}};
	StringInfoData body;

	chat.last_answer = PG_ARGISNULL(5) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(5));
	chat.fault = PG_ARGISNULL(6) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(6));
	read_endpoint(&endpoint, TextDatumGetCString(PG_GETARG_DATUM(3)),
				  PG_NARGS() > 7 && !PG_ARGISNULL(7) ? PG_GETARG_JSONB_P(7) : NULL);
	initStringInfo(&body);
	dialect->body(dialect->prepare(recipe, &endpoint), &chat, &body);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(body.data, body.len));
}

static JsonbValue
usage_value(const LlmUsage *usage)
{
	JsonbPair *pairs = palloc(5 * sizeof(JsonbPair));

	llm_json_set_pair(&pairs[0], "input", llm_json_make_int(usage->input));
	llm_json_set_pair(&pairs[1], "cached", llm_json_make_int(usage->cached));
	llm_json_set_pair(&pairs[2], "cache_write", llm_json_make_int(usage->cache_write));
	llm_json_set_pair(&pairs[3], "output", llm_json_make_int(usage->output));
	llm_json_set_pair(&pairs[4], "reasoning", llm_json_make_int(usage->reasoning));
	return llm_json_make_object(pairs, 5);
}

/* [limit, remaining, reset in milliseconds]; -1: not told. */
static JsonbValue
limit_value(const LlmToldLimit *limit)
{
	JsonbValue *numbers = palloc(3 * sizeof(JsonbValue));

	numbers[0] = llm_json_make_int(limit->limit);
	numbers[1] = llm_json_make_int(limit->remaining);
	numbers[2] = llm_json_make_int(limit->reset_ms);
	return llm_json_make_array(numbers, 3);
}

static bool
is_told(const LlmToldLimit *limit)
{
	return limit->limit >= 0 || limit->remaining >= 0 || limit->reset_ms >= 0;
}

/* The vectors as texts, since they are only compared. */
static JsonbValue
vectors_value(const LlmVector *vectors, int n)
{
	JsonbValue *values = palloc(Max(n, 1) * sizeof(JsonbValue));

	for (int i = 0; i < n; i++)
	{
		StringInfoData buf;

		initStringInfo(&buf);
		for (int j = 0; vectors[i].values != NULL && j < vectors[i].n; j++)
			appendStringInfo(&buf, "%s%g", j > 0 ? " " : "", vectors[i].values[j]);
		values[i] = llm_json_make_text(vectors[i].values == NULL ? "none" : buf.data);
	}
	return llm_json_make_array(values, n);
}

/* What a dialect read; members that have nothing to say are left out. */
static Jsonb *
reply_jsonb(const LlmReply *reply, int ninputs)
{
	JsonbPair pairs[11];
	JsonbValue result;
	int n = 0;

	llm_json_set_pair(&pairs[n++], "class", llm_json_make_text(llm_error_name(reply->class)));
	if (reply->content != NULL && llm_json_is_utf8(reply->content, reply->content_len))
		llm_json_set_pair(&pairs[n++], "content", llm_json_make_string(reply->content, reply->content_len));
	else if (reply->content != NULL)
		llm_json_set_pair(&pairs[n++], "content", llm_json_make_text("(cannot be shown)"));
	if (reply->code != NULL)
		llm_json_set_pair(&pairs[n++], "code", llm_json_make_text(reply->code));
	if (reply->message != NULL)
		llm_json_set_pair(&pairs[n++], "message", llm_json_make_text(reply->message));
	if (reply->request_id != NULL)
		llm_json_set_pair(&pairs[n++], "request_id", llm_json_make_text(reply->request_id));
	if (reply->retry_after_ms >= 0)
		llm_json_set_pair(&pairs[n++], "retry_after_ms", llm_json_make_int(reply->retry_after_ms));
	if (reply->vectors != NULL)
		llm_json_set_pair(&pairs[n++], "vectors", vectors_value(reply->vectors, ninputs));
	if (is_told(&reply->requests))
		llm_json_set_pair(&pairs[n++], "requests", limit_value(&reply->requests));
	if (is_told(&reply->tokens))
		llm_json_set_pair(&pairs[n++], "tokens", limit_value(&reply->tokens));
	if (reply->usage.known)
		llm_json_set_pair(&pairs[n++], "usage", usage_value(&reply->usage));
	result = llm_json_make_object(pairs, n);
	return llm_json_store(&result);
}

/* An object of names and values as the headers of an answer. */
static void
make_headers(Jsonb *told, LlmHttpHeaders *headers)
{
	JsonbValue object;

	if (!llm_json_tree(told, &object))
		elog(ERROR, "headers nest too deep");
	for (int i = 0; i < object.val.object.nPairs; i++)
	{
		const JsonbPair *pair = &object.val.object.pairs[i];
		char *line = psprintf("%s: %s", llm_json_cstring(&pair->key), llm_json_cstring(&pair->value));

		llm_http_headers_add(headers, line, strlen(line));
	}
}

/* SQL: (dialect text, status int, body bytea, headers jsonb[, inputs of an embedding int]) → jsonb */
Datum
llm_enrich_test_read(PG_FUNCTION_ARGS)
{
	const LlmDialect *dialect = find_dialect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	bytea *body = PG_GETARG_BYTEA_PP(2);
	LlmHttpHeaders headers = {0};
	LlmRawAnswer raw = {.headers = &headers, .ninputs = 1};
	LlmReply reply;

	make_headers(PG_GETARG_JSONB_P(3), &headers);
	raw.status = PG_GETARG_INT32(1);
	raw.body = VARDATA_ANY(body);
	raw.len = VARSIZE_ANY_EXHDR(body);
	raw.now = TEST_NOW;
	if (PG_NARGS() > 4)
	{
		raw.kind = LLM_REQUEST_EMBED;
		raw.ninputs = PG_GETARG_INT32(4);
	}
	dialect->read(&raw, &reply);
	llm_http_headers_free(&headers);
	PG_RETURN_JSONB_P(reply_jsonb(&reply, raw.ninputs));
}

/* SQL: (operation text, spec jsonb, answer bytea or text[, input text]) → jsonb */
Datum
llm_enrich_test_check(PG_FUNCTION_ARGS)
{
	LlmRecipe *recipe = load_recipe(PG_GETARG_DATUM(0), PG_GETARG_JSONB_P(1));
	bytea *answer = PG_GETARG_BYTEA_PP(2);
	LlmCandidate given = {VARDATA_ANY(answer), VARSIZE_ANY_EXHDR(answer), NULL, 0};
	StringInfoData fault;
	Jsonb *checked;
	JsonbPair pair[1];
	JsonbValue result;

	if (PG_NARGS() > 3)
	{
		text *input = PG_GETARG_TEXT_PP(3);

		given.input = VARDATA_ANY(input);
		given.input_len = VARSIZE_ANY_EXHDR(input);
	}
	initStringInfo(&fault);
	checked = recipe->op->check(recipe, &given, &fault);
	if (checked != NULL)
		PG_RETURN_JSONB_P(checked);
	llm_json_set_pair(pair, "fault", llm_json_make_string(fault.data, fault.len));
	result = llm_json_make_object(pair, 1);
	PG_RETURN_JSONB_P(llm_json_store(&result));
}

/* SQL: (options jsonb) → text */
Datum
llm_enrich_test_job(PG_FUNCTION_ARGS)
{
	int priority;
	Jsonb *tags;
	Jsonb *deadline;
	StringInfoData buf;

	llm_operation_job_options(PG_GETARG_JSONB_P(0), &priority, &tags, &deadline);
	initStringInfo(&buf);
	appendStringInfo(&buf, "priority %d", priority);
	if (tags != NULL)
		appendStringInfo(&buf, ", tags %s", JsonbToCString(NULL, &tags->root, VARSIZE(tags)));
	if (deadline != NULL)
		appendStringInfo(&buf, ", deadline %s", JsonbToCString(NULL, &deadline->root, VARSIZE(deadline)));
	PG_RETURN_TEXT_P(cstring_to_text(buf.data));
}

/* SQL: (words text) → bigint */
Datum
llm_enrich_test_tokens(PG_FUNCTION_ARGS)
{
	text *words = PG_GETARG_TEXT_PP(0);

	PG_RETURN_INT64(llm_dialect_estimate_tokens(VARDATA_ANY(words), VARSIZE_ANY_EXHDR(words)));
}

/* SQL: (words bytea or text) → text */
Datum
llm_enrich_test_clean(PG_FUNCTION_ARGS)
{
	bytea *words = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_TEXT_P(cstring_to_text(llm_dialect_clean(VARDATA_ANY(words), VARSIZE_ANY_EXHDR(words))));
}

/* One question and its answer, in the current context. */
static void
run_round(const LlmDialect *dialect, const LlmRecipe *recipe, const LlmFrame *frame,
		  const text *input, const LlmRawAnswer *raw)
{
	StringInfoData body;
	StringInfoData fault;
	LlmReply reply;
	LlmCandidate given;
	LlmChat chat = {.input = {VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input)}};

	initStringInfo(&body);
	dialect->body(frame, &chat, &body);
	dialect->read(raw, &reply);
	if (reply.class != LLM_OK)
		elog(ERROR, "the answer was not read as whole");
	initStringInfo(&fault);
	given = (LlmCandidate){reply.content, reply.content_len, chat.input.at, chat.input.len};
	if (recipe->op->check(recipe, &given, &fault) == NULL)
		elog(ERROR, "the answer was not accepted: %s", fault.data);
}

/* SQL: (dialect, operation, spec jsonb, input text, body bytea, rounds int) → float8, microseconds per round */
Datum
llm_enrich_test_speed(PG_FUNCTION_ARGS)
{
	const LlmDialect *dialect = find_dialect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	LlmRecipe *recipe = load_recipe(PG_GETARG_DATUM(1), PG_GETARG_JSONB_P(2));
	LlmEndpoint endpoint = {.base_url = "", .model = "model"};
	LlmFrame *frame = dialect->prepare(recipe, &endpoint);
	text *input = PG_GETARG_TEXT_PP(3);
	bytea *body = PG_GETARG_BYTEA_PP(4);
	int rounds = PG_GETARG_INT32(5);
	LlmRawAnswer raw = {.status = 200, .ninputs = 1, .body = VARDATA_ANY(body), .len = VARSIZE_ANY_EXHDR(body)};
	MemoryContext round_context = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich test",
														ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(round_context);
	instr_time start;
	instr_time end;

	INSTR_TIME_SET_CURRENT(start);
	for (int i = 0; i < rounds; i++)
	{
		CHECK_FOR_INTERRUPTS();
		run_round(dialect, recipe, frame, input, &raw);
		MemoryContextReset(round_context);
	}
	INSTR_TIME_SET_CURRENT(end);
	MemoryContextSwitchTo(outer);
	INSTR_TIME_SUBTRACT(end, start);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_MILLISEC(end) * 1000 / Max(rounds, 1));
}

/*
 * Let all processes look at the clock: to be woken for nothing is no matter to any, and shared memory need
 * not know of each worker.
 */
static void
wake_all(void)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
		SetLatch(&ProcGlobal->allProcs[i].procLatch);
}

/* SQL: (seconds float8) → the time that it is now */
Datum
llm_enrich_test_clock(PG_FUNCTION_ARGS)
{
	llm_shmem_require_preload();
	pg_atomic_fetch_add_u64(&llm_shared->clock_ahead, (int64) (PG_GETARG_FLOAT8(0) * 1000000));
	wake_all();
	PG_RETURN_TIMESTAMPTZ(llm_clock_now());
}

/* () → nothing: as if this database had been dropped, while its workers live on */
Datum
llm_enrich_test_forget(PG_FUNCTION_ARGS)
{
	llm_shmem_forget(MyDatabaseId);
	PG_RETURN_VOID();
}

/* What lingers waits so long for its file to go, and no longer: ms. */
#define LINGER_MS 60000

static char *lingers_for = NULL; /* path; NULL: this transaction does not */

static void
linger(XactEvent event, void *arg)
{
	struct stat st;

	if (event == XACT_EVENT_PRE_COMMIT || lingers_for == NULL)
		return;
	if (event == XACT_EVENT_COMMIT)
	{
		for (int waited = 0; waited < LINGER_MS && stat(lingers_for, &st) == 0; waited += 10)
			pg_usleep(10000);
	}
	lingers_for = NULL;
}

/*
 * SQL: (path text) → nothing.  When the transaction commits: between the moments at which others
 * see its rows and hear of what it did to catalogs, wait until the file is gone.
 */
Datum
llm_enrich_test_linger(PG_FUNCTION_ARGS)
{
	RegisterXactCallback(linger, NULL);
	lingers_for = MemoryContextStrdup(TopMemoryContext, TextDatumGetCString(PG_GETARG_DATUM(0)));
	PG_RETURN_VOID();
}
