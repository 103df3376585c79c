/*-------------------------------------------------------------------------
 *
 * dialect_shared.c
 *	  What all dialects need to read an answer.
 *
 * Words are in dialect_words.c, times in dialect_wait.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/base64.h"

#include "dialect/dialect_shared.h"

/* No request has more tokens than this; larger numbers are nonsense. */
#define MAX_COUNT 1e12

/* Longer than any provider's id of a request. */
#define ID_BYTES 127

/* Longer than any number in a vector. */
#define NUMBER_BYTES 64

/* Numbers of a vector to make room for at first. */
#define FIRST_VALUES 1024

/* Tokens that a message costs besides its text. */
#define MESSAGE_TOKENS 8

/* ---- what a text takes ---- */

/*
 * English has about 3.6 ASCII characters in a token, other scripts about one
 * character in 1.1 tokens.  Good to a factor of two, which is what limits and
 * reservations need.
 */
int64
llm_dialect_estimate_tokens(const char *str, size_t len)
{
	size_t ascii = 0;
	size_t others = 0; /* characters, counted by their first byte */
	size_t i;

	for (i = 0; i < len; i++)
	{
		ascii += (unsigned char) str[i] < 0x80;
		others += (unsigned char) str[i] >= 0xC0;
	}
	return (int64) (ascii * 10 + LLM_BYTES_OF_TEN_TOKENS - 1) / LLM_BYTES_OF_TEN_TOKENS +
		   (int64) (others * 11 + 9) / 10 + MESSAGE_TOKENS;
}

/* ---- JSON ---- */

void
llm_note_string(LlmJsonReader *r, LlmJsonSlice *slice)
{
	if (llm_json_peek(r) == '"')
		llm_json_string(r, slice);
	else
		llm_json_skip(r);
}

void
llm_note_code(LlmJsonReader *r, LlmJsonSlice *slice)
{
	if (llm_json_peek(r) == '-')
		llm_json_number(r, slice);
	else
		llm_note_string(r, slice);
}

void
llm_note_count(LlmJsonReader *r, int64 *count)
{
	LlmJsonSlice slice = {0};
	char str[32];
	char *end;
	double value;

	llm_note_code(r, &slice);
	if (slice.at == NULL || slice.len == 0 || slice.len >= sizeof(str))
		return;
	memcpy(str, slice.at, slice.len);
	str[slice.len] = '\0';
	value = strtod(str, &end);
	if (*end == '\0' && value >= 0)
		*count = (int64) rint(Min(value, MAX_COUNT));
}

bool
llm_note_enter(LlmJsonReader *r, char open)
{
	if (llm_json_peek(r) != open)
	{
		llm_json_skip(r);
		return false;
	}
	llm_json_enter(r, open);
	return true;
}

/* Base64 of floats as they lie in the memory of most machines: the least byte first. */
static bool
decode_vector(const LlmJsonSlice *slice, LlmVector *vector)
{
	int room = pg_b64_dec_len((int) slice->len);
	unsigned char *bytes;
	int len;

	if (slice->escaped || slice->len > PG_INT16_MAX * INT64CONST(16))
		return false;
	bytes = palloc(room + 1);
	len = pg_b64_decode(slice->at, (int) slice->len, (void *) bytes, room);
	if (len <= 0 || len % 4 != 0)
		return false;
	vector->n = len / 4;
	vector->values = palloc(vector->n * sizeof(float4));
	for (int i = 0; i < vector->n; i++)
	{
		const unsigned char *b = bytes + 4 * i;
		uint32 bits = (uint32) b[0] | (uint32) b[1] << 8 | (uint32) b[2] << 16 | (uint32) b[3] << 24;

		memcpy(&vector->values[i], &bits, sizeof(float4));
		if (isnan(vector->values[i]) || isinf(vector->values[i]))
			return false;
	}
	pfree(bytes);
	return true;
}

static bool
read_value(LlmJsonReader *r, float4 *value)
{
	LlmJsonSlice slice = {0};
	char str[NUMBER_BYTES];

	if (llm_json_peek(r) != '-')
	{
		llm_json_skip(r);
		return false;
	}
	if (!llm_json_number(r, &slice) || slice.len >= sizeof(str))
		return false;
	memcpy(str, slice.at, slice.len);
	str[slice.len] = '\0';
	*value = strtof(str, NULL);
	return !isinf(*value);
}

bool
llm_note_vector(LlmJsonReader *r, LlmVector *vector)
{
	LlmJsonSlice slice = {0};
	int room = FIRST_VALUES;
	bool good = true;

	vector->values = NULL;
	vector->n = 0;
	if (llm_json_peek(r) == '"')
	{
		good = llm_json_string(r, &slice) && slice.len > 0 && decode_vector(&slice, vector);
		if (!good)
			vector->values = NULL;
		return good;
	}
	if (!llm_note_enter(r, '['))
		return false;
	vector->values = palloc(room * sizeof(float4));
	for (int i = 0; llm_json_next_item(r, i); i++)
	{
		if (i == room)
			vector->values = repalloc(vector->values, (room *= 2) * sizeof(float4));
		good = read_value(r, &vector->values[i]) && good;
		vector->n = i + 1;
	}
	if (good && vector->n > 0 && r->problem == NULL)
		return true;
	vector->values = NULL;
	return false;
}

/* ---- a question ---- */

/* Is there such a member, not within another one, in the unfinished object without its brace? */
static bool
has_member(const char *members, const LlmJsonSlice *name)
{
	char *object = psprintf("{%s", members);
	LlmJsonReader reader;
	LlmJsonSlice key;
	bool found = false;

	llm_json_open(&reader, object, strlen(object));
	llm_json_enter(&reader, '{');
	for (int i = 0; !found && llm_json_next_key(&reader, i, &key); i++)
		found = (key.len == name->len && memcmp(key.at, name->at, name->len) == 0) || !llm_json_skip(&reader);
	pfree(object);
	return found && reader.problem == NULL;
}

void
llm_dialect_append_members(StringInfo buf, int from, const char *members)
{
	LlmJsonReader reader;
	LlmJsonSlice key;
	char *object;
	char *own;

	if (members == NULL)
		return;
	own = pstrdup(buf->data + from);
	own += (own[0] == '{' || own[0] == ',') ? 1 : 0;
	object = psprintf("{%s}", members);
	llm_json_open(&reader, object, strlen(object));
	llm_json_enter(&reader, '{');
	for (int i = 0; llm_json_next_key(&reader, i, &key); i++)
	{
		const char *value;

		(void) llm_json_peek(&reader);
		value = reader.at;
		if (!llm_json_skip(&reader))
			break;
		if (!has_member(own, &key))
			appendStringInfo(buf, ",\"%.*s\":%.*s", (int) key.len, key.at, (int) (reader.at - value), value);
	}
}

void
llm_dialect_append_extra(StringInfo buf, int from, const char *of_call, const LlmHabits *habits)
{
	llm_dialect_append_members(buf, from, of_call);
	llm_dialect_append_members(buf, from, habits->extra_body);
}

/* ---- an answer ---- */

static void
forget_limit(LlmToldLimit *limit)
{
	limit->limit = limit->remaining = limit->reset_ms = -1;
}

void
llm_dialect_reply(LlmReply *reply, LlmErrorClass class, const char *message)
{
	memset(reply, 0, sizeof(*reply));
	reply->class = class;
	reply->message = message == NULL ? NULL : pstrdup(message);
	/* a stream of events, as yet the only answer by which a host shows that it is asked in a wrong way */
	reply->may_be_billed = (class == LLM_ERR_CONFIG);
	reply->retry_after_ms = -1;
	forget_limit(&reply->requests);
	forget_limit(&reply->tokens);
}

static int64
at_least_zero(int64 n)
{
	return Max(n, 0);
}

void
llm_dialect_settle_usage(const LlmToldUsage *told, LlmUsage *usage)
{
	int64 prompt = told->prompt;
	int64 output = at_least_zero(told->output);

	memset(usage, 0, sizeof(*usage));
	usage->known = told->prompt >= 0 || told->output >= 0 || told->total >= 0;
	if (!usage->known)
		return; /* a part alone, say of reasoning, tells nothing of the whole */
	if (prompt < 0)
		prompt = at_least_zero(told->total - output);
	/* what the total has besides is output that is billed as such; so is reasoning counted beside the rest */
	output = Max(output, told->total - prompt);
	if (told->total < 0 && told->reasoning > output)
		output += told->reasoning;
	usage->cached = Min(at_least_zero(told->cached), prompt);
	usage->cache_write = Min(at_least_zero(told->cache_write), prompt - usage->cached);
	usage->input = prompt - usage->cached - usage->cache_write;
	usage->output = output;
	usage->reasoning = Min(at_least_zero(told->reasoning), output);
}

/*
 * The provider's own id of the request.  It looks like a key to a reader that goes by looks,
 * and is what the provider wants to be told; the key itself has not come this far.
 */
static char *
read_id(const LlmRawAnswer *raw, const LlmJsonSlice *slice)
{
	static const char *const names[] = {"x-request-id", "request-id", "x-amzn-requestid", "apim-request-id"};
	bool clean = true;
	size_t len;
	char *id;

	for (int i = 0; i < lengthof(names); i++)
	{
		const char *told = llm_dialect_header(raw, names[i]);

		if (told != NULL && told[0] != '\0')
			return pnstrdup(told, ID_BYTES);
	}
	if (slice == NULL || slice->at == NULL || slice->len == 0)
		return NULL;
	id = llm_json_decode(slice, &len, &clean);
	id[Min(len, ID_BYTES)] = '\0';
	for (char *p = id; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f)
			*p = '?';
	return id[0] == '\0' ? NULL : id;
}

/* Take a limit from the first of the names that is there; each part for itself. */
static void
read_limit(const LlmRawAnswer *raw, const LlmLimitNames *names, LlmToldLimit *told)
{
	for (; names->limit != NULL || names->remaining != NULL || names->reset != NULL; names++)
	{
		if (told->limit < 0 && names->limit != NULL)
			told->limit = llm_limiter_parse_count(llm_dialect_header(raw, names->limit));
		if (told->remaining < 0 && names->remaining != NULL)
			told->remaining = llm_limiter_parse_count(llm_dialect_header(raw, names->remaining));
		if (told->reset_ms < 0 && names->reset != NULL)
			told->reset_ms = llm_dialect_time_ms(raw, llm_dialect_header(raw, names->reset));
	}
}

void
llm_dialect_note_headers(const LlmRawAnswer *raw, const LlmJsonSlice *id, const LlmLimitNames *requests,
						 const LlmLimitNames *tokens, LlmReply *reply)
{
	static const LlmLimitNames usual_requests[] = {
		{"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
		{NULL, NULL, NULL}};
	static const LlmLimitNames usual_tokens[] = {
		{"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"},
		{NULL, NULL, NULL}};

	reply->request_id = read_id(raw, id);
	if (raw->headers == NULL)
		return;
	read_limit(raw, requests != NULL ? requests : usual_requests, &reply->requests);
	read_limit(raw, tokens != NULL ? tokens : usual_tokens, &reply->tokens);
}

bool
llm_dialect_check_vectors(const LlmRawAnswer *raw, LlmReply *reply)
{
	for (int i = 0; i < raw->ninputs; i++)
	{
		if (reply->vectors != NULL && reply->vectors[i].values != NULL)
			continue;
		reply->class = LLM_ERR_INVALID;
		reply->message = psprintf("The provider's answer has no vector for input %d of %d.", i + 1, raw->ninputs);
		return false;
	}
	return true;
}
