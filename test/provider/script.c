/*-------------------------------------------------------------------------
 *
 * script.c
 *	  The settings that make the provider misbehave.
 *
 * A script is a JSON object, sent by a test over POST /script; it replaces the
 * one before.  Unknown settings are refused by name, so that a typing error in
 * a test does not pass as "no fault".  For each request script_decide() picks
 * what befalls it: first the ordered steps of "sequence", then a fixed
 * "status", then one throw of the dice over all probabilities together (so
 * "hang": 0.1 with "cut": 0.1 means a tenth each).
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names of the probabilities, and of the actions in a sequence. */
static const char *const action_names[ACT_COUNT] = {
	[ACT_OK] = "ok",
	[ACT_HANG] = "hang",
	[ACT_ERROR_500] = "error_500",
	[ACT_ERROR_503] = "error_503",
	[ACT_CUT] = "cut",
	[ACT_CUT_MID] = "cut_mid",
	[ACT_MALFORMED] = "malformed",
	[ACT_MALFORMED_CONTENT] = "malformed_content",
	[ACT_WRONG_LABEL] = "wrong_label",
	[ACT_TRUNCATED] = "truncated",
	[ACT_REFUSAL] = "refusal",
	[ACT_CONTENT_FILTER] = "content_filter",
	[ACT_EMPTY_CONTENT] = "empty_content",
	[ACT_OVERSIZED] = "oversized",
	[ACT_NO_USAGE] = "no_usage",
	[ACT_RATE_LIMIT] = "rate_limit",
	[ACT_SLOW_HEADERS] = "slow_headers",
	[ACT_SLOW_BODY] = "slow_body",
	[ACT_REDIRECT] = "redirect",
	[ACT_DIE_ON_REUSE] = "die_on_reuse",
	[ACT_STATUS] = "status",
};

static const struct
{
	const char *name;
	size_t offset;
	double most;
} number_settings[] = {
	{"latency_ms", offsetof(Script, latency_ms), 1e9},
	{"latency_jitter_ms", offsetof(Script, latency_jitter_ms), 1e9},
	{"usage_missing", offsetof(Script, usage_missing), 1},
	{"hang_ms", offsetof(Script, hang_ms), 1e9},
	{"slow_ms", offsetof(Script, slow_ms), 1e9},
	{"oversized_bytes", offsetof(Script, oversized_bytes), 1e12},
	{"retry_after", offsetof(Script, retry_after), 1e9},
	{"requests_per_minute", offsetof(Script, requests_per_minute), 1e12},
	{"tokens_per_minute", offsetof(Script, tokens_per_minute), 1e15},
	{"burst", offsetof(Script, burst), 1e12},
	{"burst_tokens", offsetof(Script, burst_tokens), 1e15},
	{"context_tokens", offsetof(Script, context_tokens), 1e12},
	{"cached_fraction", offsetof(Script, cached_fraction), 1},
	{"cache_write_fraction", offsetof(Script, cache_write_fraction), 1},
	{"reasoning_tokens", offsetof(Script, reasoning_tokens), 1e9},
};

static const struct
{
	const char *name;
	size_t offset;
} switch_settings[] = {
	{"hide_limits", offsetof(Script, hide_limits)},
	{"http_close", offsetof(Script, http_close)},
	{"enum_by_mark", offsetof(Script, enum_by_mark)},
	{"reject_temperature", offsetof(Script, reject_temperature)},
	{"reject_max_tokens", offsetof(Script, reject_max_tokens)},
	{"lenient_schema", offsetof(Script, lenient_schema)},
};

static uint64_t random_state = 1;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void
random_seed(uint64_t seed)
{
	random_state = seed * 0x9e3779b97f4a7c15u + 1;
}

/*
 * A number from 0 up to, not including, 1.
 */
double
random_unit(void)
{
	uint64_t mixed;

	random_state += 0x9e3779b97f4a7c15u;
	mixed = (random_state ^ (random_state >> 30)) * 0xbf58476d1ce4e5b9u;
	mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
	return (double) ((mixed ^ (mixed >> 31)) >> 11) * 0x1p-53;
}

void
script_init(Script *script)
{
	memset(script, 0, sizeof(*script));
	script->retry_after = -1;
	script->slow_ms = 1000;
	script->oversized_bytes = 16 * 1024 * 1024;
}

void
script_free(Script *script)
{
	for (size_t i = 0; i < script->model_count; i++)
		free(script->models[i]);
	for (size_t i = 0; i < script->step_count; i++)
	{
		free(script->steps[i].match);
		free(script->steps[i].body);
		free(script->steps[i].headers);
	}
	for (size_t i = 0; i < script->answer_count; i++)
	{
		free(script->answers[i].match);
		free(script->answers[i].content);
	}
	free(script->models);
	free(script->steps);
	free(script->answers);
	free(script->body);
	free(script->key);
	script_init(script);
}

static int
action_of(const char *name)
{
	for (int i = 0; name != NULL && i < ACT_COUNT; i++)
	{
		if (strcmp(name, action_names[i]) == 0)
			return i;
	}
	return -1;
}

/*
 * A string as it is, anything else as JSON text.  NULL if there is nothing.
 */
static char *
text_of(const json_t *value)
{
	if (value == NULL || json_is_null(value))
		return NULL;
	if (json_is_string(value))
		return need(strdup(json_string_value(value)));
	return need(json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY));
}

/*
 * An object of strings as header lines; NULL if it is none.
 */
static char *
header_lines(const json_t *value)
{
	Buf lines = {0};
	const char *name;
	json_t *member;

	if (!json_is_object(value))
		return NULL;
	buf_text(&lines, "");
	json_object_foreach((json_t *) value, name, member)
	{
		const char *text = json_string_value(member);

		if (text == NULL || strpbrk(text, "\r\n") != NULL || strpbrk(name, "\r\n: ") != NULL)
		{
			buf_free(&lines);
			return NULL;
		}
		buf_print(&lines, "\r\n%s: %s", name, text);
	}
	buf_char(&lines, '\0');
	return lines.at;
}

/* ---- one setting each; all return what is wrong, or NULL ---- */

static const char *
load_step(Step *step, const json_t *value)
{
	const char *key;
	json_t *member;

	*step = (Step){.times = 1, .status = 500, .retry_after = -1};
	step->match = need(strdup(""));
	json_object_foreach((json_t *) value, key, member)
	{
		if (strcmp(key, "match") == 0 && json_is_string(member))
		{
			free(step->match);
			step->match = need(strdup(json_string_value(member)));
		}
		else if (strcmp(key, "times") == 0 && json_is_integer(member))
			step->times = (long) json_integer_value(member);
		else if (strcmp(key, "status") == 0 && json_is_integer(member))
			step->status = (int) json_integer_value(member);
		else if (strcmp(key, "retry_after") == 0 && json_is_number(member))
			step->retry_after = json_number_value(member);
		else if (strcmp(key, "delay_ms") == 0 && json_is_number(member))
			step->delay_ms = json_number_value(member);
		else if (strcmp(key, "body") == 0 && step->body == NULL)
			step->body = text_of(member);
		else if (strcmp(key, "headers") == 0 && step->headers == NULL && (step->headers = header_lines(member)) != NULL)
			continue;
		else if (strcmp(key, "action") != 0)
			return "a step of \"sequence\" has match, times, action, status, body, "
				   "headers, retry_after, delay_ms";
	}
	if (action_of(json_string_value(json_object_get(value, "action"))) < 0)
		return "a step of \"sequence\" needs an \"action\": \"ok\", \"status\" or the "
			   "name of a probability";
	step->action = (Action) action_of(json_string_value(json_object_get(value, "action")));
	if (step->status < 100 || step->status > 599)
		return "\"status\" must be between 100 and 599";
	return NULL;
}

static const char *
load_sequence(Script *script, const json_t *value)
{
	if (!json_is_array(value))
		return "\"sequence\" must be an array";
	script->steps = need(calloc(json_array_size(value) + 1, sizeof(Step)));
	for (size_t i = 0; i < json_array_size(value); i++)
	{
		const char *problem =
			load_step(&script->steps[script->step_count++], json_array_get(value, i));

		if (problem != NULL)
			return problem;
	}
	return NULL;
}

static const char *
load_models(Script *script, const json_t *value)
{
	if (!json_is_array(value))
		return "\"models\" must be an array of strings";
	script->models = need(calloc(json_array_size(value) + 1, sizeof(char *)));
	for (size_t i = 0; i < json_array_size(value); i++)
	{
		if (!json_is_string(json_array_get(value, i)))
			return "\"models\" must be an array of strings";
		script->models[script->model_count++] = text_of(json_array_get(value, i));
	}
	return NULL;
}

static const char *
load_answers(Script *script, const json_t *value)
{
	const char *key;
	json_t *member;

	if (!json_is_object(value))
		return "\"answers\" must be an object";
	script->answers = need(calloc(json_object_size(value) + 1, sizeof(Override)));
	json_object_foreach((json_t *) value, key, member)
	{
		Override *answer = &script->answers[script->answer_count++];

		answer->match = need(strdup(key));
		answer->content = text_of(member);
		if (answer->content == NULL)
			answer->content = need(strdup("null"));
	}
	return NULL;
}

static const char *
load_retry_form(Script *script, const json_t *value)
{
	static const char *const names[] = {"seconds", "date", "ms", "none"};

	for (int i = 0; json_is_string(value) && i < 4; i++)
	{
		if (strcmp(json_string_value(value), names[i]) == 0)
		{
			script->retry_after_form = (RetryForm) i;
			return NULL;
		}
	}
	return "\"retry_after_form\" must be \"seconds\", \"date\", \"ms\" or \"none\"";
}

static const char *
load_status(Script *script, const json_t *value)
{
	script->status = (int) json_integer_value(value);
	if (!json_is_integer(value) || script->status < 100 || script->status > 599)
		return "\"status\" must be between 100 and 599";
	return NULL;
}

/*
 * The settings that are plain numbers, switches or probabilities.
 */
static const char *
load_simple(Script *script, const char *name, const json_t *value)
{
	static char problem[200];
	int action = action_of(name);

	for (size_t i = 0; i < COUNT(number_settings); i++)
	{
		double *place = (double *) (void *) ((char *) script + number_settings[i].offset);

		if (strcmp(name, number_settings[i].name) != 0)
			continue;
		*place = json_number_value(value);
		if (json_is_number(value) && *place >= 0 && *place <= number_settings[i].most)
			return NULL;
		snprintf(problem, sizeof(problem), "\"%s\" must be a number from 0 to %g", name,
				 number_settings[i].most);
		return problem;
	}
	for (size_t i = 0; i < COUNT(switch_settings); i++)
	{
		if (strcmp(name, switch_settings[i].name) != 0)
			continue;
		*(bool *) ((char *) script + switch_settings[i].offset) = json_is_true(value);
		snprintf(problem, sizeof(problem), "\"%s\" must be true or false", name);
		return json_is_boolean(value) ? NULL : problem;
	}
	if (action <= ACT_OK || action == ACT_STATUS)
	{
		snprintf(problem, sizeof(problem), "unknown setting \"%.100s\"", name);
		return problem;
	}
	script->chance[action] = json_number_value(value);
	snprintf(problem, sizeof(problem), "\"%s\" must be a probability from 0 to 1", name);
	return json_is_number(value) && script->chance[action] >= 0 && script->chance[action] <= 1
			   ? NULL
			   : problem;
}

static const char *
load_setting(Script *script, const char *name, const json_t *value)
{
	if (strcmp(name, "sequence") == 0)
		return load_sequence(script, value);
	if (strcmp(name, "models") == 0)
		return load_models(script, value);
	if (strcmp(name, "answers") == 0)
		return load_answers(script, value);
	if (strcmp(name, "retry_after_form") == 0)
		return load_retry_form(script, value);
	if (strcmp(name, "status") == 0)
		return load_status(script, value);
	if (strcmp(name, "body") == 0)
	{
		script->body = text_of(value);
		return NULL;
	}
	if (strcmp(name, "key") == 0)
	{
		script->key = text_of(value);
		return json_is_string(value) ? NULL : "\"key\" must be a string";
	}
	return load_simple(script, name, value);
}

/*
 * Replace the script.  On failure the old one stands and error says why.
 */
bool
script_load(Script *script, Span text, char *error, size_t error_size)
{
	json_error_t json_error;
	json_t *root = json_loadb(text.at, text.len, JSON_REJECT_DUPLICATES, &json_error);
	const char *problem = NULL;
	const char *key;
	json_t *value;
	Script fresh;
	double sum = 0;

	script_init(&fresh);
	if (root == NULL)
		problem = json_error.text;
	else if (!json_is_object(root))
		problem = "a script must be a JSON object";
	else
	{
		json_object_foreach(root, key, value)
		{
			problem = load_setting(&fresh, key, value);
			if (problem != NULL)
				break;
		}
	}
	for (int i = 1; i < ACT_COUNT; i++)
		sum += i == ACT_DIE_ON_REUSE ? 0 : fresh.chance[i];
	if (problem == NULL && sum > 1 + 1e-9)
		problem = "the probabilities must not add up to more than 1";
	if (problem != NULL)
	{
		snprintf(error, error_size, "%s", problem);
		script_free(&fresh);
	}
	else
	{
		script_free(script);
		*script = fresh;
	}
	json_decref(root);
	return problem == NULL;
}

/*
 * Decide what befalls a request; uses up a step of the sequence.
 */
Fate
script_decide(Script *script, Span body, bool reused)
{
	Fate fate = {.action = ACT_OK, .retry_after = script->retry_after};
	double dice;

	for (size_t i = 0; i < script->step_count; i++)
	{
		Step *step = &script->steps[i];

		if (step->times == 0 || span_find(body, span_of(step->match)) == NULL)
			continue;
		if (step->action == ACT_DIE_ON_REUSE && !reused)
			continue;
		if (step->times > 0)
			step->times--;
		fate.action = step->action;
		fate.status = step->status;
		fate.body = step->body;
		fate.headers = step->headers;
		fate.delay_ms = step->delay_ms;
		if (step->retry_after >= 0)
			fate.retry_after = step->retry_after;
		return fate;
	}
	if (reused && script->chance[ACT_DIE_ON_REUSE] > 0 &&
		random_unit() < script->chance[ACT_DIE_ON_REUSE])
	{
		fate.action = ACT_DIE_ON_REUSE;
		return fate;
	}
	if (script->status != 0)
	{
		fate.action = ACT_STATUS;
		fate.status = script->status;
		fate.body = script->body;
		return fate;
	}
	dice = random_unit();
	for (int i = ACT_OK + 1; i < ACT_STATUS; i++)
	{
		if (i == ACT_DIE_ON_REUSE)
			continue;
		if (dice < script->chance[i])
		{
			fate.action = (Action) i;
			return fate;
		}
		dice -= script->chance[i];
	}
	return fate;
}
