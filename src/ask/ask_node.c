/*-------------------------------------------------------------------------
 *
 * ask_node.c
 *	  The plan node below which rows are read ahead, so that many calls are in flight.
 *
 * It stands above a node whose expressions had calls, and evaluates these itself, over rows
 * that it has read before they are wanted: for each such row the questions are posted that
 * it will ask for certain, as far as that can be told without an answer.  Rows are given
 * one by one and in order, and each call waits for its own answer.
 *
 * How far it reads ahead begins at one row and doubles with each that is given, up to
 * llm_enrich.max_in_flight questions: so a LIMIT above, or a cursor that is left early, has
 * paid for what was found and what was in flight.  Where all rows are wanted for certain, it
 * begins with all of that (ADR 101).  A LIMIT directly above bounds it to its rows, and those
 * that OFFSET skips are not evaluated at all.
 *
 * Of vectors the provider takes many in a request.  So where a row asks for these alone, it
 * reads further, once as many rows have been given as it has ahead, and posts the next ones
 * together, when half of those ahead have been given.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "ask/ask_aggregate.h"
#include "ask/ask_call.h"
#include "ask/ask_explain.h"
#include "ask/ask_frame.h"
#include "ask/ask_node.h"
#include "ask/ask_ring.h"
#include "base/compat.h"
#include "base/guc.h"
#include "operation/operation.h"

/* Rows without a question may be between those with one: so many for each in flight. */
#define ROWS_PER_QUESTION 4

/* The same where the sender puts many questions into a request; and how many at most. */
#define QUESTIONS_PER_REQUEST 16
#define MOST_QUESTIONS 1024

/* What the rows ahead may take, so that long ones are fewer. */
#define AHEAD_BYTES ((Size) 64 * 1024 * 1024)

/* A call whose question is posted ahead. */
typedef struct Site
{
	ExprState *guard; /* NULL: none */
	List *args; /* of ExprState */
	FmgrInfo function;
	FunctionCallInfo call;
} Site;

/* A row that has been read and not been given. */
typedef struct Row
{
	MinimalTuple tuple;
	LlmAskRow posted;
} Row;

typedef struct AskState
{
	CustomScanState css; /* must be first */
	Site *sites;
	int nsites;
	bool may_read_ahead;
	bool shares_requests; /* the sender puts many of its questions into one */
	LlmAskDemand demand;
	ExprState *limit_count; /* of the LIMIT directly above; NULL: none */
	ExprState *limit_offset;

	LlmAskRing *ring;
	MemoryContext rows_context;
	Row *rows; /* a ring of "size" */
	int size;
	int first;
	int nrows;
	Size bytes; /* of these rows */
	TupleTableSlot *ahead_slot; /* the row whose questions are posted */
	bool given; /* the first row is with the node above, until that asks for the next */
	bool left; /* the last row's questions found no room, and none of them is posted */
	bool ended; /* nothing is left below */
	bool started;
	int width; /* questions that may be in flight now */
	int64 ngiven; /* rows */
	int64 wanted; /* rows that are still to be read; -1: no bound */
	int64 skipped; /* rows that are still to be skipped */
} AskState;

static Node *create_state(CustomScan *cscan);
static void begin_node(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_node(CustomScanState *node);
static void end_node(CustomScanState *node);
static void rescan_node(CustomScanState *node);
static void explain_node(CustomScanState *node, List *ancestors, ExplainState *es);

static const CustomScanMethods scan_methods = {LLM_ASK_NODE_NAME, create_state};

static const CustomExecMethods exec_methods = {
	.CustomName = LLM_ASK_NODE_NAME,
	.BeginCustomScan = begin_node,
	.ExecCustomScan = exec_node,
	.EndCustomScan = end_node,
	.ReScanCustomScan = rescan_node,
	.ExplainCustomScan = explain_node};

CustomScan *
llm_ask_node_make(Plan *below, const LlmAskSpec *spec)
{
	CustomScan *node = makeNode(CustomScan);
	List *sites = NIL;
	Node *count = spec->limit == NULL ? NULL : spec->limit->limitCount;
	Node *offset = spec->limit == NULL ? NULL : spec->limit->limitOffset;

	foreach_ptr(const LlmAskSite, site, spec->sites)
		sites = lappend(sites, lcons(site->call, list_copy(site->guards)));
	node->scan.plan.startup_cost = below->startup_cost;
	node->scan.plan.total_cost = below->total_cost;
	node->scan.plan.plan_rows = below->plan_rows;
	node->scan.plan.plan_width = below->plan_width;
	node->scan.plan.targetlist = spec->targetlist;
	node->scan.plan.qual = spec->qual;
	node->scan.plan.lefttree = below;
	node->scan.plan.extParam = bms_copy(below->extParam);
	node->scan.plan.allParam = bms_copy(below->allParam);
	node->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	node->custom_exprs = sites;
	node->custom_private = list_make4(makeBoolean(spec->may_read_ahead),
									  count == NULL ? (Node *) makeBoolean(false) : count,
									  offset == NULL ? (Node *) makeBoolean(false) : offset,
									  makeInteger(spec->demand));
	node->custom_scan_tlist = spec->rows;
	node->methods = &scan_methods;
	return node;
}

void
llm_ask_node_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
}

static Node *
create_state(CustomScan *cscan)
{
	AskState *state = (AskState *) newNode(sizeof(AskState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

/* The call as an expression of its own, of which only the arguments are evaluated here. */
static void
init_site(AskState *state, Site *site, List *spec)
{
	FuncExpr *call = linitial_node(FuncExpr, spec);
	PlanState *parent = &state->css.ss.ps;
	List *guards = list_copy_tail(spec, 1);

	site->guard = guards == NIL ? NULL : ExecInitQual(guards, parent);
	site->args = ExecInitExprList(call->args, parent);
	fmgr_info(call->funcid, &site->function);
	fmgr_info_set_expr((Node *) call, &site->function);
	site->call = palloc0(SizeForFunctionCallInfo(list_length(call->args)));
	InitFunctionCallInfoData(*site->call, &site->function, list_length(call->args), call->inputcollid, NULL, NULL);
}

/* Is it a call of which a request of the provider's carries many? */
static bool
is_of_many(const Site *site)
{
	char *name = get_func_name(site->function.fn_oid);
	const LlmOperation *op = name == NULL ? NULL : llm_operation_by_function(name);

	return op != NULL && op->kind == LLM_REQUEST_EMBED;
}

/* NULL where the plan has none. */
static ExprState *
init_limit(AskState *state, Node *expr)
{
	return IsA(expr, Boolean) ? NULL : ExecInitExpr((Expr *) expr, &state->css.ss.ps);
}

static void
begin_node(CustomScanState *node, EState *estate, int eflags)
{
	AskState *state = (AskState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	ListCell *cell;

	outerPlanState(node) = ExecInitNode(outerPlan(plan), estate, eflags & ~(EXEC_FLAG_BACKWARD | EXEC_FLAG_MARK));
	state->nsites = list_length(plan->custom_exprs);
	state->sites = palloc0(sizeof(Site) * Max(state->nsites, 1));
	state->shares_requests = state->nsites > 0;
	foreach(cell, plan->custom_exprs)
	{
		Site *site = &state->sites[foreach_current_index(cell)];

		init_site(state, site, lfirst_node(List, cell));
		state->shares_requests = state->shares_requests && is_of_many(site);
	}
	state->may_read_ahead = boolVal(linitial(plan->custom_private));
	state->demand = (LlmAskDemand) intVal(lfourth(plan->custom_private));
	state->limit_count = init_limit(state, lsecond(plan->custom_private));
	state->limit_offset = init_limit(state, lthird(plan->custom_private));
	state->ring = llm_ask_ring_make(estate->es_query_cxt);
	state->rows_context = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich rows ahead", ALLOCSET_DEFAULT_SIZES);
	state->ahead_slot = ExecInitExtraTupleSlot(estate, node->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
											   node->ss.ss_ScanTupleSlot->tts_ops);
}

/* The value of a bound of LIMIT; "none" where there is none. */
static int64
eval_limit(AskState *state, ExprState *expr, int64 none)
{
	bool isnull;
	Datum value;

	if (expr == NULL)
		return none;
	value = ExecEvalExprSwitchContext(expr, state->css.ss.ps.ps_ExprContext, &isnull);
	return isnull ? none : DatumGetInt64(value);
}

/* Questions that may be in flight at a time, once enough rows have been given. */
static int
most_questions(const AskState *state)
{
	int most = Max(llm_guc_max_in_flight, 1);

	if (!state->shares_requests || most == 1)
		return most;
	return Max(most, Min(most * QUESTIONS_PER_REQUEST, MOST_QUESTIONS));
}

/* Will each row that is read ahead be asked for? */
static bool
wants_all(const AskState *state)
{
	return state->demand == LLM_ASK_ALL ||
		   (state->demand == LLM_ASK_AS_STATEMENT && llm_ask_frame_reads_all());
}

/* Before the first row, and after each rescan. */
static void
start(AskState *state)
{
	int64 count;

	state->started = true;
	state->ended = false;
	state->width = wants_all(state) ? most_questions(state) : 1;
	state->skipped = Max(eval_limit(state, state->limit_offset, 0), 0);
	count = eval_limit(state, state->limit_count, -1);
	state->wanted = count < 0 ? -1 : count + state->skipped;
	state->ngiven = 0;
	state->size = ROWS_PER_QUESTION * most_questions(state);
	state->rows = MemoryContextAllocZero(state->rows_context, sizeof(Row) * state->size);
	state->first = 0;
	state->nrows = 0;
}

static void
release_row(AskState *state, Row *row)
{
	llm_ask_ring_release_row(state->ring, &row->posted);
	state->bytes -= row->tuple->t_len;
	pfree(row->tuple);
}

/* Post the questions that this row will ask; false: there was no room for one, nor is there for those behind it. */
static bool
post_row(AskState *state, Row *row)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;

	ResetExprContext(econtext);
	state->ring->is_full = false;
	llm_ask_ring_release_row(state->ring, &row->posted); /* nothing of it was posted before */
	ExecForceStoreMinimalTuple(row->tuple, state->ahead_slot, false);
	econtext->ecxt_scantuple = state->ahead_slot;
	for (int i = 0; i < state->nsites; i++)
	{
		Site *site = &state->sites[i];
		MemoryContext saved;
		ListCell *cell;

		if (site->guard != NULL && !ExecQual(site->guard, econtext))
			continue;
		saved = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
		foreach(cell, site->args)
		{
			NullableDatum *arg = &site->call->args[foreach_current_index(cell)];

			arg->value = ExecEvalExpr((ExprState *) lfirst(cell), econtext, &arg->isnull);
		}
		if (site->function.fn_addr == llm_enrich_agg_answer)
			llm_ask_aggregate_ahead(state->ring, site->call, &row->posted);
		else
			llm_ask_call_ahead(state->ring, site->call, &row->posted);
		MemoryContextSwitchTo(saved);
	}
	state->left = state->ring->is_full && row->posted.letters == NIL;
	return !state->ring->is_full;
}

/* Read one more row; false when there is none, or none is wanted. */
static bool
read_row(AskState *state)
{
	TupleTableSlot *slot;
	MemoryContext saved;
	Row *row;

	if (state->ended || state->wanted == 0)
		return false;
	slot = ExecProcNode(outerPlanState(state));
	if (TupIsNull(slot))
	{
		state->ended = true;
		return false;
	}
	if (state->wanted > 0)
		state->wanted--;
	row = &state->rows[(state->first + state->nrows) % state->size];
	saved = MemoryContextSwitchTo(state->rows_context);
	row->tuple = ExecCopySlotMinimalTuple(slot);
	row->posted = (LlmAskRow){NIL, NIL};
	MemoryContextSwitchTo(saved);
	state->bytes += row->tuple->t_len;
	state->nrows++;
	return true;
}

/* Questions that may be in flight after this. */
static int
find_width(const AskState *state)
{
	int width = Min(state->width, most_questions(state));

	if (!state->may_read_ahead)
		return 1;
	/* not one whenever one has been given: each would be a request */
	if (state->shares_requests && state->ring->open > width / 2)
		return 0;
	return width;
}

/* Have a row, and read on while there is room for questions; true while there is one to give. */
static bool
fill(AskState *state)
{
	int width = find_width(state);
	bool posted = false;

	while (state->nrows == 0 || (state->nrows < state->size && state->bytes < AHEAD_BYTES && width > 1 &&
								 state->ring->open < width))
	{
		Row *row;
		bool goes_on;

		if (!state->left && !read_row(state))
			break;
		row = &state->rows[(state->first + state->nrows - 1) % state->size];
		if (state->skipped >= state->nrows || llm_guc_max_in_flight <= 1)
			continue;
		goes_on = post_row(state, row);
		posted = posted || row->posted.letters != NIL;
		if (!goes_on)
			break;
	}
	if (posted)
		llm_mailbox_wake_sender();
	return state->nrows > 0;
}

/* Evaluate the row; NULL when a condition does not hold. */
static TupleTableSlot *
evaluate(AskState *state, TupleTableSlot *row)
{
	PlanState *ps = &state->css.ss.ps;
	ExprContext *econtext = ps->ps_ExprContext;
	TupleTableSlot *result = NULL;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = row;
	llm_ask_ring_enter(state->ring, &state->rows[state->first].posted);
	if (ps->qual == NULL || ExecQual(ps->qual, econtext))
		result = ps->ps_ProjInfo == NULL ? row : ExecProject(ps->ps_ProjInfo);
	else
		InstrCountFiltered1(ps, 1);
	llm_ask_ring_leave(state->ring);
	return result;
}

/* The first row is over. */
static void
next_row(AskState *state)
{
	int doubled;

	state->given = false;
	release_row(state, &state->rows[state->first]);
	state->first = (state->first + 1) % state->size;
	state->nrows--;
	state->left = state->left && state->nrows > 0;
	state->ngiven++;
	doubled = Min(state->width * 2, Max(llm_guc_max_in_flight, 1));
	state->width = (int) Max(Max(state->width, doubled), Min(state->ngiven, most_questions(state)));
}

static TupleTableSlot *
exec_node(CustomScanState *node)
{
	AskState *state = (AskState *) node;
	TupleTableSlot *scan_slot = node->ss.ss_ScanTupleSlot;

	if (!state->started)
		start(state);
	if (state->given)
		next_row(state);
	for (;;)
	{
		TupleTableSlot *result;

		CHECK_FOR_INTERRUPTS();
		if (!fill(state))
			return NULL;
		state->given = true;
		if (state->skipped > 0)
		{
			/* a row that OFFSET drops: nobody looks at it */
			state->skipped--;
			return ExecStoreAllNullTuple(node->ss.ps.ps_ResultTupleSlot);
		}
		ExecForceStoreMinimalTuple(state->rows[state->first].tuple, scan_slot, false);
		result = evaluate(state, scan_slot);
		if (result != NULL)
			return result;
		next_row(state);
	}
}

/* Drop what was read ahead, and its letters: they are booked, and nobody waits for them. */
static void
clear(AskState *state)
{
	while (state->nrows > 0)
	{
		release_row(state, &state->rows[state->first]);
		state->first = (state->first + 1) % state->size;
		state->nrows--;
	}
	MemoryContextReset(state->rows_context);
	state->rows = NULL;
	state->bytes = 0;
	state->left = false;
	state->given = false;
	state->started = false;
}

static void
end_node(CustomScanState *node)
{
	clear((AskState *) node);
	ExecEndNode(outerPlanState(node));
}

static void
rescan_node(CustomScanState *node)
{
	clear((AskState *) node);
	if (outerPlanState(node)->chgParam == NULL)
		ExecReScan(outerPlanState(node));
}

/* What the calls of a node have cost. */
static void
explain_tally(const LlmAskTally *tally, ExplainState *es)
{
	const char *cost = llm_ask_tally_cost(tally);

	ExplainPropertyInteger("Asked", NULL, tally->calls - tally->kept, es);
	ExplainPropertyInteger("Kept", NULL, tally->kept, es);
	ExplainPropertyInteger("Failed", NULL, tally->failed, es);
	ExplainPropertyInteger("Requests", NULL, tally->requests, es);
	ExplainPropertyInteger("Input Tokens", NULL, tally->input_tokens, es);
	ExplainPropertyInteger("Output Tokens", NULL, tally->output_tokens, es);
	ExplainPropertyText("Cost In US Dollars", tally->unpriced ? "not known" : cost == NULL ? "0"
																						   : cost,
						es);
	if (es->timing)
		ExplainPropertyFloat("Waited", "ms", (double) tally->waited_us / 1000.0, 3, es);
}

static void
explain_node(CustomScanState *node, List *ancestors, ExplainState *es)
{
	const AskState *state = (const AskState *) node;

	ExplainPropertyInteger("Calls Ahead", NULL, state->nsites, es);
	/* auto_explain comes after a statement, when there is no snapshot to read tables with, and nothing to estimate */
	if (es->costs && state->nsites > 0 && ActiveSnapshotSet())
		llm_ask_explain_estimate((const CustomScan *) node->ss.ps.plan, es);
	if (!es->analyze)
		return;
	explain_tally(&state->ring->tally, es);
	ExplainPropertyInteger("Most In Flight", NULL, state->ring->most_in_flight, es);
}
