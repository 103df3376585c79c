/*-------------------------------------------------------------------------
 *
 * bill.c
 *	  Groups of the bill: rows of the sums, added up by the words that are asked for.
 *
 * Most groups have one row or few: the first amount of a group is kept as it is, an amount of zero
 * not at all, and numbers are added only where there are two.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/varlena.h"

#include "base/json.h"
#include "tables/bill.h"

/* Columns of llm.bill(), from 0. */
#define TAGS_COLUMN (LLM_BILL_TIMES + LLM_BILL_WORDS)
#define COUNTS_COLUMN (TAGS_COLUMN + 1)

/* Among the counts. */
#define ROWS_DONE 2

#define FIRST_SIZE 64
#define NOBODY (-1)

/* Digits behind the point of a cost for one row. */
#define SCALE_PER_ROW 12

/* A hash table of entries that are known by number and begin with a link: the first of each chain. */
typedef struct Chains
{
	int *first; /* "size" of them, a power of two */
	int size;
} Chains;

typedef struct Link
{
	uint32 hash;
	int next;
} Link;

typedef struct Word
{
	Link link;
	struct varlena *bytes;
	int meaning; /* of tags as they are stored: number of those that are asked for */
	int rank; /* below zero: the emission that has met it last */
} Word;

typedef struct Dictionary
{
	Chains chains;
	Word *words; /* room for as many as there are chains */
	int n;
} Dictionary;

typedef struct Group
{
	Link link;
	int words[LLM_BILL_WORDS + 1]; /* NOBODY: NULL */
	int64 counts[LLM_BILL_COUNTS];
	struct varlena *amounts[LLM_BILL_AMOUNTS]; /* NULL: nothing, or zero */
	bool priced; /* some row had a cost */
} Group;

struct LlmBillGroups
{
	MemoryContext context; /* words */
	MemoryContext amounts; /* until the next emit() */
	int column[LLM_BILL_WORDS];
	int nwords; /* without the tags */
	int nkeys; /* with them */
	char **tags;
	int ntags;
	Dictionary dictionaries[LLM_BILL_WORDS + 1];
	Dictionary stored_tags;
	Chains chains;
	Group *groups; /* room for as many as there are chains */
	int n;
	int emission; /* each is one less, below zero */
	Datum zero;
};

static void
chains_clear(Chains *chains)
{
	for (int i = 0; i < chains->size; i++)
		chains->first[i] = NOBODY;
}

static void
chains_start(Chains *chains, int size)
{
	chains->size = size;
	chains->first = palloc_array(int, size);
	chains_clear(chains);
}

static inline int *
chain_of(Chains *chains, uint32 hash)
{
	return &chains->first[hash & (uint32) (chains->size - 1)];
}

static inline void
chains_add(Chains *chains, Link *link, int number)
{
	int *chain = chain_of(chains, link->hash);

	link->next = *chain;
	*chain = number;
}

/* Room for twice as many entries as the "n" there are, each of so many bytes; they are returned. */
static void *
chains_grow(Chains *chains, void *entries, Size bytes, int n)
{
	pfree(chains->first);
	chains->size *= 2;
	chains->first = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * (Size) chains->size);
	chains_clear(chains);
	entries = repalloc_huge(entries, bytes * (Size) n * 2);
	for (int i = 0; i < n; i++)
		chains_add(chains, (Link *) ((char *) entries + bytes * (Size) i), i);
	return entries;
}

static void
dictionary_start(Dictionary *dictionary)
{
	chains_start(&dictionary->chains, FIRST_SIZE);
	dictionary->words = palloc_array(Word, FIRST_SIZE);
}

/* The number of a word; one that was not met before is copied, and "is_new" set. */
static int
look_up(Dictionary *dictionary, const struct varlena *bytes, bool *is_new)
{
	const char *str = VARDATA_ANY(bytes);
	Size len = VARSIZE_ANY_EXHDR(bytes);
	uint32 hash = hash_bytes((const unsigned char *) str, (int) len);
	Word *word;

	for (int i = *chain_of(&dictionary->chains, hash); i != NOBODY; i = dictionary->words[i].link.next)
	{
		word = &dictionary->words[i];
		if (word->link.hash == hash && VARSIZE(word->bytes) - VARHDRSZ == len &&
			memcmp(VARDATA(word->bytes), str, len) == 0)
		{
			*is_new = false;
			return i;
		}
	}
	if (dictionary->n == dictionary->chains.size)
		dictionary->words = chains_grow(&dictionary->chains, dictionary->words, sizeof(Word), dictionary->n);
	word = &dictionary->words[dictionary->n];
	word->link.hash = hash;
	word->bytes = palloc(VARHDRSZ + len);
	SET_VARSIZE(word->bytes, VARHDRSZ + len);
	memcpy(VARDATA(word->bytes), str, len);
	word->rank = 0;
	word->meaning = NOBODY;
	chains_add(&dictionary->chains, &word->link, dictionary->n);
	*is_new = true;
	return dictionary->n++;
}

static int
look_up_datum(Dictionary *dictionary, Datum datum, bool *is_new)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(datum);
	int number = look_up(dictionary, bytes, is_new);

	if (PointerGetDatum(bytes) != datum)
		pfree(bytes);
	return number;
}

LlmBillGroups *
llm_bill_create(const int *words, int nwords, char **tags, int ntags)
{
	LlmBillGroups *groups = palloc0_object(LlmBillGroups);

	Assert(nwords <= LLM_BILL_WORDS);
	groups->context = CurrentMemoryContext;
	groups->amounts = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich bill", ALLOCSET_DEFAULT_SIZES);
	memcpy(groups->column, words, sizeof(int) * (size_t) nwords);
	groups->nwords = nwords;
	groups->nkeys = nwords + (ntags > 0 ? 1 : 0);
	groups->tags = tags;
	groups->ntags = ntags;
	for (int i = 0; i < groups->nkeys; i++)
		dictionary_start(&groups->dictionaries[i]);
	dictionary_start(&groups->stored_tags);
	chains_start(&groups->chains, FIRST_SIZE);
	groups->groups = palloc_array(Group, FIRST_SIZE);
	groups->zero = NumericGetDatum(int64_to_numeric(0));
	return groups;
}

/* Of tags as they are stored, or none, those that are asked for: an object that has each of them, or null. */
static int
look_up_asked(LlmBillGroups *groups, Jsonb *stored)
{
	JsonbPair *pairs = palloc_array(JsonbPair, groups->ntags);
	JsonbValue tree;
	JsonbValue object;
	bool is_new;

	if (stored != NULL && !llm_json_tree(stored, &tree))
		elog(ERROR, "tags nest too deep");
	for (int i = 0; i < groups->ntags; i++)
	{
		JsonbValue *tag = stored == NULL ? NULL : llm_json_get(&tree, groups->tags[i]);
		JsonbValue none = {.type = jbvNull};

		llm_json_set_pair(&pairs[i], groups->tags[i], tag == NULL ? none : *tag);
	}
	object = llm_json_make_object(pairs, groups->ntags);
	return look_up(&groups->dictionaries[groups->nwords], (struct varlena *) llm_json_store(&object), &is_new);
}

/* Tags that were met before are not parsed again. */
static int
number_of_tags(LlmBillGroups *groups, Datum tags, bool isnull)
{
	bool is_new;
	int i;

	if (isnull)
		return look_up_asked(groups, NULL);
	i = look_up_datum(&groups->stored_tags, tags, &is_new);
	if (is_new)
		groups->stored_tags.words[i].meaning = look_up_asked(groups, (Jsonb *) groups->stored_tags.words[i].bytes);
	return groups->stored_tags.words[i].meaning;
}

static Group *
find_group(LlmBillGroups *groups, const int *words)
{
	size_t len = sizeof(int) * (size_t) groups->nkeys;
	uint32 hash = hash_bytes((const unsigned char *) words, (int) len);
	Group *group;

	for (int i = *chain_of(&groups->chains, hash); i != NOBODY; i = group->link.next)
	{
		group = &groups->groups[i];
		if (group->link.hash == hash && memcmp(group->words, words, len) == 0)
			return group;
	}
	if (groups->n == groups->chains.size)
		groups->groups = chains_grow(&groups->chains, groups->groups, sizeof(Group), groups->n);
	group = &groups->groups[groups->n];
	memset(group, 0, sizeof(Group));
	memcpy(group->words, words, len);
	group->link.hash = hash;
	chains_add(&groups->chains, &group->link, groups->n++);
	return group;
}

static bool
is_zero(LlmBillGroups *groups, const struct varlena *amount)
{
	const struct varlena *zero = (const struct varlena *) DatumGetPointer(groups->zero);
	Size len = VARSIZE_ANY_EXHDR(zero);

	return VARSIZE_ANY_EXHDR(amount) == len && memcmp(VARDATA_ANY(amount), VARDATA_ANY(zero), len) == 0;
}

static void
add_amount(LlmBillGroups *groups, struct varlena **sum, Datum value)
{
	struct varlena *amount = PG_DETOAST_DATUM_PACKED(value);
	MemoryContext caller;

	if (is_zero(groups, amount))
		return;
	caller = MemoryContextSwitchTo(groups->amounts);
	if (*sum == NULL)
		*sum = PG_DETOAST_DATUM_COPY(value);
	else
	{
		/* numeric_add() would make this copy, too, and leave it there for each row */
		Datum whole = NumericGetDatum(DatumGetNumeric(value));
		Datum both = DirectFunctionCall2(numeric_add, PointerGetDatum(*sum), whole);

		if (DatumGetPointer(whole) != DatumGetPointer(value))
			pfree(DatumGetPointer(whole));
		pfree(*sum);
		*sum = (struct varlena *) DatumGetPointer(both);
	}
	MemoryContextSwitchTo(caller);
}

void
llm_bill_add(LlmBillGroups *groups, const Datum *values, const bool *nulls)
{
	MemoryContext caller = MemoryContextSwitchTo(groups->context);
	int words[LLM_BILL_WORDS + 1];
	bool is_new;
	Group *group;

	for (int i = 0; i < groups->nwords; i++)
		words[i] = nulls[i] ? NOBODY : look_up_datum(&groups->dictionaries[i], values[i], &is_new);
	if (groups->ntags > 0)
		words[groups->nwords] = number_of_tags(groups, values[groups->nwords], nulls[groups->nwords]);
	group = find_group(groups, words);
	MemoryContextSwitchTo(caller);

	values += groups->nkeys;
	nulls += groups->nkeys;
	for (int i = 0; i < LLM_BILL_COUNTS; i++)
	{
		if (!nulls[i] && pg_add_s64_overflow(group->counts[i], DatumGetInt64(values[i]), &group->counts[i]))
			ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("a sum of llm.bill() is out of range for type bigint")));
	}
	values += LLM_BILL_COUNTS;
	nulls += LLM_BILL_COUNTS;
	group->priced = group->priced || !nulls[0];
	for (int i = 0; i < LLM_BILL_AMOUNTS; i++)
	{
		if (!nulls[i])
			add_amount(groups, &group->amounts[i], values[i]);
	}
}

/* A word that is put in order; of tags what they are. */
typedef struct Ranked
{
	Word *word;
	JsonbValue **tags;
} Ranked;

static int
compare_texts(const void *a, const void *b, void *arg)
{
	const struct varlena *left = ((const Ranked *) a)->word->bytes;
	const struct varlena *right = ((const Ranked *) b)->word->bytes;

	(void) arg;
	return varstr_cmp(VARDATA(left), (int) (VARSIZE(left) - VARHDRSZ), VARDATA(right),
					  (int) (VARSIZE(right) - VARHDRSZ), DEFAULT_COLLATION_OID);
}

/* Tags in the order in which they are asked for; what has none comes last. */
static int
compare_tags(const void *a, const void *b, void *arg)
{
	const LlmBillGroups *groups = arg;
	int order = 0;

	for (int i = 0; i < groups->ntags && order == 0; i++)
	{
		const JsonbValue *left = ((const Ranked *) a)->tags[i];
		const JsonbValue *right = ((const Ranked *) b)->tags[i];

		if (left->type == jbvNull || right->type == jbvNull)
			order = (left->type == jbvNull) - (right->type == jbvNull);
		else if (left->type == jbvString && right->type == jbvString)
			order = varstr_cmp(left->val.string.val, left->val.string.len, right->val.string.val, right->val.string.len,
							   DEFAULT_COLLATION_OID);
		else
			order = llm_json_compare(left, right);
	}
	return order;
}

static JsonbValue **
read_tags(const LlmBillGroups *groups, const Word *word)
{
	JsonbValue **tags = palloc_array(JsonbValue *, groups->ntags);
	JsonbValue tree;

	if (!llm_json_tree((Jsonb *) word->bytes, &tree))
		elog(ERROR, "tags nest too deep");
	for (int i = 0; i < groups->ntags; i++)
	{
		tags[i] = llm_json_get(&tree, groups->tags[i]);
		if (tags[i] == NULL)
			elog(ERROR, "an object of the tags asked for has not all of them");
	}
	return tags;
}

/* Those words of a column that the groups have, which may be few of all that were met. */
static void
rank_words(LlmBillGroups *groups, int key)
{
	Dictionary *dictionary = &groups->dictionaries[key];
	bool are_tags = key == groups->nwords;
	Ranked *ranked = palloc_array(Ranked, dictionary->n + 1);
	int n = 0;

	for (int i = 0; i < groups->n; i++)
	{
		int number = groups->groups[i].words[key];
		Word *word = number == NOBODY ? NULL : &dictionary->words[number];

		if (word == NULL || word->rank == groups->emission)
			continue;
		word->rank = groups->emission;
		ranked[n].word = word;
		ranked[n].tags = are_tags ? read_tags(groups, word) : NULL;
		n++;
	}
	qsort_arg(ranked, (size_t) n, sizeof(Ranked), are_tags ? compare_tags : compare_texts, groups);
	for (int i = 0; i < n; i++)
		ranked[i].word->rank = i;
}

static int
compare_groups(const void *a, const void *b, void *arg)
{
	LlmBillGroups *groups = arg;
	const Group *left = &groups->groups[*(const int *) a];
	const Group *right = &groups->groups[*(const int *) b];

	for (int i = 0; i < groups->nkeys; i++)
	{
		int one = left->words[i];
		int other = right->words[i];

		if (one == other)
			continue;
		if (one == NOBODY || other == NOBODY)
			return one == NOBODY ? 1 : -1;
		return groups->dictionaries[i].words[one].rank < groups->dictionaries[i].words[other].rank ? -1 : 1;
	}
	return 0;
}

/* As it is shown, in "column". */
static void
put_amount(LlmBillGroups *groups, const struct varlena *amount, int column, Datum *values)
{
	if (amount == NULL)
		values[column] = groups->zero;
	else
		values[column] = DirectFunctionCall1(numeric_trim_scale, PointerGetDatum(amount));
}

static Datum
per_row(const struct varlena *cost, int64 rows)
{
	Datum each = DirectFunctionCall2(numeric_div, PointerGetDatum(cost), NumericGetDatum(int64_to_numeric(rows)));

	each = DirectFunctionCall2(numeric_round, each, Int32GetDatum(SCALE_PER_ROW));
	return DirectFunctionCall1(numeric_trim_scale, each);
}

static void
put_group(LlmBillGroups *groups, const Group *group, Datum *values, bool *nulls)
{
	int64 done = group->counts[ROWS_DONE];
	int column = COUNTS_COLUMN;

	memset(nulls, true, sizeof(bool) * LLM_BILL_COLUMNS);
	for (int i = 0; i < groups->nkeys; i++)
	{
		int to = i < groups->nwords ? groups->column[i] : TAGS_COLUMN;

		if (group->words[i] == NOBODY)
			continue;
		nulls[to] = false;
		values[to] = PointerGetDatum(groups->dictionaries[i].words[group->words[i]].bytes);
	}
	/* rows without a price stand behind the amounts */
	memset(nulls + COUNTS_COLUMN, false, sizeof(bool) * (LLM_BILL_COLUMNS - COUNTS_COLUMN));
	for (int i = 0; i < LLM_BILL_COUNTS - 1; i++)
		values[column++] = Int64GetDatum(group->counts[i]);
	nulls[column] = !group->priced;
	put_amount(groups, group->amounts[0], column++, values);
	nulls[column] = !group->priced || done <= 0;
	if (!nulls[column])
		values[column] = group->amounts[0] == NULL ? groups->zero : per_row(group->amounts[0], done);
	column++;
	for (int i = 1; i < LLM_BILL_AMOUNTS; i++)
		put_amount(groups, group->amounts[i], column++, values);
	values[column++] = Int64GetDatum(group->counts[LLM_BILL_COUNTS - 1]);
	Assert(column == LLM_BILL_COLUMNS);
}

void
llm_bill_emit(LlmBillGroups *groups, LlmBillRow row, void *arg)
{
	MemoryContext work = AllocSetContextCreate(groups->context, "llm_enrich bill order", ALLOCSET_DEFAULT_SIZES);
	MemoryContext each = AllocSetContextCreate(work, "llm_enrich bill row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(work);
	int *order = MemoryContextAllocHuge(work, sizeof(int) * ((Size) groups->n + 1));

	groups->emission--;
	for (int i = 0; i < groups->nkeys; i++)
		rank_words(groups, i);
	for (int i = 0; i < groups->n; i++)
		order[i] = i;
	qsort_arg(order, (size_t) groups->n, sizeof(int), compare_groups, groups);
	MemoryContextSwitchTo(each);
	for (int i = 0; i < groups->n; i++)
	{
		Datum values[LLM_BILL_COLUMNS] = {0};
		bool nulls[LLM_BILL_COLUMNS];

		CHECK_FOR_INTERRUPTS();
		put_group(groups, &groups->groups[order[i]], values, nulls);
		row(values, nulls, arg);
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
	MemoryContextReset(groups->amounts);
	groups->n = 0;
	chains_clear(&groups->chains);
}
