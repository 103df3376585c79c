/*-------------------------------------------------------------------------
 *
 * letter.c
 *	  What a backend asks the sender, and what it hears, as bytes.
 *
 * What a pointer shows is a length and the bytes, with a NUL behind a string; a NULL pointer
 * has the length ABSENT.  The same question is the same bytes, from LLM_LETTER_KEY on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"

#include "base/guc.h"
#include "letter/letter.h"

#define ABSENT UINT32_MAX

typedef struct Reader
{
	const char *at;
	const char *end;
} Reader;

static void
write_bytes(StringInfo bytes, const void *data, size_t len)
{
	uint32 size = data == NULL ? ABSENT : (uint32) len;

	enlargeStringInfo(bytes, sizeof(size) + (data == NULL ? 0 : len + 1));
	appendBinaryStringInfo(bytes, (char *) &size, sizeof(size));
	if (data == NULL)
		return;
	appendBinaryStringInfo(bytes, data, len);
	appendStringInfoChar(bytes, '\0');
}

static void
write_string(StringInfo bytes, const char *string)
{
	write_bytes(bytes, string, string == NULL ? 0 : strlen(string));
}

static void
write_jsonb(StringInfo bytes, const Jsonb *jsonb)
{
	write_bytes(bytes, jsonb, jsonb == NULL ? 0 : VARSIZE(jsonb));
}

/* The next bytes, NULL where they are absent. */
static const char *
read_bytes(Reader *reader, size_t *len)
{
	uint32 size = ABSENT;
	const char *found;

	*len = 0;
	if (reader->end - reader->at >= (ptrdiff_t) sizeof(size))
		memcpy(&size, reader->at, sizeof(size));
	reader->at += sizeof(size);
	if (size == ABSENT)
		return NULL;
	Assert(reader->end - reader->at > (ptrdiff_t) size);
	found = reader->at;
	reader->at += (size_t) size + 1;
	*len = size;
	return found;
}

static const char *
read_string(Reader *reader)
{
	size_t len;

	return read_bytes(reader, &len);
}

/* A copy, since the bytes may lie anywhere. */
static Jsonb *
read_jsonb(Reader *reader)
{
	size_t len;
	const char *found = read_bytes(reader, &len);
	Jsonb *copy;

	if (found == NULL)
		return NULL;
	copy = palloc(len);
	memcpy(copy, found, len);
	return copy;
}

void
llm_letter_set_command(LlmLetterQuestion *question)
{
	question->max_cost = llm_guc_max_cost_nano();
	question->command = (LlmLetterCommand){0};
	/* a later command may use the letter, a FETCH those of the FETCH before; it is paid by the cap of its own */
	if (question->max_cost >= 0)
		question->command = (LlmLetterCommand){GetCurrentStatementStartTimestamp(), MyProcPid};
}

void
llm_letter_write_question(const LlmLetterQuestion *question, StringInfo bytes)
{
	initStringInfo(bytes);
	appendBinaryStringInfo(bytes, (const char *) &question->patience_ms, sizeof(question->patience_ms));
	appendBinaryStringInfo(bytes, (const char *) &question->command, sizeof(question->command));
	appendBinaryStringInfo(bytes, (const char *) &question->spent, sizeof(question->spent));
	Assert(bytes->len == LLM_LETTER_KEY);
	appendBinaryStringInfo(bytes, (const char *) &question->role, sizeof(question->role));
	appendBinaryStringInfo(bytes, (const char *) &question->max_cost, sizeof(question->max_cost));
	appendStringInfoChar(bytes, question->reuse ? 1 : 0);
	appendStringInfoChar(bytes, question->over ? 1 : 0);
	write_string(bytes, question->model);
	write_string(bytes, question->operation);
	write_string(bytes, question->trial);
	write_jsonb(bytes, question->spec);
	write_jsonb(bytes, question->tags);
	write_string(bytes, question->application);
	write_string(bytes, question->fault);
	write_string(bytes, question->last_answer);
	write_string(bytes, question->wasted);
	write_bytes(bytes, question->input, question->input_len);
}

bool
llm_letter_same_command(const char *one, const char *other)
{
	return memcmp(one + sizeof(int), other + sizeof(int), sizeof(LlmLetterCommand)) == 0;
}

/* What a question begins with, up to its model. */
static void
read_head(Reader *reader, LlmLetterQuestion *question)
{
	memcpy(&question->patience_ms, reader->at, sizeof(question->patience_ms));
	reader->at += sizeof(question->patience_ms);
	memcpy(&question->command, reader->at, sizeof(question->command));
	reader->at += sizeof(question->command);
	memcpy(&question->spent, reader->at, sizeof(question->spent));
	reader->at += sizeof(question->spent);
	memcpy(&question->role, reader->at, sizeof(question->role));
	reader->at += sizeof(question->role);
	memcpy(&question->max_cost, reader->at, sizeof(question->max_cost));
	reader->at += sizeof(question->max_cost);
	question->reuse = *reader->at++ != 0;
	question->over = *reader->at++ != 0;
	question->model = read_string(reader);
}

LlmLetterOwner
llm_letter_owner(const char *bytes, size_t len)
{
	Reader reader = {bytes, bytes + len};
	LlmLetterQuestion question = {0};
	LlmLetterOwner owner = {0};

	read_head(&reader, &question);
	owner.role = (uint32) question.role;
	if (question.model != NULL)
		owner.model = hash_bytes((const unsigned char *) question.model, (int) strlen(question.model));
	return owner;
}

void
llm_letter_read_question(const char *bytes, size_t len, LlmLetterQuestion *question)
{
	Reader reader = {bytes, bytes + len};

	Assert(len > LLM_LETTER_KEY + sizeof(question->role) + sizeof(question->max_cost));
	read_head(&reader, question);
	question->operation = read_string(&reader);
	question->trial = read_string(&reader);
	question->spec = read_jsonb(&reader);
	question->tags = read_jsonb(&reader);
	question->application = read_string(&reader);
	question->fault = read_string(&reader);
	question->last_answer = read_string(&reader);
	question->wasted = read_string(&reader);
	question->input = read_bytes(&reader, &question->input_len);
}

void
llm_letter_write_reply(const LlmLetterReply *reply, StringInfo bytes)
{
	initStringInfo(bytes);
	appendBinaryStringInfo(bytes, (const char *) reply, sizeof(*reply));
	write_jsonb(bytes, reply->answer);
	write_string(bytes, reply->booked);
	write_string(bytes, reply->reason);
	write_string(bytes, reply->message);
	write_string(bytes, reply->hint);
	write_string(bytes, reply->server);
	write_string(bytes, reply->model);
	write_string(bytes, reply->cost);
	write_string(bytes, reply->answer_cost);
}

void
llm_letter_read_reply(const char *bytes, size_t len, LlmLetterReply *reply)
{
	Reader reader = {bytes + sizeof(*reply), bytes + len};

	Assert(len >= sizeof(*reply));
	memcpy(reply, bytes, sizeof(*reply));
	reply->answer = read_jsonb(&reader);
	reply->booked = read_string(&reader);
	reply->reason = read_string(&reader);
	reply->message = read_string(&reader);
	reply->hint = read_string(&reader);
	reply->server = read_string(&reader);
	reply->model = read_string(&reader);
	reply->cost = read_string(&reader);
	reply->answer_cost = read_string(&reader);
}
