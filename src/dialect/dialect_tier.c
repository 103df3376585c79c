/*-------------------------------------------------------------------------
 *
 * dialect_tier.c
 *	  Classes of service, which some providers sell the same model in.
 *
 * Lists of prices are those of the usual class.  Another one is named by a word of the provider's, when it is asked for
 * and in the answer.  A word that is not known may be of a dearer one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dialect/dialect.h"
#include "dialect/dialect_shared.h"

/* Lower case. */
static const struct
{
	const char *word;
	LlmTier tier;
} tiers[] = {
	{"auto", LLM_TIER_USUAL},
	{"default", LLM_TIER_USUAL},
	{"standard", LLM_TIER_USUAL},
	{"standard_only", LLM_TIER_USUAL},
	{"on_demand", LLM_TIER_USUAL},
	{"unspecified", LLM_TIER_USUAL},
	{"flex", LLM_TIER_CHEAPER},
	{"batch", LLM_TIER_CHEAPER},
};

LlmTier
llm_dialect_tier(const char *word)
{
	if (word == NULL || word[0] == '\0')
		return LLM_TIER_USUAL;
	for (int i = 0; i < lengthof(tiers); i++)
	{
		if (pg_strcasecmp(word, tiers[i].word) == 0)
			return tiers[i].tier;
	}
	return LLM_TIER_DEARER;
}

/* A word, or that of an object with a type. */
static char *
read_word(LlmJsonReader *r)
{
	LlmJsonSlice word = {0};
	LlmJsonSlice key;

	if (llm_json_peek(r) != '{')
	{
		llm_note_string(r, &word);
		return llm_dialect_clean_slice(&word);
	}
	llm_json_enter(r, '{');
	for (int i = 0; llm_json_next_key(r, i, &key); i++)
	{
		if (llm_json_is(&key, "type"))
			llm_note_string(r, &word);
		else
			llm_json_skip(r);
	}
	return llm_dialect_clean_slice(&word);
}

char *
llm_dialect_tier_asked(const LlmParams *params, const LlmHabits *habits)
{
	LlmJsonReader reader;
	LlmJsonSlice key;
	char *object;
	char *word = NULL;

	if (params->service_tier != NULL)
		return pstrdup(params->service_tier);
	if (habits->extra_body == NULL)
		return NULL;
	object = psprintf("{%s}", habits->extra_body);
	llm_json_open(&reader, object, strlen(object));
	llm_json_enter(&reader, '{');
	for (int i = 0; llm_json_next_key(&reader, i, &key); i++)
	{
		if (llm_json_is(&key, "service_tier") || llm_json_is(&key, "serviceTier"))
			word = read_word(&reader);
		else if (!llm_json_skip(&reader))
			break;
	}
	return word;
}

void
llm_dialect_note_tier(const LlmJsonSlice *word, LlmReply *reply)
{
	char *tier = word->at == NULL ? NULL : llm_dialect_clean_slice(word);

	if (llm_dialect_tier(tier) != LLM_TIER_USUAL)
		reply->tier = tier;
}
