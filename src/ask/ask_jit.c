/*-------------------------------------------------------------------------
 *
 * ask_jit.c
 *	  Statements that ask are not compiled for the sake of what answers cost.
 *
 * A call has its true cost, which is that of a second of waiting, so that the planner
 * evaluates it last.  The server takes such a plan for one that computes for minutes, and
 * compiles it, with all optimizations: a third of a second before the first question
 * leaves, for nothing.  So what the calls add is taken off, and the server's own bounds
 * are applied to the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "jit/jit.h"
#include "miscadmin.h"

#include "ask/ask_jit.h"
#include "ask/ask_site.h"
#include "ask/ask_walk.h"
#include "base/compat.h"

/* Is there a call in what an aggregate or a window function looks at? */
static bool
collects_call(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref) && (llm_site_has_call((Node *) ((Aggref *) node)->args, NULL) ||
							  llm_site_has_call((Node *) ((Aggref *) node)->aggfilter, NULL)))
		return true;
	if (IsA(node, WindowFunc) && (llm_site_has_call((Node *) ((WindowFunc *) node)->args, NULL) ||
								  llm_site_has_call((Node *) ((WindowFunc *) node)->aggfilter, NULL)))
		return true;
	return expression_tree_walker(node, collects_call, NULL);
}

static bool
asks(List *exprs)
{
	return llm_site_has_call((Node *) exprs, NULL) || llm_site_has_aggregate((Node *) exprs, NULL) ||
		   collects_call((Node *) exprs, NULL);
}

/* What the node adds to the cost of its children, without calls of ours; 0 where that cannot be told. */
static Cost
own_cost(const Plan *plan, Cost children)
{
	Cost own = plan->total_cost - children;
	QualCost calls;

	if (!asks(llm_plan_row_expressions(plan)))
		return Max(own, 0);
	if (IsA(plan, Agg) || IsA(plan, WindowAgg) || asks(plan->qual))
		return 0;
	cost_qual_eval_node(&calls, (Node *) plan->targetlist, NULL);
	return Max(own - calls.startup - calls.per_tuple * plan->plan_rows, 0);
}

/* The cost of a plan without calls of ours. */
static Cost
cost_without_calls(const Plan *plan)
{
	Cost children = 0;
	Cost rest = 0;

	check_stack_depth();
	foreach_ptr(const Plan, child, llm_plan_children(plan))
	{
		children += child->total_cost;
		rest += cost_without_calls(child);
	}
	/* not all of what is below is read */
	if (plan->total_cost < children)
		return rest * (plan->total_cost / children);
	return rest + own_cost(plan, children);
}

void
llm_ask_jit_decide(PlannedStmt *stmt)
{
	Cost cost;

	if ((stmt->jitFlags & PGJIT_PERFORM) == 0)
		return;
	cost = cost_without_calls(stmt->planTree);
	if (jit_above_cost >= 0 && cost <= jit_above_cost)
		stmt->jitFlags = PGJIT_NONE;
	if (jit_optimize_above_cost >= 0 && cost <= jit_optimize_above_cost)
		stmt->jitFlags &= ~PGJIT_OPT3;
	if (jit_inline_above_cost >= 0 && cost <= jit_inline_above_cost)
		stmt->jitFlags &= ~PGJIT_INLINE;
}
