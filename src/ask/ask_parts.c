/*-------------------------------------------------------------------------
 *
 * ask_parts.c
 *	  Which of an aggregate's texts are asked about together.
 *
 * How much fits is estimated, since only the host can count its tokens.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "ask/ask_parts.h"
#include "base/compat.h"
#include "base/guc.h"
#include "base/json.h"
#include "catalog/catalog_target.h"

/* Tokens of input that fit a model of which that is not known.  Local servers have few. */
#define UNKNOWN_CONTEXT 16000

/* Of a model's context: what the texts may fill, the rest being for what estimates are wrong by. */
#define FILLED_PERCENT 97

/* Our words around the texts take no more, but for the instruction. */
#define FRAME_TOKENS 250

/* There is always room for so much. */
#define LEAST_TOKENS 200

#define TOKEN 40

/* More than one token to a character that is not of ASCII. */
#define OTHER_UNITS 44

/* The quotes of a text, comma and line feed. */
#define ITEM_UNITS (4 * LLM_PARTS_BYTE)

/* Parts of about the same size differ by this share of what fits. */
#define EVEN_SLACK 50

/* A text that is too long is not cut below this. */
#define LEAST_CUT 16

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
			units += (c == '"' || c == '\\' || c == '\n' || c == '\t') ? 2 * LLM_PARTS_BYTE : LLM_PARTS_BYTE;
	}
	return units;
}

int64
llm_parts_budget(const LlmCallSite *site, const LlmCallArgs *args)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich context", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	const LlmRecipe *recipe = llm_operation_load(0, site->op->name, site->asked.spec);
	text *instruction = llm_argument_text(args, LLM_ARG_INSTRUCTION);
	int64 answer = 0;
	int64 tokens;

	tokens = llm_catalog_target(llm_guc_model_or(site->asked.model), GetUserId())->context_tokens;
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
			units += (c == '"' || c == '\\' || c == '\n' || c == '\t') ? 2 * LLM_PARTS_BYTE : LLM_PARTS_BYTE;
		at++;
	}
	return at >= len ? len : Max(cut_before(str, at - 1), 1);
}

LlmItem *
llm_parts_cut(const LlmItem *items, int *n, int64 budget)
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

/* Divide texts, in their order, into parts of at most so many units, as each text alone has; a list of LlmPart. */
static List *
divide_by(LlmItem *items, int n, int64 most)
{
	List *parts = NIL;
	LlmPart *part = NULL;
	int64 units = 0;

	for (int i = 0; i < n; i++)
	{
		if (part == NULL || units + items[i].units > most)
		{
			part = palloc(sizeof(LlmPart));
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

/* Of about the same size, so that the last is no small rest. */
List *
llm_parts_divide(LlmItem *items, int n, int64 budget)
{
	List *fewest = divide_by(items, n, budget);
	int64 all = 0;
	List *even;

	for (int i = 0; i < n; i++)
		all += items[i].units;
	even = divide_by(items, n, Min(budget, all / Max(list_length(fewest), 1) + budget / EVEN_SLACK));
	return list_length(even) > list_length(fewest) ? fewest : even;
}

List *
llm_parts_halve(const LlmPart *part)
{
	LlmPart *first = palloc(sizeof(LlmPart));
	LlmPart *second = palloc(sizeof(LlmPart));

	if (part->n > 1)
	{
		*first = (LlmPart){part->items, part->n / 2};
		*second = (LlmPart){part->items + part->n / 2, part->n - part->n / 2};
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

text *
llm_parts_input(const LlmPart *part)
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

/* A part of one text may be cut into pieces of some bytes. */
int
llm_parts_most_answers(const List *parts)
{
	int64 most = 0;

	foreach_ptr(const LlmPart, part, parts)
	{
		for (int i = 0; i < part->n; i++)
			most += 1 + part->items[i].len / LEAST_CUT;
	}
	return (int) Min(most, MaxAllocSize / sizeof(LlmItem));
}
