/*-------------------------------------------------------------------------
 *
 * habit.c
 *	  What hosts were found not to take, and the simpler way that they are spoken to since.
 *
 * json_schema becomes json_object, which becomes the words alone; a cap on output tokens goes
 * under its other name; instructions go into the user's message.  Each step is made once and
 * never back, so that a host that refuses both ways ends as a rejected row and not as a circle.
 * A trigger on the table tells all processes, as for models.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/json.h"
#include "base/spi.h"
#include "catalog/fdw_habit.h"
#include "catalog/habit.h"

static LlmStatement insert_habit = {
	"INSERT INTO llm.habit AS h (server, model, name, value, why) VALUES ($1, $2, $3, $4, $5)"
	" ON CONFLICT (server, model, name) DO UPDATE SET value = EXCLUDED.value, why = EXCLUDED.why, since = now()"
	" WHERE h.value <> EXCLUDED.value AND NOT (h.name = 'answer_form' AND h.value = 'text')"
	" AND NOT (h.name = 'context_tokens' AND h.value::pg_catalog.int8 <= EXCLUDED.value::pg_catalog.int8)",
	5,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

static LlmStatement delete_habits = {
	"DELETE FROM llm.habit WHERE server = $1 AND model = $2",
	2,
	{TEXTOID, TEXTOID}};

LlmLearned
llm_habit_step(const LlmDialect *dialect, const LlmEndpoint *endpoint, int refused)
{
	const LlmHabits *habits = &endpoint->habits;
	const char *cap = habits->max_tokens_field != NULL ? habits->max_tokens_field : dialect->max_tokens_field;
	LlmLearned learned = {NULL, NULL};

	if ((dialect->simpler & refused) == 0 || (endpoint->learned & refused & ~LLM_USED_FORM) != 0)
		return learned;
	if (refused == LLM_USED_FORM && habits->answer_form < LLM_ANSWER_TEXT)
		learned = (LlmLearned){LLM_HABIT_ANSWER_FORM, llm_habit_form_name(habits->answer_form + 1)};
	else if (refused == LLM_USED_CAP)
		learned = (LlmLearned){LLM_HABIT_MAX_TOKENS_FIELD, strcmp(cap, dialect->max_tokens_field) == 0
															   ? dialect->other_max_tokens_field
															   : dialect->max_tokens_field};
	else if (refused == LLM_USED_ROLE)
		learned = (LlmLearned){LLM_HABIT_SYSTEM_ROLE, "user"};
	return learned;
}

void
llm_habit_note(const char *server, const char *model, const LlmLearned *learned, const char *why)
{
	Datum values[5];

	values[0] = CStringGetTextDatum(server);
	values[1] = CStringGetTextDatum(model);
	values[2] = CStringGetTextDatum(learned->name);
	values[3] = CStringGetTextDatum(learned->value);
	values[4] = CStringGetTextDatum(why != NULL ? why : "");
	llm_spi_execute(&insert_habit, values, NULL, false);
}

void
llm_habit_forget(const char *server, const char *model)
{
	Datum values[2];

	values[0] = CStringGetTextDatum(server);
	values[1] = CStringGetTextDatum(model);
	llm_spi_execute(&delete_habits, values, NULL, false);
}

void
llm_habit_apply_learned(LlmEndpoint *endpoint, Jsonb *learned)
{
	static const struct
	{
		const char *name;
		int bit;
	} names[] = {
		{LLM_HABIT_ANSWER_FORM, LLM_USED_FORM},
		{LLM_HABIT_MAX_TOKENS_FIELD, LLM_USED_CAP},
		{LLM_HABIT_SYSTEM_ROLE, LLM_USED_ROLE},
		{LLM_HABIT_IGNORES_CAP, LLM_IGNORES_CAP},
		{LLM_HABIT_CONTEXT_TOKENS, 0},
	};
	LlmAnswerForm configured = endpoint->habits.answer_form;
	JsonbValue tree;

	if (learned == NULL || !llm_json_tree(learned, &tree))
		return;
	for (int i = 0; i < lengthof(names); i++)
	{
		const JsonbValue *value = llm_json_get(&tree, names[i].name);

		if (value == NULL)
			continue;
		llm_habit_apply(&endpoint->habits, names[i].name, llm_json_cstring(value));
		endpoint->learned |= names[i].bit;
	}
	/* somebody has set a simpler one since */
	endpoint->habits.answer_form = Max(endpoint->habits.answer_form, configured);
}
