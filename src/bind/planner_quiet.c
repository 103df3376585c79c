/*-------------------------------------------------------------------------
 *
 * planner_quiet.c
 *	  Assignments to quiet cells: cells of any type that show nothing of a pending task.
 *
 *	  SET kind = <around a call>    becomes    SET kind = CASE
 *	      WHEN llm.keep_quiet(magic, spec, <call>, <leaf>, ...) THEN kind
 *	      ELSE <around NULL> END
 *
 * The call travels as its marker, as it does to cells that show it, and is taken out by
 * keep_quiet(), which fills the slot that bind_quiet() reads when the row is stored.  True
 * means that there is a question: then the cell keeps its value.  Otherwise the input was
 * NULL, or what came is no call, and the expression is evaluated as it stands.
 *
 * What is around a call is not evaluated in the statement.  It is kept as SQL over
 * parameters: $1 is the answer, the others are leaves, the parts that do not depend on the
 * call, which are evaluated with the row (planner_kept.c, writeback_value.c).
 *
 * CASE and COALESCE decide in the statement whether there is a question at all.  So what is
 * around them goes into each of their branches, and a branch has one call:
 *
 *	  upper(CASE WHEN urgent THEN llm_classify(...)->>'label' ELSE 'none' END)    becomes
 *	  CASE WHEN urgent THEN <quiet: upper(llm_classify(...)->>'label')> ELSE upper('none') END
 *
 * find() checks and builds, and changes nothing in the statement; rewrite() puts it in
 * (planner_quiet_rewrite.c).  Calls in sub-selects have been moved before (planner_lift.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "bind/planner_apart.h"
#include "bind/planner_find.h"
#include "bind/planner_lifted.h"

/* For the walkers and mutators below. */
typedef struct QuietWalk
{
	Finder *finder;
	List *carriers; /* found by carrier_walker() */
	Node *from; /* for replace_mutator() */
	Node *to;
	Node *carrier; /* for kept_mutator() */
	List *leaves;
	LlmFoundQuiet *quiet;
} QuietWalk;

/* Without the coercions that an assignment adds: the write-back adds them again. */
static Node *strip_implicit(Node *node);

static List *carriers_of(Node *node, Finder *finder);

bool
llm_quiet_shows(TargetEntry *entry, Finder *finder)
{
	Query *query = finder->level->query;
	Oid relation = rt_fetch(query->resultRelation, query->rtable)->relid;
	FuncExpr *call = llm_planner_carried((Node *) entry->expr, finder->level);
	ListCell *cell;

	if (call == NULL || call->funcresulttype != JSONBOID ||
		llm_planner_column_fault(get_atttype(relation, entry->resno)) != NULL)
		return false;
	foreach(cell, carriers_of((Node *) entry->expr, finder))
	{
		if (llm_lift_of(finder->found, lfirst(cell), finder->level) != NULL ||
			llm_quiet_excluded(lfirst(cell), finder) != NULL)
			return false;
	}
	return true;
}

TargetEntry *
llm_quiet_excluded(Node *node, Finder *finder)
{
	Query *query = finder->level == NULL ? NULL : finder->level->query;
	Var *var = (Var *) node;
	TargetEntry *entry;

	if (query == NULL || query->onConflict == NULL || !IsA(node, Var) || var->varlevelsup > 0 ||
		var->varno != query->onConflict->exclRelIndex || var->varattno <= 0)
		return NULL;
	entry = get_tle_by_resno(query->targetList, var->varattno);
	if (entry == NULL || llm_quiet_shows(entry, finder))
		return NULL;
	return llm_quiet_call_of(entry, finder) == NULL ? NULL : entry;
}

/* Is the node a call, or a column, parameter or sub-select whose value may be a marker? */
static bool
is_carrier(Node *node, Finder *finder)
{
	if (llm_planner_is_call(node) || llm_quiet_excluded(node, finder) != NULL)
		return true;
	return (IsA(node, Var) || IsA(node, Param) || IsA(node, SubLink)) &&
		   llm_planner_carried(node, finder->level) != NULL;
}

/* Collect what carries a call, each once.  Sub-selects are not looked into: a call in there is refused as a use. */
static bool
carrier_walker(Node *node, QuietWalk *walk)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (is_carrier(node, walk->finder))
	{
		ListCell *cell;

		foreach(cell, walk->carriers)
		{
			if (llm_planner_is_same(lfirst(cell), node))
				return false;
		}
		walk->carriers = lappend(walk->carriers, node);
		return false;
	}
	return expression_tree_walker(node, carrier_walker, walk);
}

static List *
carriers_of(Node *node, Finder *finder)
{
	QuietWalk walk = {finder};

	(void) carrier_walker(node, &walk);
	return walk.carriers;
}

FuncExpr *
llm_quiet_call_of(TargetEntry *entry, Finder *finder)
{
	List *carriers = carriers_of((Node *) entry->expr, finder);

	if (carriers == NIL)
		return llm_planner_any_call((Node *) entry->expr);
	if (llm_quiet_excluded(linitial(carriers), finder) != NULL)
		return llm_quiet_call_of(llm_quiet_excluded(linitial(carriers), finder), finder);
	return llm_planner_carried(linitial(carriers), finder->level);
}

static Node *
replace_mutator(Node *node, QuietWalk *walk)
{
	if (node == NULL)
		return NULL;
	if (node == walk->from || (is_carrier(node, walk->finder) && llm_planner_is_same(node, walk->from)))
		return walk->to;
	if (is_carrier(node, walk->finder))
		return node; /* the call itself, which is rewritten in place, and no copy */
	return expression_tree_mutator(node, replace_mutator, walk);
}

/* The expression with "to" in the place of "from". */
static Node *
replace(Node *expr, Node *from, Node *to, Finder *finder)
{
	QuietWalk walk = {finder};

	walk.from = from;
	walk.to = to;
	return replace_mutator(expr, &walk);
}

static bool
choice_walker(Node *node, QuietWalk *walk)
{
	if (node == NULL || IsA(node, Query) || is_carrier(node, walk->finder))
		return false;
	if ((IsA(node, CaseExpr) || IsA(node, CoalesceExpr)) && carriers_of(node, walk->finder) != NIL)
	{
		walk->from = node;
		return true;
	}
	return expression_tree_walker(node, choice_walker, walk);
}

/* The outermost CASE or COALESCE with a call in it, or NULL. */
static Node *
find_choice(Node *expr, Finder *finder)
{
	QuietWalk walk = {finder};

	return choice_walker(expr, &walk) ? walk.from : NULL;
}

/* The argument of a coercion, and whether the parser added it; NULL of any other node. */
static Node *
coercion_argument(Node *node, CoercionForm *form)
{
	switch (nodeTag(node))
	{
		case T_RelabelType:
			*form = ((RelabelType *) node)->relabelformat;
			return (Node *) ((RelabelType *) node)->arg;
		case T_CoerceViaIO:
			*form = ((CoerceViaIO *) node)->coerceformat;
			return (Node *) ((CoerceViaIO *) node)->arg;
		case T_ArrayCoerceExpr:
			*form = ((ArrayCoerceExpr *) node)->coerceformat;
			return (Node *) ((ArrayCoerceExpr *) node)->arg;
		case T_CoerceToDomain:
			*form = ((CoerceToDomain *) node)->coercionformat;
			return (Node *) ((CoerceToDomain *) node)->arg;
		case T_FuncExpr:
			*form = ((FuncExpr *) node)->funcformat;
			return ((FuncExpr *) node)->args == NIL ? NULL : linitial(((FuncExpr *) node)->args);
		default:
			return NULL;
	}
}

static Node *
strip_implicit(Node *node)
{
	CoercionForm form;
	Node *argument;

	while ((argument = coercion_argument(node, &form)) != NULL && form == COERCE_IMPLICIT_CAST)
		node = argument;
	return node;
}

static bool
row_walker(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var) || IsA(node, Param) || IsA(node, SubLink) || IsA(node, CaseTestExpr) ||
		IsA(node, CoerceToDomainValue) || IsA(node, SQLValueFunction))
		return true;
	return expression_tree_walker(node, row_walker, unused);
}

static Param *
make_param(int number, Node *value)
{
	Param *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = exprType(value);
	param->paramtypmod = exprTypmod(value);
	param->paramcollid = exprCollation(value);
	param->location = -1;
	return param;
}

/* A part that does not depend on the call: evaluated with the row. */
static Node *
freeze(Node *leaf, QuietWalk *walk)
{
	Finder *finder = walk->finder;
	Oid type = exprType(leaf);

	finder->use(leaf, finder, PLACE_EXPRESSION);
	if (contain_volatile_functions(leaf))
		llm_find_refuse(finder, walk->quiet->call, PLACE_VOLATILE);
	if (get_typtype(type) == TYPTYPE_PSEUDO)
		llm_find_refuse(finder, walk->quiet->call, PLACE_UNTYPED);
	walk->leaves = lappend(walk->leaves, leaf);
	return (Node *) make_param(1 + list_length(walk->leaves), leaf);
}

/* The call becomes $1; the largest parts that do not depend on it, $2 and so on. */
static Node *
kept_mutator(Node *node, QuietWalk *walk)
{
	if (node == NULL)
		return NULL;
	if (is_carrier(node, walk->finder) && llm_planner_is_same(node, walk->carrier))
		return (Node *) make_param(1, node);
	if (IsA(node, List))
		return expression_tree_mutator(node, kept_mutator, walk);
	if (carriers_of(node, walk->finder) == NIL)
	{
		if (!row_walker(node, NULL) && !contain_mutable_functions(node))
			return node;
		return freeze(node, walk);
	}
	if (IsA(node, ArrayCoerceExpr))
	{
		/* what is done with an element reads no row */
		ArrayCoerceExpr *coercion = makeNode(ArrayCoerceExpr);

		*coercion = *(ArrayCoerceExpr *) node;
		coercion->arg = (Expr *) kept_mutator((Node *) coercion->arg, walk);
		return (Node *) coercion;
	}
	return expression_tree_mutator(node, kept_mutator, walk);
}

/* The carrier as it is evaluated: a call, or what may carry one. */
static Node *
take_carrier(Node *carrier, LlmFoundBranch *branch, Finder *finder)
{
	TargetEntry *offered = llm_quiet_excluded(carrier, finder);

	if (offered != NULL)
	{
		branch->offered = offered->resno;
		return (Node *) makeNullConst(JSONBOID, -1, InvalidOid);
	}
	if (llm_planner_is_call(carrier))
		finder->value_type = ((FuncExpr *) carrier)->funcresulttype;
	finder->value(carrier, finder, true);
	finder->value_type = InvalidOid;
	return carrier;
}

/* What stands for the carrier where it turned out to be no marker. */
static Node *
make_fallback(Node *carrier, LlmFoundBranch *branch)
{
	if (branch->offered != 0)
		return carrier;
	if (llm_planner_is_call(carrier))
		return (Node *) makeNullConst(exprType(carrier), -1, exprCollation(carrier));
	branch->carried = makeFuncExpr(InvalidOid, exprType(carrier), NIL, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	return (Node *) branch->carried;
}

/* keep_quiet() of that carrier and leaves; rewrite() knows the rest. */
static FuncExpr *
make_keep(List *args)
{
	return makeFuncExpr(InvalidOid, BOOLOID, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* What is around the carrier in an expression, as it is kept; the branch is one for this. */
static LlmFoundBranch *
keep_around(Node *expr, Node *carrier, LlmFoundQuiet *quiet, List **leaves, Finder *finder)
{
	LlmFoundBranch *branch = palloc0(sizeof(LlmFoundBranch));
	Node *bare = strip_implicit(expr);
	QuietWalk walk = {finder};

	walk.carrier = carrier;
	walk.quiet = quiet;
	if (bare != carrier)
	{
		branch->kept = kept_mutator(bare, &walk);
		if (contain_volatile_functions(branch->kept))
			llm_find_refuse(finder, quiet->call, PLACE_VOLATILE);
		if (llm_kept_is_temporary(branch->kept))
			llm_find_refuse(finder, quiet->call, PLACE_TEMPORARY);
	}
	branch->returns = exprType(carrier);
	branch->leaves = walk.leaves;
	*leaves = walk.leaves;
	return branch;
}

/* WHEN keep_quiet() of that carrier and leaves, which rewrite() fills in. */
static CaseWhen *
make_when(LlmFoundBranch *branch, Node *carrier, List *leaves, LlmFoundQuiet *quiet)
{
	branch->keep = make_keep(lcons(carrier, list_copy(leaves)));
	branch->when = makeNode(CaseWhen);
	branch->when->expr = (Expr *) branch->keep;
	branch->when->location = -1;
	quiet->branches = lappend(quiet->branches, branch);
	return branch->when;
}

/* One value with a column out of which its calls were moved: each of them may be meant. */
static void
make_lifted(Node *expr, Node *carrier, const LlmFoundLift *lift, CaseExpr *choice, LlmFoundQuiet *quiet, Finder *finder)
{
	foreach_ptr(LlmLiftQuestion, question, lift->questions)
	{
		/* stands for the answer in what is kept, and only there has that type */
		Node *answer = llm_lift_marker(question, carrier, question->call->funcresulttype, finder->level);
		Node *around = llm_lift_around(question, carrier, answer, finder->level);
		Node *marker = llm_lift_marker(question, carrier, JSONBOID, finder->level);
		List *leaves;
		LlmFoundBranch *branch = keep_around(replace(expr, carrier, around, finder), answer, quiet, &leaves, finder);

		branch->returns = question->call->funcresulttype;
		if (question->sublink != NULL)
			finder->value(answer, finder, true);
		choice->args = lappend(choice->args, make_when(branch, marker, leaves, quiet));
	}
	choice->defresult = (Expr *) (lift->own == NULL ? expr : replace(expr, carrier, lift->own, finder));
}

/* One value with one call in it. */
static Node *
make_branch(Node *expr, LlmFoundQuiet *quiet, Finder *finder)
{
	List *carriers = carriers_of(expr, finder);
	Node *carrier = linitial(carriers);
	LlmFoundLift *lift = llm_lift_of(finder->found, carrier, finder->level);
	CaseExpr *choice = makeNode(CaseExpr);
	LlmFoundBranch *branch;
	List *leaves;

	if (list_length(carriers) > 1)
		llm_find_refuse(finder, quiet->call, PLACE_SEVERAL);
	choice->casetype = exprType(expr);
	choice->casecollid = exprCollation(expr);
	choice->location = -1;
	if (lift != NULL)
	{
		make_lifted(expr, carrier, lift, choice, quiet, finder);
		return (Node *) choice;
	}
	branch = keep_around(expr, carrier, quiet, &leaves, finder);
	choice->args = list_make1(make_when(branch, take_carrier(carrier, branch, finder), leaves, quiet));
	if (branch->offered != 0 && branch->kept != NULL)
		llm_find_refuse(finder, quiet->call, PLACE_EXPRESSION);
	choice->defresult = (Expr *) replace(expr, carrier, make_fallback(carrier, branch), finder);
	return (Node *) choice;
}

static Node *distribute(Node *expr, LlmFoundQuiet *quiet, Finder *finder);

/* The expression with one value of a choice in the place of the choice. */
static Expr *
choose(Node *expr, Node *choice, Node *value, LlmFoundQuiet *quiet, Finder *finder)
{
	Node *chosen = replace(expr, choice, value, finder);

	if (carriers_of(value, finder) != NIL || carriers_of(chosen, finder) != NIL)
		return (Expr *) distribute(chosen, quiet, finder);
	finder->use(value, finder, PLACE_EXPRESSION);
	return (Expr *) chosen;
}

/* CASE: what is around it goes into its results. */
static Node *
distribute_case(Node *expr, CaseExpr *choice, LlmFoundQuiet *quiet, Finder *finder)
{
	CaseExpr *result = makeNode(CaseExpr);
	Node *otherwise = (Node *) choice->defresult;

	finder->use((Node *) choice->arg, finder, PLACE_CONDITION);
	result->casetype = exprType(expr);
	result->casecollid = exprCollation(expr);
	result->arg = choice->arg;
	result->location = -1;
	foreach_node(CaseWhen, when, choice->args)
	{
		CaseWhen *chosen = makeNode(CaseWhen);

		finder->use((Node *) when->expr, finder, PLACE_CONDITION);
		chosen->expr = when->expr;
		chosen->result = choose(expr, (Node *) choice, (Node *) when->result, quiet, finder);
		chosen->location = -1;
		result->args = lappend(result->args, chosen);
	}
	if (otherwise == NULL)
		otherwise = (Node *) makeNullConst(choice->casetype, -1, choice->casecollid);
	result->defresult = choose(expr, (Node *) choice, otherwise, quiet, finder);
	return (Node *) result;
}

/* COALESCE with a call as its last argument is a CASE: the first argument that is not NULL. */
static Node *
distribute_coalesce(Node *expr, CoalesceExpr *choice, LlmFoundQuiet *quiet, Finder *finder)
{
	CaseExpr *result = makeNode(CaseExpr);
	ListCell *cell;

	result->casetype = exprType(expr);
	result->casecollid = exprCollation(expr);
	result->location = -1;
	foreach(cell, choice->args)
	{
		Node *value = lfirst(cell);
		CaseWhen *when = makeNode(CaseWhen);
		NullTest *test = makeNode(NullTest);

		if (lnext(choice->args, cell) == NULL)
		{
			result->defresult = choose(expr, (Node *) choice, value, quiet, finder);
			break;
		}
		if (carriers_of(value, finder) != NIL)
			llm_find_refuse(finder, quiet->call, PLACE_FALLBACK);
		if (contain_volatile_functions(value))
			llm_find_refuse(finder, quiet->call, PLACE_VOLATILE);
		test->arg = (Expr *) value;
		test->nulltesttype = IS_NOT_NULL;
		test->argisrow = false;
		test->location = -1;
		when->expr = (Expr *) test;
		when->result = choose(expr, (Node *) choice, value, quiet, finder);
		when->location = -1;
		result->args = lappend(result->args, when);
	}
	return (Node *) result;
}

/* What the expression becomes; it has a call. */
static Node *
distribute(Node *expr, LlmFoundQuiet *quiet, Finder *finder)
{
	Node *choice = find_choice(expr, finder);

	if (choice == NULL)
		return make_branch(expr, quiet, finder);
	if (IsA(choice, CaseExpr))
		return distribute_case(expr, (CaseExpr *) choice, quiet, finder);
	return distribute_coalesce(expr, (CoalesceExpr *) choice, quiet, finder);
}

/* The columns of the relation that the expression reads, sub-selects included. */
static Bitmapset *
columns_of(Node *expr, int varno)
{
	Bitmapset *columns = NULL;

	foreach_node(Var, var, pull_vars_of_level(expr, 0))
	{
		if (var->varno == varno && var->varattno > 0)
			columns = bms_add_member(columns, var->varattno);
	}
	return columns;
}

LlmFoundQuiet *
llm_quiet_find(TargetEntry *entry, bool is_update, Finder *finder)
{
	Query *query = finder->level->query;
	Oid relation = rt_fetch(query->resultRelation, query->rtable)->relid;
	List *carriers = carriers_of((Node *) entry->expr, finder);
	LlmFoundQuiet *quiet;

	if (carriers == NIL)
		return NULL;
	quiet = palloc0(sizeof(LlmFoundQuiet));
	quiet->is_own = TypeCategory(getBaseType(get_atttype(relation, entry->resno))) == TYPCATEGORY_STRING;
	quiet->call = llm_quiet_call_of(entry, finder);
	quiet->expr = (Expr *) distribute((Node *) entry->expr, quiet, finder);
	if (is_update)
		quiet->reads = bms_del_member(columns_of((Node *) entry->expr, query->resultRelation), entry->resno);
	if (!(list_length(quiet->branches) == 1 && find_choice((Node *) entry->expr, finder) == NULL))
		quiet->clear = make_keep(list_make1(makeNullConst(JSONBOID, -1, InvalidOid)));
	return quiet;
}
