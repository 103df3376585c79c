/*-------------------------------------------------------------------------
 *
 * tags.c
 *	  Tags of a call: what it says itself, over what the session says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "base/guc.h"
#include "base/json.h"
#include "operation/operation.h"

/* They go into each row of the ledger, wherever they come from. */
static void
check(Jsonb *tags)
{
	JsonbValue tree;
	const char *fault = llm_json_tree(tags, &tree) ? llm_operation_tags_fault(&tree) : "It nests too deep.";

	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for setting \"llm_enrich.tags\""),
				 errdetail("%s", fault)));
}

/* The setting llm_enrich.tags as jsonb, NULL when it is empty. */
static Jsonb *
session_tags(void)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb *volatile tags = NULL;

	if (llm_guc_tags == NULL || llm_guc_tags[0] == '\0')
		return NULL;
	PG_TRY();
	{
		tags = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(llm_guc_tags)));
	}
	PG_CATCH();
	{
		/* only our own parser ran, and another error follows */
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		tags = NULL;
	}
	PG_END_TRY();
	if (tags == NULL || !JB_ROOT_IS_OBJECT((Jsonb *) tags))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("setting \"llm_enrich.tags\" is not a JSON object"),
				 errhint("Write it like {\"team\": \"support\"}.")));
	check(tags);
	return tags;
}

Jsonb *
llm_operation_tags(Jsonb *own)
{
	Jsonb *tags = session_tags();

	if (tags == NULL || own == NULL)
		return tags == NULL ? own : tags;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(tags), JsonbPGetDatum(own)));
}
