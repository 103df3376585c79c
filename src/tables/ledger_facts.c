/*-------------------------------------------------------------------------
 *
 * ledger_facts.c
 *	  What rows of the ledger take from the job and from the price.
 *
 * These columns of llm.job are never rewritten, nor is a price: so they are read once
 * and kept, a bounded number of them, as long as nothing changes the tables as a whole:
 * after TRUNCATE, for instance, numbers may begin again.  What is paid is booked, too, when the row
 * of a job that is known was deleted meanwhile.
 *
 * Prices are per million tokens; multiplying by 0.000001 keeps numeric exact where a
 * division would round.  A price that a model does not have (cached input, cache writes)
 * is that of plain input.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "base/spi.h"
#include "tables/ledger_facts.h"

/* Jobs or prices that are kept; with more of them all are read again. */
#define FACTS_KEPT 1000

/* The kinds of tokens that have a price of their own: numeric, US dollars per million. */
enum
{
	PRICE_INPUT,
	PRICE_CACHED,
	PRICE_CACHE_WRITE,
	PRICE_OUTPUT,
	PRICES,
	PRICE_TIERS = PRICES, /* numeric[]: of each tier the bound and the four prices, the highest first; NULL: none */
	PRICE_SERVICE_TIERS, /* the same of service tiers */
	PRICE_SERVICE_NAMES, /* text[]: the words of these, in lower case */
	PRICE_COLUMNS
};

StaticAssertDecl((int) PRICE_COLUMNS <= (int) LLM_JOB_FACTS, "prices have room where a job's facts have");

static LlmStatement job_statement = {
	.sql = "SELECT j.id, j.role_name, j.application_name, NULLIF(j.relation_name, ''), NULLIF(j.column_name, ''),"
		   "  j.operation, j.tags, CASE WHEN j.hides_key THEN '' END FROM llm.job j WHERE j.id = ANY ($1)",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

static LlmStatement price_statement = {
	.sql = "SELECT p.id, p.input_per_mtok, COALESCE(p.cached_input_per_mtok, p.input_per_mtok),"
		   "  COALESCE(p.cache_write_per_mtok, p.input_per_mtok), p.output_per_mtok,"
		   "  (SELECT array_agg(x.v ORDER BY (t->'above_tokens')::numeric DESC, x.n)"
		   "   FROM (SELECT e.t FROM jsonb_array_elements(p.tiers) e(t) WHERE NOT e.t ? 'service_tier') e,"
		   "   LATERAL (VALUES (0, (t->'above_tokens')::numeric),"
		   "    (1, COALESCE((t->'input_per_mtok')::numeric, p.input_per_mtok)),"
		   "    (2, COALESCE((t->'cached_input_per_mtok')::numeric, p.cached_input_per_mtok,"
		   "     (t->'input_per_mtok')::numeric, p.input_per_mtok)),"
		   "    (3, COALESCE((t->'cache_write_per_mtok')::numeric, p.cache_write_per_mtok,"
		   "     (t->'input_per_mtok')::numeric, p.input_per_mtok)),"
		   "    (4, COALESCE((t->'output_per_mtok')::numeric, p.output_per_mtok))) x(n, v)),"
		   "  (SELECT array_agg(x.v ORDER BY (t->'above_tokens')::numeric DESC NULLS LAST, e.place, x.n)"
		   "   FROM jsonb_array_elements(p.tiers) WITH ORDINALITY e(t, place), LATERAL (VALUES"
		   "    (0, COALESCE((t->'above_tokens')::numeric, -1::numeric)),"
		   "    (1, COALESCE((t->'input_per_mtok')::numeric, p.input_per_mtok)),"
		   "    (2, COALESCE((t->'cached_input_per_mtok')::numeric, (t->'input_per_mtok')::numeric,"
		   "     p.cached_input_per_mtok, p.input_per_mtok)),"
		   "    (3, COALESCE((t->'cache_write_per_mtok')::numeric, (t->'input_per_mtok')::numeric,"
		   "     p.cache_write_per_mtok, p.input_per_mtok)),"
		   "    (4, COALESCE((t->'output_per_mtok')::numeric, p.output_per_mtok))) x(n, v) WHERE t ? 'service_tier'),"
		   "  (SELECT array_agg(lower(t->>'service_tier') ORDER BY (t->'above_tokens')::numeric DESC NULLS LAST, e.place)"
		   "   FROM jsonb_array_elements(p.tiers) WITH ORDINALITY e(t, place) WHERE t ? 'service_tier')"
		   " FROM llm.price p WHERE p.id = ANY ($1)",
	.nargs = 1,
	.args = {INT8ARRAYOID}};

/* All static: the sender's life. */
static MemoryContext facts_context = NULL; /* the tables below and what is in them */
static HTAB *jobs = NULL; /* LlmLedgerFacts by llm.job.id */
static HTAB *prices = NULL; /* the same by llm.price.id */
static Oid job_table; /* as they were when something was read of them */
static Oid price_table;
static bool changed = false; /* one of these two has */

static void
note_table_change(Datum arg, Oid relation)
{
	if (!OidIsValid(relation) || relation == job_table || relation == price_table)
		changed = true;
}

static void
create_tables(void)
{
	HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(LlmLedgerFacts)};
	HTAB *new_jobs;

	facts_context = AllocSetContextCreate(TopMemoryContext, "llm_enrich ledger facts", ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = facts_context;
	new_jobs = hash_create("llm_enrich ledger jobs", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	prices = hash_create("llm_enrich ledger prices", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	jobs = new_jobs; /* last: where it is, the other one is */
}

/* Have the tables, and forget what may not be true any more. */
static void
prepare(void)
{
	static bool callback_registered = false;

	if (!callback_registered)
		CacheRegisterRelcacheCallback(note_table_change, (Datum) 0);
	callback_registered = true;
	job_table = llm_spi_relation("job");
	price_table = llm_spi_relation("price");
	AcceptInvalidationMessages();
	if (jobs != NULL && !changed && hash_get_num_entries(jobs) <= FACTS_KEPT &&
		hash_get_num_entries(prices) <= FACTS_KEPT)
		return;
	jobs = NULL;
	prices = NULL;
	if (facts_context != NULL)
		MemoryContextDelete(facts_context);
	facts_context = NULL;
	changed = false;
	create_tables();
}

/* Copy columns 2 and on of row "i" of the current result, to stay. */
static void
copy_columns(uint64 i, Datum *values, bool *nulls, int n)
{
	MemoryContext caller = MemoryContextSwitchTo(facts_context);
	TupleDesc desc = SPI_tuptable->tupdesc;

	for (int c = 0; c < n; c++)
	{
		Datum value = SPI_getbinval(SPI_tuptable->vals[i], desc, c + 2, &nulls[c]);

		/* every one of them is a varlena; taken out of line and out of compression once, here */
		values[c] = nulls[c] ? (Datum) 0 : PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	}
	MemoryContextSwitchTo(caller);
}

/* The first column of row "i" of the current result. */
static int64
read_id(uint64 i)
{
	bool isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
}

/* Read what the statement has of these, in so many columns, into the table; "seen": as the statement that runs sees it. */
static void
read_facts(HTAB *table, LlmStatement *statement, int ncolumns, Datum *ids, int n, bool seen)
{
	Datum values[1];
	uint64 found;

	if (n == 0)
		return;
	values[0] = llm_spi_array(INT8OID, ids, NULL, n);
	found = llm_spi_execute(statement, values, NULL, seen);
	for (uint64 i = 0; i < found; i++)
	{
		LlmLedgerFacts facts = {.id = read_id(i)};

		copy_columns(i, facts.values, facts.nulls, ncolumns);
		*(LlmLedgerFacts *) hash_search(table, &facts.id, HASH_ENTER, NULL) = facts;
	}
	SPI_freetuptable(SPI_tuptable);
}

void
llm_ledger_facts_load(LlmSettlement **settlements, int n)
{
	Datum *unknown_jobs = palloc(sizeof(Datum) * Max(n, 1));
	Datum *unknown_prices = palloc(sizeof(Datum) * Max(n, 1));
	int njobs = 0;
	int nprices = 0;

	prepare();
	for (int i = 0; i < n; i++)
	{
		const LlmSettlement *s = settlements[i];

		if (s->letter == NULL && hash_search(jobs, &s->job, HASH_FIND, NULL) == NULL)
			unknown_jobs[njobs++] = Int64GetDatum(s->job);
		if (s->price != 0 && hash_search(prices, &s->price, HASH_FIND, NULL) == NULL)
			unknown_prices[nprices++] = Int64GetDatum(s->price);
	}
	read_facts(jobs, &job_statement, LLM_JOB_FACTS, unknown_jobs, njobs, false);
	read_facts(prices, &price_statement, PRICE_COLUMNS, unknown_prices, nprices, false);
}

const LlmLedgerFacts *
llm_ledger_facts_of_job(int64 job)
{
	return hash_search(jobs, &job, HASH_FIND, NULL);
}

static Datum
numeric_of(int64 number)
{
	return NumericGetDatum(int64_to_numeric(number));
}

/* A column that is an array of numbers, taken apart; how many. */
static int
numbers_of(const LlmLedgerFacts *facts, int column, Datum **numbers)
{
	int n = 0;

	if (!facts->nulls[column])
		deconstruct_array(DatumGetArrayTypeP(facts->values[column]), NUMERICOID, -1, false, TYPALIGN_INT, numbers, NULL,
						  &n);
	return n;
}

/* Is the service tier with that number the one that is meant? */
static bool
is_named(Datum name, const char *tier)
{
	return pg_strcasecmp(TextDatumGetCString(name), tier) == 0;
}

/* The words of the service tiers of a price; how many. */
static int
names_of(const LlmLedgerFacts *facts, Datum **names)
{
	int n = 0;

	if (!facts->nulls[PRICE_SERVICE_NAMES])
		deconstruct_array(DatumGetArrayTypeP(facts->values[PRICE_SERVICE_NAMES]), TEXTOID, -1, false, TYPALIGN_INT,
						  names, NULL, &n);
	return n;
}

/* Is there a tier of long prompts that so much input is above, and whose bound is higher? */
static bool
is_longer(const LlmLedgerFacts *facts, Datum input, Datum bound)
{
	Datum *elements;
	int n = numbers_of(facts, PRICE_TIERS, &elements);

	for (int i = 0; i + PRICES < n; i += PRICES + 1)
	{
		if (DatumGetBool(DirectFunctionCall2(numeric_gt, input, elements[i])) &&
			DatumGetBool(DirectFunctionCall2(numeric_gt, elements[i], bound)))
			return true;
	}
	return false;
}

/*
 * The prices of a service tier for so much input; NULL: none is known.  That of short prompts is none of a long one,
 * which costs more.
 */
static const Datum *
find_service_tier(const LlmLedgerFacts *facts, const char *tier, Datum input)
{
	Datum *names;
	Datum *numbers;
	int n = names_of(facts, &names);

	if (tier == NULL || n == 0 || numbers_of(facts, PRICE_SERVICE_TIERS, &numbers) != n * (PRICES + 1))
		return NULL;
	for (int i = 0; i < n; i++)
	{
		const Datum *found = &numbers[i * (PRICES + 1)];

		if (is_named(names[i], tier) && DatumGetBool(DirectFunctionCall2(numeric_gt, input, found[0])))
			return is_longer(facts, input, found[0]) ? NULL : found + 1;
	}
	return NULL;
}

/*
 * The prices of the service tier, or of the highest tier that the input is above, all classes of it together; NULL:
 * the base prices hold.  The tier holds for the whole request, as providers publish it.
 */
static const Datum *
find_tier(const LlmLedgerFacts *facts, const char *service_tier, const LlmUsage *usage)
{
	Datum input = numeric_of(usage->input + usage->cached + usage->cache_write);
	const Datum *found = find_service_tier(facts, service_tier, input);
	Datum *elements;
	int n;

	if (found != NULL)
		return found;
	n = numbers_of(facts, PRICE_TIERS, &elements);
	for (int i = 0; i + PRICES < n; i += PRICES + 1)
	{
		if (DatumGetBool(DirectFunctionCall2(numeric_gt, input, elements[i])))
			return &elements[i + 1];
	}
	return NULL;
}

bool
llm_ledger_facts_has_tier(int64 price, const char *tier, const LlmUsage *usage)
{
	const LlmLedgerFacts *facts = price == 0 ? NULL : hash_search(prices, &price, HASH_FIND, NULL);

	return facts != NULL &&
		   find_service_tier(facts, tier, numeric_of(usage->input + usage->cached + usage->cache_write)) != NULL;
}

static double
number_of(Datum numeric)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, numeric));
}

/* A tier's prices may be dearer. */
static void
raise_to(const Datum *tier, double *input, double *output)
{
	for (int class = PRICE_INPUT; class < PRICE_OUTPUT; class ++)
		*input = Max(*input, number_of(tier[class]));
	*output = Max(*output, number_of(tier[PRICE_OUTPUT]));
}

/* NULL where it is not known in full. */
static const LlmLedgerFacts *
load_price(int64 price, bool seen)
{
	const LlmLedgerFacts *facts;
	Datum id = Int64GetDatum(price);

	if (price == 0)
		return NULL;
	prepare();
	if (hash_search(prices, &price, HASH_FIND, NULL) == NULL)
		read_facts(prices, &price_statement, PRICE_COLUMNS, &id, 1, seen);
	facts = hash_search(prices, &price, HASH_FIND, NULL);
	return facts == NULL || facts->nulls[PRICE_INPUT] || facts->nulls[PRICE_OUTPUT] ? NULL : facts;
}

/* As llm_ledger_facts_dearest(). */
static void
find_dearest(const LlmLedgerFacts *facts, const char *tier, double *input, double *output, bool *has_tier)
{
	Datum *elements;
	Datum *names;
	int n = numbers_of(facts, PRICE_TIERS, &elements);

	*input = *output = 0;
	raise_to(facts->values, input, output);
	for (int i = 0; i + PRICES < n; i += PRICES + 1)
		raise_to(&elements[i + 1], input, output);
	n = tier == NULL ? 0 : names_of(facts, &names);
	if (n == 0 || numbers_of(facts, PRICE_SERVICE_TIERS, &elements) != n * (PRICES + 1))
		return;
	for (int i = 0; i < n; i++)
	{
		if (!is_named(names[i], tier))
			continue;
		raise_to(&elements[i * (PRICES + 1) + 1], input, output);
		if (has_tier != NULL)
			*has_tier = true;
	}
}

bool
llm_ledger_facts_dearest(int64 price, const char *tier, double *input, double *output, bool *has_tier)
{
	const LlmLedgerFacts *facts = load_price(price, false);

	if (has_tier != NULL)
		*has_tier = false;
	if (facts == NULL)
		return false;
	find_dearest(facts, tier, input, output, has_tier);
	return true;
}

bool
llm_ledger_facts_prices(int64 price, const char *tier, int64 tokens, double *of_classes, double *input, double *output)
{
	const LlmLedgerFacts *facts = load_price(price, true);
	const Datum *found;

	if (facts == NULL)
		return false;
	found = find_tier(facts, tier, &(LlmUsage){.input = tokens});
	for (int i = 0; i < PRICES; i++)
		of_classes[i] = number_of(found == NULL ? facts->values[i] : found[i]);
	find_dearest(facts, tier, input, output, NULL);
	return true;
}

Datum
llm_ledger_facts_cost(int64 price, const char *tier, const LlmUsage *usage, bool *isnull)
{
	const int64 tokens[PRICES] = {usage->input, usage->cached, usage->cache_write, usage->output};
	const LlmLedgerFacts *facts = price == 0 ? NULL : hash_search(prices, &price, HASH_FIND, NULL);
	const Datum *of_tier = facts == NULL ? NULL : find_tier(facts, tier, usage);
	Datum per_mtok = (Datum) 0;

	*isnull = false;
	if (usage->input + usage->cached + usage->cache_write + usage->output == 0)
		return numeric_of(0);
	*isnull = true;
	for (int i = 0; i < PRICES; i++)
	{
		Datum part;

		if (facts == NULL || facts->nulls[i])
			return (Datum) 0;
		part = DirectFunctionCall2(numeric_mul, numeric_of(tokens[i]), of_tier == NULL ? facts->values[i] : of_tier[i]);
		per_mtok = i == 0 ? part : DirectFunctionCall2(numeric_add, per_mtok, part);
	}
	*isnull = false;
	return DirectFunctionCall2(numeric_mul, per_mtok,
							   DirectFunctionCall3(numeric_in, CStringGetDatum("0.000001"), ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}
