/*-------------------------------------------------------------------------
 *
 * fdw_habit.h
 *	  Options that say how a host is spoken to, and by which way it is reached.
 *
 * The checks raise 22023 with what is wrong and what to type.  None of them repeats
 * a value that may hold a secret.  What the others read has been checked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_FDW_HABIT_H
#define LLM_FDW_HABIT_H

#include "base/llm_enrich.h"

#include "dialect/dialect.h"
#include "utils/jsonb.h"

/* Names of options, which are the same for servers and models. */
#define LLM_HABIT_ANSWER_FORM "answer_form"
#define LLM_HABIT_MAX_TOKENS_FIELD "max_tokens_field"
#define LLM_HABIT_SYSTEM_ROLE "system_role"
#define LLM_HABIT_CONTEXT_TOKENS "context_tokens"
#define LLM_HABIT_EXTRA_BODY "extra_body"
#define LLM_HABIT_TIMEOUT "timeout"
#define LLM_HABIT_CONNECT_TIMEOUT "connect_timeout"

extern void llm_habit_check_headers(const char *name, const char *value);
extern void llm_habit_check_query(const char *name, const char *value);
extern void llm_habit_check_key_header(const char *name, const char *value);
extern void llm_habit_check_extra_body(const char *name, const char *value);
extern void llm_habit_check_duration(const char *name, const char *value);
extern void llm_habit_check_context_tokens(const char *name, const char *value);
extern void llm_habit_check_answer_form(const char *name, const char *value);
extern void llm_habit_check_max_tokens_field(const char *name, const char *value);
extern void llm_habit_check_system_role(const char *name, const char *value);
extern void llm_habit_check_proxy(const char *name, const char *value);

/* Options of a model: an object of those that a model may override. */
extern void llm_habit_check_model(Jsonb *options);

/* Take what a habit's option says, which has been checked; another name, and NULL, change nothing. */
extern void llm_habit_apply(LlmHabits *habits, const char *name, const char *value);

/* The same for all options of a model. */
extern void llm_habit_apply_model(LlmHabits *habits, Jsonb *options);

/* A time as an option has it, in ms; 0: none, or no such time. */
extern int llm_habit_duration(const char *value);

/* The same of a model's option. */
extern int llm_habit_model_duration(Jsonb *options, const char *name);

/* "json_schema", …: the option's value. */
extern const char *llm_habit_form_name(LlmAnswerForm form);

/* An object of headers as lines "Name: value"; of char *, in the current context. */
extern List *llm_habit_header_lines(const char *headers);

/* A proxy without its user; *user becomes that, or NULL. */
extern char *llm_habit_split_proxy(const char *proxy, char **user);

#endif /* LLM_FDW_HABIT_H */
