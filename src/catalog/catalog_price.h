/*-------------------------------------------------------------------------
 *
 * catalog_price.h
 *	  What a model costs, from when on.
 *
 *	  argument(), check()   read prices that a user gave
 *	  set(), provide()      write llm.price: inside the writers' bracket of
 *	                        catalog_model.c
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CATALOG_PRICE_H
#define LLM_CATALOG_PRICE_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "foreign/foreign.h"

#include "catalog/catalog_target.h"

/* The columns of a price, in the order of llm.price. */
enum
{
	LLM_PRICE_INPUT,
	LLM_PRICE_CACHED_INPUT,
	LLM_PRICE_CACHE_WRITE,
	LLM_PRICE_OUTPUT,
	LLM_PRICE_BATCH_INPUT,
	LLM_PRICE_BATCH_OUTPUT,
	LLM_PRICES
};

/* US dollars per million tokens, as numeric, by the numbers above. */
typedef struct LlmPrices
{
	Datum values[LLM_PRICES];
	bool nulls[LLM_PRICES];
	Datum tiers; /* jsonb: prices of long prompts and of service tiers, as llm.price.tiers */
	bool no_tiers; /* there are none */
} LlmPrices;

/* Argument number i of a SQL function as one of the prices; raises 22023 unless it is a number from 0. */
extern void llm_price_argument(FunctionCallInfo fcinfo, int i, LlmPrices *prices, int column);

/*
 * Argument number i of a SQL function as the prices of long prompts.  Raises 22023 unless it is
 * an array of objects with "above_tokens" and prices from 0.
 */
extern void llm_price_tiers_argument(FunctionCallInfo fcinfo, int i, LlmPrices *prices);

/* Were any prices given?  Raises 22023 when input or output is missing among them. */
extern bool llm_price_check(const LlmPrices *prices);

/* The price from "start" on, which is this moment or lies in the future. */
extern void llm_price_set(const char *server, const char *model, const LlmPrices *prices, TimestampTz start);

/*
 * See to it that the model named "alias" has a price, else say that it has none.
 * "former_server" is the name that its server had until now, or NULL.
 */
extern void llm_price_provide(const char *alias, const ForeignServer *server, const char *former_server,
							  const char *model);

/*
 * What is not known of the price of the model's requests: a sentence and what to type, in the current context; NULL: all
 * is.  Connects to SPI by itself.
 */
extern char *llm_price_gap(const LlmTarget *target, char **hint);

#endif /* LLM_CATALOG_PRICE_H */
