/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  Define all settings, sorted by name.  The table in docs/reference.md is checked
 *	  against pg_settings by a test.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/varlena.h"

#include "base/guc.h"

/* Written by the GUC machinery only. */
bool llm_guc_allow_table_writes = false;
char *llm_guc_bill_tags = NULL;
char *llm_guc_carry_settings;
double llm_guc_confirm_above = -1;
bool llm_guc_enabled = true;
int llm_guc_idle_timeout_ms = 60000;
int llm_guc_immediate_mb = 512;
int llm_guc_keep_answers_s = 86400;
int llm_guc_keep_answers_size_kb = 1048576;
int llm_guc_max_aggregate_kb = 64 * 1024;
int llm_guc_max_answer_kb = 16384;
int llm_guc_max_connections = 1024;
int llm_guc_max_immediate_calls = 1000;
int llm_guc_max_in_flight = 64;
double llm_guc_max_cost = -1;
double llm_guc_max_retry_share = 0.5;
int llm_guc_max_tries = 3;
char *llm_guc_model;
bool llm_guc_notices = true;
int llm_guc_on_error = LLM_ON_ERROR_RAISE;
int llm_guc_patience_ms = 30000;
char *llm_guc_tags;
bool llm_guc_writeback = false;
int llm_guc_writeback_lock_timeout_ms = 50;
int llm_guc_writeback_timeout_ms = 10000;

static const struct config_enum_entry on_error_options[] = {
	{"error", LLM_ON_ERROR_RAISE, false},
	{"null", LLM_ON_ERROR_NULL, false},
	{NULL, 0, false}};

/*
 * Tags are a JSON object.  Only the outer shape is checked here, since a check
 * hook must not raise; the statement that uses them parses them in full.
 */
static bool
check_tags(char **newval, void **extra, GucSource source)
{
	const char *p = *newval;

	if (p == NULL || *p == '\0')
		return true;
	while (*p == ' ' || *p == '\t' || *p == '\n')
		p++;
	if (*p != '{')
	{
		GUC_check_errdetail("Tags are a JSON object, for instance {\"team\": \"support\"}.");
		return false;
	}
	return true;
}

/* A list of names, or nothing. */
static bool
check_carry_settings(char **newval, void **extra, GucSource source)
{
	List *names = NIL;
	char *copy;
	bool ok;

	if (*newval == NULL || **newval == '\0')
		return true;
	copy = pstrdup(*newval);
	ok = SplitGUCList(copy, ',', &names);
	list_free(names);
	pfree(copy);
	if (!ok)
		GUC_check_errdetail("It is a list of names of settings, for instance app.tenant, app.user.");
	return ok;
}

void
llm_guc_init(void)
{
	/* A setting that is fixed at server start cannot be defined later, where the library is not preloaded. */
	GucContext at_start = process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomBoolVariable("llm_enrich.allow_table_writes",
							 "Lets a superuser write the tables of the extension by hand.",
							 "For repairs: a row that is wrong there can cost money, or write a wrong value.",
							 &llm_guc_allow_table_writes, false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("llm_enrich.bill_tags",
							   "Lists the tags that the bill is summed by.",
							   "What was sent before a tag was named here is not summed by it.",
							   &llm_guc_bill_tags, "",
							   PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("llm_enrich.carry_settings",
							   "Lists settings whose values are kept with a task and set for its write-back.",
							   "For row security policies and triggers that read them, say \"app.tenant\".",
							   &llm_guc_carry_settings, "",
							   PGC_SUSET, GUC_LIST_INPUT,
							   check_carry_settings, NULL, NULL);
	DefineCustomRealVariable("llm_enrich.confirm_above",
							 "Sets the US dollars above which a statement queues its jobs paused; -1 for none.",
							 "It is estimated from what it has bound, and goes on with llm.resume().",
							 &llm_guc_confirm_above, -1.0, -1.0, 1e12,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("llm_enrich.enabled",
							 "Sends queued tasks to providers.",
							 "Turn it off in clones and restored copies; tasks stay queued.",
							 &llm_guc_enabled, true,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.idle_timeout",
							"Sets how long the workers of a database stay after the last task.",
							NULL,
							&llm_guc_idle_timeout_ms, 60000, 1000, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.immediate_memory",
							"Sets how much shared memory questions and answers of calls under way may take.",
							"Of all sessions that wait for theirs. It is taken as it is needed.",
							&llm_guc_immediate_mb, 512, 16, 1024 * 1024,
							at_start, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.keep_answers",
							"Sets how long an answer is kept for the same question of the same role.",
							"0 keeps none.",
							&llm_guc_keep_answers_s, 86400, 0, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.keep_answers_size",
							"Sets how much room kept answers may take; the oldest go first.",
							NULL,
							&llm_guc_keep_answers_size_kb, 1048576, 64, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.max_aggregate_size",
							"Sets how much text an aggregate of a statement may collect at a time.",
							"All of it is sent to a model: more is an error.",
							&llm_guc_max_aggregate_kb, 64 * 1024, 64, 512 * 1024,
							PGC_USERSET, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.max_answer_size",
							"Sets the size above which a provider's answer is refused.",
							NULL,
							&llm_guc_max_answer_kb, 16384, 16, 1048576,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.max_connections",
							"Sets the number of simultaneous requests per database.",
							"Each request is one connection; there are no more than the system lets a process open.",
							&llm_guc_max_connections, 1024, 1, 10000,
							at_start, 0,
							NULL, NULL, NULL);
	DefineCustomRealVariable("llm_enrich.max_cost",
							 "Sets how many US dollars each job may cost that the session queues, and each command that waits for answers.",
							 "What would exceed it is not sent. -1: no cap of the session's own.",
							 &llm_guc_max_cost, -1, -1, 1e9,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.max_immediate_calls",
							"Sets how many calls a command may have answered while it waits.",
							"One more is an error; calls that are queued do not count.",
							&llm_guc_max_immediate_calls, 1000, 0, INT_MAX,
							PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.max_in_flight",
							"Sets how many calls of a statement may be in flight while it waits for them.",
							"Of vectors, which go many in a request, up to 16 times as many; 1 asks for one row after the other.",
							&llm_guc_max_in_flight, 64, 1, 1000,
							PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomRealVariable("llm_enrich.max_retry_share",
							 "Sets the share of a job's cost that asking again after invalid answers may take.",
							 "Beyond it a task fails at its first invalid answer; 20 retries of a job are free.",
							 &llm_guc_max_retry_share, 0.5, 0.0, 1.0,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.max_tries",
							"Sets how many invalid answers, and requests without an answer, a task may have before it fails.",
							NULL,
							&llm_guc_max_tries, 3, 1, 100,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("llm_enrich.model",
							   "Sets the model to use where a call names none.",
							   "An alias from llm.model; empty for the default model.",
							   &llm_guc_model, "",
							   PGC_USERSET, 0,
							   NULL, NULL, NULL);
	DefineCustomBoolVariable("llm_enrich.notices",
							 "Tells which jobs a statement has queued, and what it has asked while it waited.",
							 "A statement that queues one row tells nothing.",
							 &llm_guc_notices, true,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomEnumVariable("llm_enrich.on_error",
							 "Sets what a call that has no answer gives while a command waits: an error, or NULL.",
							 "NULL hides no missing right, no unknown model and no limit of ours.",
							 &llm_guc_on_error, LLM_ON_ERROR_RAISE, on_error_options,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.patience",
							"Sets how long a call waits for a limit or a cool-down while a command waits for it.",
							NULL,
							&llm_guc_patience_ms, 30000, 0, INT_MAX / 2,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("llm_enrich.tags",
							   "Sets tags for the ledger rows of what is queued, as a JSON object.",
							   NULL,
							   &llm_guc_tags, "",
							   PGC_USERSET, 0,
							   check_tags, NULL, NULL);
	DefineCustomBoolVariable("llm_enrich.writeback",
							 "Is on while an answer is being written back.",
							 "For audit triggers; only the writer sets it.",
							 &llm_guc_writeback, false,
							 PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.writeback_lock_timeout",
							"Sets how long a write-back waits for any lock before it is put off.",
							NULL,
							&llm_guc_writeback_lock_timeout_ms, 50, 1, 60000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llm_enrich.writeback_timeout",
							"Sets how long one write-back may take, triggers included, before it is put off.",
							NULL,
							&llm_guc_writeback_timeout_ms, 10000, 100, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	MarkGUCPrefixReserved("llm_enrich");
}

int64
llm_guc_max_cost_nano(void)
{
	return llm_guc_max_cost < 0 ? -1 : (int64) floor(Min(llm_guc_max_cost, 9e8) * 1e9 + 1e-6);
}

const char *
llm_guc_model_or(const char *named)
{
	if (named != NULL || llm_guc_model == NULL || llm_guc_model[0] == '\0')
		return named;
	return llm_guc_model;
}
