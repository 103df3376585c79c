/*-------------------------------------------------------------------------
 *
 * ask_collect.c
 *	  What an aggregate collects: its constant arguments, and the texts of its rows.
 *
 * The transition function of llm_agg() and its like.  Texts come in the order in which the
 * aggregate gets its rows, so ORDER BY, DISTINCT and FILTER are PostgreSQL's.  NULL and blank
 * ones are left out.  All groups of an aggregate together hold at most
 * llm_enrich.max_aggregate_size: who wants more knows what that costs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "ask/ask_call.h"
#include "ask/ask_collect.h"
#include "ask/ask_frame.h"
#include "base/compat.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "operation/input.h"
#include "operation/spec.h"

/* Arguments of the transition function. */
#define STATE 0
#define INPUT 1

/* What the rows of one aggregate of a statement share; as long as the statement. */
typedef struct Collector
{
	Oid aggregate;
	LlmAggregateArgs signature;
	StringInfoData content; /* of the arguments of the row at hand */
	Size held; /* bytes of all groups */
} Collector;

/* A group, as it is freed. */
typedef struct TextGroup
{
	LlmCollected collected; /* must be first */
	Collector *collector;
	Size counted; /* of its bytes, in "held" */
	Size args_len; /* of the constant arguments, at the beginning of the bytes */
	MemoryContextCallback on_reset;
} TextGroup;

PG_FUNCTION_INFO_V1(llm_enrich_agg_collect);

void
llm_collect_signature(Oid aggregate, LlmAggregateArgs *signature)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(aggregate));
	Oid *types;
	char **names;
	char *modes;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", aggregate);
	signature->name = pstrdup(NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname));
	signature->op = llm_operation_by_function(signature->name);
	signature->nargs = get_func_arg_info(tuple, &types, &names, &modes);
	ReleaseSysCache(tuple);
	if (signature->op == NULL || !signature->op->is_aggregate)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the loaded library does not know aggregate %s()", signature->name),
				 errhint("Restart the server, if the extension's SQL is newer than the library that is loaded.")));
	for (int i = 1; i < signature->nargs; i++)
	{
		signature->args[i] = names == NULL ? LLM_ARGS : llm_argument_find(names[i]);
		if (signature->args[i] == LLM_ARGS || types[i] != llm_argument_type_oid(signature->args[i]))
			elog(ERROR, "argument %d of aggregate %s is not known", i + 1, signature->name);
	}
}

static Collector *
get_collector(FunctionCallInfo fcinfo)
{
	Collector *collector = fcinfo->flinfo->fn_extra;
	Aggref *aggref = AggGetAggref(fcinfo);
	MemoryContext saved;

	if (collector != NULL)
		return collector;
	if (aggref == NULL)
		elog(ERROR, "an aggregate's transition function is called outside of one");
	saved = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	collector = palloc0(sizeof(Collector));
	collector->aggregate = aggref->aggfnoid;
	llm_collect_signature(collector->aggregate, &collector->signature);
	initStringInfo(&collector->content);
	MemoryContextSwitchTo(saved);
	fcinfo->flinfo->fn_extra = collector;
	return collector;
}

static void
free_group(void *arg)
{
	TextGroup *group = arg;

	group->collector->held -= group->counted;
}

static void
raise_too_much(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("%s() has collected %d kB of text", name, llm_guc_max_aggregate_kb),
			 errdetail("\"llm_enrich.max_aggregate_size\" allows no more, for all groups of a statement together, and nothing has been asked of these."),
			 errhint("Aggregate fewer rows; or SET llm_enrich.max_aggregate_size = '%dMB'.",
					 Max(llm_guc_max_aggregate_kb / 1024, 1) * 4)));
}

/* Count what the group's memory has grown by. */
static void
count_bytes(TextGroup *group, Size more)
{
	Collector *collector = group->collector;

	if (collector->held + more > (Size) llm_guc_max_aggregate_kb * 1024)
		raise_too_much(collector->signature.name);
	collector->held += more;
	group->counted += more;
}

/* The bytes of the constant arguments of this row, in the collector. */
static void
append_args(FunctionCallInfo fcinfo, Collector *collector)
{
	resetStringInfo(&collector->content);
	appendBinaryStringInfo(&collector->content, (const char *) &collector->aggregate, sizeof(Oid));
	for (int i = 1; i < collector->signature.nargs; i++)
		llm_argument_append(&collector->content, collector->signature.args[i], PG_GETARG_DATUM(INPUT + i),
							PG_ARGISNULL(INPUT + i));
}

/* The first text of a group: may it be asked about here, and with these arguments? */
static TextGroup *
begin_group(FunctionCallInfo fcinfo, Collector *collector, MemoryContext context)
{
	LlmCallArgs args = {{0}};
	MemoryContext saved;
	TextGroup *group;
	text *model;

	if (!llm_call_is_measured())
		llm_ask_frame_check(collector->signature.name, LLM_FRAME_AGGREGATE);
	for (int i = 1; i < collector->signature.nargs; i++)
	{
		if (!PG_ARGISNULL(INPUT + i))
			llm_argument_set(&args, collector->signature.args[i], PG_GETARG_DATUM(INPUT + i));
	}
	(void) llm_operation_spec(collector->signature.op, &args);
	model = llm_argument_text(&args, LLM_ARG_MODEL);
	llm_call_check_model(collector->signature.op, model == NULL ? NULL : text_to_cstring(model));
	saved = MemoryContextSwitchTo(context);
	group = palloc0(sizeof(TextGroup));
	group->collector = collector;
	initStringInfo(&group->collected.bytes);
	appendBinaryStringInfo(&group->collected.bytes, collector->content.data, collector->content.len);
	group->args_len = collector->content.len;
	group->on_reset.func = free_group;
	group->on_reset.arg = group;
	MemoryContextRegisterResetCallback(context, &group->on_reset);
	MemoryContextSwitchTo(saved);
	return group;
}

static void
check_same_args(const TextGroup *group)
{
	const Collector *collector = group->collector;

	if (group->args_len != collector->content.len ||
		memcmp(group->collected.bytes.data, collector->content.data, collector->content.len) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the rows of a group give %s() different arguments", collector->signature.name),
				 errdetail("All but the first argument must be the same for all rows that are asked about together."),
				 errhint("Use constants, or GROUP BY these columns, too.")));
}

static void
add_text(TextGroup *group, const text *input)
{
	StringInfo bytes = &group->collected.bytes;
	int32 len = VARSIZE_ANY_EXHDR(input);

	count_bytes(group, sizeof(len) + len);
	appendBinaryStringInfo(bytes, (const char *) &len, sizeof(len));
	appendBinaryStringInfo(bytes, VARDATA_ANY(input), len);
}

void
llm_collect_refuse_window(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("llm_agg() and llm_summarize_agg() cannot be used as window functions"),
			 errdetail("Each row's frame would be a question of its own."),
			 errhint("Use them with GROUP BY in a sub-query, and join its rows.")));
}

/* SQL: llm.agg_collect(state, input, ...) → state, the transition function of llm_agg() and its like */
Datum
llm_enrich_agg_collect(PG_FUNCTION_ARGS)
{
	TextGroup *group = PG_ARGISNULL(STATE) ? NULL : (TextGroup *) PG_GETARG_POINTER(STATE);
	Collector *collector;
	MemoryContext context;
	text *input;

	llm_shmem_require_preload();
	switch (AggCheckCallContext(fcinfo, &context))
	{
		case AGG_CONTEXT_AGGREGATE:
			break;
		case AGG_CONTEXT_WINDOW:
			llm_collect_refuse_window();
			break;
		default:
			elog(ERROR, "an aggregate's transition function is called outside of one");
	}
	collector = get_collector(fcinfo);
	if (!PG_ARGISNULL(INPUT))
	{
		llm_input_check_size(collector->signature.name, PG_GETARG_DATUM(INPUT));
		input = PG_GETARG_TEXT_PP(INPUT);
		if (!llm_input_is_blank(input))
		{
			append_args(fcinfo, collector);
			if (group == NULL)
				group = begin_group(fcinfo, collector, context);
			else
				check_same_args(group);
			add_text(group, input);
		}
	}
	if (group == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(group);
}

/* Take so many bytes. */
static const char *
take(const char **at, const char *end, Size len)
{
	const char *taken = *at;

	if ((Size) (end - *at) < len)
		elog(ERROR, "what an aggregate has collected is cut off");
	*at += len;
	return taken;
}

static int32
take_len(const char **at, const char *end)
{
	int32 len;

	memcpy(&len, take(at, end, sizeof(len)), sizeof(len));
	if (len < 0)
		elog(ERROR, "what an aggregate has collected is no such thing");
	return len;
}

/* One argument, as llm_argument_append() has written it. */
static void
read_argument(const char **at, const char *end, LlmArg arg, LlmCallArgs *args)
{
	Datum value;
	int32 len;

	if (*take(at, end, 1) == 'n')
		return;
	switch (llm_arguments[arg].type)
	{
		case LLM_ARG_TYPE_BOOL:
		case LLM_ARG_TYPE_INT:
		case LLM_ARG_TYPE_FLOAT8:
			memcpy(&value, take(at, end, sizeof(Datum)), sizeof(Datum));
			break;
		default:
		{
			struct varlena *whole;

			len = take_len(at, end);
			whole = palloc(len + VARHDRSZ);
			SET_VARSIZE(whole, len + VARHDRSZ);
			memcpy(VARDATA(whole), take(at, end, len), len);
			value = PointerGetDatum(whole);
			break;
		}
	}
	llm_argument_set(args, arg, value);
}

void
llm_collect_read(const char *bytes, Size len, LlmTexts *texts)
{
	const char *at = bytes;
	const char *end = bytes + len;
	int room = 64;

	memset(texts, 0, sizeof(*texts));
	memcpy(&texts->aggregate, take(&at, end, sizeof(Oid)), sizeof(Oid));
	llm_collect_signature(texts->aggregate, &texts->signature);
	for (int i = 1; i < texts->signature.nargs; i++)
		read_argument(&at, end, texts->signature.args[i], &texts->args);
	texts->items = palloc(sizeof(LlmItem) * room);
	while (at < end)
	{
		LlmItem *item;

		if (texts->n == room)
		{
			room *= 2;
			texts->items = repalloc_huge(texts->items, sizeof(LlmItem) * room);
		}
		item = &texts->items[texts->n++];
		item->units = 0;
		item->len = take_len(&at, end);
		item->str = take(&at, end, item->len);
	}
}
