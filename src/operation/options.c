/*-------------------------------------------------------------------------
 *
 * options.c
 *	  The argument "options" of the llm_* functions: one table of what is
 *	  known, one check of what was given.
 *
 * Called in the user's statement.  An unknown key is an error that names the
 * known ones.  Words that name something of the provider's (reasoning_effort,
 * service_tier …) are checked for form alone, since providers add new ones.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/json.h"
#include "operation/spec.h"
#include "operation/truncate.h"

/* Tags go into each row of the ledger, so they are kept short. */
#define MAX_TAGS 32
#define MAX_TAG_NAME 64
#define MAX_TAG_VALUE 256

static const LlmOption known_options[] = {
	{"deadline", LLM_OPTION_DEADLINE, false, 0, 0, NULL},
	{"extra_body", LLM_OPTION_MEMBERS, true, 0, 0, NULL},
	{"max_tokens", LLM_OPTION_INTEGER, true, 1, 10000000, NULL},
	{"priority", LLM_OPTION_INTEGER, false, LLM_LEAST_PRIORITY, LLM_MOST_PRIORITY, NULL},
	{"quotes", LLM_OPTION_FLAG, true, 0, 0, "extract"},
	{"reasoning_effort", LLM_OPTION_WORD, true, 0, 0, NULL},
	{"reuse", LLM_OPTION_FLAG, true, 0, 0, NULL},
	{"seed", LLM_OPTION_INTEGER, true, PG_INT64_MIN, PG_INT64_MAX, NULL},
	{"service_tier", LLM_OPTION_WORD, true, 0, 0, NULL},
	{"tags", LLM_OPTION_TAGS, false, 0, 0, NULL},
	{"temperature", LLM_OPTION_NUMBER, true, 0, 2, NULL},
	{"top_p", LLM_OPTION_NUMBER, true, 0, 1, NULL},
	{"truncate", LLM_OPTION_PLACE, true, 0, 0, NULL},
	{"verbosity", LLM_OPTION_WORD, true, 0, 0, NULL},
};

/*
 * Members that ask the question, in the words of all dialects.  These lists are in small letters without "_" and "-":
 * providers that write "maxTokens" often take "max_tokens" as well.
 */
static const char *const questions_own[] = {
	"contents",
	"input",
	"messages",
	"model",
	"n",
	"prompt",
	"stream",
	"system",
	"systeminstruction",
};

/*
 * What a call may not set besides: the form of the answer, what would cost more than is reserved for it, what lets the
 * provider read more than was sent, and where a gateway sends it.  That has options, or is the server's and the
 * model's.
 */
static const char *const not_of_a_call[] = {
	"apibase",
	"apikey",
	"audio",
	"background",
	"baseurl",
	"bestof",
	"cachedcontent",
	"candidatecount",
	"connectors",
	"container",
	"datasources",
	"enablesearch",
	"fallbacks",
	"format",
	"functions",
	"guardrailconfig",
	"inferencegeo",
	"maxcompletiontokens",
	"maxnewtokens",
	"maxoutputtokens",
	"maxtokens",
	"mcpservers",
	"mockresponse",
	"modalities",
	"models",
	"numpredict",
	"performanceconfig",
	"plugins",
	"prediction",
	"provider",
	"responseformat",
	"responsejsonschema",
	"responsemimetype",
	"responsemodalities",
	"responseschema",
	"route",
	"searchoptions",
	"searchparameters",
	"searchsettings",
	"servicetier",
	"speechconfig",
	"speed",
	"tools",
	"usebeamsearch",
	"userconfig",
	"websearch",
	"websearchoptions",
};

const LlmOption *
llm_options(int *n)
{
	*n = lengthof(known_options);
	return known_options;
}

static const LlmOption *
find_option(const JsonbValue *name)
{
	for (int i = 0; i < lengthof(known_options); i++)
	{
		if (llm_json_string_is(name, known_options[i].name))
			return &known_options[i];
	}
	return NULL;
}

static char *
option_names(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(known_options); i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", known_options[i].name);
	return buf.data;
}

pg_noreturn static void refuse(const LlmOption *option, const char *hint);

static void
refuse(const LlmOption *option, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\"", option->name),
			 errhint("%s", hint)));
}

/* Check a number; a whole one is made to be written as such (1.0 becomes 1). */
static void
check_number(const LlmOption *option, JsonbValue *value)
{
	JsonbValue min = llm_json_make_int(option->min);
	JsonbValue max = llm_json_make_int(option->max);
	bool integer = option->type == LLM_OPTION_INTEGER;
	bool ok = value->type == jbvNumeric;

	if (ok && integer)
	{
		Datum whole = DirectFunctionCall2(numeric_trunc, NumericGetDatum(value->val.numeric), Int32GetDatum(0));

		ok = DatumGetBool(DirectFunctionCall2(numeric_eq, whole, NumericGetDatum(value->val.numeric)));
		value->val.numeric = DatumGetNumeric(whole);
	}
	if (!ok || llm_json_compare(value, &min) < 0 || llm_json_compare(value, &max) > 0)
		refuse(option, psprintf("It must be %s from " INT64_FORMAT " to " INT64_FORMAT ".",
								integer ? "a whole number" : "a number", option->min, option->max));
}

static void
check_word(const LlmOption *option, const JsonbValue *value)
{
	bool ok = value->type == jbvString && value->val.string.len >= 1 && value->val.string.len <= 32;

	for (int i = 0; ok && i < value->val.string.len; i++)
	{
		char c = value->val.string.val[i];

		ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
	}
	if (!ok)
		refuse(option, "It must be a word of lower-case letters, for instance \"low\".");
}

/* Does the text read as an interval?  *positive tells whether it lies ahead. */
static bool
reads_as_interval(const char *str, bool *positive)
{
	char work[MAXDATELEN + 1];
	char *field[MAXDATEFIELDS];
	int ftype[MAXDATEFIELDS];
	struct pg_itm_in itm = {0};
	int nf;
	int dtype;
	int error;

	error = ParseDateTime(str, work, sizeof(work), field, ftype, MAXDATEFIELDS, &nf);
	if (error == 0)
		error = DecodeInterval(field, ftype, nf, INTERVAL_FULL_RANGE, &dtype, &itm);
	if (error == DTERR_BAD_FORMAT)
		error = DecodeISO8601Interval(unconstify(char *, str), &dtype, &itm);
	*positive = itm.tm_year > 0 || itm.tm_mon > 0 || itm.tm_mday > 0 || itm.tm_usec > 0;
	return error == 0 && dtype == DTK_DELTA;
}

static bool
reads_as_timestamp(const char *str)
{
	char work[MAXDATELEN + MAXDATEFIELDS];
	char *field[MAXDATEFIELDS];
	int ftype[MAXDATEFIELDS];
	struct pg_tm tm;
	fsec_t fsec;
	int tz;
	int nf;
	int dtype;

	return ParseDateTime(str, work, sizeof(work), field, ftype, MAXDATEFIELDS, &nf) == 0 &&
		   llm_decode_datetime(field, ftype, nf, &dtype, &tm, &fsec, &tz) == 0 && dtype == DTK_DATE;
}

static void
check_deadline(const LlmOption *option, const JsonbValue *value)
{
	bool positive = false;
	char *str;

	if (value->type == jbvString && value->val.string.len <= MAXDATELEN)
	{
		str = llm_json_cstring(value);
		if (reads_as_interval(str, &positive) ? positive : reads_as_timestamp(str))
			return;
	}
	refuse(option, "It must be a string: an interval from now (\"2 hours\") or a time (\"2030-01-31 18:00+01\").");
}

TimestampTz
llm_operation_deadline(Jsonb *deadline)
{
	JsonbValue value;
	bool positive;
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	Datum interval;
	char *str;

	if (deadline == NULL || !llm_json_tree(deadline, &value) || value.type != jbvString)
		return DT_NOEND;
	str = llm_json_cstring(&value);
	if (!reads_as_interval(str, &positive))
		return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(str),
													   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	interval = DirectFunctionCall3(interval_in, CStringGetDatum(str), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), interval));
}

const char *
llm_operation_tags_fault(const JsonbValue *tags)
{
	if (tags->type != jbvObject || tags->val.object.nPairs > MAX_TAGS)
		return psprintf("It must be an object of at most %d tags, for instance {\"team\": \"support\"}.", MAX_TAGS);
	for (int i = 0; i < tags->val.object.nPairs; i++)
	{
		const JsonbValue *name = &tags->val.object.pairs[i].key;
		const JsonbValue *tag = &tags->val.object.pairs[i].value;

		if (tag->type != jbvString && tag->type != jbvNumeric && tag->type != jbvBool)
			return psprintf("The tag \"%s\" must be a string, a number, true or false.", llm_json_cstring(name));
		if (name->val.string.len == 0 ||
			pg_mbstrlen_with_len(name->val.string.val, name->val.string.len) > MAX_TAG_NAME)
			return psprintf("The name of a tag has 1 to %d characters.", MAX_TAG_NAME);
		if (tag->type == jbvString && pg_mbstrlen_with_len(tag->val.string.val, tag->val.string.len) > MAX_TAG_VALUE)
			return psprintf("The value of a tag has at most %d characters.", MAX_TAG_VALUE);
	}
	return NULL;
}

static void
check_tags(const LlmOption *option, const JsonbValue *value)
{
	const char *fault = llm_operation_tags_fault(value);

	if (fault != NULL)
		refuse(option, fault);
}

static bool
is_one_of(const char *word, const char *const *list, int n)
{
	char *plain = pstrdup(word);
	char *end = plain;

	for (const char *c = word; *c != '\0'; c++)
	{
		if (*c != '_' && *c != '-')
			*end++ = (char) pg_ascii_tolower((unsigned char) *c);
	}
	*end = '\0';
	for (int i = 0; i < n; i++)
	{
		if (strcmp(plain, list[i]) == 0)
			return true;
	}
	return false;
}

bool
llm_options_is_questions_own(const char *member)
{
	return is_one_of(member, questions_own, lengthof(questions_own));
}

static bool
is_number(const LlmOption *option)
{
	return option->type == LLM_OPTION_NUMBER || option->type == LLM_OPTION_INTEGER;
}

/* Members of the request, or of an object in it, which some dialects have for numbers. */
static void
check_members(const LlmOption *option, const JsonbValue *value, bool outermost)
{
	for (int i = 0; i < value->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &value->val.object.pairs[i];
		const LlmOption *same = find_option(&pair->key);
		char *name = llm_json_cstring(&pair->key);

		if (same != NULL && (outermost || (same->in_recipe && is_number(same))))
			refuse(option, psprintf("\"%s\" is an option of its own.", name));
		if ((outermost && llm_options_is_questions_own(name)) ||
			is_one_of(name, not_of_a_call, lengthof(not_of_a_call)))
			refuse(option, psprintf("The member \"%s\" is not for a call to set.", name));
		if (pair->value.type == jbvObject)
			check_members(option, &pair->value, false);
	}
}

static void
check_option(const LlmOption *option, JsonbValue *value)
{
	switch (option->type)
	{
		case LLM_OPTION_FLAG:
			if (value->type != jbvBool)
				refuse(option, "It must be true or false.");
			break;
		case LLM_OPTION_NUMBER:
		case LLM_OPTION_INTEGER:
			check_number(option, value);
			break;
		case LLM_OPTION_WORD:
			check_word(option, value);
			break;
		case LLM_OPTION_PLACE:
			if (value->type != jbvString || llm_truncate_find(llm_json_cstring(value)) == LLM_TRUNCATE_NOT)
				refuse(option, "It must be \"start\", \"middle\" or \"end\": where a text that is too long is cut.");
			break;
		case LLM_OPTION_DEADLINE:
			check_deadline(option, value);
			break;
		case LLM_OPTION_TAGS:
			check_tags(option, value);
			break;
		case LLM_OPTION_MEMBERS:
			if (value->type != jbvObject)
				refuse(option, "It must be a JSON object, for instance {\"top_k\": 40}.");
			check_members(option, value, true);
			break;
	}
}

const JsonbValue *
llm_options_check(Jsonb *options)
{
	JsonbValue *tree;

	if (options == NULL)
		return NULL;
	tree = palloc(sizeof(JsonbValue));
	if (!llm_json_tree(options, tree) || tree->type != jbvObject)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 errhint("For instance {\"temperature\": 0.2, \"max_tokens\": 200}.")));
	for (int i = 0; i < tree->val.object.nPairs; i++)
	{
		JsonbPair *pair = &tree->val.object.pairs[i];
		const LlmOption *option = find_option(&pair->key);

		if (option == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown option \"%s\"", llm_json_cstring(&pair->key)),
					 errhint("Known options are: %s.", option_names())));
		check_option(option, &pair->value);
	}
	return tree;
}
