/*-------------------------------------------------------------------------
 *
 * ask_tally.c
 *	  What calls have cost: of a plan node, and of the client's command.
 *
 * The command's tally begins again with the first reply of each command, so that one which an
 * error has ended leaves nothing behind.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "ask/ask_tally.h"
#include "base/guc.h"
#include "money/budget.h"

/* Digits of a dollar that are told; less than that is told in full. */
#define TOLD_DIGITS 6

/* Of the client's command.  Its cost lives in the top context. */
static LlmAskTally of_command = {0};
static TimestampTz command = 0;
static int64 spent = 0; /* nanodollars, also what was told of already */

static void
begin_anew(void)
{
	if (of_command.cost != NULL)
		pfree(of_command.cost);
	memset(&of_command, 0, sizeof(of_command));
}

/* The tally of the command that runs. */
static LlmAskTally *
get_command_tally(void)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();

	if (command != now)
	{
		begin_anew();
		spent = 0;
	}
	command = now;
	return &of_command;
}

static void
add_cost(LlmAskTally *tally, MemoryContext context, Numeric more)
{
	MemoryContext saved;
	Numeric old = tally->cost;

	if (more == NULL)
	{
		tally->unpriced = true;
		return;
	}
	saved = MemoryContextSwitchTo(context);
	if (old == NULL)
		tally->cost = DatumGetNumericCopy(NumericGetDatum(more));
	else
		tally->cost = DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(old), NumericGetDatum(more)));
	MemoryContextSwitchTo(saved);
	if (old != NULL)
		pfree(old);
}

static void
add_reply(LlmAskTally *tally, MemoryContext context, const LlmLetterReply *reply, Numeric cost, int64 waited_us)
{
	tally->calls++;
	tally->kept += reply->kept ? 1 : 0;
	tally->failed += reply->outcome == LLM_LETTER_ANSWERED ? 0 : 1;
	tally->requests += reply->requests - reply->carried;
	tally->input_tokens += reply->usage.input + reply->usage.cached + reply->usage.cache_write;
	tally->output_tokens += reply->usage.output;
	tally->waited_us += waited_us;
	add_cost(tally, context, cost);
}

void
llm_ask_tally_note(LlmAskTally *node, MemoryContext context, const LlmLetterReply *reply, int64 waited_us)
{
	Numeric cost = NULL;

	if (reply->cost != NULL)
		cost = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(reply->cost),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	add_reply(get_command_tally(), TopMemoryContext, reply, cost, waited_us);
	if (node != NULL)
		add_reply(node, context, reply, cost, waited_us);
	if (cost == NULL)
		return;
	spent += llm_money_nano(NumericGetDatum(cost));
	pfree(cost);
}

int64
llm_ask_tally_spent(void)
{
	(void) get_command_tally();
	return spent;
}

void
llm_ask_tally_give_up(LlmAskTally *node)
{
	get_command_tally()->given_up++;
	node->given_up++;
}

char *
llm_ask_tally_cost(const LlmAskTally *tally)
{
	Datum cost;
	Datum rounded;
	Datum zero = NumericGetDatum(int64_to_numeric(0));

	if (tally->cost == NULL)
		return NULL;
	cost = NumericGetDatum(tally->cost);
	rounded = DirectFunctionCall2(numeric_round, cost, Int32GetDatum(TOLD_DIGITS));
	if (DatumGetBool(DirectFunctionCall2(numeric_eq, rounded, zero)))
		rounded = cost;
	return DatumGetCString(DirectFunctionCall1(numeric_out, DirectFunctionCall1(numeric_trim_scale, rounded)));
}

/* ", 3 kept" */
static void
append_count(StringInfo line, int64 count, const char *what)
{
	if (count > 0)
		appendStringInfo(line, ", " INT64_FORMAT " %s", count, what);
}

void
llm_ask_tally_tell(void)
{
	const LlmAskTally *tally = get_command_tally();
	StringInfoData line;
	char *cost;

	if (tally->calls == 0 && tally->given_up == 0)
		return;
	if (llm_guc_notices)
	{
		initStringInfo(&line);
		appendStringInfo(&line, INT64_FORMAT " %s", tally->calls, tally->calls == 1 ? "call" : "calls");
		append_count(&line, tally->kept, "kept");
		append_count(&line, tally->failed, "failed");
		append_count(&line, tally->given_up, "given up");
		if (tally->requests != tally->calls - tally->kept)
			append_count(&line, tally->requests, "requests");
		cost = llm_ask_tally_cost(tally);
		if (cost != NULL)
			appendStringInfo(&line, ", %s US dollars", cost);
		if (tally->unpriced)
			appendStringInfoString(&line, cost == NULL ? ", cost not known" : " and what has no price");
		ereport(NOTICE,
				(errmsg_internal("%s", line.data)));
		pfree(line.data);
	}
	begin_anew();
}
