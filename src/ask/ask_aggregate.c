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
 * How much fits is estimated, since only the host can count its tokens.  What it refuses as
 * too long is halved and asked again.
 *
 * The final function answers.  Where a node stands above the aggregate (ask_plan.c), that
 * gives what it has collected instead, and the node posts the questions of the groups ahead
 * before it evaluates one.
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
#include "base/compat.h"
#include "base/guc.h"
#include "base/json.h"
#include "base/shmem.h"
#include "catalog/catalog_target.h"
#include "operation/aggregate.h"

/* Tokens of input that fit a model of which that is not known.  Local servers have few. */
#define UNKNOWN_CONTEXT 16000

/* Of a model's context: what the texts may fill, the rest being for what estimates are wrong by. */
#define FILLED_PERCENT 97

/* Our words around the texts take no more, but for the instruction. */
#define FRAME_TOKENS 250

/* There is always room for so much. */
#define LEAST_TOKENS 200

/*
 * Estimates: four bytes of ASCII to a token, and a little more than one token to any other
 * character.  In units of which 40 are a token.
 */
#define TOKEN 40
#define ASCII_UNITS 10
#define OTHER_UNITS 44

/* The quotes of a text, comma and line feed. */
#define ITEM_UNITS (4 * ASCII_UNITS)

/* Parts of about the same size differ by this share of what fits. */
#define EVEN_SLACK 50

/* A text that is too long is not cut below this. */
#define LEAST_CUT 16

/* Typical bytes of an answer that is still to come, for an estimate. */
#define ANSWER_BYTES 600

PG_FUNCTION_INFO_V1(llm_enrich_agg_answer);

/* Consecutive texts that are asked about together. */
typedef struct Part
{
	LlmItem *items;
	int n;
} Part;

/* What is asked about one group. */
typedef struct Work
{
	const LlmTexts *texts;
	LlmCallSite *sites[LLM_STAGES]; /* NULL: not needed yet */
	LlmAskRing *ring; /* of the letters that are posted while it is answered */
	int64 budget; /* units of the texts of a question */
} Work;

/*
 * How much fits
 */

static int64
units_of(const char *str, int len)
{
	int64 units = ITEM_UNITS;

	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) str[i];

		if (c >= 0xC0)
			units += OTHER_UNITS;
		else if (c < 0x80)
			units += (c == '"' || c == '\\' || c == '\n' || c == '\t') ? 2 * ASCII_UNITS : ASCII_UNITS;
	}
	return units;
}

/* Units of the texts of one question, by the model that is asked. */
static int64
find_budget(const LlmCallSite *site, const LlmCallArgs *args)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich context", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	const char *model = site->asked.model;
	const LlmRecipe *recipe = llm_operation_load(0, site->op->name, site->asked.spec);
	text *instruction = llm_argument_text(args, LLM_ARG_INSTRUCTION);
	int64 answer = 0;
	int64 tokens;

	if (model == NULL && llm_guc_model != NULL && llm_guc_model[0] != '\0')
		model = llm_guc_model;
	tokens = llm_catalog_target(model, GetUserId())->context_tokens;
	if (tokens == 0)
		tokens = UNKNOWN_CONTEXT;
	if (recipe != NULL)
		answer = recipe->params.max_tokens > 0 ? recipe->params.max_tokens : recipe->output_tokens;
	tokens = tokens * FILLED_PERCENT / 100 - Min(answer, tokens / 2) - FRAME_TOKENS;
	if (instruction != NULL)
		tokens -= units_of(VARDATA_ANY(instruction), VARSIZE_ANY_EXHDR(instruction)) / TOKEN;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	return Max(tokens, LEAST_TOKENS) * TOKEN;
}

/* The last place before "at" where a text may be cut: behind a blank, if there is one near. */
static int
cut_before(const char *str, int at)
{
	int cut = at;

	while (cut > at - at / 4 && str[cut - 1] != ' ' && str[cut - 1] != '\n')
		cut--;
	if (cut > at - at / 4)
		return cut;
	while (at > 1 && ((unsigned char) str[at] & 0xC0) == 0x80)
		at--;
	return at;
}

/* So many bytes of the text fit the budget; at least one character. */
static int
fitting_prefix(const char *str, int len, int64 budget)
{
	int64 units = ITEM_UNITS;
	int at = 0;

	while (at < len && units <= budget)
	{
		unsigned char c = (unsigned char) str[at];

		if (c >= 0xC0)
			units += OTHER_UNITS;
		else if (c < 0x80)
			units += (c == '"' || c == '\\' || c == '\n' || c == '\t') ? 2 * ASCII_UNITS : ASCII_UNITS;
		at++;
	}
	return at >= len ? len : Max(cut_before(str, at - 1), 1);
}

/* Texts in which those that do not fit alone are cut, with their units; *n is their number. */
static LlmItem *
cut_texts(const LlmItem *items, int *n, int64 budget)
{
	LlmItem *cut = palloc_extended(sizeof(LlmItem) * Max(*n, 1), MCXT_ALLOC_HUGE);
	int room = Max(*n, 1);
	int made = 0;

	for (int i = 0; i < *n; i++)
	{
		LlmItem rest = items[i];

		do
		{
			int64 units = units_of(rest.str, rest.len);
			int len = units <= budget ? rest.len : fitting_prefix(rest.str, rest.len, budget);

			if (made == room)
			{
				room *= 2;
				cut = repalloc_huge(cut, sizeof(LlmItem) * room);
			}
			cut[made++] = (LlmItem){rest.str, len, len == rest.len ? units : units_of(rest.str, len)};
			rest.str += len;
			rest.len -= len;
		} while (rest.len > 0);
	}
	*n = made;
	return cut;
}

/* Divide texts, in their order, into parts of at most so many units, as each text alone has; a list of Part. */
static List *
divide_by(LlmItem *items, int n, int64 most)
{
	List *parts = NIL;
	Part *part = NULL;
	int64 units = 0;

	for (int i = 0; i < n; i++)
	{
		if (part == NULL || units + items[i].units > most)
		{
			part = palloc(sizeof(Part));
			part->items = &items[i];
			part->n = 0;
			parts = lappend(parts, part);
			units = 0;
		}
		part->n++;
		units += items[i].units;
	}
	return parts;
}

/* Into as few parts as fit, of about the same size, so that the last is no small rest. */
static List *
divide(LlmItem *items, int n, int64 budget)
{
	List *fewest = divide_by(items, n, budget);
	int64 all = 0;
	List *even;

	for (int i = 0; i < n; i++)
		all += items[i].units;
	even = divide_by(items, n, Min(budget, all / Max(list_length(fewest), 1) + budget / EVEN_SLACK));
	return list_length(even) > list_length(fewest) ? fewest : even;
}

/* The two halves of a part that is too long; NIL: it is not to be divided. */
static List *
halve(const Part *part)
{
	Part *first = palloc(sizeof(Part));
	Part *second = palloc(sizeof(Part));

	if (part->n > 1)
	{
		*first = (Part){part->items, part->n / 2};
		*second = (Part){part->items + part->n / 2, part->n - part->n / 2};
	}
	else
	{
		const LlmItem *item = part->items;
		int at;

		if (item->len < 2 * LEAST_CUT)
			return NIL;
		at = cut_before(item->str, item->len / 2);
		first->n = second->n = 1;
		first->items = palloc(2 * sizeof(LlmItem));
		second->items = first->items + 1;
		first->items[0] = (LlmItem){item->str, at, 0};
		first->items[1] = (LlmItem){item->str + at, item->len - at, 0};
	}
	return list_make2(first, second);
}

/*
 * Asking
 */

/* The texts as what is asked about: a JSON array. */
static text *
make_input(const Part *part)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoSpaces(&buf, VARHDRSZ);
	appendStringInfoChar(&buf, '[');
	for (int i = 0; i < part->n; i++)
	{
		if (i > 0)
			appendStringInfoString(&buf, ",\n");
		llm_json_append_string(&buf, part->items[i].str, part->items[i].len);
	}
	appendStringInfoChar(&buf, ']');
	SET_VARSIZE(buf.data, buf.len);
	return (text *) buf.data;
}

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
	work->sites[stage] = site;
	return site;
}

static void
begin_work(Work *work, const LlmTexts *texts)
{
	memset(work, 0, sizeof(*work));
	work->texts = texts;
	work->budget = find_budget(get_site(work, LLM_STAGE_WHOLE), &texts->args);
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

/* Have on their way what may be, of the parts from the first on; how many were posted or passed over. */
static int
post_parts(Work *work, LlmCallSite *site, const List *parts, int from, text **inputs, LlmAhead **letters)
{
	int i = from;
	bool posted = false;

	for (; i < list_length(parts) && work->ring->open < llm_guc_max_in_flight; i++)
	{
		inputs[i] = make_input(list_nth(parts, i));
		letters[i] = llm_call_site_ahead(site, work->ring, inputs[i], true);
		posted = posted || letters[i] != NULL;
		if (letters[i] == NULL)
		{
			i++;
			break; /* no room, or it is there: one after the other */
		}
	}
	if (posted)
		llm_mailbox_wake_sender();
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
		answer = llm_call_site_ask(site, inputs[i], letters[i]);
		if (letters[i] != NULL)
			llm_ask_ring_release(work->ring, letters[i]);
		pfree(inputs[i]);
		if (answer != NULL)
			answers[(*n)++] = item_of(site, answer);
		else if (site->too_long)
		{
			const List *halves = halve(list_nth(parts, i));

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

/* So many answers there may be at most: a part of one text may be cut into pieces of some bytes. */
static int
most_answers(const List *parts)
{
	int64 most = 0;
	ListCell *cell;

	foreach(cell, parts)
	{
		const Part *part = lfirst(cell);

		for (int i = 0; i < part->n; i++)
			most += 1 + part->items[i].len / LEAST_CUT;
	}
	return (int) Min(most, MaxAllocSize / sizeof(LlmItem));
}

/* One question about all of it; NULL: there is no answer, and that will do, or it is too long. */
static Jsonb *
ask_one(Work *work, LlmStage stage, const Part *part)
{
	text *input = make_input(part);
	Jsonb *answer = llm_call_site_ask(get_site(work, stage), input, NULL);

	pfree(input);
	return answer;
}

/* The answer about all texts; false when there is none and that will do. */
static bool
answer_texts(Work *work, LlmItem *result)
{
	int n = work->texts->n;
	LlmItem *items = cut_texts(work->texts->items, &n, work->budget);
	List *parts = divide(items, n, work->budget);
	LlmStage one = LLM_STAGE_WHOLE;
	LlmStage many = LLM_STAGE_PART;

	for (;;)
	{
		LlmItem *answers;
		int before = n;

		if (list_length(parts) == 1)
		{
			LlmCallSite *site = get_site(work, one);
			Jsonb *answer = ask_one(work, one, linitial(parts));

			if (answer != NULL)
			{
				*result = item_of(site, answer);
				return true;
			}
			if (!site->too_long)
				return false;
			parts = halve(linitial(parts));
			if (parts == NIL)
				raise_too_long(site);
		}
		answers = palloc_extended(sizeof(LlmItem) * most_answers(parts), MCXT_ALLOC_HUGE);
		n = 0;
		if (!ask_parts(work, many, parts, answers, &n))
			return false;
		if (many == LLM_STAGE_JOIN && n >= before)
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("%s() got answers that are too long to be put together", work->texts->signature.name),
					 errhint("Ask for shorter ones in the instruction, or set \"max_tokens\" in the options.")));
		one = LLM_STAGE_LAST;
		many = LLM_STAGE_JOIN;
		items = cut_texts(answers, &n, work->budget / 2);
		parts = divide(items, n, work->budget);
	}
}

/*
 * Measuring
 */

/* What would be asked, as far as it is known before there are answers. */
static void
measure(const LlmTexts *texts, Oid function, int location)
{
	Work work;
	List *parts;
	ListCell *cell;
	LlmItem *items;
	int n = texts->n;
	LlmStage stage;

	begin_work(&work, texts);
	items = cut_texts(texts->items, &n, work.budget);
	parts = divide(items, n, work.budget);
	stage = list_length(parts) == 1 ? LLM_STAGE_WHOLE : LLM_STAGE_PART;
	foreach(cell, parts)
		llm_call_site_measure(get_site(&work, stage), function, location, make_input(lfirst(cell)));
	if (stage == LLM_STAGE_PART)
	{
		StringInfoData buf;

		initStringInfo(&buf);
		for (int i = 0; i < list_length(parts) * ANSWER_BYTES; i++)
			appendStringInfoChar(&buf, 'x');
		llm_call_site_measure(get_site(&work, LLM_STAGE_LAST), function, location,
							  cstring_to_text_with_len(buf.data, buf.len));
	}
}

double
llm_ask_aggregate_calls(const Aggref *aggref, double bytes)
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
	parts = ceil(bytes * ASCII_UNITS / work.budget);
	return parts > 1 ? parts + 1 : 1;
}

/*
 * The function
 */

void
llm_ask_aggregate_ahead(LlmAskRing *ring, FunctionCallInfo fcinfo, List **letters)
{
	text *collected = PG_GETARG_TEXT_PP(0);
	LlmTexts texts;
	LlmItem *items;
	LlmStage stage;
	List *parts;
	ListCell *cell;
	Work work;
	int n;

	llm_collect_read(VARDATA_ANY(collected), VARSIZE_ANY_EXHDR(collected), &texts);
	llm_ask_frame_check(texts.signature.name, LLM_FRAME_AGGREGATE);
	llm_call_check_server();
	begin_work(&work, &texts);
	n = texts.n;
	items = cut_texts(texts.items, &n, work.budget);
	parts = divide(items, n, work.budget);
	stage = list_length(parts) == 1 ? LLM_STAGE_WHOLE : LLM_STAGE_PART;
	foreach(cell, parts)
	{
		LlmAhead *ahead;

		if (ring->open >= llm_guc_max_in_flight)
			break;
		ahead = llm_call_site_ahead(get_site(&work, stage), ring, make_input(lfirst(cell)), false);
		if (ahead == NULL)
			break;
		*letters = lappend(*letters, ahead);
	}
}

/* The answer about what was collected, in the current context; false: NULL. */
static bool
answer(const char *bytes, Size len, Oid function, int location, text **result)
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
					aggref == NULL ? -1 : aggref->location, &result))
			PG_RETURN_NULL();
	}
	else
	{
		text *collected = PG_GETARG_TEXT_PP(0);
		Node *expr = fcinfo->flinfo->fn_expr;
		int location = expr != NULL && IsA(expr, FuncExpr) ? ((FuncExpr *) expr)->location : -1;
		Oid aggregate;

		memcpy(&aggregate, VARDATA_ANY(collected), sizeof(Oid));
		if (!answer(VARDATA_ANY(collected), VARSIZE_ANY_EXHDR(collected), aggregate, location, &result))
			PG_RETURN_NULL();
	}
	PG_RETURN_TEXT_P(result);
}
