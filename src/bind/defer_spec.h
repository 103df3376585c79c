/*-------------------------------------------------------------------------
 *
 * defer_spec.h
 *	  What the planner hook tells llm.issue(), llm.keep() and llm.bind(): a text
 *	  in a constant, so that a plan can be copied and cached, and EXPLAIN can print it.
 *
 *	  write_*()   planner_rewrite.c
 *	  read_*()    defer_call.c, defer_cell.c and defer_bind.c, once per expression and execution
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DEFER_SPEC_H
#define LLM_DEFER_SPEC_H

#include "base/llm_enrich.h"

#include "access/attnum.h"
#include "cell/marker.h"

/*
 * The first argument of the three functions, declared "internal" so that no SQL can
 * give one, but passed as a bigint, since EXPLAIN VERBOSE can print that.
 */
#define LLM_DEFER_MAGIC INT64CONST(7021806553811)

/* Arguments before those that vary: the magic number and the spec. */
#define LLM_DEFER_FIXED_ARGS 2

/*
 * What an argument of a call is, as a byte: the input, which is the first one whatever its
 * name, or LLM_ROLE_ARG(argument) of one in the table.
 */
#define LLM_ROLE_INPUT 1
#define LLM_ROLE_ARG(arg) ((char) (LLM_ROLE_INPUT + 1 + (arg)))
#define LLM_ARG_OF_ROLE(role) ((LlmArg) ((role) -LLM_ROLE_INPUT - 1))

/* One call site of a statement. */
typedef struct LlmDeferSite
{
	int number; /* from 0, over the whole statement */
	bool direct; /* a marker is stored, if at all, before the next one is issued */
	Oid function; /* the public function */
	const char *name; /* its name: "llm_classify" */
	const char *args; /* a role per argument */
} LlmDeferSite;

/* A column that can hold a marker. */
typedef struct LlmDeferColumn
{
	const char *name; /* in the relation as named; "" when that does not show it */
	LlmCellType type;
	AttrNumber attno; /* in the table, or in the one at the top of its partitions */
} LlmDeferColumn;

/* One relation that a statement stores rows in. */
typedef struct LlmDeferTarget
{
	int number; /* from 0, over the whole statement */
	Oid relation; /* as the statement named it: table or view */
	int nkeys;
	const char **keys; /* names in that relation, in the order of the key */
	Oid root; /* the table at the top of its partitions; InvalidOid: a row belongs to the table that holds it */
	AttrNumber *key_attnos; /* of the keys in the table, or in the one at the top */
	int ncolumns;
	LlmDeferColumn *columns; /* those that can show a marker, then those that are quiet */
	int nshowing; /* how many can show a marker */
} LlmDeferTarget;

/* For keep(): a column of a target. */
typedef struct LlmDeferCell
{
	LlmDeferTarget *target;
	int column; /* index into target->columns */
	LlmCellType type; /* of the value as assigned, before the column's own coercion */
	bool is_update; /* the row was there before, and its tableoid and key follow */
	bool moves_key; /* the statement assigns columns of the key, too, or what they are generated from */
} LlmDeferCell;

/* For bind(): some of the columns of a target, since a function takes 100 arguments at most. */
typedef struct LlmDeferCheck
{
	LlmDeferTarget *target;
	int first;
	int count;
} LlmDeferCheck;

/* For keep_quiet(), carried() and bind_quiet(): a quiet column of a target. */
typedef struct LlmDeferQuiet
{
	LlmDeferTarget *target;
	int column; /* index into target->columns */
	bool is_update; /* else the row is new, and EXCLUDED may give its call away */
	bool clear; /* no more than: there is no call for this row so far */
	int offered; /* the call is that of this column of the INSERT; -1: the carrier has it */
	uint64 reads; /* which of the columns that bind_quiet() is given are read */
	const char *kept; /* llm.job.cell, as JSON */
} LlmDeferQuiet;

/* Results are allocated in the current context. */
extern text *llm_defer_write_site(const LlmDeferSite *site);
extern text *llm_defer_write_cell(const LlmDeferCell *cell);
extern text *llm_defer_write_check(const LlmDeferCheck *check);
extern text *llm_defer_write_quiet(const LlmDeferQuiet *quiet);
extern LlmDeferSite *llm_defer_read_site(const text *spec);
extern LlmDeferCell *llm_defer_read_cell(const text *spec);
extern LlmDeferCheck *llm_defer_read_check(const text *spec);
extern LlmDeferQuiet *llm_defer_read_quiet(const text *spec);

#endif /* LLM_DEFER_SPEC_H */
