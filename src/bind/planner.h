/*-------------------------------------------------------------------------
 *
 * planner.h
 *	  The planner hook: calls in INSERT, UPDATE and MERGE are made deferred ones.
 *
 *	  calls()     is the extension here, and which functions are its calls
 *	  find()      where calls stand, and whether each may stand there
 *	  target()    can rows of the relation be found again, and by what
 *	  rewrite()   put issue(), keep() and bind() in
 *
 * All but init() run inside the hook, in this order.  Everything is refused
 * before anything is changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PLANNER_H
#define LLM_PLANNER_H

#include "base/llm_enrich.h"

#include "nodes/parsenodes.h"
#include "utils/relcache.h"

#include "base/compat.h"
#include "bind/defer_spec.h"

/* Functions of the extension in this database, by OID. */
typedef struct LlmPlannerCalls
{
	List *calls; /* OIDs of the functions whose calls are deferred */
	Oid issue;
	Oid keep;
	Oid bind;
	Oid seen;
	Oid keep_quiet;
	Oid carried;
	Oid bind_quiet;
} LlmPlannerCalls;

/* A call that will be deferred. */
typedef struct LlmFoundCall
{
	FuncExpr *call;
	bool direct; /* see LlmDeferSite */
} LlmFoundCall;

/*
 * One value of an assignment to a quiet cell, with a call in it (planner_quiet.c):
 * CASE WHEN keep_quiet(carrier, leaves ...) THEN value meanwhile ELSE the value as it
 * would be without a call END.
 */
typedef struct LlmFoundBranch
{
	FuncExpr *keep; /* carrier and leaves; rewrite() adds what comes before */
	CaseWhen *when; /* its result is what rewrite() fills in */
	FuncExpr *carried; /* gives the carrier's value where that is no marker; NULL: not needed */
	Oid returns; /* type of the call */
	Node *kept; /* the expression around it, over parameters; NULL: a bare call */
	List *leaves; /* values of parameters from the second on */
	AttrNumber offered; /* the call is that of this column of the INSERT, by EXCLUDED; 0: its own */
} LlmFoundBranch;

typedef struct LlmFoundQuiet
{
	FuncExpr *call; /* the first one, for messages */
	Expr *expr; /* what is assigned instead */
	List *branches; /* of LlmFoundBranch */
	FuncExpr *clear; /* where a row may take no branch: forgets what the last row had; or NULL */
	Bitmapset *reads; /* columns of the row that the expression reads */
	bool is_own; /* a bare call's answer is stored as its own value, not as JSON */
} LlmFoundQuiet;

/* A column that gets markers, or answers quietly. */
typedef struct LlmFoundValue
{
	TargetEntry *entry; /* resno is the table's attribute number */
	bool is_update; /* the row was there before: its old value is kept */
	List *beside; /* the target list that the entry is in */
	LlmFoundQuiet *quiet; /* or NULL: the cell shows a marker */
} LlmFoundValue;

/* A quiet column of a target. */
typedef struct LlmFoundQuietColumn
{
	AttrNumber attno;
	int column; /* index into spec->columns */
	List *reads; /* attribute numbers that its expressions read, or may be the input; LLM_FENCE_READS at most */
} LlmFoundQuietColumn;

/* A view between the statement and its table, the innermost first. */
typedef struct LlmFoundView
{
	Oid view;
	Query *query; /* its own */
	int varno; /* what it selects from, therein */
} LlmFoundView;

/* What a row must satisfy, marker and all, for its answer to find it (planner_seen.c). */
typedef struct LlmFoundCondition
{
	const char *hider; /* view or row security, for messages */
	Node *qual; /* over columns of the target */
} LlmFoundCondition;

/* A query that stores markers. */
typedef struct LlmFoundTarget
{
	Query *query;
	FuncExpr *call; /* the first call, for messages */
	List *values; /* of LlmFoundValue */

	/* set by target() */
	LlmDeferTarget *spec;
	AttrNumber *key_attnos; /* in the table */
	AttrNumber *column_attnos; /* likewise, beside spec->columns */
	List *quiet; /* of LlmFoundQuietColumn */
	AttrNumber *shown; /* by the table's attribute number less one: in the relation as named; 0: not shown */
	List *views; /* of LlmFoundView */
	List *conditions; /* of LlmFoundCondition */
} LlmFoundTarget;

/* Everything that is found in a statement. */
typedef struct LlmFound
{
	const char *query_string; /* or NULL */
	List *calls; /* of LlmFoundCall */
	List *asked; /* of FuncExpr: in conditions, asked when they are evaluated */
	List *targets; /* of LlmFoundTarget */
	List *lifts; /* of LlmFoundLift (planner_lift.h) */
	List *lifted; /* of LlmLiftColumn */
} LlmFound;

/* What is wrong, for llm_planner_refuse(). */
typedef struct LlmRefusal
{
	FuncExpr *call;
	const char *relation; /* or NULL */
	const char *column; /* or NULL */
	const char *detail;
	const char *hint;
} LlmRefusal;

extern void llm_planner_init(void);

/* NULL when the extension is not in this database.  Valid until the next catalog change. */
extern const LlmPlannerCalls *llm_planner_calls(void);

/* Does one stand anywhere in the tree, sub-queries included?  Walkers take an argument that they do not use. */
extern bool llm_planner_has_call(Node *node, void *unused);

/* Is this node one of our calls? */
extern bool llm_planner_is_call(const Node *node);

/* Raise 0A000 at the call's place in the query. */
pg_noreturn extern void llm_planner_refuse(const LlmFound *found, const LlmRefusal *refusal);

/* The queries around an expression, innermost first: what varlevelsup counts. */
typedef struct LlmQueryLevel
{
	Query *query;
	struct LlmQueryLevel *outer;
} LlmQueryLevel;

/*
 * The call whose marker may be the whole value of the expression, or of any column of a
 * query's result or of a row; NULL when there is none (planner_carry.c).  What was found
 * is remembered until forget_carried(), which is called before another tree is looked at.
 */
extern void llm_planner_forget_carried(void);
extern FuncExpr *llm_planner_carried(Node *node, LlmQueryLevel *level);

/* From now on that column, of a VALUES list or (varno 0) of a result, is said to carry the call. */
extern void llm_planner_carries(Query *query, int varno, int column, FuncExpr *call);
extern FuncExpr *llm_planner_carried_by_query(Query *query, LlmQueryLevel *outer);
extern FuncExpr *llm_planner_carried_by_row(Var *var, LlmQueryLevel *level);

/*
 * The call whose marker, stored by a query in WITH and given by its RETURNING, may be the
 * whole value of the expression; NULL when there is none.
 */
extern FuncExpr *llm_planner_returned(Node *node, LlmQueryLevel *level);

/* The argument of a cast that leaves a marker whole, else NULL. */
extern Node *llm_planner_cast_argument(Node *node);

/* Does the entry store a part of its column: an element, a field? */
extern bool llm_planner_is_part(const TargetEntry *entry);

/* Do all set operations of the tree keep every row as it is? */
extern bool llm_planner_is_union_all(Node *node);

/* The values that a CASE may have: its arms, and ELSE. */
extern List *llm_planner_case_values(CaseExpr *expr);

extern void llm_planner_find(Query *query, LlmFound *found);

/* Any call in the expression, sub-selects included; NULL when there is none. */
extern FuncExpr *llm_planner_any_call(Node *node);

/* Why a column of this type cannot show a marker, as a sentence; NULL when it can. */
extern const char *llm_planner_column_fault(Oid type);

/*
 * Fill target->conditions from target->views and row security; 0A000 where one cannot be
 * evaluated.  seen_calls(): the list of calls of seen() that check a stored row.
 */
extern void llm_planner_conditions(const LlmFound *found, LlmFoundTarget *target, Relation rel);
extern List *llm_planner_seen_calls(const LlmFoundTarget *target, Relation rel, Oid seen);

extern void llm_planner_target(const LlmFound *found, LlmFoundTarget *target, int number);

extern void llm_planner_rewrite(LlmFound *found);

/*
 * Quiet cells (planner_quiet.c): put an assignment's parts together, and the check that
 * binds the column.
 */
extern void llm_quiet_rewrite(LlmFoundTarget *target, Relation rel, LlmFoundValue *value,
							  const LlmPlannerCalls *functions);
extern FuncExpr *llm_quiet_check(LlmFoundTarget *target, Relation rel, LlmFoundQuietColumn *column, Oid bind_quiet);

/* In actions that leave a quiet column alone, forget what another row had there. */
extern void llm_quiet_clear_others(LlmFoundTarget *target, Oid keep_quiet);

/* Arguments of the functions that the hook puts in (planner_args.c). */
extern List *llm_rewrite_fixed_args(text *spec);
extern Node *llm_rewrite_column(LlmFoundTarget *target, Relation rel, AttrNumber attno);
extern List *llm_rewrite_row(LlmFoundTarget *target, Relation rel);

/* Does the expression use a type or function that only this session knows (planner_kept.c)? */
extern bool llm_kept_is_temporary(Node *expr);

/*
 * What the write-back needs to know, as a JSON object (see llm.job.cell): what is around the
 * call as SQL over parameters, fully qualified, whatever the session's settings.
 */
extern char *llm_kept_describe(const LlmFoundTarget *target, const LlmFoundQuietColumn *column,
							   const LlmFoundQuiet *quiet, const LlmFoundBranch *branch);

#endif /* LLM_PLANNER_H */
