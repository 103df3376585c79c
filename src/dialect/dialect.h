/*-------------------------------------------------------------------------
 *
 * dialect.h
 *	  A dialect is the form that a provider speaks: it makes the whole request of
 *	  a question (method, URL, headers, body) and reads the whole answer (text,
 *	  vectors, usage, errors, limits).  Structs to bytes and back: no I/O, no
 *	  catalog, no clock but the answer's.
 *
 *	  find()      by the server's option "dialect"
 *	  address()   once per (endpoint, kind): method, URL and headers
 *	  prepare()   once per (recipe, endpoint): the bytes that all rows share
 *	  body()      once per chat request; embed() once per request for vectors
 *	  read()      once per answer; never raises for what the bytes hold
 *
 * README.md says how to add one; what they share is in dialect_shared.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DIALECT_H
#define LLM_DIALECT_H

#include "base/llm_enrich.h"

#include "http/http_headers.h"
#include "lib/stringinfo.h"
#include "limiter/limiter.h"
#include "nodes/pg_list.h"
#include "operation/operation.h"

/* How the form of an answer is asked for; from the strictest to the simplest. */
typedef enum LlmAnswerForm
{
	LLM_ANSWER_JSON_SCHEMA = 0, /* the provider is given the schema */
	LLM_ANSWER_JSON_OBJECT, /* it is asked for some object; the schema is in the words */
	LLM_ANSWER_TEXT /* the words alone */
} LlmAnswerForm;

/* Ways of one host that differ from its dialect's own.  Zero and NULL: as the dialect does it. */
typedef struct LlmHabits
{
	LlmAnswerForm answer_form;
	const char *max_tokens_field; /* name of the member that caps output tokens */
	const char *system_role; /* the role that gives the instructions: system, developer, user */
	int context_tokens; /* of input that fit the model; 0: not told */
	const char *extra_body; /* members to add to each body, as JSON without the braces */
} LlmHabits;

/* Where requests go, and how they are spoken to.  Strings outlive every use. */
typedef struct LlmEndpoint
{
	const char *base_url; /* no trailing slash */
	const char *model; /* the provider's name */
	const char *query; /* "api-version=…", appended to each URL; or NULL */
	const char *key_header; /* "Name: %s" instead of the dialect's; or NULL */
	List *headers; /* of char *, whole lines: more of them */
	int learned; /* LLM_USED_… bits of habits that the host has taught us */
	LlmHabits habits;
} LlmEndpoint;

/*
 * A request without its body.  In the lines of headers, and in the URL's query, "%s" stands for
 * the key; a line with one is left out where there is no key.  In the current context.
 */
typedef struct LlmAddress
{
	const char *method;
	char *url;
	List *headers; /* of char *, whole lines */
} LlmAddress;

/* The bytes around a row's own text.  Belongs to the context it was made in. */
typedef struct LlmFrame
{
	StringInfoData head; /* up to the row's text */
	StringInfoData tail; /* after it */
	void *more; /* the dialect's own */
} LlmFrame;

/* A text that somebody else owns; need not end in a NUL. */
typedef struct LlmText
{
	const char *at;
	size_t len;
} LlmText;

/* The part of a chat request that is a row's own. */
typedef struct LlmChat
{
	LlmText input;
	const char *last_answer; /* of the second asking: the answer at fault, or NULL: none came */
	const char *fault; /* and what was wrong with it; NULL: the first asking */
} LlmChat;

/* A request for vectors. */
typedef struct LlmEmbed
{
	const LlmText *inputs;
	int ninputs;
	int dimensions; /* 0: as many as the model gives */
	const char *extra_body; /* members that the call adds, as in LlmHabits; or NULL */
} LlmEmbed;

typedef struct LlmVector
{
	float4 *values; /* NULL: the answer has none for this input */
	int n;
} LlmVector;

/* One answer as it came over the wire.  Pointers are borrowed for the call. */
typedef struct LlmRawAnswer
{
	LlmRequestKind kind; /* of what was asked */
	int ninputs; /* that were sent with it; 1 for a chat */
	int status; /* HTTP status */
	const char *body; /* not NUL-terminated by contract */
	size_t len;
	const LlmHttpHeaders *headers; /* or NULL: none came */
	int64 now; /* seconds since 1970 here; only for an answer that has no Date */
	LlmText input; /* the row's own text: where an error repeats it, it is no word of the provider's */
	bool plain; /* the answer is to be text, so that no schema shows whether it is whole */
	bool added; /* the call has added members to the request: what a refusal names may be one of them */
	int used; /* LLM_USED_… bits: what the request had that a host may not take */
} LlmRawAnswer;

/* What a request has, and a host may refuse. */
#define LLM_USED_FORM 0x1 /* a form of the answer that is asked for in the request, not in words */
#define LLM_USED_CAP 0x2 /* a cap on output tokens */
#define LLM_USED_ROLE 0x4 /* instructions apart from the user's message */

/* In LlmEndpoint.learned, beside these: the host has given more output than it was allowed. */
#define LLM_IGNORES_CAP 0x8

/* What the provider said.  Strings belong to the current context. */
typedef struct LlmReply
{
	LlmErrorClass class;
	char *content; /* the model's text (NULL: none), also when truncated */
	size_t content_len;
	LlmVector *vectors; /* of an embedding: one for each input, in the order of the inputs; else NULL */
	char *code; /* the provider's error code, or NULL */
	char *message; /* short, no key, no prompt; NULL when LLM_OK */
	char *plain; /* of an error, the same without what it quotes from the row; NULL: it quotes nothing */
	char *request_id;
	int64 retry_after_ms; /* -1: not told */
	LlmToldLimit requests; /* rate limits that the headers tell */
	LlmToldLimit tokens;
	LlmUsage usage;
	char *tier; /* the class of service that it was answered in, when that is not the usual one; or NULL */
	bool may_be_billed; /* something was answered, which nobody can read */
	int refused; /* one LLM_USED_… bit: the host does not take that, and a simpler way may do; 0: none */
	char *refusal; /* its sentence, without what it quotes from the row; with "refused" */
} LlmReply;

/*
 * Inputs of one request for vectors, however many more the dialect takes: more gain little, since what a request
 * costs is divided by so many already, and it fails as a whole.
 */
#define LLM_MOST_INPUTS 128

/* A class of service, by its price beside the usual one. */
typedef enum LlmTier
{
	LLM_TIER_USUAL,
	LLM_TIER_CHEAPER,
	LLM_TIER_DEARER /* or not known */
} LlmTier;

/* What a provider's word for one means; NULL: the usual one. */
extern LlmTier llm_dialect_tier(const char *word);

/* The word that requests ask for one by, from the call's options or what the server adds to each; or NULL. */
extern char *llm_dialect_tier_asked(const LlmParams *params, const LlmHabits *habits);

/* What an error of that class means at that provider, and where to look: one or two sentences. */
typedef struct LlmAdvice
{
	LlmErrorClass class; /* LLM_OK: the table ends */
	const char *text;
} LlmAdvice;

typedef struct LlmDialect
{
	const char *name; /* as given in the server's option "dialect" */
	const char *key_header; /* how the key is sent: "Authorization: Bearer %s" */
	int most_inputs; /* of one request for vectors; 0: it has none */
	int simpler; /* LLM_USED_… bits of that for which the dialect has a simpler way, told by the habits */
	const char *max_tokens_field; /* what caps output, and what older hosts have instead: with LLM_USED_CAP */
	const char *other_max_tokens_field;
	const LlmAdvice *advice;

	/* What path a kind of request has, and which headers of its own; see llm_dialect_address(). */
	void (*address)(const LlmEndpoint *endpoint, LlmRequestKind kind, LlmAddress *address);

	LlmFrame *(*prepare)(const LlmRecipe *recipe, const LlmEndpoint *endpoint);

	/* Append one body. */
	void (*body)(const LlmFrame *frame, const LlmChat *chat, StringInfo body);
	void (*embed)(const LlmEndpoint *endpoint, const LlmEmbed *ask, StringInfo body); /* NULL: most_inputs is 0 */

	void (*read)(const LlmRawAnswer *raw, LlmReply *reply);
} LlmDialect;

#define LLM_DIALECT(name) extern const LlmDialect llm_dialect_##name;
#include "dialect/dialect_list.h"
#undef LLM_DIALECT

/* NULL when there is no such dialect. */
extern const LlmDialect *llm_dialect_find(const char *name);

/* Tasks that a request of this kind may carry; 1 where it takes no more, or the dialect is not known. */
extern int llm_dialect_width(const LlmDialect *dialect, LlmRequestKind kind);

/* What is advised for a class; NULL: nothing. */
extern const char *llm_dialect_advice(const LlmDialect *dialect, LlmErrorClass class);

/* "openai, ..." for hints. */
extern const char *llm_dialect_names(void);

/* The whole address, key line, content type and query included. */
extern void llm_dialect_address(const LlmDialect *dialect, const LlmEndpoint *endpoint, LlmRequestKind kind,
								LlmAddress *address);

/* Would requests of one recipe to both have the same bytes?  Where they go does not count. */
extern bool llm_dialect_same_body(const LlmEndpoint *a, const LlmEndpoint *b);

/*
 * May a model of this name think before it answers, though nobody asked it to?  By what is known of
 * names: a model that is not known is found out by its answers.
 */
extern bool llm_dialect_may_reason(const char *model);

/* So many bytes of ASCII are about ten tokens. */
#define LLM_BYTES_OF_TEN_TOKENS 36

/* Rough input tokens of so many bytes of text: only for limits and for estimated costs. */
extern int64 llm_dialect_estimate_tokens(const char *text, size_t len);

#endif /* LLM_DIALECT_H */
