/*-------------------------------------------------------------------------
 *
 * fdw_habit.c
 *	  Options that say how a host is spoken to, and by which way it is reached.
 *
 * Options of servers can be read by everybody in pg_foreign_server, so none may hold a
 * secret.  "%s" stands where the key belongs; a literal value under a name that secrets
 * have, or one that looks like a key, is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/guc.h"

#include "base/json.h"
#include "catalog/fdw_habit.h"
#include "dialect/dialect_shared.h"
#include "operation/spec.h"

/* Longer than any name of a parameter. */
#define WORD_BYTES 64

/* The shortest and the longest time that a request may be given. */
#define MIN_TIMEOUT_MS 10
#define MAX_TIMEOUT_MS 3600000

/* In less there is no room for a question and its answer. */
#define LEAST_CONTEXT_TOKENS 1000

static const char *const form_names[] = {
	[LLM_ANSWER_JSON_SCHEMA] = "json_schema",
	[LLM_ANSWER_JSON_OBJECT] = "json_object",
	[LLM_ANSWER_TEXT] = "text",
};

static const char *const roles[] = {"system", "developer", "user"};

/* Parts of names under which secrets stand; lower case. */
static const char *const secret_names[] = {
	"authorization",
	"cookie",
	"credential",
	"key",
	"passw",
	"secret",
	"signature",
	"token",
};

/* Headers that are the transport's own. */
static const char *const own_headers[] = {
	"accept",
	"connection",
	"content-encoding",
	"content-length",
	"content-type",
	"expect",
	"host",
	"proxy-authorization",
	"te",
	"trailer",
	"transfer-encoding",
	"upgrade",
};

/* Raise for a value that is not repeated. */
static void
refuse(const char *name, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\"", name),
			 errdetail_internal("%s", detail),
			 hint == NULL ? 0 : errhint("%s", hint)));
}

/* Raise for one of a few words that is none of them. */
static void
refuse_word(const char *name, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
			 errhint("%s", hint)));
}

static void
refuse_secret(const char *name, const char *where)
{
	refuse(name, psprintf("\"%s\" looks like the place of a secret, and options of servers can be read by everybody.", where),
		   "Write %s where the key belongs, and give the key by api_key_file, api_key_env, or the api_key of a user mapping.");
}

static bool
is_one_of(const char *word, const char *const *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (pg_strcasecmp(word, list[i]) == 0)
			return true;
	}
	return false;
}

static bool
is_secret_name(const char *name)
{
	char *lower = pstrdup(name);

	for (char *p = lower; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	for (int i = 0; i < lengthof(secret_names); i++)
	{
		if (strstr(lower, secret_names[i]) != NULL)
			return true;
	}
	return false;
}

/* A name of a header, as HTTP has it. */
static bool
is_header_name(const char *name)
{
	if (name[0] == '\0' || strlen(name) > WORD_BYTES)
		return false;
	for (; *name != '\0'; name++)
	{
		if (!isalnum((unsigned char) *name) && strchr("!#$%&'*+-.^_`|~", *name) == NULL)
			return false;
	}
	return true;
}

static bool
is_printable(const char *value)
{
	for (; *value != '\0'; value++)
	{
		if (*value < ' ' || *value >= 0x7f)
			return false;
	}
	return true;
}

/* At most one place for the key, and no other format. */
static int
count_places(const char *value)
{
	int n = 0;

	for (const char *at = value; (at = strstr(at, "%s")) != NULL; at += 2)
		n++;
	return n;
}

/* One header of an option. */
static void
check_header(const char *option, const char *header, const char *value)
{
	if (!is_header_name(header))
		refuse(option, psprintf("\"%s\" is no name of a header.", header), NULL);
	if (is_one_of(header, own_headers, lengthof(own_headers)))
		refuse(option, psprintf("Header \"%s\" is set by the transport.", header), NULL);
	if (!is_printable(value))
		refuse(option, psprintf("The value of header \"%s\" holds a character that is not printable ASCII.", header), NULL);
	if (count_places(value) > 1)
		refuse(option, psprintf("The value of header \"%s\" has more than one place for the key.", header), NULL);
	if (count_places(value) == 0 && (is_secret_name(header) || llm_dialect_holds_key(value)))
		refuse_secret(option, header);
}

static char *
decode(const LlmJsonSlice *slice)
{
	bool clean = true;
	size_t len;
	char *words = llm_json_decode(slice, &len, &clean);

	return clean && strlen(words) == len ? words : pstrdup("\n");
}

/* Read an object of strings; false when it is something else.  For each member "each" is called. */
static bool
walk_strings(const char *json, void (*each)(const char *key, const char *value, void *arg), void *arg)
{
	LlmJsonReader reader;
	LlmJsonSlice key;
	LlmJsonSlice value;

	llm_json_open(&reader, json, strlen(json));
	if (llm_json_peek(&reader) != '{')
		return false;
	llm_json_enter(&reader, '{');
	for (int i = 0; llm_json_next_key(&reader, i, &key); i++)
	{
		if (!llm_json_string(&reader, &value))
			return false;
		each(decode(&key), decode(&value), arg);
	}
	return llm_json_close(&reader);
}

static void
check_each_header(const char *key, const char *value, void *arg)
{
	check_header(arg, key, value);
}

void
llm_habit_check_headers(const char *name, const char *value)
{
	if (!walk_strings(value, check_each_header, unconstify(char *, name)))
		refuse(name, "It must be a JSON object of names and strings.", "An example is {\"OpenAI-Project\": \"proj_1\", \"X-Auth\": \"Bearer %s\"}.");
}

static void
add_line(const char *key, const char *value, void *arg)
{
	List **lines = arg;

	*lines = lappend(*lines, psprintf("%s: %s", key, value));
}

List *
llm_habit_header_lines(const char *headers)
{
	List *lines = NIL;

	if (headers != NULL)
		(void) walk_strings(headers, add_line, &lines);
	return lines;
}

void
llm_habit_check_key_header(const char *name, const char *value)
{
	const char *colon = strchr(value, ':');

	if (colon == NULL || count_places(value) != 1)
		refuse(name, "It must be a header's name and value with one place for the key.", "An example is 'api-key: %s', or 'Authorization: Bearer %s'.");
	check_header(name, pnstrdup(value, colon - value), colon + 1 + strspn(colon + 1, " "));
}

void
llm_habit_check_query(const char *name, const char *value)
{
	char *copy = pstrdup(value);
	char *part;
	char *rest;

	for (const char *p = value; *p != '\0'; p++)
	{
		if ((unsigned char) *p <= ' ' || (unsigned char) *p >= 0x7f || strchr("\\\"<>^`{|}?#", *p) != NULL)
			refuse(name, "It holds a character that no query may have.", "An example is 'api-version=2024-10-21'.");
	}
	for (part = strtok_r(copy, "&", &rest); part != NULL; part = strtok_r(NULL, "&", &rest))
	{
		char *equals = strchr(part, '=');

		if (equals == NULL || equals == part)
			refuse(name, "It must be pairs NAME=VALUE with \"&\" between them.", "An example is 'api-version=2024-10-21'.");
		else
		{
			*equals = '\0';
			if (count_places(equals + 1) == 0 && (is_secret_name(part) || llm_dialect_holds_key(equals + 1)))
				refuse_secret(name, part);
		}
	}
	if (value[0] == '\0' || count_places(value) > 1)
		refuse(name, "It must have one pair NAME=VALUE at least, and one place for the key at most.", NULL);
}

void
llm_habit_check_extra_body(const char *name, const char *value)
{
	LlmJsonReader reader;
	LlmJsonSlice key;

	llm_json_open(&reader, value, strlen(value));
	if (llm_json_peek(&reader) != '{')
		refuse(name, "It must be a JSON object.", "An example is {\"top_k\": 40}.");
	llm_json_enter(&reader, '{');
	for (int i = 0; llm_json_next_key(&reader, i, &key); i++)
	{
		char *member = decode(&key);

		if (llm_options_is_questions_own(member))
			refuse(name, psprintf("Member \"%s\" is the question's own.", member), NULL);
		llm_json_skip(&reader);
	}
	if (!llm_json_close(&reader))
		refuse(name, "It must be a JSON object.", "An example is {\"top_k\": 40}.");
	if (llm_dialect_holds_key(value))
		refuse_secret(name, name);
}

int
llm_habit_duration(const char *value)
{
	int duration;

	return value != NULL && parse_int(value, &duration, GUC_UNIT_MS, NULL) && duration >= MIN_TIMEOUT_MS &&
				   duration <= MAX_TIMEOUT_MS
			   ? duration
			   : 0;
}

void
llm_habit_check_duration(const char *name, const char *value)
{
	if (llm_habit_duration(value) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
				 errdetail("It must be a time between %d ms and %d s.", MIN_TIMEOUT_MS, MAX_TIMEOUT_MS / 1000),
				 errhint("Valid units are \"ms\", \"s\", \"min\" and \"h\"; a plain number is milliseconds.")));
}

void
llm_habit_check_answer_form(const char *name, const char *value)
{
	if (!is_one_of(value, form_names, lengthof(form_names)))
		refuse_word(name, value, "It is json_schema, json_object or text.");
}

void
llm_habit_check_max_tokens_field(const char *name, const char *value)
{
	size_t len = strlen(value);

	if (len == 0 || len > WORD_BYTES || strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != len)
		refuse_word(name, value, "It is the name of a member of the request: max_tokens, or max_completion_tokens.");
}

/* Tokens as typed; 0: it is no such number. */
static int
parse_context_tokens(const char *value)
{
	int tokens;

	return parse_int(value, &tokens, 0, NULL) && tokens >= LEAST_CONTEXT_TOKENS ? tokens : 0;
}

void
llm_habit_check_context_tokens(const char *name, const char *value)
{
	if (parse_context_tokens(value) == 0)
		refuse_word(name, value,
					psprintf("It is the tokens of input that fit the model, at least %d.", LEAST_CONTEXT_TOKENS));
}

void
llm_habit_check_system_role(const char *name, const char *value)
{
	if (!is_one_of(value, roles, lengthof(roles)))
		refuse_word(name, value, "It is system, developer or user.");
}

void
llm_habit_check_proxy(const char *name, const char *value)
{
	static const char *const schemes[] = {"http://", "https://", "socks5h://", "socks5://"};
	const char *host = NULL;
	const char *at;

	for (int i = 0; i < lengthof(schemes); i++)
	{
		if (pg_strncasecmp(value, schemes[i], strlen(schemes[i])) == 0)
			host = value + strlen(schemes[i]);
	}
	if (host == NULL)
	{
		refuse(name, "It must begin with http://, https://, socks5:// or socks5h://.", "An example is 'http://proxy.example.com:3128'.");
		return;
	}
	at = strrchr(host, '@');
	if (at != NULL && memchr(host, ':', at - host) != NULL)
		refuse(name, "It holds a password, and options of servers can be read by everybody.",
			   "Write 'http://USER@HOST:PORT', and put the password into a file: proxy_password_file '/etc/postgresql/proxy.password'.");
	for (const char *p = value; *p != '\0'; p++)
	{
		if ((unsigned char) *p <= ' ' || (unsigned char) *p >= 0x7f || strchr("\\\"<>^`{|}?#", *p) != NULL)
			refuse(name, "It holds a character that no URL may have.", NULL);
	}
	if ((at != NULL ? at[1] : host[0]) == '\0')
		refuse(name, "It names no host.", NULL);
}

char *
llm_habit_split_proxy(const char *proxy, char **user)
{
	const char *host = strstr(proxy, "://");
	const char *at;

	*user = NULL;
	if (host == NULL)
		return pstrdup(proxy);
	host += 3;
	at = strrchr(host, '@');
	if (at == NULL)
		return pstrdup(proxy);
	*user = pnstrdup(host, at - host);
	return psprintf("%.*s%s", (int) (host - proxy), proxy, at + 1);
}

const char *
llm_habit_form_name(LlmAnswerForm form)
{
	return form_names[form];
}

/* What stands between the braces of an object; NULL when that is nothing. */
static char *
inside_of(const char *object)
{
	const char *from = strchr(object, '{');
	const char *to = strrchr(object, '}');
	char *inside;

	if (from == NULL || to == NULL)
		return NULL;
	inside = pnstrdup(from + 1, to - from - 1);
	return inside[strspn(inside, " \t\r\n")] == '\0' ? NULL : inside;
}

void
llm_habit_apply(LlmHabits *habits, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (strcmp(name, LLM_HABIT_ANSWER_FORM) == 0)
	{
		for (int i = 0; i < lengthof(form_names); i++)
		{
			if (pg_strcasecmp(value, form_names[i]) == 0)
				habits->answer_form = (LlmAnswerForm) i;
		}
	}
	else if (strcmp(name, LLM_HABIT_MAX_TOKENS_FIELD) == 0)
		habits->max_tokens_field = pstrdup(value);
	else if (strcmp(name, LLM_HABIT_SYSTEM_ROLE) == 0)
		habits->system_role = pstrdup(value);
	else if (strcmp(name, LLM_HABIT_EXTRA_BODY) == 0)
		habits->extra_body = inside_of(value);
	else if (strcmp(name, LLM_HABIT_CONTEXT_TOKENS) == 0)
		habits->context_tokens = parse_context_tokens(value);
}

/* Those options that a model may override, and how they are checked. */
static const struct
{
	const char *name;
	void (*check)(const char *name, const char *value);
} model_options[] = {
	{LLM_HABIT_ANSWER_FORM, llm_habit_check_answer_form},
	{LLM_HABIT_CONNECT_TIMEOUT, llm_habit_check_duration},
	{LLM_HABIT_CONTEXT_TOKENS, llm_habit_check_context_tokens},
	{LLM_HABIT_EXTRA_BODY, llm_habit_check_extra_body},
	{LLM_HABIT_MAX_TOKENS_FIELD, llm_habit_check_max_tokens_field},
	{LLM_HABIT_SYSTEM_ROLE, llm_habit_check_system_role},
	{LLM_HABIT_TIMEOUT, llm_habit_check_duration},
};

static char *
model_option_names(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(model_options); i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", model_options[i].name);
	return buf.data;
}

/* The value of an option: a string as it is, anything else as JSON text. */
static char *
option_text(const JsonbValue *value)
{
	StringInfoData buf;

	if (value->type == jbvString)
		return llm_json_cstring(value);
	initStringInfo(&buf);
	llm_json_append(&buf, value);
	return buf.data;
}

void
llm_habit_check_model(Jsonb *options)
{
	JsonbValue tree;

	if (options == NULL)
		return;
	if (!llm_json_tree(options, &tree) || tree.type != jbvObject)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON object", "options")));
	for (int i = 0; i < tree.val.object.nPairs; i++)
	{
		const JsonbPair *pair = &tree.val.object.pairs[i];
		bool known = false;

		for (int j = 0; j < lengthof(model_options); j++)
		{
			if (!llm_json_string_is(&pair->key, model_options[j].name))
				continue;
			known = true;
			model_options[j].check(model_options[j].name, option_text(&pair->value));
		}
		if (!known)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid option \"%s\"", llm_json_cstring(&pair->key)),
					 errhint("Options of a model are: %s. All others belong in CREATE SERVER.", model_option_names())));
	}
}

void
llm_habit_apply_model(LlmHabits *habits, Jsonb *options)
{
	JsonbValue tree;

	if (options == NULL || !llm_json_tree(options, &tree))
		return;
	for (int j = 0; j < lengthof(model_options); j++)
	{
		const JsonbValue *value = llm_json_get(&tree, model_options[j].name);

		if (value != NULL)
			llm_habit_apply(habits, model_options[j].name, option_text(value));
	}
}

int
llm_habit_model_duration(Jsonb *options, const char *name)
{
	JsonbValue tree;
	const JsonbValue *value = NULL;

	if (options != NULL && llm_json_tree(options, &tree))
		value = llm_json_get(&tree, name);
	return value == NULL ? 0 : llm_habit_duration(option_text(value));
}
