/*-------------------------------------------------------------------------
 *
 * planner.c
 *	  The planner hook.
 *
 * Works on the query as rewritten, so after rules, views and row security.  A
 * statement without calls costs one walk over its tree, and a plain SELECT not
 * even that; where the extension is not installed, all it costs is a flag.
 *
 * There is no setting that switches the hook: plans are cached, and would keep
 * the state they were made in.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"

#include "base/compat.h"
#include "bind/planner.h"

/* The hook that was there before ours; set once. */
static planner_hook_type previous_planner = NULL;

/* Calls can be found, but can they be deferred here? */
static void
check_helpers(const LlmPlannerCalls *calls)
{
	const struct
	{
		const char *name;
		Oid function;
	} helpers[] = {
		{"issue", calls->issue},
		{"keep", calls->keep},
		{"bind", calls->bind},
		{"seen", calls->seen},
		{"keep_quiet", calls->keep_quiet},
		{"carried", calls->carried},
		{"bind_quiet", calls->bind_quiet},
	};
	const char *missing = NULL;

	for (int i = 0; i < lengthof(helpers); i++)
	{
		if (!OidIsValid(helpers[i].function))
			missing = helpers[i].name;
	}
	if (missing != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" is only partly installed", LLM_LIBRARY),
				 errdetail("Function \"%s.%s\" is missing.", LLM_SCHEMA, missing),
				 errhint("Run ALTER EXTENSION %s UPDATE, or drop the extension and create it again.", LLM_LIBRARY)));
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a database with encoding \"%s\" cannot queue calls", GetDatabaseEncodingName()),
				 errdetail("Providers speak UTF-8, and an answer may hold any character of it."),
				 errhint("Create the database with ENCODING 'UTF8'.")));
}

/* Make the calls in the statement deferred ones, or refuse it. */
static void
defer_calls(Query *query, const LlmPlannerCalls *calls, const char *query_string)
{
	LlmFound found = {.query_string = query_string};
	ListCell *cell;

	check_helpers(calls);
	llm_planner_find(query, &found);
	foreach(cell, found.targets)
		llm_planner_target(&found, lfirst(cell), foreach_current_index(cell));
	llm_planner_rewrite(&found);
}

/* planner_hook.  Changes the tree in place, as the planner itself does. */
static PlannedStmt *
plan_statement(LLM_PLANNER_PARAMS)
{
	const LlmPlannerCalls *calls;

	if ((query->commandType != CMD_SELECT || query->hasModifyingCTE) &&
		query->commandType != CMD_UTILITY &&
		(calls = llm_planner_calls()) != NULL && llm_planner_has_call((Node *) query, NULL))
		defer_calls(query, calls, query_string);
	return previous_planner(LLM_PLANNER_ARGS);
}

void
llm_planner_init(void)
{
	previous_planner = planner_hook != NULL ? planner_hook : standard_planner;
	planner_hook = plan_statement;
}
