/*-------------------------------------------------------------------------
 *
 * planner_place.c
 *	  What is said of a call that stands where it may not, by the place.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/lsyscache.h"

#include "bind/planner_find.h"

static const char *
place_detail(UsePlace place)
{
	switch (place)
	{
		case PLACE_EXPRESSION:
			return "The call is part of another expression, so that its marker would not arrive whole in the column.";
		case PLACE_CALL:
			return "The call is an argument of another such call, which would be asked about a marker and not about an answer.";
		case PLACE_CONDITION:
		case PLACE_WHERE:
			return "The call stands in a condition, but its answer comes only after COMMIT.";
		case PLACE_RETURNING:
			return "The call stands in RETURNING, but its answer comes only after COMMIT.";
		case PLACE_SORT:
			return "The rows would be sorted, grouped or made distinct by the call, but its answer comes only after COMMIT.";
		case PLACE_SET_OPERATION:
			return "The call stands in a UNION, INTERSECT or EXCEPT that compares rows, but its answer comes only after COMMIT.";
		case PLACE_SUBSCRIPT:
			return "The call is assigned to a part of the column, so that its marker would not arrive whole in the column.";
		case PLACE_RESULT:
			return "The call is a result of the statement and not assigned to a column.";
		case PLACE_COPY:
			return "The column would get a copy of the call's marker, which RETURNING gives, and the answer goes only where the call is assigned.";
		case PLACE_TYPED:
			return "The call stands where its marker, which is jsonb, would have to travel as another type.";
		case PLACE_VOLATILE:
			return "A volatile function stands around the call, and would be evaluated when the answer is there.";
		case PLACE_SEVERAL:
			return "Several calls stand in one value, but each answer is written when it is there.";
		case PLACE_UNTYPED:
			return "A part of the expression has a type that has no name, or that only this session knows.";
		case PLACE_TEMPORARY:
			return "The expression around the call uses a temporary object, which only this session knows.";
		case PLACE_FALLBACK:
			return "In COALESCE the call must be the last argument, since its answer comes only after COMMIT.";
		case PLACE_CLAUSE:
			break;
	}
	return "The call stands in a clause that assigns nothing, but its answer comes only after COMMIT.";
}

static const char *
place_hint(UsePlace place, const char *function)
{
	switch (place)
	{
		case PLACE_CALL:
			return "Store the inner answer in a column of its own, and ask the second question when it is there.";
		case PLACE_CONDITION:
		case PLACE_WHERE:
		case PLACE_SORT:
		case PLACE_CLAUSE:
			return psprintf("Store the answer first (UPDATE ... SET column = %s(...)), and use the column when it is there.", function);
		case PLACE_RETURNING:
			return "Assign the call to a column, and return the column: it shows the marker, or what it held, until the answer is there.";
		case PLACE_TYPED:
			return psprintf("Assign the call itself (SET column = %s(...)), or let the sub-select return the call alone.", function);
		case PLACE_VOLATILE:
			return "Store the answer in a column of its own, and combine it when it is there.";
		case PLACE_SEVERAL:
			return "Store each answer in a column of its own, and combine them when they are there.";
		case PLACE_UNTYPED:
			return "Cast that part to a type of its own.";
		case PLACE_TEMPORARY:
			return "Use objects that are there for all sessions.";
		case PLACE_FALLBACK:
			return "Put what is to be preferred before the call, and take care of a missing answer when it is there.";
		case PLACE_COPY:
			return "Assign a call to this column, too, or copy the answer when it is there.";
		case PLACE_SET_OPERATION:
			return "Use UNION ALL, or make the rows distinct in a sub-select before the call.";
		default:
			return psprintf("Assign the call, or an expression around it, to the column itself (SET column = %s(...)).", function);
	}
}

void
llm_find_refuse(Finder *finder, FuncExpr *call, UsePlace place)
{
	LlmRefusal refusal = {call, finder->relation, finder->column, NULL, NULL};

	refusal.detail = place_detail(place);
	refusal.hint = place_hint(place, get_func_name(call->funcid));
	llm_planner_refuse(finder->found, &refusal);
}
