/*-------------------------------------------------------------------------
 *
 * dialect_question.c
 *	  What dialects share to make a question.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "dialect/dialect_question.h"
#include "dialect/dialect_shared.h"
#include "operation/prompt.h"

/* Bytes of an invalid answer that are shown to the model again. */
#define LAST_ANSWER_MAX 8192

void
llm_dialect_append_number(StringInfo buf, const char *key, const char *number)
{
	if (number != NULL)
		appendStringInfo(buf, ",\"%s\":%s", key, number);
}

void
llm_dialect_append_word(StringInfo buf, const char *key, const char *word)
{
	if (word == NULL)
		return;
	appendStringInfo(buf, ",\"%s\":", key);
	llm_json_append_string(buf, word, strlen(word));
}

/* The members of one object, among members of a body. */
static void
append_inner(StringInfo buf, int from, const char *members, const char *member)
{
	LlmJsonReader reader;
	LlmJsonSlice key;
	char *object;

	if (members == NULL)
		return;
	object = psprintf("{%s}", members);
	llm_json_open(&reader, object, strlen(object));
	llm_json_enter(&reader, '{');
	for (int i = 0; llm_json_next_key(&reader, i, &key); i++)
	{
		bool is_it = llm_json_is(&key, member) && llm_json_peek(&reader) == '{';
		const char *value;

		(void) llm_json_peek(&reader);
		value = reader.at;
		if (!llm_json_skip(&reader))
			break;
		if (is_it)
			llm_dialect_append_members(buf, from, pnstrdup(value + 1, reader.at - value - 2));
	}
}

void
llm_dialect_append_extra_of(StringInfo buf, int from, const char *of_call, const LlmHabits *habits, const char *member)
{
	append_inner(buf, from, of_call, member);
	append_inner(buf, from, habits->extra_body, member);
}

/*
 * The second asking.  Some models want the roles to alternate, so there is an answer
 * even where none came.
 */
static void
append_again(StringInfo body, const LlmChat *chat, const LlmTurns *turns)
{
	const char *last_answer = chat->last_answer;
	StringInfoData words;

	if (last_answer == NULL || last_answer[0] == '\0')
		last_answer = "(no answer)";
	initStringInfo(&words);
	llm_prompt_again(&words, chat->fault);
	appendStringInfo(body, ",%s", turns->model);
	llm_json_escape(body, last_answer, llm_json_clip(last_answer, strlen(last_answer), LAST_ANSWER_MAX));
	appendStringInfo(body, "%s,%s", turns->end, turns->user);
	llm_json_escape(body, words.data, words.len);
	appendStringInfoString(body, turns->end);
	pfree(words.data);
}

void
llm_dialect_append_turns(StringInfo body, const LlmFrame *frame, const LlmChat *chat, const LlmTurns *turns)
{
	const LlmText *input = &chat->input;

	/* room for it all at once, a few escapes included */
	enlargeStringInfo(body, frame->head.len + frame->tail.len + input->len + input->len / 16 + 64);
	appendBinaryStringInfo(body, frame->head.data, frame->head.len);
	llm_json_escape(body, input->at, input->len);
	appendStringInfoString(body, turns->end);
	if (chat->fault != NULL)
		append_again(body, chat, turns);
	appendBinaryStringInfo(body, frame->tail.data, frame->tail.len);
}

/* ---- schemas ---- */

static bool
is_one_of(const JsonbValue *key, const char *const *words)
{
	for (; *words != NULL; words++)
	{
		if (llm_json_string_is(key, *words))
			return true;
	}
	return false;
}

/* Objects whose members are schemas, or a list of them. */
static void
append_schemas(StringInfo buf, const JsonbValue *value, const LlmSchemaRules *rules)
{
	if (value->type == jbvArray)
	{
		appendStringInfoChar(buf, '[');
		for (int i = 0; i < value->val.array.nElems; i++)
		{
			if (i > 0)
				appendStringInfoChar(buf, ',');
			llm_dialect_append_schema(buf, &value->val.array.elems[i], rules);
		}
		appendStringInfoChar(buf, ']');
		return;
	}
	appendStringInfoChar(buf, '{');
	for (int i = 0; value->type == jbvObject && i < value->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &value->val.object.pairs[i];

		if (i > 0)
			appendStringInfoChar(buf, ',');
		llm_json_append(buf, &pair->key);
		appendStringInfoChar(buf, ':');
		llm_dialect_append_schema(buf, &pair->value, rules);
	}
	appendStringInfoChar(buf, '}');
}

static void
append_keyword(StringInfo buf, const JsonbPair *pair, const LlmSchemaRules *rules)
{
	static const char *const groups[] = {"$defs", "allOf", "anyOf", "definitions",
										 "oneOf", "prefixItems", "properties", NULL};

	if (rules->const_as_enum && llm_json_string_is(&pair->key, "const"))
	{
		appendStringInfoString(buf, "\"enum\":[");
		llm_json_append(buf, &pair->value);
		appendStringInfoChar(buf, ']');
		return;
	}
	llm_json_append(buf, &pair->key);
	appendStringInfoChar(buf, ':');
	if (is_one_of(&pair->key, groups))
		append_schemas(buf, &pair->value, rules);
	else if (pair->value.type == jbvObject)
		llm_dialect_append_schema(buf, &pair->value, rules);
	else
		llm_json_append(buf, &pair->value);
}

static bool
is_at_most(const JsonbValue *value, int most)
{
	StringInfoData buf;

	if (value->type != jbvNumeric)
		return false;
	initStringInfo(&buf);
	llm_json_append(&buf, value);
	return strtod(buf.data, NULL) <= most;
}

/* Is this member of a schema passed on? */
static bool
is_kept(const JsonbPair *pair, const JsonbValue *schema, const LlmSchemaRules *rules)
{
	if (llm_json_string_is(&pair->key, "const") && rules->const_as_enum)
		return llm_json_get(schema, "enum") == NULL;
	if (llm_json_string_is(&pair->key, "minItems") && rules->most_min_items >= 0)
		return is_at_most(&pair->value, rules->most_min_items);
	if (llm_json_string_is(&pair->key, "additionalProperties") && rules->closed)
		return false;
	return is_one_of(&pair->key, rules->keywords);
}

void
llm_dialect_append_schema(StringInfo buf, const JsonbValue *schema, const LlmSchemaRules *rules)
{
	int n = 0;

	if (schema->type != jbvObject)
	{
		llm_json_append(buf, schema);
		return;
	}
	appendStringInfoChar(buf, '{');
	for (int i = 0; i < schema->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &schema->val.object.pairs[i];

		if (!is_kept(pair, schema, rules))
			continue;
		if (n++ > 0)
			appendStringInfoChar(buf, ',');
		append_keyword(buf, pair, rules);
	}
	if (rules->closed && llm_json_get(schema, "properties") != NULL)
		appendStringInfo(buf, "%s\"additionalProperties\":false", n > 0 ? "," : "");
	appendStringInfoChar(buf, '}');
}

/* ---- addresses ---- */

char *
llm_dialect_path_step(const char *name)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (; *name != '\0'; name++)
	{
		unsigned char c = (unsigned char) *name;

		if ((c < 0x80 && isalnum(c)) || strchr("-_.~", c) != NULL)
			appendStringInfoChar(&buf, (char) c);
		else
			appendStringInfo(&buf, "%%%02X", c);
	}
	return buf.data;
}
