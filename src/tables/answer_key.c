/*-------------------------------------------------------------------------
 *
 * answer_key.c
 *	  What a question is known by in llm.answer.
 *
 * What is the same is told by the bytes that would be sent: model, words, schema, extra
 * members and all are in them, so that another version of our words is another question.
 * They are hashed once for all inputs of a recipe, with an empty one; role, server and URL
 * are hashed with each input.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/resowner.h"

#include "base/guc.h"
#include "tables/answer_key.h"

StaticAssertDecl(LLM_ANSWER_KEY_BYTES == PG_SHA256_DIGEST_LENGTH, "a key is a SHA-256");

bool
llm_answer_is_kept(const LlmRecipe *recipe)
{
	const LlmParams *params = &recipe->params;

	return llm_guc_keep_answers_s > 0 && params->reuse &&
		   (params->temperature == NULL || strtod(params->temperature, NULL) <= 0);
}

/* Hash pieces one behind the other. */
static void
hash_pieces(const void *const *pieces, const size_t *lengths, int n, uint8 *hash)
{
	static ResourceOwner between = NULL; /* two transactions: a hash has an owner */
	ResourceOwner saved = CurrentResourceOwner;
	pg_cryptohash_ctx *context;
	bool ok;

	if (saved == NULL && between == NULL)
		between = ResourceOwnerCreate(NULL, "llm_enrich");
	if (saved == NULL)
		CurrentResourceOwner = between;
	context = pg_cryptohash_create(PG_SHA256);
	ok = context != NULL && pg_cryptohash_init(context) == 0;

	for (int i = 0; ok && i < n; i++)
		ok = pg_cryptohash_update(context, pieces[i], lengths[i]) == 0;
	if (!ok || pg_cryptohash_final(context, hash, LLM_ANSWER_KEY_BYTES) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 hash")));
	pg_cryptohash_free(context);
	CurrentResourceOwner = saved;
}

/* A request without its input.  However long an answer may be: what is cut short is not kept. */
static void
append_body(const LlmRecipe *recipe, const LlmDialect *dialect, const LlmEndpoint *endpoint, const LlmFrame *frame,
			StringInfo body)
{
	LlmText none = {"", 0};
	LlmEmbed embed = {&none, 1, recipe->dimensions, recipe->params.extra_body};
	LlmChat chat = {{"", 0}, NULL, NULL};

	if (recipe->op->kind != LLM_REQUEST_EMBED)
		dialect->body(frame, &chat, body);
	else if (dialect->embed != NULL)
		dialect->embed(endpoint, &embed, body);
}

void
llm_answer_fingerprint(const LlmRecipe *recipe, const LlmDialect *dialect, const LlmEndpoint *endpoint,
					   const LlmFrame *frame, uint8 *fingerprint)
{
	StringInfoData content;
	const void *pieces[2];
	size_t lengths[2];

	initStringInfo(&content);
	appendBinaryStringInfo(&content, (const char *) recipe->spec, VARSIZE(recipe->spec));
	append_body(recipe, dialect, endpoint, frame, &content);
	pieces[0] = recipe->op->name;
	lengths[0] = strlen(recipe->op->name) + 1;
	pieces[1] = content.data;
	lengths[1] = content.len;
	hash_pieces(pieces, lengths, lengthof(pieces), fingerprint);
	pfree(content.data);
}

void
llm_answer_make_key(const LlmAnswerAsker *asker, const char *input, size_t len, LlmAnswerKey *key)
{
	const char *server = asker->server != NULL ? asker->server : "";
	const char *url = asker->url != NULL ? asker->url : "";
	const void *pieces[] = {asker->fingerprint, &asker->role, server, url, input};
	size_t lengths[] = {LLM_ANSWER_KEY_BYTES, sizeof(asker->role), strlen(server) + 1, strlen(url) + 1, len};

	hash_pieces(pieces, lengths, lengthof(pieces), key->bytes);
}
