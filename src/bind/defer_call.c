/*-------------------------------------------------------------------------
 *
 * defer_call.c
 *	  A call is evaluated: what it asks is checked and remembered, and its value
 *	  is a marker.
 *
 * What the rows of a call share is checked and made once where the arguments
 * do not vary from row to row, else once for each content.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "base/compat.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "bind/defer.h"
#include "catalog/catalog_target.h"
#include "cell/marker.h"
#include "operation/input.h"
#include "operation/spec.h"

/* One issue() expression of one execution. */
typedef struct IssueState
{
	LlmRun *run;
	LlmSiteState *site;
	bool fixed_args; /* nothing but the input varies */
} IssueState;

/* What the same content hashes to. */
typedef struct AskedEntry
{
	uint64 hash; /* key */
	LlmAsked *first;
} AskedEntry;

PG_FUNCTION_INFO_V1(llm_enrich_issue);

/* May the current user call the function that issue() stands for? */
static void
check_permission(const LlmDeferSite *spec)
{
	AclResult result = llm_acl_function(spec->function, GetUserId(), ACL_EXECUTE);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, spec->name);
	InvokeFunctionExecuteHook(spec->function);
}

static IssueState *
start_issue(FunctionCallInfo fcinfo)
{
	IssueState *state;
	LlmRun *run;
	MemoryContext caller;
	LlmDeferSite *spec;

	llm_defer_check_magic(fcinfo, "issue");
	run = llm_defer_current_run();
	caller = MemoryContextSwitchTo(run->context);
	spec = llm_defer_read_site(PG_GETARG_BYTEA_P_COPY(1));
	MemoryContextSwitchTo(caller);
	if (PG_NARGS() != LLM_DEFER_FIXED_ARGS + strlen(spec->args))
		elog(ERROR, "deferred call has %d arguments, not %d", PG_NARGS(),
			 LLM_DEFER_FIXED_ARGS + (int) strlen(spec->args));
	check_permission(spec);

	state = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(IssueState));
	state->run = run;
	state->site = llm_defer_site(run, spec);
	state->fixed_args = true;
	for (int i = LLM_DEFER_FIXED_ARGS + 1; i < PG_NARGS(); i++)
		state->fixed_args = state->fixed_args && get_fn_expr_arg_stable(fcinfo->flinfo, i);
	fcinfo->flinfo->fn_extra = state;
	return state;
}

/* The arguments but for the input, as they were evaluated for this row. */
static void
read_args(FunctionCallInfo fcinfo, const LlmDeferSite *spec, LlmCallArgs *args)
{
	memset(args, 0, sizeof(*args));
	for (int i = 1; spec->args[i] != '\0'; i++)
	{
		int n = LLM_DEFER_FIXED_ARGS + i;

		if (!PG_ARGISNULL(n))
			llm_argument_set(args, LLM_ARG_OF_ROLE(spec->args[i]), PG_GETARG_DATUM(n));
	}
}

/* Raise unless the user may ask this model by this operation; once for each in a statement. */
static void
check_model(LlmRun *run, const LlmOperation *op, const char *model)
{
	const char *name = psprintf("%d %s", (int) op->kind, model == NULL ? "" : model);
	MemoryContext caller;
	ListCell *cell;

	foreach(cell, run->models)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return;
	}
	llm_catalog_check_call_of(op->kind, op->function, model, GetUserId());
	caller = MemoryContextSwitchTo(run->context);
	run->models = lappend(run->models, pstrdup(name));
	MemoryContextSwitchTo(caller);
}

/* Does the recipe ask for chance?  Then n calls want n answers. */
static bool
samples(Jsonb *spec)
{
	JsonbValue buffer;
	JsonbValue *temperature = getKeyJsonValueFromContainer(&spec->root, "temperature", strlen("temperature"), &buffer);

	return temperature != NULL && temperature->type == jbvNumeric &&
		   DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(temperature->val.numeric),
											NumericGetDatum(int64_to_numeric(0))));
}

static Jsonb *
copy_jsonb(Jsonb *value)
{
	return value == NULL ? NULL : DatumGetJsonbPCopy(JsonbPGetDatum(value));
}

/* Fill "asked" from the arguments; raises on bad ones.  Allocates in the current context. */
static void
read_asked(FunctionCallInfo fcinfo, IssueState *state, LlmAsked *asked)
{
	const LlmDeferSite *spec = state->site->spec;
	LlmCallArgs args;
	Jsonb *deadline;
	text *named;

	read_args(fcinfo, spec, &args);
	named = llm_argument_text(&args, LLM_ARG_MODEL);
	asked->model = llm_guc_model_or(named == NULL ? NULL : text_to_cstring(named));
	asked->op = llm_operation_by_function(spec->name);
	if (asked->op == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the loaded library does not know function %s()", spec->name),
				 errhint("Restart the server: the extension's SQL is newer than the library that is loaded.")));
	asked->spec = llm_operation_spec(asked->op, &args);
	llm_operation_job_options(llm_argument_jsonb(&args, LLM_ARG_OPTIONS), &asked->priority, &asked->tags, &deadline);
	asked->deadline = llm_operation_deadline(deadline);
	asked->tags = llm_operation_tags(asked->tags);
	asked->shares = !samples(asked->spec);
	check_model(state->run, asked->op, asked->model);
}

/*
 * Check the arguments and make what the rows of the call share.  A statement may do so for
 * each of its rows: only what is asked stays, not what it was made with.
 */
static LlmAsked *
make_asked(FunctionCallInfo fcinfo, IssueState *state)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich call", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	LlmAsked found = {0};
	LlmAsked *asked;

	read_asked(fcinfo, state, &found);
	MemoryContextSwitchTo(state->run->context);
	asked = palloc(sizeof(LlmAsked));
	*asked = found;
	asked->spec = copy_jsonb(found.spec);
	asked->model = found.model == NULL ? NULL : pstrdup(found.model);
	asked->tags = copy_jsonb(found.tags);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	return asked;
}

/* What this row asks, where that may differ from the row before. */
static LlmAsked *
find_asked(FunctionCallInfo fcinfo, IssueState *state)
{
	LlmSiteState *site = state->site;
	StringInfoData content;
	AskedEntry *entry;
	LlmAsked *asked;
	uint64 hash;
	bool found;

	initStringInfo(&content);
	for (int i = 1; site->spec->args[i] != '\0'; i++)
	{
		int n = LLM_DEFER_FIXED_ARGS + i;

		llm_argument_append(&content, LLM_ARG_OF_ROLE(site->spec->args[i]), PG_GETARG_DATUM(n), PG_ARGISNULL(n));
	}
	hash = hash_bytes_extended((unsigned char *) content.data, content.len, 0);
	if (site->asked == NULL)
	{
		HASHCTL control = {0};

		control.keysize = sizeof(uint64);
		control.entrysize = sizeof(AskedEntry);
		control.hcxt = state->run->context;
		site->asked = hash_create("llm_enrich recipes", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(site->asked, &hash, HASH_FIND, NULL);
	for (asked = entry == NULL ? NULL : entry->first; asked != NULL; asked = asked->next)
	{
		if (asked->content_len == content.len && memcmp(asked->content, content.data, content.len) == 0)
		{
			pfree(content.data);
			return asked;
		}
	}
	asked = make_asked(fcinfo, state);
	asked->content_len = content.len;
	asked->content = MemoryContextAlloc(state->run->context, content.len);
	memcpy(asked->content, content.data, content.len);
	pfree(content.data);
	entry = hash_search(site->asked, &hash, HASH_ENTER, &found);
	asked->next = found ? entry->first : NULL;
	entry->first = asked;
	return asked;
}

/* The input as it is kept and stored: what a table has compressed stays so. */
static text *
inline_input(Datum input)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(input);

	return (text *) (VARATT_IS_EXTERNAL(value) ? detoast_external_attr(value) : value);
}

/* Remember a marker of a site whose markers are stored one by one. */
static void
remember_last(IssueState *state, const LlmIssued *issued, const Jsonb *marker)
{
	LlmSiteState *site = state->site;
	Size size = VARSIZE_ANY(issued->input);

	if (size > site->input_size)
	{
		if (site->input_buffer != NULL)
			pfree(site->input_buffer);
		site->input_buffer = NULL;
		site->input_size = Max(size, 1024);
		site->input_buffer = MemoryContextAllocHuge(state->run->context, site->input_size);
	}
	memcpy(site->input_buffer, issued->input, size);
	site->last = *issued;
	site->last.input = site->input_buffer;
	site->known.len = VARSIZE(marker) - VARHDRSZ;
	if (site->known.len > LLM_KNOWN_CELL)
		site->known.len = 0;
	memcpy(site->known.data, VARDATA(marker), site->known.len);
}

/* Remember a marker that may be stored later, and more than once. */
static void
remember_issued(LlmRun *run, const LlmIssued *issued)
{
	Size size = VARSIZE_ANY(issued->input);
	LlmIssued *entry;

	if (run->issued == NULL)
	{
		HASHCTL control = {0};

		control.keysize = sizeof(int64);
		control.entrysize = sizeof(LlmIssued);
		control.hcxt = run->context;
		run->issued = hash_create("llm_enrich markers", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(run->issued, &issued->id, HASH_ENTER, NULL);
	*entry = *issued;
	entry->input = MemoryContextAlloc(run->context, size);
	memcpy(entry->input, issued->input, size);
}

/* What is kept of blank inputs: one is as good as another. */
static text *
blank_input(LlmRun *run)
{
	MemoryContext caller;

	if (run->blank.input == NULL)
	{
		caller = MemoryContextSwitchTo(run->context);
		run->blank.input = cstring_to_text("");
		MemoryContextSwitchTo(caller);
	}
	return run->blank.input;
}

/*
 * SQL: llm.issue(magic, spec, input, …) → a marker; NULL for a NULL input.
 */
Datum
llm_enrich_issue(PG_FUNCTION_ARGS)
{
	IssueState *state = fcinfo->flinfo->fn_extra;
	LlmIssued issued = {0};
	Jsonb *marker;

	if (state == NULL)
		state = start_issue(fcinfo);
	if (PG_ARGISNULL(LLM_DEFER_FIXED_ARGS))
		PG_RETURN_NULL();
	if (!state->fixed_args)
		issued.asked = find_asked(fcinfo, state);
	else
	{
		if (state->site->only == NULL)
			state->site->only = make_asked(fcinfo, state);
		issued.asked = state->site->only;
	}
	llm_input_check_size(state->site->spec->name, PG_GETARG_DATUM(LLM_DEFER_FIXED_ARGS));
	issued.input = inline_input(PG_GETARG_DATUM(LLM_DEFER_FIXED_ARGS));
	if (llm_input_is_blank(issued.input))
	{
		state->run->blank.asked = issued.asked;
		state->run->blank.input = blank_input(state->run);
		PG_RETURN_JSONB_P(llm_marker_failed(0, "empty_input", "The input is empty or only white space."));
	}

	issued.id = llm_defer_new_id(state->run);
	marker = llm_marker_pending(issued.id);
	if (state->site->spec->direct)
		remember_last(state, &issued, marker);
	else
		remember_issued(state->run, &issued);
	PG_RETURN_JSONB_P(marker);
}
