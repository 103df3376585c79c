/*-------------------------------------------------------------------------
 *
 * planner_lift_source.c
 *	  Where a column comes from: a sub-select, WITH, VALUES.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "parser/parsetree.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "bind/planner_lift_source.h"

static bool
source_of_entries(List *entries, Param *param, LlmLiftSource *source)
{
	ListCell *cell;

	foreach(cell, entries)
	{
		SubLink *sublink = (SubLink *) lfirst_node(TargetEntry, cell)->expr;

		if (IsA(sublink, SubLink) && sublink->subLinkType == MULTIEXPR_SUBLINK &&
			sublink->subLinkId == param->paramid >> 16)
		{
			source->query = castNode(Query, sublink->subselect);
			source->column = param->paramid & 0xFFFF;
			return true;
		}
	}
	return false;
}

/* WITH; nothing where it is recursive. */
static bool
source_of_cte(RangeTblEntry *rte, LlmQueryLevel *level, LlmLiftSource *source)
{
	ListCell *cell;

	for (Index up = rte->ctelevelsup; up > 0 && level != NULL; up--)
		level = level->outer;
	if (level == NULL || rte->self_reference)
		return false;
	foreach(cell, level->query->cteList)
	{
		CommonTableExpr *cte = lfirst(cell);

		if (strcmp(cte->ctename, rte->ctename) != 0)
			continue;
		source->query = castNode(Query, cte->ctequery);
		source->cte = cte;
		source->outer = level;
		return !cte->cterecursive;
	}
	return false;
}

bool
llm_lift_find_source(Node *node, LlmQueryLevel *level, LlmLiftSource *source)
{
	Query *query = level->query;
	Var *var = (Var *) node;

	memset(source, 0, sizeof(*source));
	source->outer = level;
	if (IsA(node, SubLink) && ((SubLink *) node)->subLinkType == EXPR_SUBLINK)
	{
		source->sublink = (SubLink *) node;
		source->query = castNode(Query, source->sublink->subselect);
		source->column = 1;
		return true;
	}
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_MULTIEXPR && query->commandType == CMD_UPDATE)
		return source_of_entries(query->targetList, (Param *) node, source);
	if (!IsA(node, Var) || var->varlevelsup > 0 || var->varattno <= 0)
		return false;
	source->rte = rt_fetch(var->varno, query->rtable);
	source->column = var->varattno;
	switch (source->rte->rtekind)
	{
		case RTE_SUBQUERY:
			source->query = source->rte->subquery;
			return source->query != NULL;
		case RTE_VALUES:
			source->query = query;
			source->varno = var->varno;
			source->outer = level->outer;
			return true;
		case RTE_CTE:
			return source_of_cte(source->rte, level, source);
		default:
			return false;
	}
}
