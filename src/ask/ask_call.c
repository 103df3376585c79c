/*-------------------------------------------------------------------------
 *
 * ask_call.c
 *	  A call of a public function is evaluated: it is asked, and gives the answer.
 *
 * The planner hook has turned the calls that are assigned to cells into others, so what
 * comes here is to be answered while the statement waits, or refused where something is
 * being written.  It runs with the rights of the role that runs the statement.
 *
 * What the rows of a call share is checked and made once for arguments that are the same
 * bytes as those of the row before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "ask/ask.h"
#include "ask/ask_call.h"
#include "ask/ask_frame.h"
#include "ask/ask_measure.h"
#include "ask/ask_ring.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/guc.h"
#include "base/json.h"
#include "base/json_sql.h"
#include "base/shmem.h"
#include "catalog/catalog_target.h"
#include "operation/input.h"
#include "operation/spec.h"

/* The input is the first argument, whatever its name. */
#define INPUT 0

/* What the running command of the client has asked so far.  Reset by its first call. */
static TimestampTz counted_command = 0;
static int64 calls_of_command = 0;

/* The model that was checked last: for whom, in which command, and its name. */
static TimestampTz checked_command = 0;
static Oid checked_role = InvalidOid;
static LlmRequestKind checked_kind = LLM_REQUEST_CHAT;
static char checked_model[NAMEDATALEN * 4];

/* Set while a statement is estimated. */
static const LlmMeasuring *measuring = NULL;

PG_FUNCTION_INFO_V1(llm_enrich_call);

static const LlmOperation *
find_operation(const char *function)
{
	const LlmOperation *op = llm_operation_by_function(function);

	if (op == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the loaded library does not know function %s()", function),
				 errhint("Restart the server: the extension's SQL is newer than the library that is loaded.")));
	return op;
}

/* What each argument is, by its name. */
static void
read_signature(LlmCallSite *site, Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid *types;
	char **names;
	char *modes;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	site->name = pstrdup(NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname));
	site->op = find_operation(site->name);
	site->returns = ((Form_pg_proc) GETSTRUCT(tuple))->prorettype;
	site->nargs = get_func_arg_info(tuple, &types, &names, &modes);
	for (int i = INPUT + 1; i < site->nargs; i++)
	{
		site->args[i] = names == NULL ? LLM_ARGS : llm_argument_find(names[i]);
		if (site->args[i] == LLM_ARGS || types[i] != llm_argument_type_oid(site->args[i]))
			elog(ERROR, "argument %d of function %s is not known", i + 1, site->name);
	}
	ReleaseSysCache(tuple);
}

LlmCallSite *
llm_call_site_make(const LlmOperation *op, const char *name, Oid returns)
{
	LlmCallSite *site = palloc0(sizeof(LlmCallSite));

	site->op = op;
	site->name = name;
	site->returns = returns;
	site->context = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich call", ALLOCSET_SMALL_SIZES);
	initStringInfo(&site->content);
	return site;
}

static LlmCallSite *
get_site(FunctionCallInfo fcinfo)
{
	LlmCallSite *site = fcinfo->flinfo->fn_extra;
	Node *expr = fcinfo->flinfo->fn_expr;
	MemoryContext saved;

	if (site != NULL)
		return site;
	saved = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	site = llm_call_site_make(NULL, NULL, InvalidOid);
	read_signature(site, fcinfo->flinfo->fn_oid);
	site->in_where = expr != NULL && IsA(expr, FuncExpr) && ((FuncExpr *) expr)->location == LLM_CALL_IN_WHERE;
	MemoryContextSwitchTo(saved);
	fcinfo->flinfo->fn_extra = site;
	return site;
}

/* Raise unless the user may ask this model by this operation; once in a command. */
static void
check_model(const LlmOperation *op, const char *model)
{
	TimestampTz command = GetCurrentStatementStartTimestamp();
	const char *name = model == NULL ? "" : model;

	if (checked_command == command && checked_role == GetUserId() && checked_kind == op->kind &&
		strcmp(checked_model, name) == 0)
		return;
	llm_catalog_check_call_of(op->kind, op->function, model, GetUserId());
	checked_command = command;
	checked_kind = op->kind;
	checked_role = GetUserId();
	strlcpy(checked_model, name, sizeof(checked_model));
	if (strlen(name) >= sizeof(checked_model))
		checked_command = 0;
}

void
llm_call_check_model(const LlmOperation *op, const char *model)
{
	check_model(op, llm_guc_model_or(model));
}

/* The member of an answer that is its own value; in the current context. */
static const char *
own_value_of(const LlmOperation *op, Jsonb *spec)
{
	const LlmRecipe *recipe = llm_operation_load(0, op->name, spec);

	if (recipe == NULL || recipe->value_key == NULL)
		elog(ERROR, "an answer of %s() has no value of its own", op->function);
	return recipe->value_key;
}

void
llm_call_site_set(LlmCallSite *site, const LlmCallArgs *args)
{
	LlmLetterQuestion *asked = &site->asked;
	MemoryContext saved;
	Jsonb *options;
	Jsonb *deadline;
	text *model;

	site->has_asked = false;
	MemoryContextReset(site->context);
	saved = MemoryContextSwitchTo(site->context);
	memset(asked, 0, sizeof(*asked));
	model = llm_argument_text(args, LLM_ARG_MODEL);
	asked->model = model == NULL ? NULL : text_to_cstring(model);
	asked->reuse = true;
	asked->operation = site->op->name;
	asked->spec = llm_operation_spec(site->op, args);
	options = llm_argument_jsonb(args, LLM_ARG_OPTIONS);
	llm_operation_job_options(options, NULL, &asked->tags, &deadline);
	site->deadline = llm_operation_deadline(deadline);
	site->value_key = site->returns == JSONBOID ? NULL : own_value_of(site->op, asked->spec);
	site->conditions = llm_conditions_prepare(asked->spec);
	MemoryContextSwitchTo(saved);
	site->has_asked = true;
}

/* What the rows with these arguments share. */
static void
make_asked(FunctionCallInfo fcinfo, LlmCallSite *site)
{
	LlmCallArgs args = {{0}};

	for (int i = INPUT + 1; i < site->nargs; i++)
	{
		if (!PG_ARGISNULL(i))
			llm_argument_set(&args, site->args[i], PG_GETARG_DATUM(i));
	}
	llm_call_site_set(site, &args);
}

/* The same where the arguments are those of the row before. */
static void
find_asked(FunctionCallInfo fcinfo, LlmCallSite *site)
{
	StringInfoData content;

	initStringInfo(&content);
	for (int i = INPUT + 1; i < site->nargs; i++)
		llm_argument_append(&content, site->args[i], PG_GETARG_DATUM(i), PG_ARGISNULL(i));
	if (!site->has_asked || content.len != site->content.len ||
		memcmp(content.data, site->content.data, content.len) != 0)
	{
		make_asked(fcinfo, site);
		resetStringInfo(&site->content);
		appendBinaryStringInfo(&site->content, content.data, content.len);
	}
	pfree(content.data);
}

/* How many more calls the client's command may make. */
static int64
calls_left(void)
{
	if (counted_command != GetCurrentStatementStartTimestamp())
		return llm_guc_max_immediate_calls;
	return llm_guc_max_immediate_calls - calls_of_command;
}

/* One more call of the client's command: does the guard allow it? */
static void
count_call(const char *function)
{
	TimestampTz command = GetCurrentStatementStartTimestamp();

	if (counted_command != command)
		calls_of_command = 0;
	counted_command = command;
	if (calls_of_command >= llm_guc_max_immediate_calls)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the command has asked %d times already", llm_guc_max_immediate_calls),
				 errdetail("\"llm_enrich.max_immediate_calls\" allows no more calls that are answered while a command waits."),
				 errhint("Store the answers: UPDATE ... SET column = %s(...) is queued, and has no such limit. Or SET llm_enrich.max_immediate_calls.", function)));
	calls_of_command++;
}

/* The end of the user's patience that the deadline is, if there is one. */
static bool
is_overdue(const LlmCallSite *site)
{
	return site->deadline != DT_NOEND && site->deadline <= llm_clock_now();
}

/* How long the question may wait: a deadline may come before the end of the user's patience. */
static int
patience_ms(const LlmCallSite *site)
{
	TimestampTz now = llm_clock_now();

	if (site->deadline == DT_NOEND)
		return llm_guc_patience_ms;
	return (int) Min((int64) llm_guc_patience_ms, Max(site->deadline - now, 0) / 1000);
}

/* Which model was asked, and what it cost, for the detail of an error; NULL: none was. */
static char *
bill_text(const LlmLetterReply *reply)
{
	if (reply->requests == 0 || reply->server == NULL)
		return NULL;
	return psprintf("Model \"%s\" at server \"%s\" was asked %d %s%s%s.", reply->model, reply->server, reply->requests,
					reply->requests == 1 ? "time" : "times", reply->cost == NULL ? "" : ", for US dollars ",
					reply->cost == NULL ? "" : reply->cost);
}

/* What to type next. */
static char *
hint_text(const LlmLetterReply *reply)
{
	bool uncommitted = reply->outcome == LLM_LETTER_UNUSABLE && reply->requests == 0 &&
					   TransactionIdIsValid(GetTopTransactionIdIfAny());

	if (uncommitted)
		return psprintf("%s%sIf this transaction has added or changed the model, its server or a right, COMMIT first: the sender sees what is committed.",
						reply->hint == NULL ? "" : reply->hint, reply->hint == NULL ? "" : " ");
	if (reply->hint != NULL)
		return pstrdup(reply->hint);
	if (reply->outcome == LLM_LETTER_IMPATIENT)
		return pstrdup("SET llm_enrich.patience to wait longer, or UPDATE ... SET column = the call, which waits as long as it takes.");
	return pstrdup("SET llm_enrich.on_error = 'null' to get NULL instead.");
}

/* There is no answer: raise, or return where NULL will do. */
static void
fail(const LlmCallSite *site, const LlmLetterReply *reply)
{
	static const int codes[] = {
		[LLM_LETTER_FAILED] = ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
		[LLM_LETTER_IMPATIENT] = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
		[LLM_LETTER_UNUSABLE] = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		[LLM_LETTER_NOT_STORED] = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		[LLM_LETTER_LEFT] = ERRCODE_CONNECTION_FAILURE};
	char *bill = bill_text(reply);

	bool is_lost = reply->outcome == LLM_LETTER_LEFT && llm_guc_max_cost >= 0; /* the sender knew what was spent */

	if (llm_guc_on_error == LLM_ON_ERROR_NULL && reply->outcome != LLM_LETTER_UNUSABLE && !is_lost)
		return;
	ereport(ERROR,
			(errcode(codes[reply->outcome]),
			 errmsg("%s() got no answer: %s%s%s", site->name, reply->reason == NULL ? "" : reply->reason,
					reply->reason == NULL ? "" : ": ", reply->message == NULL ? "unknown" : reply->message),
			 bill == NULL ? 0 : errdetail_internal("%s", bill),
			 errhint("%s", hint_text(reply))));
}

/* A blank input is no question. */
static bool
is_blank(const LlmCallSite *site, text *input)
{
	LlmLetterReply reply = {.outcome = LLM_LETTER_FAILED, .reason = "empty_input"};

	if (!llm_input_is_blank(input))
		return false;
	reply.message = "the input is empty or only white space";
	fail(site, &reply);
	return true;
}

/* Providers speak UTF-8, and an answer may hold any character of it. */
static void
check_encoding(void)
{
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a database with encoding \"%s\" cannot ask", GetDatabaseEncodingName()),
				 errdetail("Providers speak UTF-8, and an answer may hold any character of it."),
				 errhint("Create the database with ENCODING 'UTF8'.")));
}

static void
check_enabled(void)
{
	if (!llm_guc_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sending is turned off"),
				 errhint("Set \"llm_enrich.enabled\" to on and reload the configuration.")));
}

void
llm_call_check_server(void)
{
	check_encoding();
	check_enabled();
}

/* The question as bytes, in the current context; "fault" is what was wrong with the last answer, NULL: none came. */
static void
write_question(const LlmCallSite *site, const text *input, const char *fault, Jsonb *last_answer, StringInfo bytes)
{
	LlmLetterQuestion question = site->asked;

	question.fault = fault;
	if (fault != NULL)
	{
		question.last_answer = JsonbToCString(NULL, &last_answer->root, VARSIZE(last_answer));
		question.reuse = false;
		question.wasted = site->wasted;
	}
	question.role = GetUserId();
	question.patience_ms = patience_ms(site);
	question.spent = llm_ask_tally_spent();
	question.model = llm_guc_model_or(question.model);
	question.tags = llm_operation_tags(site->asked.tags);
	question.application = application_name == NULL ? "" : application_name;
	question.input = VARDATA_ANY(input);
	question.input_len = VARSIZE_ANY_EXHDR(input);
	llm_letter_set_command(&question);
	check_model(site->op, question.model);
	llm_letter_write_question(&question, bytes);
}

/* The answer in the current context, or NULL when there is none and that will do. */
static Jsonb *
use_reply(LlmCallSite *site, const LlmLetterReply *reply)
{
	if (reply->outcome == LLM_LETTER_ANSWERED)
		return reply->answer;
	site->too_long = site->splits && reply->outcome == LLM_LETTER_FAILED && reply->reason != NULL &&
					 strcmp(reply->reason, llm_error_name(LLM_ERR_TOO_LONG)) == 0;
	if (site->too_long)
		return NULL;
	fail(site, reply);
	return NULL;
}

/* An earlier command asked, a FETCH before this one, and had no money left for it; nothing was sent. */
static bool
is_refused_to_another(const LlmAhead *ahead, const StringInfoData *bytes, const LlmLetterReply *reply)
{
	return reply->outcome == LLM_LETTER_UNUSABLE && reply->requests == 0 &&
		   !llm_letter_same_command(ahead->bytes.data, bytes->data);
}

/* Should the user's conditions not hold for the answer, so much was paid for it in vain. */
static void
note_cost(LlmCallSite *site, const LlmLetterReply *reply)
{
	if (site->conditions != NULL && reply->answer_cost != NULL)
		site->wasted = pstrdup(reply->answer_cost);
}

/* No other answer is asked for: the sender hears what the last one was worth. */
static void
tell_waste(LlmCallSite *site, const char *fault, Jsonb *last_answer)
{
	LlmCallSite last = *site;
	StringInfoData bytes;

	if (site->wasted == NULL)
		return;
	last.asked.over = true;
	write_question(&last, cstring_to_text(""), fault, last_answer, &bytes); /* one that fits, too */
	llm_ask_tell(&bytes, llm_guc_patience_ms, site->meanwhile);
	pfree(bytes.data);
}

/* Ask, and wait; unless it is asked already, for a row ahead. */
static Jsonb *
ask_once(LlmCallSite *site, const text *input, const char *fault, Jsonb *last_answer, LlmAhead *ahead)
{
	static const LlmLetterReply overdue = {
		.outcome = LLM_LETTER_FAILED, .reason = "deadline", .message = "it has passed"};
	StringInfoData bytes;
	LlmLetterReply reply;
	LlmPosted *posted;
	Jsonb *volatile answer = NULL;
	int64 since_us = llm_clock_monotonic_us();
	char *wasted = site->wasted; /* told with the question */
	bool is_asked = false; /* for a row ahead */

	site->too_long = false;
	write_question(site, input, fault, last_answer, &bytes);
	site->wasted = NULL;
	if (ahead == NULL)
		ahead = llm_ask_ring_find(&bytes);
	if (ahead != NULL)
	{
		llm_ask_await(ahead->posted, llm_guc_patience_ms, site->meanwhile, &reply);
		is_asked = !is_refused_to_another(ahead, &bytes, &reply);
	}
	if (!is_asked && is_overdue(site))
	{
		pfree(bytes.data);
		if (fault != NULL)
		{
			site->wasted = wasted;
			tell_waste(site, fault, last_answer);
			site->wasted = NULL;
		}
		fail(site, &overdue);
		return NULL;
	}
	if (!is_asked)
		count_call(site->name);
	if (!is_asked && ahead != NULL)
	{
		/* by this command, and for the other rows that have the letter: they share what becomes of it */
		llm_ask_ring_renew(ahead, &bytes, llm_ask_post(&bytes, llm_guc_patience_ms));
		llm_ask_await(ahead->posted, llm_guc_patience_ms, site->meanwhile, &reply);
	}
	if (ahead != NULL)
	{
		pfree(bytes.data);
		if (!ahead->counted)
		{
			llm_ask_ring_count(&reply, llm_clock_monotonic_us() - since_us);
			note_cost(site, &reply);
		}
		ahead->counted = true;
		return use_reply(site, &reply);
	}
	posted = llm_ask_wait(&bytes, llm_guc_patience_ms, site->meanwhile, &reply);
	pfree(bytes.data);
	PG_TRY();
	{
		llm_ask_ring_count(&reply, llm_clock_monotonic_us() - since_us);
		note_cost(site, &reply);
		answer = use_reply(site, &reply);
	}
	PG_FINALLY();
	{
		llm_mailbox_drop(posted);
	}
	PG_END_TRY();
	return answer;
}

/* And again while the answer is not as the user's conditions want it. */
Jsonb *
llm_call_site_ask(LlmCallSite *site, const text *input, LlmAhead *ahead)
{
	LlmLetterReply reply = {.outcome = LLM_LETTER_FAILED, .reason = "check_failed"};
	Jsonb *answer = ask_once(site, input, NULL, NULL, ahead);

	for (int tries = 1; answer != NULL && site->conditions != NULL; tries++)
	{
		reply.message = llm_conditions_fault(site->conditions, answer, VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input),
											 NULL);
		if (reply.message == NULL)
			return answer;
		if (tries >= llm_guc_max_tries)
		{
			tell_waste(site, reply.message, answer);
			fail(site, &reply);
			return NULL;
		}
		answer = ask_once(site, input, reply.message, answer, NULL);
	}
	return answer;
}

/* May every row with this question have the same answer? */
static bool
is_shareable(const LlmCallSite *site)
{
	JsonbValue buffer;
	JsonbValue *temperature = getKeyJsonValueFromContainer(&site->asked.spec->root, "temperature",
														   strlen("temperature"), &buffer);

	return temperature == NULL || temperature->type != jbvNumeric ||
		   !DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(temperature->val.numeric),
											 NumericGetDatum(int64_to_numeric(0))));
}

void
llm_ask_measure_begin(LlmMeasuring *mine)
{
	mine->outer = measuring;
	measuring = mine;
}

void
llm_ask_measure_end(const LlmMeasuring *mine)
{
	measuring = mine->outer;
}

bool
llm_call_is_measured(void)
{
	return measuring != NULL;
}

void
llm_call_site_measure(const LlmCallSite *site, Oid function, int location, text *input)
{
	LlmMeasuredCall call = {.op = site->op, .function = function, .location = location};

	if (input != NULL)
	{
		call.model = llm_guc_model_or(site->asked.model);
		call.spec = site->asked.spec;
		call.input = input;
		call.is_shareable = is_shareable(site);
		check_model(site->op, call.model);
	}
	measuring->tell(&call, measuring->arg);
}

/* Tell what would be asked. */
static void
measure(FunctionCallInfo fcinfo, LlmCallSite *site)
{
	Node *expr = fcinfo->flinfo->fn_expr;
	int location = expr != NULL && IsA(expr, FuncExpr) ? ((FuncExpr *) expr)->location : -1;
	text *input = NULL;

	if (!PG_ARGISNULL(INPUT))
	{
		find_asked(fcinfo, site);
		llm_input_check_size(site->name, PG_GETARG_DATUM(INPUT));
		input = PG_GETARG_TEXT_PP(INPUT);
	}
	llm_call_site_measure(site, fcinfo->flinfo->fn_oid, location, input);
}

LlmAhead *
llm_call_site_ahead(LlmCallSite *site, LlmAskRing *ring, const text *input, bool unless_asked)
{
	StringInfoData bytes;
	LlmAhead *ahead = NULL;

	if (calls_left() <= 0 || is_overdue(site))
		return NULL;
	write_question(site, input, NULL, NULL, &bytes);
	if (!unless_asked || llm_ask_ring_find(&bytes) == NULL)
		ahead = llm_ask_ring_post(ring, &bytes, is_shareable(site));
	pfree(bytes.data);
	if (ahead != NULL && ahead->users == 1)
		count_call(site->name);
	return ahead;
}

void
llm_ask_call_ahead(LlmAskRing *ring, FunctionCallInfo fcinfo, LlmAskRow *row)
{
	LlmCallSite *site;
	LlmAhead *ahead;
	text *input;

	if (PG_ARGISNULL(INPUT) || !llm_guc_enabled || measuring != NULL)
		return;
	site = get_site(fcinfo);
	llm_ask_frame_check(site->name, site->in_where ? LLM_FRAME_WHERE : LLM_FRAME_CALL);
	check_encoding();
	find_asked(fcinfo, site);
	llm_input_check_size(site->name, PG_GETARG_DATUM(INPUT));
	input = PG_GETARG_TEXT_PP(INPUT);
	if (llm_input_is_blank(input))
		return;
	ahead = llm_call_site_ahead(site, ring, input, false);
	if (ahead != NULL)
		llm_ask_ring_add(ring, row, ahead);
}

/* The answer as the function's type has it. */
static Datum
return_answer(FunctionCallInfo fcinfo, const LlmCallSite *site, Jsonb *answer)
{
	JsonbValue tree;
	const JsonbValue *value = NULL;
	LlmJsonInput input;

	if (site->returns == JSONBOID)
		PG_RETURN_JSONB_P(answer);
	if (llm_json_tree(answer, &tree))
		value = llm_json_get(&tree, site->value_key);
	if (value == NULL)
		elog(ERROR, "an answer of %s() has no \"%s\"", site->name, site->value_key);
	llm_json_input(&input, site->returns);
	return llm_json_to_datum(&input, value, &fcinfo->isnull);
}

/*
 * SQL: llm_classify(...) and its like, where the planner hook has not deferred them.
 */
Datum
llm_enrich_call(PG_FUNCTION_ARGS)
{
	LlmCallSite *site;
	text *input;
	Jsonb *answer;

	llm_shmem_require_preload();
	site = get_site(fcinfo);
	if (measuring != NULL)
	{
		measure(fcinfo, site);
		PG_RETURN_NULL();
	}
	llm_ask_frame_check(site->name, site->in_where ? LLM_FRAME_WHERE : LLM_FRAME_CALL);
	check_encoding();
	if (PG_ARGISNULL(INPUT))
		PG_RETURN_NULL();
	find_asked(fcinfo, site);
	llm_input_check_size(site->name, PG_GETARG_DATUM(INPUT));
	input = PG_GETARG_TEXT_PP(INPUT);
	if (is_blank(site, input))
		PG_RETURN_NULL();
	check_enabled();
	answer = llm_call_site_ask(site, input, NULL);
	if (answer == NULL)
		PG_RETURN_NULL();
	return return_answer(fcinfo, site, answer);
}
