/*-------------------------------------------------------------------------
 *
 * budget.h
 *	  What may still be spent, as the sender knows it; amounts are nanodollars.
 *
 *	  a pass:  begin()    read rules and sums, if they may have changed: then hold() for each
 *	                      request under way, and opened()
 *	           reserve(), release(), spend()     as requests are claimed, put back, settled
 *	           flush()    last, in the transaction of all that
 *	  undo()   the transaction failed: what it did is not so
 *
 * All inside a transaction of the sender, but for undo(), is_due() and left().
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_MONEY_BUDGET_H
#define LLM_MONEY_BUDGET_H

#include "base/llm_enrich.h"

#include "tables/budget.h"

/* A cap of one job or command, beside the budgets. */
typedef struct LlmPurse
{
	bool open; /* there is one */
	int64 amount;
	int64 spent;
	int64 reserved;
} LlmPurse;

/* The budgets that hold for one spender; good while the version is. */
typedef struct LlmAccount
{
	uint64 version; /* 0: never looked up */
	int n;
	int *budgets; /* places of budgets, in the context of find() */
	LlmPurse *purse; /* or NULL */
} LlmAccount;

/* True: they were read again, and requests under way are to be told by hold(), then opened(). */
extern bool llm_money_begin(void);
extern void llm_money_hold(const LlmSpender *spender, TimestampTz sent_at, int64 reserved);
extern void llm_money_opened(void);

/* The same for what a dead sender left: what it has reserved stays so. */
extern void llm_money_resume(void);

/* Rules may have changed, or a period is over: begin() wants a transaction. */
extern bool llm_money_is_changed(void);
extern TimestampTz llm_money_ends_at(void); /* by the wall clock; DT_NOEND: never */

/* Are there any budgets? */
extern bool llm_money_exists(void);

/* Counts up whenever accounts have to be found again. */
extern uint64 llm_money_version(void);

/* The budgets that hold for the spender, in the current context; the purse stays. */
extern void llm_money_find(const LlmSpender *spender, LlmAccount *account);

/* Add those that hold for another one. */
extern void llm_money_find_more(const LlmSpender *spender, LlmAccount *account);

/* Does anything bound it? */
extern bool llm_money_bounds(const LlmAccount *account);

/* What may still be reserved; *which is the place of the tightest budget, or -1: the purse, or nothing. */
extern int64 llm_money_left(const LlmAccount *account, int *which);

/* The most that there can ever be. */
extern int64 llm_money_ever(const LlmAccount *account, int *which);

extern const LlmBudgetRow *llm_money_row(int place);

/* Would there be so much, if all that is reserved came back? */
extern bool llm_money_may_come_back(const LlmAccount *account, int64 wanted);

/* While claims are planned: what a job will take of what is left, until forgotten. */
extern void llm_money_promise(const LlmAccount *account, int64 amount);
extern bool llm_money_promised(const LlmAccount *account);
extern void llm_money_forget_promises(void);

extern void llm_money_reserve(const LlmSpender *spender, LlmPurse *purse, TimestampTz sent_at, int64 reserved);
extern void llm_money_release(const LlmSpender *spender, LlmPurse *purse, TimestampTz sent_at, int64 reserved);

/* A request is over and booked at this cost, a numeric in dollars. */
extern void llm_money_spend(const LlmSpender *spender, LlmPurse *purse, TimestampTz sent_at, Datum cost);

/* A job waits for the budget at this place, and its next request needs so much. */
extern void llm_money_note_waiting(int place, int64 needed);
extern void llm_money_forget_waiting(void);

/* Does what was noted differ from what is stored? */
extern bool llm_money_waiting_changed(void);
extern void llm_money_store_waiting(void);

/* In the transaction's end: store; when it has committed, keep(); when it failed, undo(). */
extern void llm_money_flush(void);
extern void llm_money_keep(void);
extern void llm_money_undo(void);

/* A numeric of dollars, rounded up. */
extern int64 llm_money_nano(Datum dollars);

#endif /* LLM_MONEY_BUDGET_H */
