/*-------------------------------------------------------------------------
 *
 * ask_aggregate.c
 *	  llm_agg() and its like: texts of many rows, asked about together.
 *
 * Where all texts fit the model, they are one question.  Else they are divided in their
 * order into as few parts as fit, which are asked about at the same time; their answers, in
 * the same order, are the texts of the next stage, until one question takes them all.
 * Each question is an immediate call like others: a letter, a row of the ledger, budgets
 * and kept answers.  So what fails at its third part has kept the first two.
 *
 * What the host refuses as too long is halved and asked again.
 *
 * The final function answers.  Where a node stands above the aggregate (ask_plan.c), that
 * gives what it has collected instead, and the node posts the questions of the groups ahead
 * before it evaluates one.  While it waits for an answer, groups ahead that have theirs go on
 * to their next stage: what is evaluated then finds these letters as it finds others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "ask/ask_aggregate.h"
#include "ask/ask_call.h"
#include "ask/ask_collect.h"
#include "ask/ask_frame.h"
#include "ask/ask_parts.h"
#include "base/compat.h"
#include "base/guc.h"
#include "base/json.h"
#include "base/shmem.h"
#include "operation/aggregate.h"

/* Typical bytes of an answer that is still to come, for an estimate. */
#define ANSWER_BYTES 600

PG_FUNCTION_INFO_V1(llm_enrich_agg_answer);

/* What is asked about one group. */
typedef struct Work
{
	const LlmTexts *texts;
	LlmCallSite *sites[LLM_STAGES]; /* NULL: not needed yet */
	LlmAskRing *ring; /* of the letters that are posted while it is answered */
	int64 budget; /* units of the texts of a question */
	void (*meanwhile)(void); /* called while answers are waited for; or NULL */
} Work;

/* What is asked about at the same time. */
typedef struct Round
{
	LlmStage stage;
	List *parts; /* of LlmPart */
	int ntexts; /* in all of them */
} Round;

/*
 * Asking
 */

static LlmCallSite *
get_site(Work *work, LlmStage stage)
{
	LlmCallSite *site = work->sites[stage];
	LlmCallArgs args = work->texts->args;

	if (site != NULL)
		return site;
	site = llm_call_site_make(work->texts->signature.op, work->texts->signature.name, TEXTOID);
	llm_argument_set(&args, LLM_ARG_STAGE, CStringGetTextDatum(llm_stage_name(stage)));
	llm_call_site_set(site, &args);
	site->splits = true;
	site->meanwhile = work->meanwhile;
	work->sites[stage] = site;
	return site;
}

static void
begin_work(Work *work, const LlmTexts *texts)
{
	memset(work, 0, sizeof(*work));
	work->texts = texts;
	work->budget = llm_parts_budget(get_site(work, LLM_STAGE_WHOLE), &texts->args);
}

/* Divide texts, which are answers to earlier questions unless it is the first time. */
static void
begin_round(const Work *work, Round *round, LlmItem *items, int n, bool first)
{
	LlmItem *texts = llm_parts_cut(items, &n, first ? work->budget : work->budget / 2);

	round->ntexts = n;
	round->parts = llm_parts_divide(texts, n, work->budget);
	if (list_length(round->parts) == 1)
		round->stage = first ? LLM_STAGE_WHOLE : LLM_STAGE_LAST;
	else
		round->stage = first ? LLM_STAGE_PART : LLM_STAGE_JOIN;
}

/* An answer as a text of the next stage. */
static LlmItem
item_of(const LlmCallSite *site, Jsonb *answer)
{
	JsonbValue tree;
	const JsonbValue *value = NULL;

	if (llm_json_tree(answer, &tree))
		value = llm_json_get(&tree, site->value_key);
	if (value == NULL || value->type != jbvString)
		elog(ERROR, "an answer of %s() has no \"%s\"", site->name, site->value_key);
	return (LlmItem){value->val.string.val, value->val.string.len, 0};
}

static void
raise_too_long(const LlmCallSite *site)
{
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("%s() got no answer: the model refuses even a few words as too long", site->name),
			 errhint("Shorten the instruction, or use a model that takes more. See llm.ledger.")));
}

/*
 * Post what may be, of the parts from the first on; how many were posted or passed over.  Who waits for one of
 * their answers wakes the sender.
 */
static int
post_parts(Work *work, LlmCallSite *site, const List *parts, int from, text **inputs, LlmAhead **letters)
{
	int i = from;

	for (; i < list_length(parts) && work->ring->open < llm_guc_max_in_flight; i++)
	{
		inputs[i] = llm_parts_input(list_nth(parts, i));
		letters[i] = llm_call_site_ahead(site, work->ring, inputs[i], true);
		if (letters[i] == NULL)
		{
			i++;
			break; /* no room, or it is there: one after the other */
		}
	}
	return i;
}

/*
 * Ask about each part, and give the answers in order, of which there are more where a part was
 * too long; false when one got none and that will do.  There is room for them.
 */
static bool
ask_parts(Work *work, LlmStage stage, const List *parts, LlmItem *answers, int *n)
{
	LlmCallSite *site = get_site(work, stage);
	int nparts = list_length(parts);
	text **inputs = palloc0(sizeof(text *) * nparts);
	LlmAhead **letters = palloc0(sizeof(LlmAhead *) * nparts);
	int posted = 0;

	check_stack_depth();
	for (int i = 0; i < nparts; i++)
	{
		Jsonb *answer;

		CHECK_FOR_INTERRUPTS();
		posted = post_parts(work, site, parts, Max(posted, i), inputs, letters);
		if (inputs[i] == NULL)
			inputs[i] = llm_parts_input(list_nth(parts, i)); /* as many as may be are in flight for others */
		posted = Max(posted, i + 1);
		answer = llm_call_site_ask(site, inputs[i], letters[i]);
		if (letters[i] != NULL)
			llm_ask_ring_release(work->ring, letters[i]);
		pfree(inputs[i]);
		if (answer != NULL)
			answers[(*n)++] = item_of(site, answer);
		else if (site->too_long)
		{
			const List *halves = llm_parts_halve(list_nth(parts, i));

			if (halves == NIL)
				raise_too_long(site);
			if (!ask_parts(work, stage, halves, answers, n))
				return false;
		}
		else
			return false;
	}
	return true;
}

/* One question about all of it; NULL: there is no answer, and that will do, or it is too long. */
static Jsonb *
ask_one(Work *work, LlmStage stage, const LlmPart *part)
{
	text *input = llm_parts_input(part);
	Jsonb *answer = llm_call_site_ask(get_site(work, stage), input, NULL);

	pfree(input);
	return answer;
}

/* The answer about all texts; false when there is none and that will do. */
static bool
answer_texts(Work *work, LlmItem *result)
{
	Round round;

	begin_round(work, &round, work->texts->items, work->texts->n, true);
	for (;;)
	{
		LlmItem *answers;
		int n = 0;

		if (list_length(round.parts) == 1)
		{
			LlmCallSite *site = get_site(work, round.stage);
			Jsonb *answer = ask_one(work, round.stage, linitial(round.parts));

			if (answer != NULL)
			{
				*result = item_of(site, answer);
				return true;
			}
			if (!site->too_long)
				return false;
			round.stage = round.stage == LLM_STAGE_WHOLE ? LLM_STAGE_PART : LLM_STAGE_JOIN;
			round.parts = llm_parts_halve(linitial(round.parts));
			if (round.parts == NIL)
				raise_too_long(site);
		}
		answers = palloc_extended(sizeof(LlmItem) * llm_parts_most_answers(round.parts), MCXT_ALLOC_HUGE);
		if (!ask_parts(work, round.stage, round.parts, answers, &n))
			return false;
		if (round.stage == LLM_STAGE_JOIN && n >= round.ntexts)
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("%s() got answers that are too long to be put together", work->texts->signature.name),
					 errhint("Ask for shorter ones in the instruction, or set \"max_tokens\" in the options.")));
		begin_round(work, &round, answers, n, false);
	}
}

/*
 * Asking ahead
 */

/* A group ahead: its questions are posted as soon as the answers are there that they are about. */
typedef struct AheadGroup
{
	LlmAskStages stages; /* must be first */
	LlmTexts texts;
	Work work;
	Round round;
	LlmAhead **letters; /* of the round's parts */
	LlmItem *answers; /* of these */
	int posted; /* parts */
	int answered; /* parts */
	bool left; /* the rest is for its turn */
} AheadGroup;

static void
begin_group_round(AheadGroup *group, LlmItem *items, int n, bool first)
{
	begin_round(&group->work, &group->round, items, n, first);
	group->letters = palloc(sizeof(LlmAhead *) * list_length(group->round.parts));
	group->answers = palloc(sizeof(LlmItem) * list_length(group->round.parts));
	group->posted = group->answered = 0;
}

/* Post parts of the round, as many as there is room for. */
static void
post_round(AheadGroup *group)
{
	LlmAskRing *ring = group->stages.ring;

	while (!group->left && group->posted < list_length(group->round.parts) && llm_ask_ring_room(ring) > 0 &&
		   !ring->is_full)
	{
		text *input = llm_parts_input(list_nth(group->round.parts, group->posted));
		LlmAhead *ahead = llm_call_site_ahead(get_site(&group->work, group->round.stage), ring, input, false);

		pfree(input);
		if (ahead != NULL)
		{
			llm_ask_ring_add(ring, group->stages.row, ahead);
			group->letters[group->posted++] = ahead;
		}
		else
			group->left = !ring->is_full; /* the command may ask no more */
	}
}

/* Take the answers that are there, in order. */
static void
take_answers(AheadGroup *group)
{
	while (!group->left && group->answered < group->posted)
	{
		LlmLetterReply reply;
		Size len;
		const char *bytes = llm_ask_ring_reply(group->stages.ring, group->letters[group->answered], &len);

		if (bytes == NULL)
			return;
		llm_letter_read_reply(bytes, len, &reply);
		if (reply.outcome == LLM_LETTER_ANSWERED)
			group->answers[group->answered++] = item_of(get_site(&group->work, group->round.stage), reply.answer);
		else
			group->left = true; /* an error, or too long */
	}
}

static void
go_on(LlmAskStages *stages)
{
	AheadGroup *group = (AheadGroup *) stages;

	for (;;)
	{
		const Round *round = &group->round;

		take_answers(group);
		post_round(group);
		if (group->left || group->answered < list_length(round->parts))
			return;
		group->left = list_length(round->parts) == 1 ||
					  (round->stage == LLM_STAGE_JOIN && group->answered >= round->ntexts);
		if (!group->left)
			begin_group_round(group, group->answers, group->answered, false);
	}
}

void
llm_ask_aggregate_ahead(LlmAskRing *ring, FunctionCallInfo fcinfo, LlmAskRow *row)
{
	AheadGroup *group;
	MemoryContext saved;
	text *collected;

	if (PG_ARGISNULL(0) || !llm_guc_enabled || llm_call_is_measured())
		return;
	group = (AheadGroup *) llm_ask_ring_follow(ring, row, sizeof(AheadGroup), go_on);
	saved = MemoryContextSwitchTo(group->stages.context);
	collected = PG_GETARG_TEXT_PP(0);
	llm_collect_read(VARDATA_ANY(collected), VARSIZE_ANY_EXHDR(collected), &group->texts);
	llm_ask_frame_check(group->texts.signature.name, LLM_FRAME_AGGREGATE);
	llm_call_check_server();
	begin_work(&group->work, &group->texts);
	begin_group_round(group, group->texts.items, group->texts.n, true);
	go_on(&group->stages);
	MemoryContextSwitchTo(saved);
}

/*
 * Measuring
 */

/* What would be asked, as far as it is known before there are answers. */
static void
measure(const LlmTexts *texts, Oid function, int location)
{
	Work work;
	Round round;
	ListCell *cell;

	begin_work(&work, texts);
	begin_round(&work, &round, texts->items, texts->n, true);
	foreach(cell, round.parts)
		llm_call_site_measure(get_site(&work, round.stage), function, location, llm_parts_input(lfirst(cell)));
	if (round.stage == LLM_STAGE_PART)
	{
		StringInfoData buf;

		initStringInfo(&buf);
		for (int i = 0; i < list_length(round.parts) * ANSWER_BYTES; i++)
			appendStringInfoChar(&buf, 'x');
		llm_call_site_measure(get_site(&work, LLM_STAGE_LAST), function, location,
							  cstring_to_text_with_len(buf.data, buf.len));
	}
}

LlmRecipe *
llm_ask_aggregate_first(const LlmOperation *op, const LlmCallArgs *args, LlmItem *items, int n, text **input)
{
	LlmTexts texts = {.signature = {.op = op, .name = pstrdup(op->function)}, .args = *args, .items = items, .n = n};
	Round round;
	Work work;

	begin_work(&work, &texts);
	begin_round(&work, &round, items, n, true);
	*input = llm_parts_input(linitial(round.parts));
	return llm_operation_load(0, op->name, get_site(&work, round.stage)->asked.spec);
}

/* How many calls a group of so many bytes makes. */
static double
calls_of(const Aggref *aggref, double bytes)
{
	LlmTexts texts = {0};
	const LlmAggregateArgs *signature = &texts.signature;
	double parts;
	Work work;

	llm_collect_signature(aggref->aggfnoid, &texts.signature);
	for (int i = 1; i < signature->nargs && i < list_length(aggref->args); i++)
	{
		const Const *value = (const Const *) list_nth_node(TargetEntry, aggref->args, i)->expr;

		if (!IsA(value, Const))
			return 1;
		if (!value->constisnull)
			llm_argument_set(&texts.args, signature->args[i], value->constvalue);
	}
	begin_work(&work, &texts);
	parts = ceil(bytes * LLM_PARTS_BYTE / work.budget);
	return parts > 1 ? parts + 1 : 1;
}

void
llm_ask_aggregate_forecast(const Aggref *aggref, double groups, double bytes, LlmForecastAsk *ask)
{
	FuncExpr *call = makeNode(FuncExpr);

	call->funcid = aggref->aggfnoid;
	foreach_node(TargetEntry, entry, aggref->args)
		call->args = lappend(call->args, entry->expr);
	llm_forecast_call(call, groups, bytes, ask);
	ask->calls = groups * calls_of(aggref, bytes);
}

/*
 * The function
 */

/* The answer about what was collected, in the current context, also for a node above it; false: NULL. */
static bool
answer(const char *bytes, Size len, Oid function, int location, bool in_node, text **result)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich aggregate", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	LlmTexts texts;
	LlmItem item;
	bool found = false;
	Work work;

	llm_collect_read(bytes, len, &texts);
	if (llm_call_is_measured())
		measure(&texts, function, location);
	else
	{
		llm_ask_frame_check(texts.signature.name, LLM_FRAME_AGGREGATE);
		llm_call_check_server();
		begin_work(&work, &texts);
		work.ring = llm_ask_ring_make(scratch);
		work.meanwhile = in_node ? llm_ask_ring_go_on : NULL;
		found = answer_texts(&work, &item);
	}
	MemoryContextSwitchTo(caller);
	if (found)
		*result = cstring_to_text_with_len(item.str, item.len);
	MemoryContextDelete(scratch);
	return found;
}

/*
 * SQL: llm.agg_answer(collected) → the answer, the final function of llm_agg() and its like;
 * called by a node above the aggregate, too.
 */
Datum
llm_enrich_agg_answer(PG_FUNCTION_ARGS)
{
	bool is_final = AggCheckCallContext(fcinfo, NULL) != 0;
	Aggref *aggref = is_final ? AggGetAggref(fcinfo) : NULL;
	text *result;

	llm_shmem_require_preload();
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (is_final)
	{
		const LlmCollected *collected = (const LlmCollected *) PG_GETARG_POINTER(0);
		const StringInfoData *bytes = &collected->bytes;

		if (aggref != NULL && aggref->location == LLM_AGGREGATE_COLLECTS)
			PG_RETURN_TEXT_P(cstring_to_text_with_len(bytes->data, bytes->len));
		if (!answer(bytes->data, bytes->len, aggref == NULL ? InvalidOid : aggref->aggfnoid,
					aggref == NULL ? -1 : aggref->location, false, &result))
			PG_RETURN_NULL();
	}
	else
	{
		text *collected = PG_GETARG_TEXT_PP(0);
		Node *expr = fcinfo->flinfo->fn_expr;
		int location = expr != NULL && IsA(expr, FuncExpr) ? ((FuncExpr *) expr)->location : -1;
		Oid aggregate;

		memcpy(&aggregate, VARDATA_ANY(collected), sizeof(Oid));
		if (!answer(VARDATA_ANY(collected), VARSIZE_ANY_EXHDR(collected), aggregate, location, true, &result))
			PG_RETURN_NULL();
	}
	PG_RETURN_TEXT_P(result);
}
