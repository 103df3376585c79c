/*-------------------------------------------------------------------------
 *
 * op_redact.c
 *	  llm_redact: the message with placeholders for what should not be read.
 *
 *	  {"redacted": "Call [NAME] at [PHONE]."}
 *
 * The answer must be the input but for placeholders (redaction.c): a model that rewrites the
 * text is told so and asked again.  What has a form that a program knows must be gone from it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/json.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/redaction.h"
#include "operation/spec.h"
#include "operation/validate.h"

typedef const char *(*FindRest)(const char *words, size_t len, size_t *found_len);

typedef struct Kind
{
	const char *name;
	const char *meaning; /* for the model */
	FindRest find; /* what must not be left; or NULL */
	const char *found; /* what that is, in a sentence */
} Kind;

static const Kind kinds[] = {
	{"name", "names of people", NULL, NULL},
	{"email", "e-mail addresses", llm_redaction_find_email, "an e-mail address"},
	{"phone", "telephone numbers", NULL, NULL},
	{"address", "postal addresses", NULL, NULL},
	{"card", "numbers of payment cards", llm_redaction_find_card, "the number of a payment card"},
	{"iban", "IBANs and numbers of bank accounts", llm_redaction_find_iban, "an IBAN"},
	{"id", "numbers of passports, identity cards, taxpayers, social security and the like", NULL, NULL},
	{"date_of_birth", "dates of birth", NULL, NULL},
};

typedef struct Redact
{
	int n;
	LlmPlaceholder *placeholders;
	const Kind **known; /* beside them; NULL: a kind of the user's */
} Redact;

static const Kind *
find_kind(const JsonbValue *name)
{
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (llm_json_string_is(name, kinds[i].name))
			return &kinds[i];
	}
	return NULL;
}

/* "[DATE_OF_BIRTH]"; NULL where the name has other characters than a placeholder may. */
static char *
placeholder_of(const JsonbValue *name)
{
	char *result = psprintf("[%s]", llm_json_cstring(name));

	for (char *c = result + 1; c[1] != '\0'; c++)
	{
		if (*c >= 'a' && *c <= 'z')
			*c -= 'a' - 'A';
		else if (*c == ' ' || *c == '-')
			*c = '_';
		else if (!(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9') && *c != '_')
			return NULL;
	}
	return result;
}

/* All kinds, where none is given. */
static JsonbValue
all_kinds(void)
{
	JsonbValue *names = palloc(lengthof(kinds) * sizeof(JsonbValue));

	for (int i = 0; i < lengthof(kinds); i++)
		names[i] = llm_json_make_text(kinds[i].name);
	return llm_json_make_array(names, lengthof(kinds));
}

/* Check of the argument "kinds", besides what all lists of names must be. */
void
llm_argument_kinds(LlmSpec *spec, LlmArg arg, Datum value)
{
	const JsonbValue *names;

	llm_argument_names(spec, arg, value);
	names = &spec->pairs[spec->n - 1].value;
	for (int i = 0; i < names->val.array.nElems; i++)
	{
		const char *placeholder = placeholder_of(&names->val.array.elems[i]);

		if (placeholder == NULL)
			llm_spec_refuse(arg, "A kind of your own has letters from a to z, digits, blanks, \"_\" and \"-\": its placeholder is made of it, \"[LICENSE_PLATE]\".");
		for (int j = 0; j < i; j++)
		{
			if (strcmp(placeholder, placeholder_of(&names->val.array.elems[j])) == 0)
				llm_spec_refuse(arg, psprintf("Two kinds have the placeholder \"%s\".", placeholder));
		}
	}
}

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	const JsonbValue *given = llm_json_get(spec, "kinds");
	JsonbValue names = given == NULL ? all_kinds() : *given;
	Redact *own = palloc0(sizeof(Redact));
	JsonbPair type[1];
	JsonbValue schema;
	StringInfoData buf;

	own->n = names.val.array.nElems;
	own->placeholders = palloc(own->n * sizeof(LlmPlaceholder));
	own->known = palloc(own->n * sizeof(Kind *));
	initStringInfo(&buf);
	appendStringInfoString(&buf, "Copy the user's message letter by letter, with a placeholder in the place of each of these:\n");
	for (int i = 0; i < own->n; i++)
	{
		const JsonbValue *name = &names.val.array.elems[i];
		const char *placeholder = placeholder_of(name);

		if (placeholder == NULL)
			elog(ERROR, "kind of redaction has no placeholder");
		own->placeholders[i] = (LlmPlaceholder){placeholder, (int) strlen(placeholder)};
		own->known[i] = find_kind(name);
		appendStringInfo(&buf, "%s: ", placeholder);
		if (own->known[i] != NULL)
			appendStringInfoString(&buf, own->known[i]->meaning);
		else
			appendBinaryStringInfo(&buf, name->val.string.val, name->val.string.len);
		appendStringInfoChar(&buf, '\n');
	}
	appendStringInfoString(&buf, "Change nothing else, also no mistakes, blanks and line breaks. "
								 "Where there is none of them, give the message as it is.\n");
	llm_json_set_pair(type, "type", llm_json_make_text("string"));
	schema = llm_prompt_object_schema("redacted", llm_json_make_object(type, 1));
	recipe->schema = llm_json_store(&schema);
	llm_prompt_finish(&buf, spec, "{\"redacted\": \"…\"}", true);
	recipe->system = buf.data;
	recipe->value_key = "redacted";
	recipe->reads_input = true;
	recipe->private_data = own;
}

/* Is anything left that a program knows by its form? */
static bool
is_clean(const Redact *own, const char *words, size_t len, StringInfo fault)
{
	for (int i = 0; i < own->n; i++)
	{
		size_t found_len;

		if (own->known[i] == NULL || own->known[i]->find == NULL || own->known[i]->find(words, len, &found_len) == NULL)
			continue;
		appendStringInfo(fault, "The text still shows %s, for which %s should stand.", own->known[i]->found,
						 own->placeholders[i].str);
		return false;
	}
	return true;
}

/* The answer, with the white space that the input has around it: models drop that. */
static Jsonb *
make_answer(const LlmCandidate *given, const char *input, size_t input_len, const char *words, size_t len)
{
	StringInfoData whole;

	initStringInfo(&whole);
	appendBinaryStringInfo(&whole, given->input, input - given->input);
	appendBinaryStringInfo(&whole, words, len);
	appendBinaryStringInfo(&whole, input + input_len, given->input + given->input_len - (input + input_len));
	return llm_json_store_member("redacted", llm_json_make_string(whole.data, whole.len));
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	const Redact *own = recipe->private_data;
	JsonbValue *value = llm_validate_member(given->str, given->len, "redacted", fault);
	const char *input = given->input;
	size_t input_len = given->input_len;
	const char *words;
	size_t len;

	if (value == NULL)
		return NULL;
	if (value->type != jbvString)
	{
		appendStringInfo(fault, "\"redacted\" must be a string, not a JSON %s.", llm_json_type(value));
		return NULL;
	}
	if (input == NULL)
		elog(ERROR, "a redaction cannot be checked without its input");
	words = value->val.string.val;
	len = value->val.string.len;
	llm_json_trim(&words, &len);
	llm_json_trim(&input, &input_len);
	if (!llm_redaction_check(input, input_len, words, len, own->placeholders, own->n, fault) ||
		!is_clean(own, words, len, fault))
		return NULL;
	return make_answer(given, input, input_len, words, len);
}

const LlmOperation llm_op_redact = {
	.name = "redact",
	.function = "llm_redact",
	.takes = LLM_TAKES(KINDS),
	.is_plain = true,
	.load = load,
	.check = check,
};
