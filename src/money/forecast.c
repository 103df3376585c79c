/*-------------------------------------------------------------------------
 *
 * forecast.c
 *	  What calls will cost before they are made: looked up and added up.
 *
 * The bytes of a body but its input are counted on a body that is made for the model as
 * the sender would make it.  Prices are those in force now, of the tier that a body of the
 * mean length falls into.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/guc.h"
#include "base/spi.h"
#include "catalog/catalog_target.h"
#include "dialect/dialect.h"
#include "money/forecast.h"
#include "money/reserve.h"
#include "operation/expect.h"
#include "tables/budget.h"
#include "tables/ledger.h"

/* Bytes of a body where no recipe or dialect is known. */
#define FRAME_BYTES 600

/* Tokens of a byte of an answer. */
#define TOKENS_LOW 0.18
#define TOKENS_TYPICAL 0.26
#define TOKENS_HIGH 0.55
#define TOKENS_MORE 12

/* Tokens around the messages of a chat, and around a text of which a vector is made. */
static const LlmGuess chat_tokens = {0, 8, 16};
static const LlmGuess vector_tokens = {0, 0, 2};

/* Thoughts before an answer, where a recipe asks for some. */
#define REASONING_TYPICAL 400
#define REASONING_HIGH 8192

/* A body has fewer. */
#define MOST_TOKENS 1e15

/* A model that was looked up. */
typedef struct LlmForecastModel
{
	const char *alias; /* or NULL */
	Oid role;
	const char *asked; /* class of service that the call asks for, or "" */
	const char *tier; /* the one that is asked for, maybe by the server's habits; "": the usual one */
	LlmTarget *target;
} LlmForecastModel;

void
llm_forecast_begin(LlmForecast *forecast)
{
	memset(forecast, 0, sizeof(*forecast));
	forecast->sum.is_priced = true;
	forecast->sum.is_learned = true;
}

static LlmForecastModel *
find_model(LlmForecast *forecast, const LlmForecastAsk *ask, const LlmRecipe *recipe)
{
	static const LlmParams usual = {0};
	const char *alias = ask->model == NULL ? "" : ask->model;
	const LlmParams *params = recipe == NULL ? &usual : &recipe->params;
	const char *asked = params->service_tier == NULL ? "" : params->service_tier;
	LlmForecastModel *model;
	ListCell *cell;
	char *tier;

	foreach(cell, forecast->models)
	{
		model = lfirst(cell);
		if (model->role == ask->role && strcmp(model->asked, asked) == 0 &&
			strcmp(model->alias == NULL ? "" : model->alias, alias) == 0)
			return model;
	}
	model = palloc0(sizeof(LlmForecastModel));
	model->alias = ask->model == NULL ? NULL : pstrdup(alias);
	model->role = ask->role;
	model->asked = pstrdup(asked);
	model->target = llm_catalog_target(ask->model, ask->role);
	tier = llm_dialect_tier_asked(params, &model->target->endpoint.habits);
	model->tier = llm_dialect_tier(tier) == LLM_TIER_USUAL ? "" : tier;
	forecast->models = lappend(forecast->models, model);
	return model;
}

List *
llm_forecast_aliases(const LlmForecast *forecast)
{
	List *aliases = NIL;
	ListCell *cell;

	foreach(cell, forecast->models)
	{
		const LlmForecastModel *model = lfirst(cell);
		bool is_there = model->target->alias == NULL;
		ListCell *other;

		foreach(other, aliases)
			is_there = is_there || strcmp(lfirst(other), model->target->alias) == 0;
		if (!is_there)
			aliases = lappend(aliases, pstrdup(model->target->alias));
	}
	return aliases;
}

/* The prices of a body of so many tokens, as it would be booked, and the dearest of all; false: they are not known. */
static bool
find_prices(const LlmForecastModel *model, double tokens, LlmUnitPrices *prices, LlmDearest *dearest)
{
	double found[LLM_TOKEN_CLASSES];
	LlmOwnScope scope;
	bool known;

	if (model->target->price == 0)
		return false;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	llm_spi_own_begin(&scope);
	known = llm_ledger_prices(model->target->price, model->tier, (int64) ceil(Min(tokens, MOST_TOKENS)), found,
							  &dearest->input, &dearest->output);
	llm_spi_own_end(&scope);
	SPI_finish();
	if (known)
		*prices = (LlmUnitPrices){found[0], found[1], found[2], found[3]};
	return known;
}

/* Is a vector wanted?  Then nothing is read but the row's text, and nothing is written. */
static bool
is_of_vectors(const LlmForecastAsk *ask)
{
	return ask->op->kind == LLM_REQUEST_EMBED;
}

/* Bytes of a body whose input is empty. */
static double
frame_bytes(const LlmForecastAsk *ask, const LlmRecipe *recipe, const LlmTarget *target)
{
	const LlmDialect *dialect = target->dialect == NULL ? NULL : llm_dialect_find(target->dialect);
	LlmEndpoint endpoint = target->endpoint;
	LlmChat chat = {{"", 0}, NULL, NULL};
	StringInfoData body;
	double bytes;

	if (is_of_vectors(ask))
		return 0;
	if (recipe == NULL || dialect == NULL)
		return FRAME_BYTES;
	initStringInfo(&body);
	dialect->body(dialect->prepare(recipe, &endpoint), &chat, &body);
	bytes = body.len;
	pfree(body.data);
	return bytes;
}

/* Tokens of one answer, where nothing was learned. */
static LlmGuess
answer_tokens(const LlmForecastAsk *ask, const LlmRecipe *recipe, const LlmTarget *target, double input_bytes)
{
	LlmExpectation bytes = {2, 60, 1000};
	LlmGuess tokens;
	double most = target->max_output_tokens;

	if (is_of_vectors(ask))
		return (LlmGuess){0, 0, 0};
	if (recipe != NULL)
		llm_operation_expect(recipe, input_bytes, &bytes);
	tokens = (LlmGuess){1 + TOKENS_LOW * bytes.low, 1 + TOKENS_TYPICAL * bytes.typical,
						TOKENS_MORE + TOKENS_HIGH * bytes.high};
	if (recipe != NULL && recipe->params.reasoning_effort != NULL &&
		strcmp(recipe->params.reasoning_effort, "none") != 0)
	{
		tokens.typical += REASONING_TYPICAL;
		tokens.high += REASONING_HIGH;
	}
	if (recipe != NULL && recipe->params.max_tokens > 0)
		most = recipe->params.max_tokens;
	if (most > 0)
	{
		tokens.high = Min(tokens.high, most);
		tokens.typical = Min(tokens.typical, most);
		tokens.low = Min(tokens.low, most);
	}
	return tokens;
}

/* What was learned of this question from this model. */
static void
read_stat(const LlmForecastAsk *ask, const LlmTarget *target, LlmRecipeStat *stat)
{
	LlmOwnScope scope;

	memset(stat, 0, sizeof(*stat));
	if (ask->spec == NULL || target->server == NULL || target->model == NULL)
		return;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	llm_spi_own_begin(&scope);
	llm_recipe_stat_read(ask->op->name, ask->spec, target->server, target->model, stat);
	llm_spi_own_end(&scope);
	SPI_finish();
}

static double
seconds_of(const LlmForecastAsk *ask, const LlmEstimate *estimate, const LlmTarget *target, const LlmRecipeStat *stat)
{
	const LlmDialect *dialect = target->dialect == NULL ? NULL : llm_dialect_find(target->dialect);
	LlmEstimatePace pace = {0};

	pace.latency_ms = stat->requests > 0 ? stat->latency_ms / stat->requests : 0;
	pace.calls_each = llm_dialect_width(dialect, ask->op->kind);
	pace.in_flight = Min(target->max_concurrency > 0 ? target->max_concurrency : LLM_TARGET_CONCURRENCY,
						 llm_guc_max_connections);
	pace.requests_per_minute = target->requests_per_minute;
	pace.tokens_per_minute = target->tokens_per_minute;
	return llm_estimate_seconds(estimate, &pace);
}

/* What a text is cut to, at most; of a mean that is the most, too. */
static double
most_bytes(const LlmRecipe *recipe, const LlmTarget *target, double frame)
{
	if (recipe == NULL || recipe->params.truncate == LLM_TRUNCATE_NOT || target->context_tokens == 0)
		return get_float8_infinity();
	return Max(target->context_tokens * (LLM_BYTES_OF_TEN_TOKENS / 10.0) - frame, 1);
}

/* What the shortest request would be held to under a cap, as the sender reckons; of a recipe that is known. */
static double
least_reserve(const LlmRecipe *recipe, const LlmTarget *target, const LlmEstimateAsk *asked, const LlmDearest *price)
{
	const LlmParams *params = &recipe->params;
	bool reasons = params->reasoning_effort != NULL && strcmp(params->reasoning_effort, "none") != 0;
	bool writes = recipe->op->kind != LLM_REQUEST_EMBED;
	LlmWorst worst;
	int cap = 0;

	if (writes)
		cap = llm_reserve_cap(recipe->output_tokens, reasons, params->max_tokens, target->max_output_tokens);
	worst = llm_reserve_worst(price, writes ? (int64) asked->frame_bytes : 0, llm_reserve_per_byte(&asked->stat), cap);
	return (double) llm_reserve_of(&worst, 1) / LLM_NANO;
}

/* Mean bytes of the inputs that are asked about: those whose answers are kept may be of another length. */
static double
mean_bytes(const LlmForecastAsk *ask)
{
	double calls = ask->calls - ask->kept.calls.typical;
	double bytes = ask->input_bytes - ask->kept.bytes;

	if (calls < 1 || bytes <= 0)
	{
		calls = ask->calls;
		bytes = ask->input_bytes;
	}
	return calls > 0 ? bytes / calls : 0;
}

/* The estimate is of all calls that there may be: in between are those that it will be. */
static void
leave_out_kept(const LlmForecastAsk *ask, double most, LlmEstimate *estimate)
{
	if (most > 0 && ask->kept.calls.high > 0)
		llm_estimate_part(estimate, Max(ask->calls - ask->kept.calls.typical, 0) / most,
						  Max(ask->calls - ask->kept.calls.high, 0) / most);
}

void
llm_forecast_add(LlmForecast *forecast, const LlmForecastAsk *ask, LlmEstimate *estimate)
{
	LlmForecastModel *model;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich forecast", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	LlmRecipe *recipe = ask->spec == NULL ? NULL : llm_operation_load(0, ask->op->name, ask->spec);
	LlmEstimateAsk asked = {0};
	LlmDearest dearest;
	double each = mean_bytes(ask);
	double tokens;

	(void) MemoryContextSwitchTo(caller);
	model = find_model(forecast, ask, recipe);
	(void) MemoryContextSwitchTo(scratch);
	asked.calls = Max(ask->calls - ask->kept.calls.low, 0);
	asked.ascii_share = ask->ascii_share;
	asked.frame_bytes = frame_bytes(ask, recipe, model->target);
	each = Min(each, most_bytes(recipe, model->target, asked.frame_bytes));
	asked.input_bytes = asked.calls * each;
	asked.answer_tokens = answer_tokens(ask, recipe, model->target, each);
	asked.message_tokens = is_of_vectors(ask) ? vector_tokens : chat_tokens;
	read_stat(ask, model->target, &asked.stat);
	tokens = 0.25 * (asked.frame_bytes + each);
	if (asked.stat.requests > 0)
		tokens = asked.stat.input / asked.stat.bytes * (asked.frame_bytes + each);
	asked.is_priced = find_prices(model, tokens, &asked.prices, &dearest);
	llm_estimate(&asked, estimate);
	if (recipe != NULL && asked.is_priced)
		estimate->reserve = least_reserve(recipe, model->target, &asked, &dearest);
	leave_out_kept(ask, asked.calls, estimate);
	forecast->seconds += seconds_of(ask, estimate, model->target, &asked.stat);
	llm_estimate_add(&forecast->sum, estimate);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}
