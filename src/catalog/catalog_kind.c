/*-------------------------------------------------------------------------
 *
 * catalog_kind.c
 *	  Does a model give text, or vectors?
 *
 * What is not known is left to the provider, whose refusal pauses the job (LLM_ERR_WRONG_KIND).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "catalog/catalog_kind.h"
#include "catalog/catalog_read.h"

/* Aliases of models that give vectors, or of the others; then what to type. */
static char *
kind_hint(LlmRequestKind kind, const char *function)
{
	static LlmStatement select_of_kind = {
		"SELECT m.alias FROM llm.model m WHERE EXISTS (SELECT FROM llm.price_list l WHERE l.model = m.model"
		" AND l.kind = 'embed') ORDER BY m.alias",
		0};
	static LlmStatement select_others = {
		"SELECT m.alias FROM llm.model m WHERE NOT EXISTS (SELECT FROM llm.price_list l WHERE l.model = m.model"
		" AND l.kind = 'embed') ORDER BY m.alias",
		0};
	const char *aliases = llm_catalog_list_names(kind == LLM_REQUEST_EMBED ? &select_of_kind : &select_others);

	if (aliases == NULL)
		return psprintf("SELECT llm.add_model('%s', server => '...', model => '...'); then %s(..., model => '%s').",
						kind == LLM_REQUEST_EMBED ? "vectors" : "fast", function,
						kind == LLM_REQUEST_EMBED ? "vectors" : "fast");
	return psprintf("Name one by %s(..., model => '...'): %s.", function, aliases);
}

/*
 * Is the kind told of the provider that the server stands for, as prices are looked for?  A name says nothing of what
 * another provider serves under it; and Ollama makes vectors of any model.
 */
static bool
is_told_of_server(const LlmAskedModel *asked)
{
	static LlmStatement select_told = {
		"SELECT FROM llm.price_list l WHERE l.model = $1 AND ($2 ~* ('^https?://([^/]*[.])?' || l.provider || '[.]')"
		" OR l.provider = $3) AND NOT (l.provider = 'ollama' AND l.kind = 'chat')",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[3];
	LlmOwnScope scope;
	bool found;

	values[0] = CStringGetTextDatum(asked->model);
	values[1] = CStringGetTextDatum(asked->base_url != NULL ? asked->base_url : "");
	values[2] = CStringGetTextDatum(asked->dialect != NULL ? asked->dialect : "");
	llm_catalog_begin_reading(&scope);
	found = llm_spi_execute(&select_told, values, NULL, true) > 0;
	llm_catalog_end_reading(&scope);
	return found;
}

bool
llm_catalog_is_of_vectors(const LlmAskedModel *asked)
{
	return asked->kind == LLM_MODEL_EMBED && is_told_of_server(asked);
}

void
llm_catalog_check_kind(const LlmAskedModel *asked, LlmRequestKind kind, const char *function)
{
	const LlmDialect *dialect = asked->dialect == NULL ? NULL : llm_dialect_find(asked->dialect);
	bool has_none = kind == LLM_REQUEST_EMBED && dialect != NULL && dialect->most_inputs == 0;
	bool is_other = asked->kind == (kind == LLM_REQUEST_EMBED ? LLM_MODEL_CHAT : LLM_MODEL_EMBED);

	if (!has_none && (!is_other || !is_told_of_server(asked)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 has_none ? errmsg("%s() cannot ask model \"%s\": a server of dialect \"%s\" makes no vectors", function,
							   asked->alias, dialect->name)
			 : kind == LLM_REQUEST_EMBED
				 ? errmsg("%s() cannot ask model \"%s\": \"%s\" gives text and no vectors", function, asked->alias,
						  asked->model)
				 : errmsg("%s() cannot ask model \"%s\": \"%s\" gives vectors and no text", function, asked->alias,
						  asked->model),
			 errhint("%s", kind_hint(kind, function))));
}
