/*-------------------------------------------------------------------------
 *
 * planner_lifted.c
 *	  Where a column comes from (a sub-select, WITH, VALUES), and which calls were moved out of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "parser/parsetree.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "bind/planner_lifted.h"

static bool
source_of_entries(List *entries, Param *param, LlmLiftSource *source)
{
	foreach_node(TargetEntry, entry, entries)
	{
		SubLink *sublink = (SubLink *) entry->expr;

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
	for (Index up = rte->ctelevelsup; up > 0 && level != NULL; up--)
		level = level->outer;
	if (level == NULL || rte->self_reference)
		return false;
	foreach_ptr(CommonTableExpr, cte, level->query->cteList)
	{
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

LlmFoundLift *
llm_lift_find(const LlmFound *found, const LlmLiftSource *source)
{
	foreach_ptr(LlmFoundLift, lift, found->lifts)
	{
		if (lift->query == source->query && lift->varno == source->varno && lift->column == source->column)
			return lift;
	}
	return NULL;
}

LlmFoundLift *
llm_lift_of(const LlmFound *found, Node *node, LlmQueryLevel *level)
{
	LlmLiftSource source;
	LlmFoundLift *lift;

	if (node == NULL || level == NULL || found->lifts == NIL || !llm_lift_find_source(node, level, &source))
		return NULL;
	lift = llm_lift_find(found, &source);
	return lift == NULL || lift->questions == NIL ? NULL : lift;
}

/* A reference to a column that was added beside the one that "node" refers to. */
static Node *
refer(Node *node, int column, Oid type, int32 typmod, Oid collation, LlmQueryLevel *level)
{
	LlmLiftSource source;

	if (IsA(node, Param))
	{
		Param *param = copyObject((Param *) node);

		param->paramid = (param->paramid & ~0xFFFF) | column;
		param->paramtype = type;
		param->paramtypmod = typmod;
		param->paramcollid = collation;
		return (Node *) param;
	}
	else
	{
		Var *var = copyObject(castNode(Var, node));

		var->varattno = column;
		var->vartype = type;
		var->vartypmod = typmod;
		var->varcollid = collation;
		var->varnosyn = var->varno;
		var->varattnosyn = column;
		/* another reference to the same WITH does not know yet of what was added */
		if (llm_lift_find_source(node, level, &source) && source.cte != NULL)
		{
			RangeTblEntry *rte = source.rte;

			for (int i = list_length(rte->coltypes); i < list_length(source.cte->ctecoltypes); i++)
			{
				rte->coltypes = lappend_oid(rte->coltypes, list_nth_oid(source.cte->ctecoltypes, i));
				rte->coltypmods = lappend_int(rte->coltypmods, list_nth_int(source.cte->ctecoltypmods, i));
				rte->colcollations = lappend_oid(rte->colcollations, list_nth_oid(source.cte->ctecolcollations, i));
				rte->eref->colnames = lappend(rte->eref->colnames, list_nth(source.cte->ctecolnames, i));
			}
		}
		return (Node *) var;
	}
}

/* For instance_mutator(). */
typedef struct Instance
{
	Node *node; /* the reference to the lifted column */
	Node *answer; /* what stands for the answer */
	LlmQueryLevel *level;
} Instance;

static Node *
instance_mutator(Node *node, Instance *instance)
{
	Param *param = (Param *) node;

	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return copyObject(node);
	if (IsA(node, Param) && param->paramkind == PARAM_EXEC)
	{
		if (param->paramid == 0)
			return instance->answer;
		return refer(instance->node, param->paramid, param->paramtype, param->paramtypmod, param->paramcollid,
					 instance->level);
	}
	return expression_tree_mutator(node, instance_mutator, instance);
}

Node *
llm_lift_around(const LlmLiftQuestion *question, Node *node, Node *answer, LlmQueryLevel *level)
{
	Instance instance = {node, answer, level};

	return instance_mutator(question->around, &instance);
}

Node *
llm_lift_marker(const LlmLiftQuestion *question, Node *node, Oid type, LlmQueryLevel *level)
{
	if (question->sublink != NULL)
		return (Node *) question->sublink;
	return refer(node, question->carrier, type, -1, InvalidOid, level);
}

const LlmLiftColumn *
llm_lift_column(const LlmFound *found, const Query *query, int varno, int column)
{
	foreach_ptr(const LlmLiftColumn, noted, found->lifted)
	{
		if (noted->query == query && noted->varno == varno && noted->column == column)
			return noted;
	}
	return NULL;
}
