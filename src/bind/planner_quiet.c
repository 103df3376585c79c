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
 * find() checks and builds, and changes nothing in the statement but that it moves calls in
 * a VALUES list; rewrite() puts it in (planner_quiet_rewrite.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "bind/planner.h"
#include "bind/planner_find.h"

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

/* What became of the calls in the column of a VALUES list that the expression is; NULL: it is none. */
static LlmFoundLift *
lift_of(Node *node, Finder *finder)
{
	Var *var = (Var *) strip_implicit(node);
	ListCell *cell;

	foreach(cell, finder->found->lifts)
	{
		LlmFoundLift *lift = lfirst(cell);

		if (IsA(var, Var) && lift->query == finder->level->query && var->varno == lift->varno &&
			var->varlevelsup == 0 && var->varattno == lift->column)
			return lift;
	}
	return NULL;
}

FuncExpr *
llm_quiet_call_of(TargetEntry *entry, Finder *finder)
{
	LlmFoundLift *lift = lift_of((Node *) entry->expr, finder);

	return lift != NULL ? lift->call : llm_planner_any_call((Node *) entry->expr);
}

/*
 * A bare call in a VALUES list, coerced to a type that cannot show its marker, that returns the
 * same type as the first one of its column; NULL: it is none.
 */
static FuncExpr *
lifted_call(Node *value, const FuncExpr *first)
{
	FuncExpr *call = (FuncExpr *) strip_implicit(value);

	if (!llm_planner_is_call((Node *) call) || llm_planner_column_fault(exprType(value)) == NULL ||
		(first != NULL && first->funcresulttype != call->funcresulttype))
		return NULL;
	return call;
}

/* Add a column with the calls of another one, where that has any; what they leave is NULL. */
static void
lift_column(Query *query, int varno, int column, LlmFound *found)
{
	RangeTblEntry *rte = rt_fetch(varno, query->rtable);
	LlmFoundLift *lift = palloc0(sizeof(LlmFoundLift));
	ListCell *row;

	foreach(row, rte->values_lists)
	{
		lift->call = lift->call != NULL ? lift->call : lifted_call(list_nth(lfirst(row), column - 1), NULL);
	}
	if (lift->call == NULL)
		return;
	foreach(row, rte->values_lists)
	{
		List *values = lfirst(row);
		ListCell *value = list_nth_cell(values, column - 1);
		FuncExpr *call = lifted_call(lfirst(value), lift->call);

		if (call != NULL)
			lfirst(value) = makeNullConst(exprType(lfirst(value)), exprTypmod(lfirst(value)),
										  exprCollation(lfirst(value)));
		lfirst(row) = lappend(values, call != NULL ? (Node *) call : (Node *) makeNullConst(JSONBOID, -1, InvalidOid));
	}
	rte->coltypes = lappend_oid(rte->coltypes, JSONBOID);
	rte->coltypmods = lappend_int(rte->coltypmods, -1);
	rte->colcollations = lappend_oid(rte->colcollations, InvalidOid);
	rte->eref->colnames = lappend(rte->eref->colnames, makeString(psprintf("call%d", column)));
	lift->query = query;
	lift->varno = varno;
	lift->column = column;
	lift->carrier = list_length(rte->coltypes);
	found->lifts = lappend(found->lifts, lift);
}

Oid
llm_quiet_lifted_type(int varno, int column, Finder *finder)
{
	ListCell *cell;

	foreach(cell, finder->found->lifts)
	{
		LlmFoundLift *lift = lfirst(cell);

		if (lift->query == finder->level->query && lift->varno == varno && lift->carrier == column)
			return lift->call->funcresulttype;
	}
	return InvalidOid;
}

void
llm_quiet_lift(Query *query, LlmFound *found)
{
	ListCell *cell;

	foreach(cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst(cell);
		int ncolumns = list_length(rte->coltypes);

		for (int column = 1; rte->rtekind == RTE_VALUES && column <= ncolumns; column++)
			lift_column(query, foreach_current_index(cell) + 1, column, found);
	}
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
	if (entry == NULL || llm_planner_carried((Node *) entry->expr, finder->level) != NULL)
	{
		Oid relation = rt_fetch(query->resultRelation, query->rtable)->relid;

		if (entry == NULL || llm_planner_column_fault(get_atttype(relation, entry->resno)) == NULL)
			return NULL;
		return entry;
	}
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

/*
 * The parser copies what it needs twice: "x IN ('a', column)" has two calls in the tree and one
 * in the text, and is one question.
 */
static bool
is_same_carrier(Node *one, Node *other)
{
	return one == other || (llm_planner_is_call(one) && ((FuncExpr *) one)->location >= 0 && equal(one, other) &&
							((FuncExpr *) one)->location == ((FuncExpr *) other)->location);
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
			if (is_same_carrier(lfirst(cell), node))
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

static Node *
replace_mutator(Node *node, QuietWalk *walk)
{
	if (node == NULL)
		return NULL;
	if (node == walk->from || (is_carrier(node, walk->finder) && is_same_carrier(node, walk->from)))
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

	llm_find_use(leaf, finder, PLACE_EXPRESSION);
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
	if (is_carrier(node, walk->finder) && is_same_carrier(node, walk->carrier))
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
	llm_find_value(carrier, finder, true);
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

/* One value with one call in it. */
static Node *
make_branch(Node *expr, LlmFoundQuiet *quiet, Finder *finder)
{
	List *carriers = carriers_of(expr, finder);
	Node *carrier = linitial(carriers);
	Node *bare = strip_implicit(expr);
	LlmFoundBranch *branch = palloc0(sizeof(LlmFoundBranch));
	QuietWalk walk = {finder};
	CaseExpr *choice = makeNode(CaseExpr);

	if (list_length(carriers) > 1)
		llm_find_refuse(finder, quiet->call, PLACE_SEVERAL);
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
	branch->keep = make_keep(lcons(take_carrier(carrier, branch, finder), list_copy(walk.leaves)));
	if (branch->offered != 0 && branch->kept != NULL)
		llm_find_refuse(finder, quiet->call, PLACE_EXPRESSION);
	branch->when = makeNode(CaseWhen);
	branch->when->expr = (Expr *) branch->keep;
	choice->casetype = exprType(expr);
	choice->casecollid = exprCollation(expr);
	choice->args = list_make1(branch->when);
	choice->defresult = (Expr *) replace(expr, carrier, make_fallback(carrier, branch), finder);
	choice->location = -1;
	quiet->branches = lappend(quiet->branches, branch);
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
	llm_find_use(value, finder, PLACE_EXPRESSION);
	return (Expr *) chosen;
}

/* CASE: what is around it goes into its results. */
static Node *
distribute_case(Node *expr, CaseExpr *choice, LlmFoundQuiet *quiet, Finder *finder)
{
	CaseExpr *result = makeNode(CaseExpr);
	Node *otherwise = (Node *) choice->defresult;
	ListCell *cell;

	llm_find_use((Node *) choice->arg, finder, PLACE_CONDITION);
	result->casetype = exprType(expr);
	result->casecollid = exprCollation(expr);
	result->arg = choice->arg;
	result->location = -1;
	foreach(cell, choice->args)
	{
		CaseWhen *when = lfirst_node(CaseWhen, cell);
		CaseWhen *chosen = makeNode(CaseWhen);

		llm_find_use((Node *) when->expr, finder, PLACE_CONDITION);
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

/* For reads_walker(). */
typedef struct ReadsWalk
{
	int varno;
	int depth;
	Bitmapset *columns;
} ReadsWalk;

static bool
reads_walker(Node *node, ReadsWalk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if (var->varno == walk->varno && var->varlevelsup == walk->depth && var->varattno > 0)
			walk->columns = bms_add_member(walk->columns, var->varattno);
		return false;
	}
	if (IsA(node, Query))
	{
		bool result;

		walk->depth++;
		result = query_tree_walker((Query *) node, reads_walker, walk, 0);
		walk->depth--;
		return result;
	}
	return expression_tree_walker(node, reads_walker, walk);
}

/* A column of a VALUES list: the calls are in another one, and where there is none, its own value stands. */
static void
find_lifted(TargetEntry *entry, LlmFoundQuiet *quiet, Finder *finder)
{
	LlmFoundLift *lift = lift_of((Node *) entry->expr, finder);
	Node *carrier = (Node *) makeVar(lift->varno, lift->carrier, JSONBOID, -1, InvalidOid, 0);
	CaseExpr *choice;

	quiet->call = lift->call;
	choice = (CaseExpr *) make_branch(carrier, quiet, finder);
	((LlmFoundBranch *) linitial(quiet->branches))->returns = lift->call->funcresulttype;
	choice->casetype = exprType((Node *) entry->expr);
	choice->casecollid = exprCollation((Node *) entry->expr);
	choice->defresult = entry->expr;
	quiet->expr = (Expr *) choice;
}

LlmFoundQuiet *
llm_quiet_find(TargetEntry *entry, bool is_update, Finder *finder)
{
	Query *query = finder->level->query;
	Oid relation = rt_fetch(query->resultRelation, query->rtable)->relid;
	List *carriers = carriers_of((Node *) entry->expr, finder);
	LlmFoundQuiet *quiet;
	ReadsWalk reads = {query->resultRelation, 0, NULL};
	FuncExpr *call;

	if (carriers == NIL && lift_of((Node *) entry->expr, finder) == NULL)
		return NULL;
	quiet = palloc0(sizeof(LlmFoundQuiet));
	quiet->is_own = TypeCategory(getBaseType(get_atttype(relation, entry->resno))) == TYPCATEGORY_STRING;
	if (carriers == NIL)
	{
		find_lifted(entry, quiet, finder);
		return quiet;
	}
	call = llm_planner_carried(linitial(carriers), finder->level);
	if (call == NULL)
		call = llm_quiet_call_of(llm_quiet_excluded(linitial(carriers), finder), finder);
	quiet->call = call;
	quiet->expr = (Expr *) distribute((Node *) entry->expr, quiet, finder);
	if (is_update)
		(void) reads_walker((Node *) entry->expr, &reads);
	quiet->reads = bms_del_member(reads.columns, entry->resno);
	if (!(list_length(quiet->branches) == 1 && find_choice((Node *) entry->expr, finder) == NULL))
		quiet->clear = make_keep(list_make1(makeNullConst(JSONBOID, -1, InvalidOid)));
	return quiet;
}
