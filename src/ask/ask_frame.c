/*-------------------------------------------------------------------------
 *
 * ask_frame.c
 *	  What is running around a call: may it wait for its answer there?
 *
 * It may where nothing is being written: a row, a table or a file that is half written
 * would stay locked for as long as a provider takes, and an answer that goes into a cell
 * is better deferred.  The planner cannot know: the arguments of CALL and EXECUTE are
 * evaluated without it, a simple expression of PL/pgSQL without the executor's hooks, and
 * CREATE TABLE AS looks like a SELECT to both.  So it is decided when the call is
 * evaluated, by what is on the stack: statements in the executor, utility commands, and
 * triggers, which PostgreSQL counts itself (ADR 56 has the cases).
 *
 * The frames are on the C stack of the hooks, and so are right after any error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "replication/logicalworker.h"
#include "tcop/utility.h"
#include "utils/fmgrprotos.h"

#include "ask/ask_frame.h"
#include "ask/ask_tally.h"
#include "base/compat.h"
#include "base/worker.h"
#include "operation/condition.h"

/* Something that runs. */
typedef struct Frame
{
	struct Frame *outer;
	bool is_statement; /* in the executor */
	bool writes;
	Node *command; /* of a utility command */
	bool reads_all; /* of a statement: all its rows are read now */
} Frame;

/* The innermost; every frame is on the C stack of its hook. */
static Frame *current_frame = NULL;

/* The hooks that were there before ours; set once. */
static ExecutorRun_hook_type previous_run = NULL;
static ExecutorFinish_hook_type previous_finish = NULL;
static ExecutorEnd_hook_type previous_end = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

/* ExecutorRun_hook */
static void
run_statement(LLM_EXECUTOR_RUN_PARAMS)
{
	Frame frame = {current_frame, true, false, NULL, count == 0};

	frame.writes = query_desc->operation != CMD_SELECT || query_desc->plannedstmt->hasModifyingCTE;
	current_frame = &frame;
	PG_TRY();
	{
		previous_run(LLM_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		current_frame = frame.outer;
	}
	PG_END_TRY();
}

/* ExecutorFinish_hook: queries in WITH store what they have not yet, and AFTER triggers fire. */
static void
finish_statement(QueryDesc *query_desc)
{
	Frame frame = {current_frame, true, false, NULL, false};

	frame.writes = query_desc->operation != CMD_SELECT || query_desc->plannedstmt->hasModifyingCTE;
	current_frame = &frame;
	PG_TRY();
	{
		previous_finish(query_desc);
	}
	PG_FINALLY();
	{
		current_frame = frame.outer;
	}
	PG_END_TRY();
}

/* ExecutorEnd_hook: also what was read ahead in vain has been given up by then. */
static void
end_statement(QueryDesc *query_desc)
{
	previous_end(query_desc);
	if (current_frame == NULL)
		llm_ask_tally_tell();
}

/* Does the command store what it evaluates?  What is not known to be harmless does. */
static bool
command_writes(Node *command)
{
	Query *explained;

	switch (nodeTag(command))
	{
		case T_CallStmt:
		case T_ClosePortalStmt:
		case T_ConstraintsSetStmt:
		case T_DeallocateStmt:
		case T_DeclareCursorStmt:
		case T_DoStmt:
		case T_ExecuteStmt:
		case T_FetchStmt:
		case T_PrepareStmt:
		case T_TransactionStmt:
		case T_VariableSetStmt:
		case T_VariableShowStmt:
			return false;
		case T_CopyStmt:
			return ((CopyStmt *) command)->is_from;
		case T_ExplainStmt:
			explained = (Query *) ((ExplainStmt *) command)->query;
			return IsA(explained, Query) && explained->commandType == CMD_UTILITY &&
				   command_writes(explained->utilityStmt);
		default:
			return true;
	}
}

/* ProcessUtility_hook */
static void
run_command(PlannedStmt *pstmt, const char *query_string, bool read_only_tree, ProcessUtilityContext context,
			ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Frame frame = {current_frame, false, false, pstmt->utilityStmt, false};

	frame.writes = command_writes(pstmt->utilityStmt);
	current_frame = &frame;
	PG_TRY();
	{
		previous_utility(pstmt, query_string, read_only_tree, context, params, environment, dest, completion);
	}
	PG_FINALLY();
	{
		current_frame = frame.outer;
	}
	PG_END_TRY();
	if (current_frame == NULL)
		llm_ask_tally_tell();
}

void
llm_ask_frame_require_primary(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("%s() cannot be asked on a standby", function),
				 errdetail("Each request is booked in llm.ledger, which cannot be written here."),
				 errhint("Ask on the primary.")));
}

/* Processes in which nobody waits for an answer, or must not. */
static void
check_process(const char *function)
{
	const char *where = NULL;

	llm_ask_frame_require_primary(function);
	if (IsParallelWorker())
		where = "A parallel worker cannot wait for an answer.";
	else if (llm_worker_is_here())
		/* checks of an answer, an expression around a call: a code that these do not take for the answer's fault */
		ereport(ERROR,
				(errcode(LLM_ERRCODE_NOT_HERE),
				 errmsg("%s() cannot be evaluated where an answer is written", function),
				 errdetail("It is evaluated in the write-back, which waits for no provider."),
				 errhint("Ask in a statement of its own.")));
	else if (IsLogicalWorker())
		where = "Rows that a subscription applies wait for no answer.";
	else if (MyBackendType == B_AUTOVAC_WORKER)
		where = "Autovacuum waits for no answer, and spends nothing.";
	if (where != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s() cannot be evaluated here", function),
				 errdetail("%s", where),
				 errhint("Mark functions that call %s() PARALLEL UNSAFE, and use it in no statistics, no index and no default of a subscriber's column.", function)));
}

/* The way out for what is not deferred anywhere. */
static const char aggregate_hint[] =
	"Ask first, in a SELECT (in psql with \\gset, in PL/pgSQL INTO a variable), and store what it gave. Or UPDATE ... SET column = llm_summarize((SELECT string_agg(...) FROM ...)), which is queued.";

pg_noreturn static void
refuse(const char *function, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s() cannot be evaluated here", function),
			 errdetail("%s is writing, and what is half written does not wait for a provider.", what),
			 errhint("%s", hint)));
}

/* The way out of a command that stores what it evaluates. */
static char *
command_hint(Node *command, const char *function)
{
	switch (nodeTag(command))
	{
		case T_CreateTableAsStmt:
		case T_RefreshMatViewStmt:
		case T_ExplainStmt:
			return psprintf("Create an ordinary table without this column, add a primary key and the column, and UPDATE ... SET column = %s(...): that is queued, and answered after COMMIT.", function);
		case T_CopyStmt:
			return psprintf("COPY the other columns while this one has no such default (ALTER TABLE ... ALTER COLUMN ... DROP DEFAULT), then UPDATE ... SET column = %s(...): that is queued, and answered after COMMIT.", function);
		default:
			return psprintf("Change the table without the call, then UPDATE ... SET column = %s(...): that is queued, and answered after COMMIT.", function);
	}
}

void
llm_ask_frame_refuse_aggregate(const char *function)
{
	refuse(function, "The statement around it", aggregate_hint);
}

void
llm_ask_frame_check(const char *function, LlmFrameCall kind)
{
	bool own = (kind == LLM_FRAME_WHERE); /* the statement whose condition it is has not been passed */
	bool is_aggregate = (kind == LLM_FRAME_AGGREGATE);

	check_process(function);
	if (DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) > 0)
		refuse(function, "The statement that has fired a trigger",
			   is_aggregate ? aggregate_hint : psprintf("Assign the call itself in the statement: UPDATE ... SET column = %s(...), not in a trigger. That is queued, and answered after COMMIT.", function));
	for (Frame *frame = current_frame; frame != NULL; frame = frame->outer)
	{
		if (frame->writes && !frame->is_statement)
			refuse(function, GetCommandTagName(CreateCommandTag(frame->command)),
				   is_aggregate ? aggregate_hint : command_hint(frame->command, function));
		if (frame->writes && !own)
			refuse(function, "The statement around it",
				   is_aggregate ? aggregate_hint : psprintf("Assign the call itself: UPDATE ... SET column = %s(...), which is queued, and answered after COMMIT; not by way of a function or variable. Or ask first, in a SELECT, and store what it gave.", function));
		if (frame->is_statement)
			own = false;
	}
}

bool
llm_ask_frame_reads_all(void)
{
	return current_frame != NULL && current_frame->reads_all;
}

void
llm_ask_frame_init(void)
{
	previous_run = ExecutorRun_hook != NULL ? ExecutorRun_hook : standard_ExecutorRun;
	ExecutorRun_hook = run_statement;
	previous_finish = ExecutorFinish_hook != NULL ? ExecutorFinish_hook : standard_ExecutorFinish;
	ExecutorFinish_hook = finish_statement;
	previous_end = ExecutorEnd_hook != NULL ? ExecutorEnd_hook : standard_ExecutorEnd;
	ExecutorEnd_hook = end_statement;
	previous_utility = ProcessUtility_hook != NULL ? ProcessUtility_hook : standard_ProcessUtility;
	ProcessUtility_hook = run_command;
}
