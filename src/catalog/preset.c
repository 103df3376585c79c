/*-------------------------------------------------------------------------
 *
 * preset.c
 *	  Providers that are known by name: what the option "provider" fills in.
 *
 * One row each, sorted by name.  A row is about a host: where it is, which form it speaks, and
 * which habits it documents that differ from its form's own.  Whatever a server's
 * options say goes before.  What a host is found to refuse is learned (llm.habit), so a row
 * saves one request and is no condition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "catalog/preset.h"
#include "dialect/dialect.h"

#define OLD_CAP "max_tokens"

/* Servers on one's own machine answer few requests at a time; more only wait there. */
#define LOCAL_CONCURRENCY "4"

static const LlmPreset presets[] = {
	{"anthropic", "anthropic", "https://api.anthropic.com/v1", NULL, NULL, NULL, NULL},
	{"azure", "azure", NULL, NULL, NULL, NULL, "base_url 'https://NAME.openai.azure.com', query 'api-version=...'; the model is the deployment"},
	{"bedrock", "bedrock", NULL, NULL, NULL, NULL, "base_url 'https://bedrock-runtime.REGION.amazonaws.com'; the key is a Bedrock API key"},
	{"deepseek", "openai", "https://api.deepseek.com", "json_object", OLD_CAP, NULL, NULL},
	{"fireworks", "openai", "https://api.fireworks.ai/inference/v1", NULL, OLD_CAP, NULL, NULL},
	{"gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta", NULL, NULL, NULL, NULL},
	{"groq", "openai", "https://api.groq.com/openai/v1", NULL, NULL, NULL, "not every model takes a schema; those that do not are asked in words"},
	{"litellm", "openai", NULL, NULL, OLD_CAP, NULL, "base_url of your proxy: 'https://litellm.example.com/v1'"},
	{"llamacpp", "openai", "http://127.0.0.1:8080/v1", NULL, OLD_CAP, LOCAL_CONCURRENCY, "max_concurrency is what llama-server has as --parallel"},
	{"mistral", "mistral", "https://api.mistral.ai/v1", NULL, NULL, NULL, NULL},
	{"ollama", "ollama", "http://127.0.0.1:11434", NULL, NULL, LOCAL_CONCURRENCY, "max_concurrency is what the server has as OLLAMA_NUM_PARALLEL"},
	{"openai", "openai", "https://api.openai.com/v1", NULL, NULL, NULL, NULL},
	{"openrouter", "openai", "https://openrouter.ai/api/v1", NULL, OLD_CAP, NULL, NULL},
	{"perplexity", "openai", "https://api.perplexity.ai", NULL, OLD_CAP, NULL, NULL},
	{"together", "openai", "https://api.together.xyz/v1", NULL, OLD_CAP, NULL, NULL},
	{"vllm", "openai", NULL, NULL, OLD_CAP, NULL, "base_url of your server: 'http://10.0.0.5:8000/v1'"},
	{"xai", "openai", "https://api.x.ai/v1", NULL, NULL, NULL, NULL},
};

PG_FUNCTION_INFO_V1(llm_enrich_read_providers);

static bool
is_usable(const LlmPreset *preset)
{
	return llm_dialect_find(preset->dialect) != NULL;
}

const LlmPreset *
llm_preset_at(int i)
{
	for (int j = 0; j < lengthof(presets); j++)
	{
		if (is_usable(&presets[j]) && i-- == 0)
			return &presets[j];
	}
	return NULL;
}

const LlmPreset *
llm_preset_find(const char *provider)
{
	for (int i = 0; i < lengthof(presets); i++)
	{
		if (strcmp(presets[i].provider, provider) == 0)
			return is_usable(&presets[i]) ? &presets[i] : NULL;
	}
	return NULL;
}

const char *
llm_preset_names(void)
{
	StringInfoData buf;
	const LlmPreset *preset;

	initStringInfo(&buf);
	for (int i = 0; (preset = llm_preset_at(i)) != NULL; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", preset->provider);
	return buf.data;
}

/* SQL: llm.read_providers() → rows of llm.provider_list */
Datum
llm_enrich_read_providers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const LlmPreset *preset;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; (preset = llm_preset_at(i)) != NULL; i++)
	{
		const char *const words[] = {preset->provider, preset->dialect, preset->base_url, preset->answer_form,
									 preset->max_tokens_field, preset->max_concurrency, preset->note};
		Datum values[lengthof(words)] = {0};
		bool nulls[lengthof(words)];

		for (int j = 0; j < lengthof(words); j++)
		{
			nulls[j] = words[j] == NULL;
			if (!nulls[j])
				values[j] = CStringGetTextDatum(words[j]);
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
