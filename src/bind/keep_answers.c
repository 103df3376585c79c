/*-------------------------------------------------------------------------
 *
 * keep_answers.c
 *	  A trigger that lets no stale marker replace an answer.
 *
 * An ORM reads a row while its cell is pending and saves all of it later, the marker as
 * well, when the answer is in the cell.  The task has ended by then: the answer, which is
 * paid, would be lost, and the cell pending for ever.  A table's owner puts this trigger on
 * it; see docs/operations.md.
 *
 * Nothing is asked of the queue unless a cell gets a marker that it does not have: those of
 * the statement that asks, whose tasks are yet to be written, and copies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/rel.h"

#include "base/spi.h"
#include "bind/defer.h"
#include "cell/marker.h"

PG_FUNCTION_INFO_V1(llm_enrich_keep_answers);

static LlmStatement queued_statement = {
	.sql = "SELECT FROM llm.queue q WHERE q.id = $1",
	.nargs = 1,
	.args = {INT8OID},
	.fresh = true};

/* Is the task on its way, or about to be? */
static bool
is_on_its_way(int64 task)
{
	Datum values[1] = {Int64GetDatum(task)};
	LlmOwnScope scope;
	bool found;

	if (llm_defer_is_being_asked(task))
		return true;
	SPI_connect();
	llm_spi_own_begin(&scope);
	found = llm_spi_execute(&queued_statement, values, NULL, false) > 0;
	llm_spi_own_end(&scope);
	SPI_finish();
	return found;
}

/* The task that a column's marker names in this version of the row; 0: none. */
static int64
task_in(HeapTuple row, TupleDesc desc, AttrNumber column, LlmCellType type)
{
	bool isnull;
	bool nested;
	Datum cell = heap_getattr(row, column, desc, &isnull);

	return isnull ? 0 : llm_marker_task(type, cell, &nested);
}

/* Does the new version put a marker there whose task has ended, in place of something else? */
static bool
is_stale(const TriggerData *trigger, AttrNumber column)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);
	LlmCellType type;
	int64 task;

	if (attribute->attisdropped || attribute->attgenerated != '\0')
		return false;
	type = llm_marker_cell_type(attribute->atttypid);
	if (type == LLM_CELL_OTHER)
		return false;
	task = task_in(trigger->tg_newtuple, desc, column, type);
	return task != 0 && task != task_in(trigger->tg_trigtuple, desc, column, type) && !is_on_its_way(task);
}

/*
 * SQL: llm.keep_answers() → the new row, in which cells that would get a stale marker have
 * what they had.  39P01 unless it is a trigger BEFORE UPDATE FOR EACH ROW.
 */
Datum
llm_enrich_keep_answers(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple row;
	TupleDesc desc;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s.keep_answers\" was not called by a trigger BEFORE UPDATE FOR EACH ROW", LLM_SCHEMA),
				 errhint("CREATE TRIGGER keep_answers BEFORE UPDATE ON a_table FOR EACH ROW"
						 " EXECUTE FUNCTION %s.keep_answers();",
						 LLM_SCHEMA)));
	row = trigger->tg_newtuple;
	desc = RelationGetDescr(trigger->tg_relation);
	for (AttrNumber column = 1; column <= desc->natts; column++)
	{
		int number = column;
		bool isnull;
		Datum held;

		if (!is_stale(trigger, column))
			continue;
		held = heap_getattr(trigger->tg_trigtuple, column, desc, &isnull);
		row = heap_modify_tuple_by_cols(row, desc, 1, &number, &held, &isnull);
	}
	return PointerGetDatum(row);
}
