/*-------------------------------------------------------------------------
 *
 * planner_find.h
 *	  What the files that look through a statement share (planner_find.c, planner_quiet.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_PLANNER_FIND_H
#define LLM_PLANNER_FIND_H

#include "base/llm_enrich.h"

#include "bind/planner.h"

/* Where a use stands, for the message. */
typedef enum UsePlace
{
	PLACE_EXPRESSION,
	PLACE_CALL,
	PLACE_CONDITION,
	PLACE_WHERE, /* calls are asked at once; columns that carry one are no better than elsewhere */
	PLACE_RETURNING,
	PLACE_SORT,
	PLACE_SET_OPERATION,
	PLACE_SUBSCRIPT,
	PLACE_RESULT,
	PLACE_COPY,
	PLACE_TYPED,
	PLACE_VOLATILE,
	PLACE_SEVERAL,
	PLACE_UNTYPED,
	PLACE_TEMPORARY,
	PLACE_FALLBACK,
	PLACE_CLAUSE
} UsePlace;

typedef struct Finder
{
	LlmFound *found;
	LlmQueryLevel *level;
	UsePlace place;

	/* the assignment that is looked at, else NULL */
	const char *relation;
	const char *column;
	Oid value_type; /* what a function may return besides jsonb; InvalidOid: nothing */

	/* Refuse any call, or column that carries one, in an expression that uses its value. */
	void (*use)(Node *node, struct Finder *finder, UsePlace place);

	/* Check a value, which may be a call, and note the calls in it. */
	void (*value)(Node *node, struct Finder *finder, bool direct);
} Finder;

/* Raise 0A000: the call is used there, which it may not (planner_place.c). */
pg_noreturn extern void llm_find_refuse(Finder *finder, FuncExpr *call, UsePlace place);

/*
 * What an assignment to a quiet cell becomes, if a call is in the expression; else NULL.
 * Raises where the call may not stand.
 */
extern LlmFoundQuiet *llm_quiet_find(TargetEntry *entry, bool is_update, Finder *finder);

/* Does the cell show the marker that the entry carries, until the answer is there?  Else it is quiet. */
extern bool llm_quiet_shows(TargetEntry *entry, Finder *finder);

/* The call of such an entry, for messages. */
extern FuncExpr *llm_quiet_call_of(TargetEntry *entry, Finder *finder);

/* The INSERT entry whose call EXCLUDED.column takes, when that is a quiet cell; else NULL. */
extern TargetEntry *llm_quiet_excluded(Node *node, Finder *finder);

#endif /* LLM_PLANNER_FIND_H */
