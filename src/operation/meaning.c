/*-------------------------------------------------------------------------
 *
 * meaning.c
 *	  The settings that an SQL expression means when it is evaluated later, in another session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"

#include "base/json.h"
#include "operation/meaning.h"

/* And the path, by which functions that it calls may find theirs. */
static const char *const settings_that_count[] = {
	"DateStyle",
	"IntervalStyle",
	"TimeZone",
	"array_nulls",
	"bytea_output",
	"extra_float_digits",
	"lc_monetary",
	"lc_numeric",
	"lc_time",
	"search_path",
	"xmlbinary",
	"xmloption",
};

JsonbValue
llm_meaning(void)
{
	JsonbPair *pairs = palloc(lengthof(settings_that_count) * sizeof(JsonbPair));
	int n = 0;

	for (int i = 0; i < lengthof(settings_that_count); i++)
	{
		const char *setting = GetConfigOption(settings_that_count[i], true, false);

		if (setting != NULL)
			llm_json_set_pair(&pairs[n++], settings_that_count[i], llm_json_make_text(pstrdup(setting)));
	}
	return llm_json_make_object(pairs, n);
}

int
llm_meaning_begin(const JsonbValue *settings)
{
	int nest = NewGUCNestLevel();

	for (int i = 0; settings != NULL && i < settings->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &settings->val.object.pairs[i];

		if (pair->value.type == jbvString)
			(void) set_config_option(llm_json_cstring(&pair->key), llm_json_cstring(&pair->value), PGC_USERSET,
									 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	}
	return nest;
}
