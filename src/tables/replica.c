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

PG_FUNCTION_INFO_V1(llm_enrich_ignore_replicated);

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
