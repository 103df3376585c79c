/*-------------------------------------------------------------------------
 *
 * measure.c
 *	  What the calls of a statement would ask, counted while it is read.
 *
 * The same question about the same text is asked once, in whatever column it stands: texts
 * are known again by 64 bits of a hash, in as much memory as a hash table may have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/nodeHash.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "estimate/measure.h"
#include "operation/input.h"

/* Bytes that a text takes in the table, about. */
#define TEXT_BYTES 64

/* Questions that are told apart; those beyond go with the last. */
#define MOST_QUESTIONS 200

/* Kept answers that are looked up before some stand for others. */
#define MOST_LOOKED_UP 4096

/* A text that a question was about. */
typedef struct TextKey
{
	uint64 hash;
	uint32 question;
	uint32 unused;
} TextKey;

typedef struct Text
{
	TextKey key; /* must be first */
	LlmMeasuredPart *part; /* that it came to first */
	bool again; /* it came once more */
} Text;

LlmMeasure *
llm_measure_make(void)
{
	LlmMeasure *measure = palloc0(sizeof(LlmMeasure));
	HASHCTL control = {0};

	measure->context = CurrentMemoryContext;
	control.keysize = sizeof(TextKey);
	control.entrysize = sizeof(Text);
	control.hcxt = CurrentMemoryContext;
	measure->texts = hash_create("llm_enrich texts", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	measure->most_texts = (long) Max(get_hash_memory_limit() / TEXT_BYTES, 1024);
	return measure;
}

LlmMeasuredSite *
llm_measure_site(LlmMeasure *measure, int location, Oid function)
{
	LlmMeasuredSite *site = measure->last;
	MemoryContext saved;
	ListCell *cell;

	if (site != NULL && site->location == location && site->function == function)
		return site;
	foreach(cell, measure->sites)
	{
		site = lfirst(cell);
		if (site->location == location && site->function == function)
			return site;
	}
	saved = MemoryContextSwitchTo(measure->context);
	site = palloc0(sizeof(LlmMeasuredSite));
	site->location = location;
	site->function = function;
	measure->sites = lappend(measure->sites, site);
	MemoryContextSwitchTo(saved);
	return site;
}

static bool
is_same_question(const LlmMeasuredQuestion *question, const LlmMeasuredCall *call)
{
	return question->op == call->op && strcmp(question->model, call->model == NULL ? "" : call->model) == 0 &&
		   VARSIZE(question->spec) == VARSIZE(call->spec) &&
		   memcmp(question->spec, call->spec, VARSIZE(call->spec)) == 0;
}

/* The question, noted when it is new.  In the measure's context. */
static const LlmMeasuredQuestion *
find_question(LlmMeasure *measure, const LlmMeasuredCall *call)
{
	LlmMeasuredQuestion *question = NULL;
	ListCell *cell;

	foreach(cell, measure->questions)
	{
		question = lfirst(cell);
		if (is_same_question(question, call))
			return question;
	}
	if (question != NULL && list_length(measure->questions) >= MOST_QUESTIONS)
		return question;
	question = palloc0(sizeof(LlmMeasuredQuestion));
	question->number = list_length(measure->questions) + 1;
	question->op = call->op;
	question->spec = DatumGetJsonbPCopy(JsonbPGetDatum(call->spec));
	question->model = pstrdup(call->model == NULL ? "" : call->model);
	question->is_shareable = call->is_shareable;
	measure->questions = lappend(measure->questions, question);
	return question;
}

/* Whose answers may be kept is the role that would ask. */
static LlmKeptShare *
make_kept(const LlmMeasuredQuestion *question)
{
	LlmKeptAsker asker = {question->op, question->spec, question->model[0] == '\0' ? NULL : question->model,
						  GetUserId()};

	return llm_kept_share_make(&asker, MOST_LOOKED_UP);
}

static LlmMeasuredPart *
find_part(LlmMeasure *measure, LlmMeasuredSite *site, const LlmMeasuredCall *call)
{
	const LlmMeasuredQuestion *question;
	LlmMeasuredPart *part;
	ListCell *cell;

	/* mostly that of the row before */
	if (site->parts != NIL)
	{
		part = llast(site->parts);
		if (is_same_question(part->question, call))
			return part;
	}
	question = find_question(measure, call);
	foreach(cell, site->parts)
	{
		part = lfirst(cell);
		if (part->question == question)
			return part;
	}
	part = palloc0(sizeof(LlmMeasuredPart));
	part->question = question;
	part->kept = make_kept(question);
	site->parts = lappend(site->parts, part);
	return part;
}

/* What a text is billed by: within a body it is escaped, and a vector is made of it as it is. */
static Size
billed_bytes(const LlmMeasuredCall *call, Size *ascii)
{
	const char *str = VARDATA_ANY(call->input);
	Size len = VARSIZE_ANY_EXHDR(call->input);
	Size bytes = llm_measure_escaped(str, len, ascii);

	if (call->op->kind != LLM_REQUEST_EMBED)
		return bytes;
	*ascii -= bytes - len;
	return len;
}

Size
llm_measure_escaped(const char *str, Size len, Size *ascii)
{
	Size bytes = len;
	Size plain = 0;

	for (Size i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) str[i];

		plain += c < 0x80;
		if (c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t')
			bytes += 1;
		else if (c < 0x20)
			bytes += 5;
	}
	*ascii = plain + (bytes - len);
	return bytes;
}

/* Is it the first time that this is asked?  Counts how many texts came once. */
static bool
is_new(LlmMeasure *measure, LlmMeasuredPart *part, const char *str, Size len)
{
	TextKey key = {0};
	Text *seen;
	bool found;

	if (!part->question->is_shareable)
		return true;
	key.hash = hash_bytes_extended((const unsigned char *) str, (int) len, 0);
	key.question = part->question->number;
	if (hash_get_num_entries(measure->texts) >= measure->most_texts)
	{
		seen = hash_search(measure->texts, &key, HASH_FIND, NULL);
		if (seen == NULL)
			return true;
		found = true;
	}
	else
		seen = hash_search(measure->texts, &key, HASH_ENTER, &found);
	if (!found)
	{
		seen->part = part;
		seen->again = false;
		part->once++;
		return true;
	}
	if (!seen->again)
	{
		seen->part->once--;
		seen->again = true;
	}
	return false;
}

void
llm_measure_tell(const LlmMeasuredCall *call, void *arg)
{
	LlmMeasure *measure = arg;
	MemoryContext saved = MemoryContextSwitchTo(measure->context);
	LlmMeasuredSite *site = llm_measure_site(measure, call->location, call->function);
	LlmMeasuredPart *part;
	Size bytes;
	Size ascii;

	measure->last = site;
	site->op = call->op;
	if (call->input != NULL)
	{
		part = find_part(measure, site, call);
		part->tasks++;
		measure->rows++;
		if (!llm_input_is_blank(call->input))
		{
			part->asked++;
			if (is_new(measure, part, VARDATA_ANY(call->input), VARSIZE_ANY_EXHDR(call->input)))
			{
				bytes = billed_bytes(call, &ascii);
				if (part->kept != NULL)
					llm_kept_share_tell(part->kept, murmurhash32((uint32) part->calls), VARDATA_ANY(call->input),
										VARSIZE_ANY_EXHDR(call->input), bytes);
				part->calls++;
				part->bytes += bytes;
				part->ascii += ascii;
			}
		}
	}
	MemoryContextSwitchTo(saved);
}
