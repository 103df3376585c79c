/*-------------------------------------------------------------------------
 *
 * dialect.c
 *	  The table of dialects, and what holds for the requests of all of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dialect/dialect.h"

static const LlmDialect *const dialects[] = {
#define LLM_DIALECT(name) &llm_dialect_##name,
#include "dialect/dialect_list.h"
#undef LLM_DIALECT
};

const LlmDialect *
llm_dialect_find(const char *name)
{
	for (int i = 0; i < lengthof(dialects); i++)
	{
		if (strcmp(dialects[i]->name, name) == 0)
			return dialects[i];
	}
	return NULL;
}

int
llm_dialect_width(const LlmDialect *dialect, LlmRequestKind kind)
{
	if (kind != LLM_REQUEST_EMBED || dialect == NULL)
		return 1;
	return Max(Min(dialect->most_inputs, LLM_MOST_INPUTS), 1);
}

const char *
llm_dialect_advice(const LlmDialect *dialect, LlmErrorClass class)
{
	for (const LlmAdvice *row = dialect->advice; row != NULL && row->class != LLM_OK; row++)
	{
		if (row->class == class)
			return row->text;
	}
	return NULL;
}

const char *
llm_dialect_names(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(dialects); i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", dialects[i]->name);
	return buf.data;
}

void
llm_dialect_address(const LlmDialect *dialect, const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address)
{
	const char *key_header = endpoint->key_header != NULL ? endpoint->key_header : dialect->key_header;
	bool in_query = endpoint->query != NULL && strstr(endpoint->query, "%s") != NULL;
	ListCell *cell;

	address->method = "POST";
	address->url = NULL;
	address->headers = list_make2(pstrdup("Content-Type: application/json"), pstrdup("Accept: application/json"));
	/* a key that goes in the query goes nowhere else, unless that is said */
	if (endpoint->key_header != NULL || !in_query)
		address->headers = lappend(address->headers, pstrdup(key_header));
	dialect->address(endpoint, kind, address);
	foreach(cell, endpoint->headers)
		address->headers = lappend(address->headers, pstrdup(lfirst(cell)));
	if (endpoint->query != NULL)
		address->url = psprintf("%s%c%s", address->url, strchr(address->url, '?') == NULL ? '?' : '&', endpoint->query);
}

static bool
is_same_word(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool
llm_dialect_same_body(const LlmEndpoint *a, const LlmEndpoint *b)
{
	return strcmp(a->model, b->model) == 0 && a->habits.answer_form == b->habits.answer_form &&
		   is_same_word(a->habits.max_tokens_field, b->habits.max_tokens_field) &&
		   is_same_word(a->habits.system_role, b->habits.system_role) &&
		   is_same_word(a->habits.extra_body, b->habits.extra_body);
}

bool
llm_dialect_may_reason(const char *model)
{
	/* at the beginning, or after the name of a maker; "-" stands for any place */
	static const char *const names[] = {
		"gpt-5", "gpt-6", "gpt-oss", "o1", "o3", "o4", "gemini-2.5", "gemini-3", "deepseek-r", "deepseek-v4", "qwq",
		"qwen3", "grok-3-mini", "grok-4", "magistral", "kimi-k2",
		"-thinking", "-reasoning", "-reasoner", "-r1"};
	const char *slash = strrchr(model, '/');
	const char *name = slash == NULL ? model : slash + 1;

	for (int i = 0; i < lengthof(names); i++)
	{
		if (names[i][0] == '-' ? strstr(name, names[i]) != NULL : strncmp(name, names[i], strlen(names[i])) == 0)
			return true;
	}
	return false;
}
