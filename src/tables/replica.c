/*-------------------------------------------------------------------------
 *
 * replica.c
 *	  What logical replication brings for our own tables is not taken.
 *
 * A publication FOR ALL TABLES has the tables of schema llm in it.  Were their rows
 * stored by a subscriber that has the extension, too, its workers would send the
 * publisher's tasks a second time, and numbers that both sides draw would collide, which
 * stops replication.  So each of our tables has a row trigger that fires for replicated
 * changes only and lets none of them through.  What the subscriber's own statements
 * queue is stored as ever, also when a trigger of the user runs them while a change is
 * being applied.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

#include "base/llm_enrich.h"

PG_FUNCTION_INFO_V1(llm_enrich_ignore_replicated);
PG_FUNCTION_INFO_V1(llm_enrich_refuse_replicated);

/*
 * Is the change being stored one that came from a publisher, and not one of a statement
 * that a trigger runs meanwhile?  Such a statement's triggers are nested in that one.
 */
static bool
is_applied(void)
{
	return IsLogicalWorker() && DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) == 1;
}

/*
 * SQL: trigger llm.ignore_replicated() on our tables, per row.  It looks at the
 * session's replication role, besides being enabled for replicas only, since pg_restore --disable-triggers
 * leaves it enabled for everybody.
 */
Datum
llm_enrich_ignore_replicated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("\"%s\" may only be called as a row trigger before a change", "llm.ignore_replicated")));
	if (is_applied())
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple);
}

/*
 * SQL: trigger llm.refuse_replicated(), after a change of a row of the queue, and before
 * TRUNCATE.  Neither can be dropped there: with the publisher's numbers no row of ours is
 * met but by somebody who means to.
 */
Datum
llm_enrich_refuse_replicated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("\"%s\" may only be called as a trigger", "llm.refuse_replicated")));
	if (is_applied())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a publisher cannot change \"%s.%s\"", LLM_SCHEMA,
						RelationGetRelationName(trigger->tg_relation)),
				 errdetail("It belongs to extension \"%s\", which alone writes it.", LLM_LIBRARY),
				 errhint("Publish other tables only, or pass over this change with ALTER SUBSCRIPTION ... SKIP.")));
	return PointerGetDatum(NULL);
}
