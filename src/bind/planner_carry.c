/*-------------------------------------------------------------------------
 *
 * planner_carry.c
 *	  Which call's marker may be the whole value of an expression.
 *
 * Follows columns to where they come from: sub-queries, WITH, VALUES, set
 * operations, EXCLUDED.  Says nothing about whether the call may stand there;
 * that is for planner_find.c.
 *
 * What a column carries is found out once: one that is used twice on each level of a
 * chain of sub-queries would be followed twice as often with each.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "cell/marker.h"

/* A column of a query's result, or of one of its relations, and what it carries. */
typedef struct KnownColumn
{
	struct
	{
		Query *query;
		int varno; /* 0: of the result */
		int number;
	} key;
	FuncExpr *call; /* or NULL */
} KnownColumn;

/* What is looked for: calls, or those that were stored before and whose marker RETURNING gives. */
typedef enum Sought
{
	SOUGHT_CALL,
	SOUGHT_RETURNED,
	SOUGHT_KINDS
} Sought;

/* Written by llm_planner_returned() alone, for the time that it runs. */
static Sought sought = SOUGHT_CALL;

/* Those of the statement that llm_planner_find() looks at, made with the first; else NULL. */
static HTAB *known_columns[SOUGHT_KINDS];

void
llm_planner_forget_carried(void)
{
	memset(known_columns, 0, sizeof(known_columns)); /* their memory goes with the planner's */
	sought = SOUGHT_CALL;
}

/* The column's entry; false: what it carries is not in it yet. */
static bool
find_known(Query *query, int varno, int number, KnownColumn **known)
{
	KnownColumn entry = {{query, varno, number}, NULL};
	bool found;

	if (known_columns[sought] == NULL)
	{
		HASHCTL control = {0};

		control.keysize = sizeof(entry.key);
		control.entrysize = sizeof(KnownColumn);
		control.hcxt = CurrentMemoryContext;
		known_columns[sought] = hash_create("llm_enrich columns", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	*known = hash_search(known_columns[sought], &entry.key, HASH_ENTER, &found);
	if (!found)
		(*known)->call = NULL;
	return found;
}

void
llm_planner_carries(Query *query, int varno, int column, FuncExpr *call)
{
	KnownColumn *known;

	(void) find_known(query, varno, column, &known);
	known->call = call;
}

/* The argument of a cast that leaves a marker whole, else NULL. */
Node *
llm_planner_cast_argument(Node *node)
{
	switch (nodeTag(node))
	{
		case T_RelabelType:
			return (Node *) ((RelabelType *) node)->arg;
		case T_CollateExpr:
			return (Node *) ((CollateExpr *) node)->arg;
		case T_CoerceViaIO:
			/* as text it is no marker any more, but a copy of one all the same */
			if (llm_planner_column_fault(exprType(node)) != NULL &&
				(sought == SOUGHT_CALL || llm_marker_cell_type(exprType(node)) != LLM_CELL_TEXT))
				return NULL;
			return (Node *) ((CoerceViaIO *) node)->arg;
		case T_CoerceToDomain:
			return (Node *) ((CoerceToDomain *) node)->arg;
		default:
			return NULL;
	}
}

static FuncExpr *carried_by_column(Query *query, int number, LlmQueryLevel *outer);

/* The call that these entries assign to a column, or NULL. */
static FuncExpr *
assigned_call(List *entries, AttrNumber attno, LlmQueryLevel *level)
{
	foreach_ptr(TargetEntry, entry, entries)
	{
		FuncExpr *call = NULL;

		if (!entry->resjunk && entry->resno == attno)
			call = llm_planner_carried((Node *) entry->expr, level);
		if (call != NULL)
			return call;
	}
	return NULL;
}

/* The call whose marker a column of RETURNING gives, since it is assigned to the column that is returned. */
static FuncExpr *
returned_by_column(Query *query, int number, LlmQueryLevel *level)
{
	TargetEntry *entry = get_tle_by_resno(query->returningList, number);
	Node *node = entry == NULL ? NULL : (Node *) entry->expr;
	FuncExpr *call;
	Var *var;

	while (node != NULL && llm_planner_cast_argument(node) != NULL)
		node = llm_planner_cast_argument(node);
	var = (Var *) node;
	if (node == NULL || !IsA(node, Var) || var->varno != query->resultRelation || var->varlevelsup > 0 ||
		llm_is_old_value(var))
		return NULL;
	sought = SOUGHT_CALL;
	call = assigned_call(query->targetList, var->varattno, level);
	if (call == NULL && query->onConflict != NULL)
		call = assigned_call(query->onConflict->onConflictSet, var->varattno, level);
	foreach_node(MergeAction, action, query->mergeActionList)
	{
		if (call == NULL)
			call = assigned_call(action->targetList, var->varattno, level);
	}
	sought = SOUGHT_RETURNED;
	return call;
}

static FuncExpr *
follow_column(Query *query, int number, LlmQueryLevel *outer)
{
	LlmQueryLevel level = {query, outer};
	TargetEntry *entry;

	if (query->setOperations != NULL)
	{
		/* the leaves are sub-queries of their own; the tree of operations names nothing else */
		foreach_ptr(RangeTblEntry, leaf, query->rtable)
		{
			FuncExpr *call = NULL;

			if (leaf->rtekind == RTE_SUBQUERY)
				call = carried_by_column(leaf->subquery, number, &level);
			if (call != NULL)
				return call;
		}
		return NULL;
	}
	if (query->commandType != CMD_SELECT) /* what RETURNING gives is a stored value */
		return sought == SOUGHT_RETURNED ? returned_by_column(query, number, &level) : NULL;
	entry = get_tle_by_resno(query->targetList, number);
	return entry == NULL ? NULL : llm_planner_carried((Node *) entry->expr, &level);
}

/* The call that a column of a query's result carries, or NULL. */
static FuncExpr *
carried_by_column(Query *query, int number, LlmQueryLevel *outer)
{
	KnownColumn *known;

	/* the entry stays where it is, however many come meanwhile */
	if (!find_known(query, 0, number, &known))
		known->call = follow_column(query, number, outer);
	return known->call;
}

static FuncExpr *
carried_by_values(RangeTblEntry *rte, int number, LlmQueryLevel *level)
{
	ListCell *row;

	foreach(row, rte->values_lists)
	{
		FuncExpr *call = llm_planner_carried(list_nth(lfirst(row), number - 1), level);

		if (call != NULL)
			return call;
	}
	return NULL;
}

static FuncExpr *
carried_by_cte(RangeTblEntry *rte, int number, LlmQueryLevel *level)
{
	Index up;

	if (rte->self_reference)
		return NULL; /* what the other branch carries is seen there */
	for (up = rte->ctelevelsup; up > 0 && level != NULL; up--)
		level = level->outer;
	if (level == NULL)
		return NULL;
	foreach_ptr(CommonTableExpr, cte, level->query->cteList)
	{
		if (strcmp(cte->ctename, rte->ctename) == 0)
			return carried_by_column(castNode(Query, cte->ctequery), number, level);
	}
	return NULL;
}

static bool
is_excluded(const Query *query, int varno)
{
	return query->onConflict != NULL && query->onConflict->exclRelIndex == varno;
}

static FuncExpr *
follow_relation(int varno, int number, LlmQueryLevel *level)
{
	Query *query = level->query;
	RangeTblEntry *rte = rt_fetch(varno, query->rtable);
	TargetEntry *entry;

	switch (rte->rtekind)
	{
		case RTE_SUBQUERY:
			return carried_by_column(rte->subquery, number, level);
		case RTE_VALUES:
			return carried_by_values(rte, number, level);
		case RTE_CTE:
			return carried_by_cte(rte, number, level);
		case RTE_JOIN:
			return llm_planner_carried(list_nth(rte->joinaliasvars, number - 1), level);
		case RTE_RELATION:
			if (!is_excluded(query, varno))
				return NULL;
			/* EXCLUDED.column */
			entry = get_tle_by_resno(query->targetList, number);
			return entry == NULL ? NULL : llm_planner_carried((Node *) entry->expr, level);
		default:
			if (llm_rte_group_exprs(rte) != NIL)
				return llm_planner_carried(list_nth(llm_rte_group_exprs(rte), number - 1), level);
			return NULL;
	}
}

/* The same for a column of one of the query's relations. */
static FuncExpr *
carried_by_relation(int varno, int number, LlmQueryLevel *level)
{
	KnownColumn *known;

	if (rt_fetch(varno, level->query->rtable)->rtekind == RTE_RELATION)
		return follow_relation(varno, number, level); /* mostly nothing, and at once */
	if (!find_known(level->query, varno, number, &known))
		known->call = follow_relation(varno, number, level);
	return known->call;
}

/* The same for a parameter, whose sub-select is an entry of this target list. */
static FuncExpr *
carried_by_entries(List *entries, int sublink_id, int number, LlmQueryLevel *level)
{
	foreach_node(TargetEntry, entry, entries)
	{
		SubLink *sublink = (SubLink *) entry->expr;

		if (IsA(sublink, SubLink) && sublink->subLinkType == MULTIEXPR_SUBLINK && sublink->subLinkId == sublink_id)
			return carried_by_column(castNode(Query, sublink->subselect), number, level);
	}
	return NULL;
}

/*
 * SET (a, b) = (SELECT ...): the parameter stands for a column of the sub-select.  In
 * MERGE, where each action counts its own, any that could be meant will do.
 */
static FuncExpr *
carried_by_multiexpr(Param *param, LlmQueryLevel *level)
{
	int number = param->paramid & 0xFFFF;
	int sublink_id = param->paramid >> 16;
	Query *query = level->query;
	FuncExpr *call = carried_by_entries(query->targetList, sublink_id, number, level);

	if (call == NULL && query->onConflict != NULL)
		call = carried_by_entries(query->onConflict->onConflictSet, sublink_id, number, level);
	foreach_node(MergeAction, action, query->mergeActionList)
	{
		if (call == NULL)
			call = carried_by_entries(action->targetList, sublink_id, number, level);
	}
	return call;
}

/* The call in one of some values, or NULL. */
static FuncExpr *
carried_by_list(List *values, LlmQueryLevel *level)
{
	ListCell *cell;

	foreach(cell, values)
	{
		FuncExpr *call = llm_planner_carried(lfirst(cell), level);

		if (call != NULL)
			return call;
	}
	return NULL;
}

bool
llm_planner_is_part(const TargetEntry *entry)
{
	return IsA(entry->expr, FieldStore) ||
		   (IsA(entry->expr, SubscriptingRef) && ((SubscriptingRef *) entry->expr)->refassgnexpr != NULL);
}

bool
llm_planner_is_union_all(Node *node)
{
	SetOperationStmt *operation = (SetOperationStmt *) node;

	if (node == NULL || !IsA(node, SetOperationStmt))
		return true;
	return operation->op == SETOP_UNION && operation->all &&
		   llm_planner_is_union_all(operation->larg) && llm_planner_is_union_all(operation->rarg);
}

List *
llm_planner_case_values(CaseExpr *expr)
{
	List *values = NIL;

	foreach_node(CaseWhen, when, expr->args)
		values = lappend(values, when->result);
	return expr->defresult == NULL ? values : lappend(values, expr->defresult);
}

/*
 * The call whose marker may be the whole value of the expression, or NULL.  Says
 * nothing about whether it may stand there.
 */
FuncExpr *
llm_planner_carried(Node *node, LlmQueryLevel *level)
{
	Index up;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (node == NULL)
		return NULL;
	if (llm_planner_is_call(node))
		return sought == SOUGHT_CALL ? (FuncExpr *) node : NULL;
	if (llm_planner_cast_argument(node) != NULL)
		return llm_planner_carried(llm_planner_cast_argument(node), level);
	switch (nodeTag(node))
	{
		case T_CaseExpr:
			return carried_by_list(llm_planner_case_values((CaseExpr *) node), level);
		case T_CoalesceExpr:
			return carried_by_list(((CoalesceExpr *) node)->args, level);
		case T_SubLink:
			if (((SubLink *) node)->subLinkType != EXPR_SUBLINK)
				return NULL;
			return carried_by_column(castNode(Query, ((SubLink *) node)->subselect), 1, level);
		case T_Param:
			if (((Param *) node)->paramkind != PARAM_MULTIEXPR)
				return NULL;
			return carried_by_multiexpr((Param *) node, level);
		case T_Var:
			for (up = ((Var *) node)->varlevelsup; up > 0 && level != NULL; up--)
				level = level->outer;
			if (level == NULL || ((Var *) node)->varattno <= 0)
				return NULL;
			return carried_by_relation(((Var *) node)->varno, ((Var *) node)->varattno, level);
		default:
			return NULL;
	}
}

FuncExpr *
llm_planner_returned(Node *node, LlmQueryLevel *level)
{
	FuncExpr *call;

	sought = SOUGHT_RETURNED;
	call = llm_planner_carried(node, level);
	sought = SOUGHT_CALL;
	return call;
}

/* The call in any column of a query's result, or NULL. */
FuncExpr *
llm_planner_carried_by_query(Query *query, LlmQueryLevel *outer)
{
	foreach_node(TargetEntry, entry, query->targetList)
	{
		FuncExpr *call = carried_by_column(query, entry->resno, outer);

		if (call != NULL)
			return call;
	}
	return NULL;
}

/* A whole row of a sub-query, or of EXCLUDED, is used: does any of its columns carry a call? */
FuncExpr *
llm_planner_carried_by_row(Var *var, LlmQueryLevel *level)
{
	RangeTblEntry *rte;
	int ncolumns;
	int number;
	Index up;

	for (up = var->varlevelsup; up > 0 && level != NULL; up--)
		level = level->outer;
	if (level == NULL)
		return NULL;
	rte = rt_fetch(var->varno, level->query->rtable);
	ncolumns = list_length(rte->eref->colnames);
	if (rte->rtekind == RTE_RELATION && !is_excluded(level->query, var->varno))
		ncolumns = 0;
	for (number = 1; number <= ncolumns; number++)
	{
		FuncExpr *call = carried_by_relation(var->varno, number, level);

		if (call != NULL)
			return call;
	}
	return NULL;
}
