/*-------------------------------------------------------------------------
 *
 * budget.c
 *	  What may still be spent, as the sender knows it.
 *
 * The truth is on disk: what is spent and reserved of each budget is added up there in the
 * transaction that claims a request or stores its bill.  Here are copies, read again whenever a
 * rule, a role's members or the period may have changed, and after each transaction that failed;
 * what is reserved is then added up from the requests that are under way.  A copy of what is
 * spent is rounded up, so that it never promises more than there is.
 *
 * A request counts in the period in which it was sent: one that comes back after midnight is
 * booked to the day before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/syscache.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/spi.h"
#include "catalog/catalog_target.h"
#include "money/budget.h"

/* The period that runs, and the one before it. */
enum
{
	NOW,
	BEFORE,
	PERIODS
};

/* Is a role, or was it when that was last asked, a member of the budget's? */
typedef struct Member
{
	Oid role;
	bool is;
} Member;

/* What the transaction has added to what is spent of a purse, of which there may be nothing on disk. */
typedef struct Touched
{
	LlmPurse *purse;
	int64 spent;
} Touched;

typedef struct Budget
{
	LlmBudgetRow row; /* spent and reserved are kept up to date */
	List *members; /* of Member */
	int64 added[PERIODS]; /* to reserved, by this transaction */
	Datum cost[PERIODS]; /* numeric, in the transaction's memory; 0: nothing */
	int64 reserved_before; /* of the period before, while begin() is not over */
	int64 promised; /* while claims are planned */
	int waiting; /* jobs */
	int64 needed;
	int told_waiting; /* as stored */
	int64 told_needed;
} Budget;

/* All static: the sender's life. */
static MemoryContext budget_context = NULL; /* the array and what is in it */
static Budget *budgets = NULL;
static int nbudgets = 0;
static TimestampTz ends_at = DT_NOEND; /* of the first period that ends */
static uint64 version = 1;
static bool changed = true;
static uint64 generation = 0; /* of the catalog then */
static List *touched = NIL; /* of Touched, in the transaction's memory */
static bool pending = false; /* the transaction has something to flush */
static Oid rule_table = InvalidOid; /* as of the last look */

static void
note_table(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == rule_table || !OidIsValid(rule_table))
		changed = true;
}

/* Members of roles, and aliases, too. */
static void
note_role(Datum arg, int cache, uint32 hash)
{
	changed = true;
}

static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	CacheRegisterRelcacheCallback(note_table, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, note_role, (Datum) 0);
	registered = true;
}

bool
llm_money_is_changed(void)
{
	return changed;
}

TimestampTz
llm_money_ends_at(void)
{
	return ends_at;
}

bool
llm_money_exists(void)
{
	return nbudgets > 0;
}

uint64
llm_money_version(void)
{
	return version;
}

const LlmBudgetRow *
llm_money_row(int place)
{
	return &budgets[place].row;
}

int64
llm_money_nano(Datum dollars)
{
	Datum nano = DirectFunctionCall2(numeric_mul, dollars, NumericGetDatum(int64_to_numeric(LLM_NANO)));

	return DatumGetInt64(DirectFunctionCall1(numeric_int8, DirectFunctionCall1(numeric_ceil, nano)));
}

/* Read all of them into the array again. */
static void
read_budgets(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich budgets", ALLOCSET_SMALL_SIZES);
	MemoryContext saved = MemoryContextSwitchTo(context);
	List *rows = llm_budget_read(); /* may fail: then those of before stand */
	Budget *found = palloc0(sizeof(Budget) * Max(list_length(rows), 1));
	ListCell *lc;

	MemoryContextSetParent(context, TopMemoryContext);
	if (budget_context != NULL)
		MemoryContextDelete(budget_context);
	budget_context = context;
	budgets = found;
	nbudgets = 0;
	ends_at = DT_NOEND;
	version++;
	foreach(lc, rows)
	{
		Budget *budget = &budgets[foreach_current_index(lc)];

		budget->row = *(LlmBudgetRow *) lfirst(lc);
		budget->told_waiting = -1; /* not known */
		ends_at = Min(ends_at, budget->row.ends_at);
	}
	nbudgets = list_length(rows);
	MemoryContextSwitchTo(saved);
}

/* Read rules and sums, if they may have changed. */
static bool
read_changed(void)
{
	register_callbacks();
	AcceptInvalidationMessages();
	if (!changed && ends_at > llm_clock_now() && (nbudgets == 0 || generation == llm_catalog_generation()))
		return false;
	changed = false;
	generation = llm_catalog_generation(); /* what aliases mean */
	rule_table = llm_spi_relation("budget_rule");
	read_budgets();
	if (nbudgets > 0)
		llm_budget_tidy();
	for (int i = 0; i < nbudgets; i++)
	{
		if (!budgets[i].row.open)
			llm_budget_open(&budgets[i].row);
	}
	return true;
}

void
llm_money_resume(void)
{
	(void) read_changed();
}

bool
llm_money_begin(void)
{
	if (!read_changed())
		return false;
	/* as stored; what is under way is told by hold() */
	for (int i = 0; i < nbudgets; i++)
	{
		budgets[i].added[NOW] = budgets[i].row.reserved;
		budgets[i].row.reserved = 0;
	}
	return true;
}

/* Is the role a member of the budget's? */
static bool
is_member(Budget *budget, Oid role)
{
	MemoryContext saved;
	ListCell *lc;
	Member *member;

	foreach(lc, budget->members)
	{
		member = lfirst(lc);
		if (member->role == role)
			return member->is;
	}
	saved = MemoryContextSwitchTo(budget_context);
	member = palloc(sizeof(Member));
	member->role = role;
	member->is = is_member_of_role_nosuper(role, budget->row.role);
	budget->members = lappend(budget->members, member);
	MemoryContextSwitchTo(saved);
	return member->is;
}

/* Do the tags say so? */
static bool
has_tag(Jsonb *tags, const char *tag, const char *value)
{
	JsonbValue buffer;
	const JsonbValue *found;

	if (tags == NULL)
		return false;
	found = getKeyJsonValueFromContainer(&tags->root, tag, strlen(tag), &buffer);
	if (found == NULL)
		return false;
	if (found->type == jbvString)
		return (size_t) found->val.string.len == strlen(value) &&
			   memcmp(found->val.string.val, value, found->val.string.len) == 0;
	if (found->type == jbvNumeric)
	{
		Datum number = NumericGetDatum(found->val.numeric);

		return strcmp(DatumGetCString(DirectFunctionCall1(numeric_out, number)), value) == 0;
	}
	return found->type == jbvBool && strcmp(found->val.boolean ? "true" : "false", value) == 0;
}

static bool
is_same(const char *scope, const char *word)
{
	return scope == NULL || (word != NULL && strcmp(scope, word) == 0);
}

/* By number where both are known: a server may have got another name since the request left. */
static bool
is_same_server(const LlmBudgetRow *row, const LlmSpender *spender)
{
	if (row->server == NULL)
		return true;
	if (OidIsValid(row->server_oid) && OidIsValid(spender->server_oid))
		return row->server_oid == spender->server_oid;
	return is_same(row->server, spender->server);
}

/* All given scopes must match. */
static bool
holds_for(Budget *budget, const LlmSpender *spender)
{
	const LlmBudgetRow *row = &budget->row;

	if (OidIsValid(row->relation) && row->relation != spender->relation)
		return false;
	if (row->alias != NULL && (row->model == NULL || !is_same(row->model, spender->model)))
		return false;
	if (!is_same_server(row, spender))
		return false;
	if (row->tag != NULL && !has_tag(spender->tags, row->tag, row->value))
		return false;
	return !OidIsValid(row->role) || is_member(budget, spender->role);
}

static int
period_of(const Budget *budget, TimestampTz sent_at)
{
	return sent_at == 0 || sent_at >= budget->row.starts_at ? NOW : BEFORE;
}

void
llm_money_hold(const LlmSpender *spender, TimestampTz sent_at, int64 reserved)
{
	for (int i = 0; i < nbudgets; i++)
	{
		if (!holds_for(&budgets[i], spender))
			continue;
		if (period_of(&budgets[i], sent_at) == NOW)
			budgets[i].row.reserved += reserved;
		else
			budgets[i].reserved_before += reserved;
	}
}

void
llm_money_opened(void)
{
	for (int i = 0; i < nbudgets; i++)
	{
		Budget *budget = &budgets[i];
		LlmBudgetRow *row = &budget->row;

		if (budget->added[NOW] != row->reserved)
			llm_budget_set_reserved(row->id, row->starts_at, row->reserved);
		budget->added[NOW] = 0;
		if (row->previous != row->starts_at)
			llm_budget_set_reserved(row->id, row->previous, budget->reserved_before);
	}
}

void
llm_money_find(const LlmSpender *spender, LlmAccount *account)
{
	account->version = version;
	account->n = 0;
	if (nbudgets == 0)
		return;
	account->budgets = palloc(sizeof(int) * nbudgets);
	for (int i = 0; i < nbudgets; i++)
	{
		if (holds_for(&budgets[i], spender))
			account->budgets[account->n++] = i;
	}
}

void
llm_money_find_more(const LlmSpender *spender, LlmAccount *account)
{
	for (int i = 0; i < nbudgets; i++)
	{
		bool known = false;

		for (int k = 0; k < account->n; k++)
			known = known || account->budgets[k] == i;
		if (!known && holds_for(&budgets[i], spender))
			account->budgets[account->n++] = i;
	}
}

bool
llm_money_bounds(const LlmAccount *account)
{
	return account->n > 0 || (account->purse != NULL && account->purse->open);
}

int64
llm_money_left(const LlmAccount *account, int *which)
{
	int64 least = PG_INT64_MAX;

	*which = -1;
	if (account->purse != NULL && account->purse->open)
		least = account->purse->amount - account->purse->spent - account->purse->reserved;
	for (int i = 0; i < account->n; i++)
	{
		const LlmBudgetRow *row = &budgets[account->budgets[i]].row;
		int64 left = row->amount - row->spent - row->reserved - budgets[account->budgets[i]].promised;

		if (left >= least)
			continue;
		least = left;
		*which = account->budgets[i];
	}
	return least;
}

int64
llm_money_ever(const LlmAccount *account, int *which)
{
	int64 least = PG_INT64_MAX;

	*which = -1;
	for (int i = 0; i < account->n; i++)
	{
		const LlmBudgetRow *row = &budgets[account->budgets[i]].row;

		if (row->amount >= least)
			continue;
		least = row->amount;
		*which = account->budgets[i];
	}
	return least;
}

bool
llm_money_may_come_back(const LlmAccount *account, int64 wanted)
{
	const LlmPurse *purse = account->purse;

	if (purse != NULL && purse->open && purse->amount - purse->spent < wanted)
		return false;
	for (int i = 0; i < account->n; i++)
	{
		const LlmBudgetRow *row = &budgets[account->budgets[i]].row;

		if (row->amount - row->spent < wanted)
			return false;
	}
	return true;
}

void
llm_money_promise(const LlmAccount *account, int64 amount)
{
	for (int i = 0; i < account->n; i++)
		budgets[account->budgets[i]].promised += amount;
}

bool
llm_money_promised(const LlmAccount *account)
{
	for (int i = 0; i < account->n; i++)
	{
		if (budgets[account->budgets[i]].promised > 0)
			return true;
	}
	return false;
}

void
llm_money_forget_promises(void)
{
	for (int i = 0; i < nbudgets; i++)
		budgets[i].promised = 0;
}

void
llm_money_reserve(const LlmSpender *spender, LlmPurse *purse, TimestampTz sent_at, int64 reserved)
{
	if (purse != NULL)
		purse->reserved += reserved;
	for (int i = 0; i < nbudgets; i++)
	{
		Budget *budget = &budgets[i];
		int period;

		if (!holds_for(budget, spender))
			continue;
		period = period_of(budget, sent_at);
		budget->added[period] += reserved;
		if (period == NOW)
			budget->row.reserved += reserved;
		pending = true;
	}
}

void
llm_money_release(const LlmSpender *spender, LlmPurse *purse, TimestampTz sent_at, int64 reserved)
{
	if (reserved != 0)
		llm_money_reserve(spender, purse, sent_at, -reserved);
}

void
llm_money_spend(const LlmSpender *spender, LlmPurse *purse, TimestampTz sent_at, Datum cost)
{
	int64 nano = llm_money_nano(cost);

	if (nano == 0)
		return;
	if (purse != NULL)
	{
		Touched *touch = palloc(sizeof(Touched));

		*touch = (Touched){purse, nano};
		touched = lappend(touched, touch);
		purse->spent += nano;
	}
	for (int i = 0; i < nbudgets; i++)
	{
		Budget *budget = &budgets[i];
		int period;

		if (!holds_for(budget, spender))
			continue;
		period = period_of(budget, sent_at);
		if (budget->cost[period] == (Datum) 0)
			budget->cost[period] = cost;
		else
			budget->cost[period] = DirectFunctionCall2(numeric_add, budget->cost[period], cost);
		if (period == NOW)
			budget->row.spent += nano;
		pending = true;
	}
}

void
llm_money_note_waiting(int place, int64 needed)
{
	Budget *budget = &budgets[place];

	budget->waiting++;
	if (budget->needed == 0 || needed < budget->needed)
		budget->needed = needed;
}

void
llm_money_forget_waiting(void)
{
	for (int i = 0; i < nbudgets; i++)
	{
		budgets[i].waiting = 0;
		budgets[i].needed = 0;
	}
}

static bool
waiting_differs(const Budget *budget)
{
	return budget->waiting != budget->told_waiting || budget->needed != budget->told_needed;
}

bool
llm_money_waiting_changed(void)
{
	for (int i = 0; i < nbudgets; i++)
	{
		if (waiting_differs(&budgets[i]))
			return true;
	}
	return false;
}

void
llm_money_store_waiting(void)
{
	for (int i = 0; i < nbudgets; i++)
	{
		Budget *budget = &budgets[i];

		if (!waiting_differs(budget))
			continue;
		llm_budget_set_waiting(budget->row.id, budget->row.starts_at, budget->needed, budget->waiting);
		budget->told_waiting = budget->waiting;
		budget->told_needed = budget->needed;
	}
}

void
llm_money_flush(void)
{
	LlmBudgetChange *changes;
	int n = 0;

	if (!pending)
		return;
	changes = palloc0(sizeof(LlmBudgetChange) * PERIODS * nbudgets);
	for (int i = 0; i < nbudgets; i++)
	{
		for (int period = 0; period < PERIODS; period++)
		{
			Budget *budget = &budgets[i];

			if (budget->added[period] == 0 && budget->cost[period] == (Datum) 0)
				continue;
			changes[n].budget = budget->row.id;
			changes[n].starts_at = period == NOW ? budget->row.starts_at : budget->row.previous;
			changes[n].reserved = budget->added[period];
			changes[n++].spent = budget->cost[period];
			budget->added[period] = 0;
			budget->cost[period] = (Datum) 0;
		}
	}
	llm_budget_add(changes, n);
	pending = false;
	for (int c = 0; c < n; c++)
	{
		for (int i = 0; i < nbudgets; i++)
		{
			if (budgets[i].row.id == changes[c].budget && budgets[i].row.starts_at == changes[c].starts_at)
				budgets[i].row.spent = changes[c].spent_now;
		}
	}
}

void
llm_money_keep(void)
{
	touched = NIL;
}

void
llm_money_undo(void)
{
	foreach_ptr(Touched, touch, touched)
		touch->purse->spent -= touch->spent;
	touched = NIL;
	changed = true;
	pending = false;
	for (int i = 0; i < nbudgets; i++)
	{
		memset(budgets[i].added, 0, sizeof(budgets[i].added));
		memset(budgets[i].cost, 0, sizeof(budgets[i].cost));
	}
}
