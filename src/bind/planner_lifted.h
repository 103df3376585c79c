/*-------------------------------------------------------------------------
 *
 * planner_lifted.h
 *	  Where a column comes from (a sub-select, WITH, VALUES), and which calls were moved out of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PLANNER_LIFTED_H
#define LLM_PLANNER_LIFTED_H

#include "base/llm_enrich.h"

#include "bind/planner.h"

/* Where a column comes from. */
typedef struct LlmLiftSource
{
	Query *query; /* whose result it is, or which has the VALUES list */
	int varno; /* of that list; 0: a result */
	int column;
	LlmQueryLevel *outer; /* what is around the query */
	RangeTblEntry *rte; /* of a Var */
	CommonTableExpr *cte; /* of one in WITH */
	SubLink *sublink; /* EXPR_SUBLINK: a query whose result is one column, to which none can be added */
} LlmLiftSource;

/* A call that was given a column of its own. */
typedef struct LlmLiftQuestion
{
	FuncExpr *call; /* the first one, for messages and for what it returns */
	int carrier; /* the column that has its marker */
	SubLink *sublink; /* a sub-select that has it instead; or NULL */
	Node *around; /* PARAM_EXEC 0 is the answer, any other number a column beside it */
} LlmLiftQuestion;

/* A column whose calls were moved, or which was looked at. */
typedef struct LlmFoundLift
{
	Query *query; /* whose result it is, or which has the VALUES list */
	int varno; /* of that list; 0: a result */
	int column;
	bool forced; /* looked at as a part of an expression */
	Node *own; /* what it is without an answer; NULL: what the column holds */
	List *questions; /* of LlmLiftQuestion */
} LlmFoundLift;

/* A column that was made or changed. */
typedef struct LlmLiftColumn
{
	Query *query;
	int varno;
	int column;
	Oid type; /* it has the markers of calls that return this; InvalidOid: calls were taken out of it */
} LlmLiftColumn;

/* "node" is of the level's query.  False: it is no column of a sub-select, WITH or VALUES. */
extern bool llm_lift_find_source(Node *node, LlmQueryLevel *level, LlmLiftSource *source);

/* What was noted of it; NULL: nothing yet. */
extern LlmFoundLift *llm_lift_find(const LlmFound *found, const LlmLiftSource *source);

/* What became of the column, parameter or sub-select; NULL: nothing was moved out of it. */
extern LlmFoundLift *llm_lift_of(const LlmFound *found, Node *node, LlmQueryLevel *level);

/* What the column is, with "answer" in the place of the question's answer. */
extern Node *llm_lift_around(const LlmLiftQuestion *question, Node *node, Node *answer, LlmQueryLevel *level);

/* The column beside it that has the question's marker, as a value of that type. */
extern Node *llm_lift_marker(const LlmLiftQuestion *question, Node *node, Oid type, LlmQueryLevel *level);

/* NULL: the column is as it was. */
extern const LlmLiftColumn *llm_lift_column(const LlmFound *found, const Query *query, int varno, int column);

#endif /* LLM_PLANNER_LIFTED_H */
