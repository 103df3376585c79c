/*-------------------------------------------------------------------------
 *
 * test_api.c
 *	  The pure rooms, opened for tests.
 *
 * No function of the extension is bound to these symbols: a test creates SQL
 * functions for them, which takes a superuser.  They read no table, no key and
 * no network.
 *
 *	  llm_enrich_test_spec     operation, arguments          → recipe's content
 *	  llm_enrich_test_load     operation, content            → schema and system text
 *	  llm_enrich_test_body     operation, content, model, …  → request body
 *	  llm_enrich_test_read     dialect, status, body, headers → what was read
 *	  llm_enrich_test_check    operation, content, answer    → checked answer or fault
 *	  llm_enrich_test_job      options                       → what steers the job
 *	  llm_enrich_test_tokens   words                         → estimated tokens
 *	  llm_enrich_test_clean    words                         → fit to be kept
 *	  llm_enrich_test_forget   forget who serves this database, in shared memory
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
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/error.h"
#include "base/json.h"
#include "base/shmem.h"
#include "dialect/dialect.h"
#include "operation/operation.h"

PG_FUNCTION_INFO_V1(llm_enrich_test_spec);
PG_FUNCTION_INFO_V1(llm_enrich_test_load);
PG_FUNCTION_INFO_V1(llm_enrich_test_body);
PG_FUNCTION_INFO_V1(llm_enrich_test_read);
PG_FUNCTION_INFO_V1(llm_enrich_test_check);
PG_FUNCTION_INFO_V1(llm_enrich_test_job);
PG_FUNCTION_INFO_V1(llm_enrich_test_tokens);
PG_FUNCTION_INFO_V1(llm_enrich_test_clean);
PG_FUNCTION_INFO_V1(llm_enrich_test_forget);
PG_FUNCTION_INFO_V1(llm_enrich_test_linger);
PG_FUNCTION_INFO_V1(llm_enrich_test_speed);

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
	int i;
	Datum *elements;
	bool *nulls;
	int lower = 1;

	n = list->val.array.nElems;
	elements = palloc0(Max(n, 1) * sizeof(Datum));
	nulls = palloc0(Max(n, 1) * sizeof(bool));
	for (i = 0; i < n; i++)
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

/* SQL: (dialect, operation, spec jsonb, model, input, last_answer, fault) → text */
Datum
llm_enrich_test_body(PG_FUNCTION_ARGS)
{
	const LlmDialect *dialect = find_dialect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	LlmRecipe *recipe = load_recipe(PG_GETARG_DATUM(1), PG_GETARG_JSONB_P(2));
	LlmFrame *frame = dialect->prepare(recipe, TextDatumGetCString(PG_GETARG_DATUM(3)));
	text *input = PG_GETARG_TEXT_PP(4);
	char *last_answer = PG_ARGISNULL(5) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(5));
	char *fault = PG_ARGISNULL(6) ? NULL : TextDatumGetCString(PG_GETARG_DATUM(6));
	StringInfoData body;

	initStringInfo(&body);
	dialect->body(frame, VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input), last_answer, fault, &body);
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

/* What a dialect read; members that have nothing to say are left out. */
static Jsonb *
reply_jsonb(const LlmReply *reply)
{
	JsonbPair pairs[8];
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
	if (reply->usage.known)
		llm_json_set_pair(&pairs[n++], "usage", usage_value(&reply->usage));
	result = llm_json_make_object(pairs, n);
	return llm_json_store(&result);
}

static char *
header(const JsonbValue *headers, const char *name)
{
	JsonbValue *value = llm_json_get(headers, name);

	return value == NULL ? NULL : llm_json_cstring(value);
}

/* SQL: (dialect text, status int, body bytea, headers jsonb) → jsonb */
Datum
llm_enrich_test_read(PG_FUNCTION_ARGS)
{
	const LlmDialect *dialect = find_dialect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	bytea *body = PG_GETARG_BYTEA_PP(2);
	JsonbValue headers;
	LlmRawAnswer raw = {0};
	LlmReply reply;

	if (!llm_json_tree(PG_GETARG_JSONB_P(3), &headers))
		elog(ERROR, "headers nest too deep");
	raw.status = PG_GETARG_INT32(1);
	raw.body = VARDATA_ANY(body);
	raw.len = VARSIZE_ANY_EXHDR(body);
	raw.retry_after = header(&headers, "retry-after");
	raw.retry_after_ms = header(&headers, "retry-after-ms");
	raw.date = header(&headers, "date");
	raw.request_id = header(&headers, "x-request-id");
	dialect->read(&raw, &reply);
	PG_RETURN_JSONB_P(reply_jsonb(&reply));
}

/* SQL: (operation text, spec jsonb, answer bytea or text) → jsonb */
Datum
llm_enrich_test_check(PG_FUNCTION_ARGS)
{
	LlmRecipe *recipe = load_recipe(PG_GETARG_DATUM(0), PG_GETARG_JSONB_P(1));
	bytea *answer = PG_GETARG_BYTEA_PP(2);
	StringInfoData fault;
	Jsonb *checked;
	JsonbPair pair[1];
	JsonbValue result;

	initStringInfo(&fault);
	checked = recipe->op->check(recipe, VARDATA_ANY(answer), VARSIZE_ANY_EXHDR(answer), &fault);
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

	PG_RETURN_TEXT_P(cstring_to_text(llm_error_clean(VARDATA_ANY(words), VARSIZE_ANY_EXHDR(words))));
}

/* One question and its answer, in the current context. */
static void
run_round(const LlmDialect *dialect, const LlmRecipe *recipe, const LlmFrame *frame,
		  const text *input, const LlmRawAnswer *raw)
{
	StringInfoData body;
	StringInfoData fault;
	LlmReply reply;

	initStringInfo(&body);
	dialect->body(frame, VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input), NULL, NULL, &body);
	dialect->read(raw, &reply);
	if (reply.class != LLM_OK)
		elog(ERROR, "the answer was not read as whole");
	initStringInfo(&fault);
	if (recipe->op->check(recipe, reply.content, reply.content_len, &fault) == NULL)
		elog(ERROR, "the answer was not accepted: %s", fault.data);
}

/* SQL: (dialect, operation, spec jsonb, input text, body bytea, rounds int) → float8, microseconds per round */
Datum
llm_enrich_test_speed(PG_FUNCTION_ARGS)
{
	const LlmDialect *dialect = find_dialect(TextDatumGetCString(PG_GETARG_DATUM(0)));
	LlmRecipe *recipe = load_recipe(PG_GETARG_DATUM(1), PG_GETARG_JSONB_P(2));
	LlmFrame *frame = dialect->prepare(recipe, "model");
	text *input = PG_GETARG_TEXT_PP(3);
	bytea *body = PG_GETARG_BYTEA_PP(4);
	int rounds = PG_GETARG_INT32(5);
	LlmRawAnswer raw = {.status = 200, .body = VARDATA_ANY(body), .len = VARSIZE_ANY_EXHDR(body)};
	MemoryContext round_context = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich test",
														ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(round_context);
	instr_time start;
	instr_time end;
	int i;

	INSTR_TIME_SET_CURRENT(start);
	for (i = 0; i < rounds; i++)
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
