/*-------------------------------------------------------------------------
 *
 * budget.h
 *	  Budgets: their rules, and what is spent and reserved of each.
 *
 *	  backend:  set(), server_of(), drop(), spent(), cheapest()     in the user's transaction
 *	  sender:   read(), open(), add()     in a transaction of its pass
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_BUDGET_H
#define LLM_BUDGET_H

#include "base/llm_enrich.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* Money is reckoned in billionths of a US dollar: what may be spent rounded down, what is spent rounded up. */
#define LLM_NANO INT64CONST(1000000000)

/* What is spent by which role on what, as the scopes of budgets see it.  Strings belong to the caller. */
typedef struct LlmSpender
{
	Oid role;
	Oid relation; /* InvalidOid: none, it is an immediate call */
	const char *server;
	Oid server_oid; /* a name may change while it is asked; InvalidOid: not known */
	const char *model; /* the provider's name */
	Jsonb *tags; /* or NULL */
} LlmSpender;

/* A rule as it is set.  Strings may be NULL: any. */
typedef struct LlmBudgetRule
{
	Datum amount; /* numeric, US dollars */
	const char *per; /* day, week, month or total */
	Oid role; /* InvalidOid: any */
	Oid relation; /* InvalidOid: any */
	const char *model; /* alias */
	const char *server;
	const char *tag; /* with value */
	const char *value;
	const char *time_zone; /* NULL: the session's */
	const char *set_by; /* a role's name */
} LlmBudgetRule;

/*
 * Set a budget, in the place of one with the same scope and period: its number.  0 when that one is of
 * another role, unless "any".
 */
extern int64 llm_budget_set(const LlmBudgetRule *rule, bool any);

/* False when there is no such budget.  The server that it is of, or its model's, in the current context; or NULL. */
extern bool llm_budget_server_of(int64 id, char **server);

/*
 * US dollars since a time by what the budget bounds, as the ledger has it; false when the current role may not see
 * such a budget.  In the current context.
 */
extern bool llm_budget_spent(int64 id, TimestampTz since, Datum *spent);

/*
 * The least that a request of so many tokens may cost, each input token of the dearest class, by the models of a
 * server (NULL: of all) or the one with an alias (NULL: all): US dollars; false where no price is known.
 */
extern bool llm_budget_cheapest(const char *server, const char *alias, int input_tokens, int output_tokens,
								double *dollars);

/* A server has another name: its budgets have, too.  The number of one that is left of a server of that name, or 0. */
extern int64 llm_budget_rename_server(const char *name, const char *new_name);

/* False when another role than this has set it, unless "any". */
extern bool llm_budget_drop(int64 id, const char *role, bool any);

/* A budget as the sender knows it.  Strings are NULL where the scope is any. */
typedef struct LlmBudgetRow
{
	int64 id;
	int64 amount; /* nanodollars */
	TimestampTz starts_at; /* of the period that runs */
	TimestampTz ends_at;
	TimestampTz previous; /* start of the one before */
	Oid role; /* InvalidOid: any */
	Oid relation; /* InvalidOid: any */
	char *alias;
	char *server; /* of the rule or of its model alias */
	Oid server_oid; /* InvalidOid: there is none of this name */
	char *model; /* the provider's name; NULL as well where there is no such alias */
	char *tag;
	char *value;
	bool open; /* its period has a row: what that says */
	int64 spent; /* nanodollars */
	int64 reserved;
} LlmBudgetRow;

/* All of them, in the current context. */
extern List *llm_budget_read(void);

/*
 * Begin its period: nothing reserved, and spent what the ledger has of it, which also goes into the row.
 * What is left of budgets that were dropped, and of periods long over, goes.
 */
extern void llm_budget_open(LlmBudgetRow *row);
extern void llm_budget_tidy(void);

/* What a transaction adds to a period. */
typedef struct LlmBudgetChange
{
	int64 budget;
	TimestampTz starts_at;
	Datum spent; /* numeric; 0: nothing */
	int64 reserved; /* nanodollars, less or more */
	int64 spent_now; /* set: nanodollars, all of the period */
} LlmBudgetChange;

extern void llm_budget_add(LlmBudgetChange *changes, int n);

/* What requests under way have reserved of a period, whatever stood there. */
extern void llm_budget_set_reserved(int64 budget, TimestampTz starts_at, int64 reserved);

/* How many jobs wait for it, and what the next request needs (nanodollars, 0: not known). */
extern void llm_budget_set_waiting(int64 budget, TimestampTz starts_at, int64 needed, int waiting);

#endif /* LLM_BUDGET_H */
