/*-------------------------------------------------------------------------
 *
 * ask_plan.c
 *	  Put nodes that read ahead into finished plans.
 *
 * Into the finished plan, since a custom path comes before the final target list is known.
 * A node goes above one whose target list or conditions have calls.  What stands below is
 * given the columns that the expressions need, and the expressions go up: for each condition
 * with a call a node of its own, in the order of the conditions, and one for the target
 * list, so that those that a condition has dropped ask no more.  Columns keep their numbers,
 * so nothing above has to change.
 *
 * Calls in the arguments of aggregates are evaluated by a node below the Agg; those in the
 * arguments of window functions, which these evaluate as often as they like, are left.
 *
 * Left to the plain call: a Result without a child, which PL/pgSQL takes for a simple
 * expression; the inner sides of joins, which are scanned again and again; sub-plans;
 * whatever stands below LockRows, ModifyTable or Gather.
 *
 * Which statements have calls is known from the functions that a plan depends on: where
 * none of another's functions is used, this costs one comparison.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/plannodes.h"
#include "utils/syscache.h"

#include "ask/ask_aggregate.h"
#include "ask/ask_jit.h"
#include "ask/ask_node.h"
#include "ask/ask_site.h"
#include "ask/ask_walk.h"
#include "base/compat.h"

static planner_hook_type previous_planner = NULL;

/* What is needed in one plan. */
typedef struct Inserter
{
	int next_id; /* plan_node_id */
	List *subplans; /* of the statement */
} Inserter;

/* What is known of the plan above one. */
typedef struct Above
{
	LlmAskDemand demand; /* for the rows of the one below */
	Limit *limit; /* a LIMIT directly above; NULL: none that could be used */
	LlmAskDemand bounded; /* for those rows that it leaves */
} Above;

/* May the rows of this plan be read before they are wanted?  Not where that could be noticed. */
static bool
may_read_ahead(Plan *plan, const Inserter *inserter)
{
	ListCell *cell;

	check_stack_depth();
	if (llm_site_has_volatile((Node *) llm_plan_row_expressions(plan), inserter->subplans) ||
		IsA(plan, ForeignScan) || IsA(plan, CteScan) || IsA(plan, LockRows) || IsA(plan, ModifyTable))
		return false;
	foreach(cell, llm_plan_children(plan))
	{
		if (!may_read_ahead(lfirst(cell), inserter))
			return false;
	}
	return true;
}

static int
highest_id(Plan *plan)
{
	int highest = plan->plan_node_id;
	ListCell *cell;

	check_stack_depth();
	foreach(cell, llm_plan_children(plan))
		highest = Max(highest, highest_id(lfirst(cell)));
	return highest;
}

/*
 * Columns
 */

/* Add the leaves of an expression to a target list, each once. */
static bool
add_leaves(Node *node, List **columns)
{
	if (node == NULL)
		return false;
	if (!llm_site_is_leaf(node))
		return expression_tree_walker(node, add_leaves, columns);
	foreach_node(TargetEntry, entry, *columns)
	{
		if (equal(entry->expr, node))
			return false;
	}
	*columns = lappend(*columns, makeTargetEntry((Expr *) copyObject(node), list_length(*columns) + 1, NULL, false));
	return false;
}

/* The expression over the columns of the plan below. */
static Node *
map_leaves(Node *node, List *columns)
{
	if (node == NULL)
		return NULL;
	if (!llm_site_is_leaf(node))
		return expression_tree_mutator(node, map_leaves, columns);
	foreach_node(TargetEntry, entry, columns)
	{
		if (equal(entry->expr, node))
			return (Node *) makeVar(INDEX_VAR, entry->resno, exprType(node), exprTypmod(node), exprCollation(node), 0);
	}
	elog(ERROR, "a column that a call needs is not there");
	return NULL;
}

/* Columns of a plan as a node above sees them; their numbers stay. */
static List *
columns_as(List *targetlist, int varno)
{
	List *columns = NIL;

	foreach_node(TargetEntry, entry, targetlist)
	{
		Node *expr = (Node *) entry->expr;
		Var *var = makeVar(varno, entry->resno, exprType(expr), exprTypmod(expr), exprCollation(expr), 0);

		columns = lappend(columns, makeTargetEntry((Expr *) var, entry->resno, NULL, false));
	}
	return columns;
}

/* Columns as the client sees those of another list. */
static void
name_columns(List *columns, List *targetlist)
{
	ListCell *from;
	ListCell *to;

	forboth(from, targetlist, to, columns)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, to);
		Expr *expr = entry->expr;

		*entry = *lfirst_node(TargetEntry, from);
		entry->expr = expr;
	}
}

/*
 * Nodes
 */

/* May a node go above one of this kind? */
static bool
may_wrap(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_SubqueryScan:
		case T_ValuesScan:
		case T_CteScan:
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
			return !plan->parallel_aware;
		case T_Agg:
			return ((Agg *) plan)->aggsplit == AGGSPLIT_SIMPLE;
		case T_WindowAgg:
			return ((WindowAgg *) plan)->runCondition == NIL;
		case T_Result:
			return plan->lefttree != NULL;
		default:
			return false;
	}
}

static CustomScan *
put_above(Plan *below, LlmAskSpec *spec, Inserter *inserter)
{
	CustomScan *node = llm_ask_node_make(below, spec);

	node->scan.plan.plan_node_id = inserter->next_id++;
	node->scan.plan.initPlan = below->initPlan;
	below->initPlan = NIL;
	return node;
}

/* A node for each condition with a call, and those without that follow it. */
static Plan *
put_conditions(Plan *below, List *conditions, LlmAskDemand demand, Inserter *inserter)
{
	while (conditions != NIL)
	{
		LlmAskSpec spec = {0};
		int n = 1;

		while (n < list_length(conditions) && !llm_site_has_call(list_nth(conditions, n), NULL))
			n++;
		spec.rows = columns_as(below->targetlist, OUTER_VAR);
		spec.targetlist = columns_as(below->targetlist, INDEX_VAR);
		spec.qual = list_truncate(list_copy(conditions), n);
		spec.sites = llm_site_of_quals(spec.qual, inserter->subplans);
		spec.demand = demand;
		spec.may_read_ahead = may_read_ahead(below, inserter);
		conditions = list_copy_tail(conditions, n);
		below = (Plan *) put_above(below, &spec, inserter);
	}
	return below;
}

/* Are the columns those of the target list, in its order? */
static bool
are_same(List *columns, List *targetlist)
{
	ListCell *column;
	ListCell *entry;

	if (list_length(columns) != list_length(targetlist))
		return false;
	forboth(column, columns, entry, targetlist)
	{
		if (!equal(lfirst_node(TargetEntry, column)->expr, lfirst_node(TargetEntry, entry)->expr))
			return false;
	}
	return true;
}

/*
 * A node that answers the aggregates of ours among the columns, each once, as an Agg would; these
 * give what they have collected.
 */
static CustomScan *
put_answers(Plan *below, List *columns, const Above *above, Inserter *inserter)
{
	LlmAskSpec spec = {0};
	ListCell *cell;

	spec.rows = columns_as(columns, OUTER_VAR);
	spec.targetlist = columns_as(columns, INDEX_VAR);
	foreach(cell, columns)
	{
		Node *node = (Node *) lfirst_node(TargetEntry, cell)->expr;
		TargetEntry *entry = list_nth_node(TargetEntry, spec.targetlist, foreach_current_index(cell));
		Oid function = llm_site_aggregate(node);
		FuncExpr *call;

		if (!OidIsValid(function))
			continue;
		call = makeFuncExpr(function, TEXTOID, list_make1(entry->expr), exprCollation(node), InvalidOid,
							COERCE_EXPLICIT_CALL);
		call->location = ((Aggref *) node)->location;
		((Aggref *) node)->location = LLM_AGGREGATE_COLLECTS;
		entry->expr = (Expr *) call;
		llm_site_collect((Node *) call, inserter->subplans, &spec.sites);
	}
	spec.limit = above->limit;
	spec.demand = above->limit == NULL ? above->demand : above->bounded;
	spec.may_read_ahead = may_read_ahead(below, inserter);
	return put_above(below, &spec, inserter);
}

/* The plan with nodes for its conditions and its target list above it. */
static Plan *
wrap(Plan *plan, const Above *above, Inserter *inserter)
{
	Above filtered = {above->demand, NULL, LLM_ASK_SOME};
	LlmAskSpec spec = {0};
	List *original = plan->targetlist;
	List *conditions = NIL;
	List *columns = NIL;
	List *kept = NIL;
	ListCell *cell;
	Plan *below = plan;

	foreach(cell, plan->qual)
	{
		/*
		 * What follows one that goes up follows it there, too: it may be a barrier.  Not so in
		 * HAVING, where the planner orders conditions as if aggregates cost nothing.
		 */
		if ((conditions != NIL && !IsA(plan, Agg)) || llm_site_has_call(lfirst(cell), NULL) ||
			llm_site_has_aggregate(lfirst(cell), NULL))
			conditions = lappend(conditions, lfirst(cell));
		else
			kept = lappend(kept, lfirst(cell));
	}
	(void) add_leaves((Node *) original, &columns);
	(void) add_leaves((Node *) conditions, &columns);
	plan->targetlist = columns;
	plan->qual = kept;
	if (IsA(plan, Agg) && llm_site_has_aggregate((Node *) columns, NULL))
	{
		CustomScan *answers = put_answers(plan, columns, conditions == NIL ? above : &filtered, inserter);

		below = (Plan *) answers;
		if (conditions == NIL && are_same(columns, original))
		{
			name_columns(below->targetlist, original);
			return below;
		}
	}
	conditions = (List *) map_leaves((Node *) conditions, columns);
	original = (List *) map_leaves((Node *) original, columns);
	below = put_conditions(below, conditions, above->demand, inserter);
	spec.rows = columns_as(columns, OUTER_VAR);
	spec.targetlist = original;
	foreach_node(TargetEntry, entry, spec.targetlist)
		llm_site_collect((Node *) entry->expr, inserter->subplans, &spec.sites);
	spec.limit = above->limit;
	spec.demand = above->limit == NULL ? above->demand : above->bounded;
	spec.may_read_ahead = may_read_ahead(below, inserter);
	return (Plan *) put_above(below, &spec, inserter);
}

/*
 * Arguments of aggregates
 */

/* Columns that a node below an Agg gets beside those of its child. */
typedef struct Lowering
{
	List *rows; /* of the child */
	List *targetlist; /* of the node */
	List *subplans; /* of the statement */
} Lowering;

/* The same over the columns that the node sees. */
static Node *
see_rows(Node *node, void *unused)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == OUTER_VAR)
	{
		Var *var = copyObject((Var *) node);

		var->varno = INDEX_VAR;
		return (Node *) var;
	}
	return expression_tree_mutator(node, see_rows, NULL);
}

/* A column of the node with this value. */
static Expr *
lower_expression(Lowering *lowering, Node *expr)
{
	int number = list_length(lowering->targetlist) + 1;
	TargetEntry *entry = makeTargetEntry((Expr *) see_rows(expr, NULL), (AttrNumber) number, NULL, false);

	lowering->targetlist = lappend(lowering->targetlist, entry);
	return (Expr *) makeVar(OUTER_VAR, (AttrNumber) number, exprType(expr), exprTypmod(expr), exprCollation(expr), 0);
}

/* An argument that is evaluated where the filter holds, as in the Agg. */
static Node *
make_guarded(Expr *filter, Expr *arg)
{
	CaseExpr *guarded = makeNode(CaseExpr);
	CaseWhen *when = makeNode(CaseWhen);

	when->expr = filter;
	when->result = arg;
	when->location = -1;
	guarded->casetype = exprType((Node *) arg);
	guarded->casecollid = exprCollation((Node *) arg);
	guarded->args = list_make1(when);
	guarded->defresult = (Expr *) makeNullConst(guarded->casetype, exprTypmod((Node *) arg), guarded->casecollid);
	guarded->location = -1;
	return (Node *) guarded;
}

static void
lower_arguments(Lowering *lowering, Aggref *aggref)
{
	if (llm_site_has_call((Node *) aggref->aggfilter, NULL))
	{
		/* its arguments depend on an answer */
		aggref->aggfilter = lower_expression(lowering, (Node *) aggref->aggfilter);
		return;
	}
	if (llm_site_has_volatile((Node *) aggref->aggfilter, lowering->subplans))
		return; /* it is not evaluated twice */
	foreach_node(TargetEntry, arg, aggref->args)
	{
		if (!llm_site_has_call((Node *) arg->expr, NULL))
			continue;
		arg->expr = lower_expression(lowering, aggref->aggfilter == NULL ? (Node *) arg->expr
																		 : make_guarded(aggref->aggfilter, arg->expr));
	}
}

static bool
lower_walker(Node *node, Lowering *lowering)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		lower_arguments(lowering, (Aggref *) node);
		return false;
	}
	return expression_tree_walker(node, lower_walker, lowering);
}

/* An Agg evaluates arguments with a call row by row: a node below it does, and reads ahead. */
static void
lower_calls(Agg *agg, LlmAskDemand demand, Inserter *inserter)
{
	Plan *below = agg->plan.lefttree;
	Lowering lowering;
	LlmAskSpec spec = {0};

	if (agg->aggsplit != AGGSPLIT_SIMPLE)
		return;
	lowering.rows = columns_as(below->targetlist, OUTER_VAR);
	lowering.targetlist = columns_as(below->targetlist, INDEX_VAR);
	lowering.subplans = inserter->subplans;
	(void) lower_walker((Node *) agg->plan.targetlist, &lowering);
	(void) lower_walker((Node *) agg->plan.qual, &lowering);
	if (list_length(lowering.targetlist) == list_length(lowering.rows))
		return;
	spec.rows = lowering.rows;
	spec.targetlist = lowering.targetlist;
	foreach_node(TargetEntry, entry, spec.targetlist)
		llm_site_collect((Node *) entry->expr, inserter->subplans, &spec.sites);
	spec.demand = demand;
	spec.may_read_ahead = may_read_ahead(below, inserter);
	agg->plan.lefttree = (Plan *) put_above(below, &spec, inserter);
}

/* The LIMIT, if it bounds the rows that are read below it. */
static Limit *
usable_limit(Limit *limit, const Inserter *inserter)
{
	if (limit->limitOption != LIMIT_OPTION_COUNT || llm_site_has_volatile(limit->limitCount, inserter->subplans) ||
		llm_site_has_volatile(limit->limitOffset, inserter->subplans) || llm_site_has_call(limit->limitCount, NULL) ||
		llm_site_has_call(limit->limitOffset, NULL))
		return NULL;
	return limit;
}

/* How many rows of its outer side does a plan read, if so many are read of it? */
static LlmAskDemand
demand_below(const Plan *plan, LlmAskDemand demand)
{
	switch (nodeTag(plan))
	{
		case T_Sort:
			return LLM_ASK_ALL;
		case T_Agg:
			return ((const Agg *) plan)->aggstrategy == AGG_SORTED ? demand : LLM_ASK_ALL;
		case T_Append:
		case T_Group:
		case T_IncrementalSort:
		case T_Material:
		case T_MergeAppend:
		case T_NestLoop:
		case T_ProjectSet:
		case T_Result:
		case T_SubqueryScan:
		case T_Unique:
			return demand;
		case T_WindowAgg:
			/* where its run condition holds no longer it reads no further */
			return ((const WindowAgg *) plan)->runCondition == NIL ? demand : LLM_ASK_SOME;
		default:
			/* LIMIT; joins that stop when the other side is at its end, or has nothing */
			return LLM_ASK_SOME;
	}
}

static Plan *insert_nodes(Plan *plan, const Above *above, Inserter *inserter);

static void
insert_below(Plan *plan, const Above *above, Inserter *inserter)
{
	Above here = {demand_below(plan, above->demand), NULL, LLM_ASK_SOME};
	ListCell *cell;

	switch (nodeTag(plan))
	{
		case T_Gather:
		case T_GatherMerge:
		case T_LockRows:
		case T_ModifyTable:
		case T_RecursiveUnion:
		case T_BitmapHeapScan:
			return;
		case T_Append:
			foreach(cell, ((Append *) plan)->appendplans)
				lfirst(cell) = insert_nodes(lfirst(cell), &here, inserter);
			return;
		case T_MergeAppend:
			foreach(cell, ((MergeAppend *) plan)->mergeplans)
				lfirst(cell) = insert_nodes(lfirst(cell), &here, inserter);
			return;
		case T_SubqueryScan:
			((SubqueryScan *) plan)->subplan = insert_nodes(((SubqueryScan *) plan)->subplan, &here, inserter);
			return;
		case T_Limit:
			here.limit = usable_limit((Limit *) plan, inserter);
			here.bounded = above->demand;
			break;
		case T_HashJoin:
			plan->lefttree = insert_nodes(plan->lefttree, &here, inserter);
			insert_below(plan->righttree, &here, inserter);
			return;
		default:
			break;
	}
	/* of joins the outer side alone: the inner one is scanned again, or marked and restored */
	if (plan->lefttree != NULL)
		plan->lefttree = insert_nodes(plan->lefttree, &here, inserter);
}

static bool
asks(Plan *plan, List *exprs)
{
	return llm_site_has_call((Node *) exprs, NULL) ||
		   (IsA(plan, Agg) && llm_site_has_aggregate((Node *) exprs, NULL));
}

static Plan *
insert_nodes(Plan *plan, const Above *above, Inserter *inserter)
{
	check_stack_depth();
	insert_below(plan, above, inserter);
	if (IsA(plan, Agg))
		lower_calls((Agg *) plan, demand_below(plan, above->demand), inserter);
	if (!may_wrap(plan) || !(asks(plan, plan->targetlist) || asks(plan, plan->qual)))
		return plan;
	return wrap(plan, above, inserter);
}

/* The sub-plans that are read as WITH queries. */
static void
find_ctes(Plan *plan, Bitmapset **ctes)
{
	ListCell *cell;

	check_stack_depth();
	if (IsA(plan, CteScan))
		*ctes = bms_add_member(*ctes, ((CteScan *) plan)->ctePlanId);
	foreach(cell, llm_plan_children(plan))
		find_ctes(lfirst(cell), ctes);
}

/* WITH queries are read row by row, as they are wanted; other sub-plans again and again. */
static void
insert_into_ctes(PlannedStmt *stmt, Inserter *inserter)
{
	Above above = {LLM_ASK_SOME, NULL, LLM_ASK_SOME};
	Bitmapset *ctes = NULL;
	ListCell *cell;

	find_ctes(stmt->planTree, &ctes);
	foreach(cell, stmt->subplans)
	{
		if (lfirst(cell) != NULL)
			find_ctes(lfirst(cell), &ctes);
	}
	foreach(cell, stmt->subplans)
	{
		if (lfirst(cell) != NULL && bms_is_member(foreach_current_index(cell) + 1, ctes))
			lfirst(cell) = insert_nodes(lfirst(cell), &above, inserter);
	}
}

/* Does the plan depend on a function of ours? */
static bool
depends_on_call(const PlannedStmt *stmt)
{
	foreach_node(PlanInvalItem, item, stmt->invalItems)
	{
		if (item->cacheId == PROCOID)
			return true;
	}
	return false;
}

static void
insert_into(PlannedStmt *stmt, int cursor_options)
{
	Inserter inserter = {highest_id(stmt->planTree) + 1, stmt->subplans};
	Above above = {LLM_ASK_AS_STATEMENT, NULL, LLM_ASK_SOME};
	Plan *top;
	ListCell *cell;
	int first_id;

	foreach(cell, stmt->subplans)
	{
		if (lfirst(cell) != NULL)
			inserter.next_id = Max(inserter.next_id, highest_id(lfirst(cell)) + 1);
	}
	first_id = inserter.next_id;
	llm_ask_jit_decide(stmt);
	insert_into_ctes(stmt, &inserter);
	top = insert_nodes(stmt->planTree, &above, &inserter);
	if ((cursor_options & CURSOR_OPT_SCROLL) && inserter.next_id > first_id)
	{
		/* the planner has looked whether it goes backwards before */
		Material *rows = makeNode(Material);

		rows->plan = *top;
		rows->plan.type = T_Material;
		rows->plan.targetlist = columns_as(top->targetlist, OUTER_VAR);
		name_columns(rows->plan.targetlist, top->targetlist);
		rows->plan.qual = NIL;
		rows->plan.lefttree = top;
		rows->plan.initPlan = top->initPlan;
		top->initPlan = NIL;
		rows->plan.plan_node_id = inserter.next_id++;
		top = (Plan *) rows;
	}
	stmt->planTree = top;
}

/* planner_hook */
static PlannedStmt *
plan_statement(LLM_PLANNER_PARAMS)
{
	PlannedStmt *stmt = previous_planner(LLM_PLANNER_ARGS);

	if (stmt->commandType == CMD_SELECT && !stmt->hasModifyingCTE && stmt->planTree != NULL && depends_on_call(stmt))
		insert_into(stmt, options);
	return stmt;
}

void
llm_ask_plan_init(void)
{
	llm_ask_node_init();
	previous_planner = planner_hook != NULL ? planner_hook : standard_planner;
	planner_hook = plan_statement;
}
