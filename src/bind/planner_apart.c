/*-------------------------------------------------------------------------
 *
 * planner_apart.c
 *	  An expression with calls is taken apart: the calls, what is around each, what that reads.
 *
 * For planner_lift.c, which puts the parts into columns of their own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "bind/planner_apart.h"
#include "bind/planner_lifted.h"

/* What may be around the calls of one expression: far more than anybody writes. */
#define MAX_NODES 20000

bool
llm_planner_is_same(Node *one, Node *other)
{
	if (one == other)
		return true;
	if (one == NULL || other == NULL)
		return false;
	if (IsA(one, Var) || IsA(one, Param))
		return equal(one, other);
	return llm_planner_is_call(one) && ((FuncExpr *) one)->location >= 0 && equal(one, other) &&
		   ((FuncExpr *) one)->location == ((FuncExpr *) other)->location;
}

static bool
contains_walker(Node *node, Node *sought)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (llm_planner_is_same(node, sought))
		return true;
	return expression_tree_walker(node, contains_walker, sought);
}

/* The innermost value without the coercions around it. */
static Node *
without_casts(Node *node)
{
	Node *argument;

	while (node != NULL && (argument = llm_planner_cast_argument(node)) != NULL)
		node = argument;
	return node;
}

static bool
is_known(Node *node, List *nodes)
{
	ListCell *cell;

	foreach(cell, nodes)
	{
		if (llm_planner_is_same(lfirst(cell), node))
			return true;
	}
	return false;
}

/* Collect calls, and columns that were lifted. */
static bool
carriers_walker(Node *node, LlmTaking *taking)
{
	if (node == NULL || taking->failed)
		return false;
	if (IsA(node, SubLink) || IsA(node, Query))
	{
		taking->failed = taking->failed || llm_planner_any_call(node) != NULL;
		return false;
	}
	if (llm_planner_is_call(node))
	{
		if (!is_known(node, taking->carriers))
			taking->carriers = lappend(taking->carriers, node);
		return false;
	}
	if (IsA(node, Var))
	{
		/* what an expression stands around cannot travel as it is */
		if (taking->lift(node, node != taking->instead, taking))
		{
			if (!is_known(node, taking->carriers))
				taking->carriers = lappend(taking->carriers, node);
		}
		else if (node != taking->instead && llm_planner_carried(node, taking->level) != NULL)
			taking->failed = true;
		return false;
	}
	return expression_tree_walker(node, carriers_walker, taking);
}

static Param *
placeholder(int number, Oid type, int32 typmod, Oid collation)
{
	Param *param = makeNode(Param);

	param->paramkind = PARAM_EXEC;
	param->paramid = number;
	param->paramtype = type;
	param->paramtypmod = typmod;
	param->paramcollid = collation;
	param->location = -1;
	return param;
}

/* The only one of some values that contains the carrier; fails where that is not the one that decides nothing. */
static Node *
chosen_value(List *conditions, List *values, bool last_only, LlmTaking *taking)
{
	Node *chosen = NULL;
	ListCell *cell;

	if (contains_walker((Node *) conditions, taking->carrier))
		taking->failed = true;
	foreach(cell, values)
	{
		if (!contains_walker(lfirst(cell), taking->carrier))
			continue;
		if (chosen != NULL || (last_only && lnext(values, cell) != NULL))
			taking->failed = true;
		chosen = lfirst(cell);
	}
	return chosen;
}

/* The conditions of a CASE. */
static List *
conditions_of(CaseExpr *expr)
{
	List *conditions = list_make1(expr->arg);

	foreach_node(CaseWhen, when, expr->args)
		conditions = lappend(conditions, when->expr);
	return conditions;
}

/* A part that is evaluated with the rows of the query. */
static Node *
take_leaf(Node *node, LlmTaking *taking)
{
	ListCell *cell;
	int number = taking->next;

	if (taking->in_sublink)
	{
		if (IsA(node, Var) && ((Var *) node)->varlevelsup > 0)
			return copyObject(node);
		taking->failed = true;
		return node;
	}
	foreach(cell, taking->leaves)
	{
		if (equal(lfirst(cell), node))
			break;
		number++;
	}
	if (number == taking->next + list_length(taking->leaves))
		taking->leaves = lappend(taking->leaves, node);
	return (Node *) placeholder(number, exprType(node), exprTypmod(node), exprCollation(node));
}

/* What is around the carrier, where CASE and COALESCE have chosen it. */
static Node *
around_mutator(Node *node, LlmTaking *taking)
{
	Node *chosen;

	if (node == NULL || taking->failed)
		return node;
	if (++taking->nodes > MAX_NODES)
	{
		taking->failed = true; /* a column that is used twice at each level would double with each */
		return node;
	}
	if (taking->carrier != NULL && llm_planner_is_same(node, taking->carrier))
	{
		Node *carrier = taking->carrier;

		taking->carrier = NULL; /* what another column's question reads becomes leaves of this one, too */
		chosen = around_mutator(taking->instead, taking);
		taking->carrier = carrier;
		return chosen;
	}
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC && ((Param *) node)->paramid == 0)
		return node;
	if (is_known(node, taking->carriers))
	{
		taking->failed = true; /* several calls in one value */
		return node;
	}
	if (taking->carrier != NULL && IsA(node, CaseExpr) && contains_walker(node, taking->carrier))
		return around_mutator(chosen_value(conditions_of((CaseExpr *) node), llm_planner_case_values((CaseExpr *) node),
										   false, taking),
							  taking);
	if (taking->carrier != NULL && IsA(node, CoalesceExpr) && contains_walker(node, taking->carrier))
		return around_mutator(chosen_value(NIL, ((CoalesceExpr *) node)->args, true, taking), taking);
	if (IsA(node, Var) || IsA(node, SubLink) || IsA(node, Aggref) || IsA(node, WindowFunc) || IsA(node, GroupingFunc) ||
		(IsA(node, Param) && ((Param *) node)->paramkind != PARAM_EXTERN))
		return take_leaf(node, taking);
	return expression_tree_mutator(node, around_mutator, taking);
}

static bool
choice_walker(Node *node, LlmTaking *taking)
{
	if (node == NULL || IsA(node, Query) || llm_planner_is_same(node, taking->carrier))
		return false;
	if ((IsA(node, CaseExpr) || IsA(node, CoalesceExpr)) && contains_walker(node, taking->carrier))
	{
		taking->instead = node;
		return true;
	}
	return expression_tree_walker(node, choice_walker, taking);
}

/* The outermost CASE or COALESCE with the carrier in it, or NULL. */
Node *
llm_take_choice(Node *expr, Node *carrier)
{
	LlmTaking taking = {.carrier = carrier};

	return choice_walker(expr, &taking) ? taking.instead : NULL;
}

Node *
llm_take_no_marker(void)
{
	return (Node *) makeNullConst(JSONBOID, -1, InvalidOid);
}

static CaseWhen *
make_when(Node *condition, Node *result)
{
	CaseWhen *when = makeNode(CaseWhen);

	when->expr = (Expr *) condition;
	when->result = (Expr *) result;
	when->location = -1;
	return when;
}

/* The marker, or NULL where the expression would not get to the carrier. */
Node *
llm_take_marker(Node *expr, Node *carrier, Node *marker)
{
	Node *choice = llm_take_choice(expr, carrier);
	CaseExpr *result = makeNode(CaseExpr);
	ListCell *cell;

	if (choice == NULL)
		return marker;
	result->casetype = JSONBOID;
	result->location = -1;
	if (IsA(choice, CaseExpr))
	{
		CaseExpr *from = (CaseExpr *) choice;

		result->arg = copyObject(from->arg);
		foreach_node(CaseWhen, when, from->args)
		{
			Node *value = (Node *) when->result;

			value = contains_walker(value, carrier) ? llm_take_marker(value, carrier, marker) : llm_take_no_marker();
			result->args = lappend(result->args, make_when(copyObject((Node *) when->expr), value));
		}
		result->defresult = (Expr *) (contains_walker((Node *) from->defresult, carrier)
										  ? llm_take_marker((Node *) from->defresult, carrier, marker)
										  : llm_take_no_marker());
		return (Node *) result;
	}
	foreach(cell, ((CoalesceExpr *) choice)->args)
	{
		NullTest *test = makeNode(NullTest);

		if (lnext(((CoalesceExpr *) choice)->args, cell) == NULL)
		{
			result->defresult = (Expr *) llm_take_marker(lfirst(cell), carrier, marker);
			break;
		}
		test->arg = copyObject((Expr *) lfirst(cell));
		test->nulltesttype = IS_NOT_NULL;
		test->location = -1;
		result->args = lappend(result->args, make_when((Node *) test, llm_take_no_marker()));
	}
	return (Node *) result;
}

static Node *
without_mutator(Node *node, void *unused)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return copyObject(node);
	if (llm_planner_is_call(node))
		return (Node *) makeNullConst(exprType(node), -1, exprCollation(node));
	return expression_tree_mutator(node, without_mutator, unused);
}

/* What the expression is where no call in it has an answer. */
Node *
llm_take_calls_out(Node *expr)
{
	return without_mutator(expr, NULL);
}

/* Is a column used whose marker could not travel? */
static bool
stays_walker(Node *node, LlmTaking *taking)
{
	if (node == NULL || IsA(node, Query) || llm_planner_is_call(node))
		return false;
	if (IsA(node, Var))
		return taking->lift(node, false, taking);
	return expression_tree_walker(node, stays_walker, taking);
}

/* Would its marker arrive whole where the expression stands, without our help? */
static bool
travels(Node *expr, LlmTaking *taking)
{
	FuncExpr *call;

	if (stays_walker(expr, taking))
		return false;
	call = llm_planner_carried(expr, taking->level);
	return call != NULL && call->funcresulttype == JSONBOID && llm_planner_column_fault(exprType(expr)) == NULL;
}

static void
add_question(Node *expr, FuncExpr *call, Node *carrier, Node *marker, Node *instead, LlmTaking *taking)
{
	LlmQuestion *question = palloc0(sizeof(LlmQuestion));

	taking->carrier = carrier;
	taking->instead = instead;
	question->call = call;
	question->carrier = carrier;
	question->marker = marker;
	question->around = around_mutator(expr, taking);
	if (contain_volatile_functions(question->around))
		taking->failed = true;
	taking->questions = lappend(taking->questions, question);
}

/*
 * The questions of an expression; false: there is none, or it cannot be taken apart, or need
 * not be.  "first" is the number of the first column that can be added.
 */
bool
llm_take_apart(Node *expr, LlmTaking *taking, bool force, int first)
{
	ListCell *cell;
	int n = 0;

	check_stack_depth();
	if (!force && travels(expr, taking))
		return false; /* and nothing in it is changed */
	taking->instead = force ? NULL : without_casts(expr); /* which nothing stands around */
	(void) carriers_walker(expr, taking);
	if (taking->failed || taking->carriers == NIL)
		return false;
	foreach(cell, taking->carriers)
	{
		LlmFoundLift *lift = llm_lift_of(taking->found, lfirst(cell), taking->level);

		n += lift == NULL ? 1 : list_length(lift->questions);
	}
	taking->next = first + n;
	foreach_ptr(Node, carrier, taking->carriers)
	{
		LlmFoundLift *lift = llm_lift_of(taking->found, carrier, taking->level);

		if (lift == NULL)
			add_question(expr, (FuncExpr *) carrier, carrier, carrier,
						 (Node *) placeholder(0, exprType(carrier), -1, exprCollation(carrier)), taking);
		else
			foreach_ptr(LlmLiftQuestion, question, lift->questions)
			{
				Node *answer = (Node *) placeholder(0, question->call->funcresulttype, -1, question->call->funccollid);

				add_question(expr, question->call, carrier, llm_lift_marker(question, carrier, JSONBOID, taking->level),
							 llm_lift_around(question, carrier, answer, taking->level), taking);
			}
	}
	return !taking->failed && !contain_volatile_functions(llm_take_calls_out(expr));
}
