/*-------------------------------------------------------------------------
 *
 * health.c
 *	  The rows behind the view llm.health: what shared memory knows of the
 *	  processes, of this database's problems, and of targets that wait.
 *
 * Shared memory is copied under its lock and told in words afterwards.  Problems of
 * a role's work may repeat its input, in the provider's words: that role sees them, and
 * members of llm_admin; those of pg_monitor see that there are some.  Targets belong to all
 * databases of the cluster, so only members of these two see those, which have no such words.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/guc.h"
#include "base/shmem_layout.h"
#include "base/spi.h"
#include "catalog/catalog_price.h"
#include "letter/mailbox.h"
#include "limiter/limiter_shared.h"

#define ADMIN_ROLE "llm_admin"

/*
 * A sender that waits for a target asks again many times a second.  A target that was not
 * asked for this long is not waited for: its key or its model was corrected, for instance.
 */
#define TARGET_SHOWN_MS 5000

/* Offered beyond "max_worker_processes" as it is: four more databases at a time. */
#define MORE_PROCESSES 8

/* One row of the view; NULL and 0 (since, pid, slots) are shown as NULL. */
typedef struct Row
{
	const char *kind;
	const char *subject;
	const char *state;
	const char *problem;
	const char *hint;
	TimestampTz since;
	int pid;
	int slots_used;
	int slots;
} Row;

/* A copy of what is shown. */
typedef struct Picture
{
	int launcher_pid;
	TimestampTz launcher_since;
	bool crowded;
	bool known; /* this database has an entry */
	LlmDatabase database;
	int nproblems;
	LlmProblemEntry problems[LLM_MAX_PROBLEMS];
	int nlimiters;
	LlmLimiterSlot *limiters;
} Picture;

PG_FUNCTION_INFO_V1(llm_enrich_read_health);

static Picture *
take_picture(TimestampTz now)
{
	Picture *picture = palloc0(sizeof(Picture));
	LlmDatabase *entry;

	LWLockAcquire(llm_shared->lock, LW_SHARED);
	picture->launcher_pid = llm_shared->launcher_pid;
	picture->launcher_since = llm_shared->launcher_since;
	picture->crowded = llm_shared->crowded;
	entry = llm_shmem_find(MyDatabaseId);
	if (entry != NULL)
	{
		picture->known = true;
		picture->database = *entry;
	}
	for (int i = 0; i < LLM_MAX_PROBLEMS; i++)
	{
		if (llm_shared->problems[i].database == MyDatabaseId)
			picture->problems[picture->nproblems++] = llm_shared->problems[i];
	}
	LWLockRelease(llm_shared->lock);
	picture->nlimiters = llm_limiter_copy_waiting(now, TARGET_SHOWN_MS, &picture->limiters);
	return picture;
}

static Datum
text_or_null(const char *string, bool *is_null)
{
	*is_null = (string == NULL || string[0] == '\0');
	return *is_null ? (Datum) 0 : CStringGetTextDatum(string);
}

static void
put_row(ReturnSetInfo *result, const Row *row)
{
	Datum values[9];
	bool nulls[9] = {false};

	values[0] = text_or_null(row->kind, &nulls[0]);
	values[1] = text_or_null(row->subject, &nulls[1]);
	values[2] = text_or_null(row->state, &nulls[2]);
	values[3] = text_or_null(row->problem, &nulls[3]);
	values[4] = text_or_null(row->hint, &nulls[4]);
	values[5] = TimestampTzGetDatum(llm_clock_to_wall(row->since));
	nulls[5] = (row->since == 0);
	values[6] = Int32GetDatum(row->pid);
	nulls[6] = (row->pid == 0);
	values[7] = Int32GetDatum(row->slots_used);
	values[8] = Int32GetDatum(row->slots);
	nulls[7] = (row->slots == 0 && row->slots_used == 0);
	nulls[8] = (row->slots == 0);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_launcher(ReturnSetInfo *result, const Picture *picture)
{
	Row row = {.kind = "launcher", .since = picture->launcher_since, .pid = picture->launcher_pid};

	if (picture->launcher_pid != 0)
	{
		row.state = "running";
		if (picture->crowded)
		{
			row.problem = psprintf("more than %d databases are in use; those that are idle are looked at once a minute",
								   LLM_MAX_DATABASES);
			row.hint = "Tasks that are committed there are sent all the same, but may start a minute later.";
		}
	}
	else if (RecoveryInProgress())
		row.state = "standby";
	else
	{
		row.state = "not running";
		row.problem = "no worker can be started";
		row.hint = psprintf("It is started again a few seconds after it ended. If it is not: ALTER SYSTEM SET max_worker_processes = %d; then restart the server.",
							max_worker_processes + MORE_PROCESSES);
	}
	put_row(result, &row);
}

static void
put_setting(ReturnSetInfo *result)
{
	Row row = {.kind = "setting", .subject = "llm_enrich.enabled", .state = "off"};

	if (llm_guc_enabled)
		return;
	row.problem = "nothing is sent, in any database; tasks stay queued";
	row.hint = "ALTER SYSTEM SET llm_enrich.enabled = on; SELECT pg_reload_conf();";
	put_row(result, &row);
}

/* Sessions, of any database, that wait for memory for a question. */
static void
put_memory(ReturnSetInfo *result)
{
	Row row = {.kind = "setting", .subject = "llm_enrich.immediate_memory"};
	int lacking = llm_mailbox_count_lacking();

	if (lacking == 0)
		return;
	row.state = psprintf("%d MB", llm_guc_immediate_mb);
	row.problem = psprintf("%d %s for memory for a question, until less is under way", lacking,
						   lacking == 1 ? "session waits" : "sessions wait");
	row.hint = psprintf("ALTER SYSTEM SET llm_enrich.immediate_memory = '%dMB'; then restart the server. The operating system may give less, too: see the size of /dev/shm.",
						llm_guc_immediate_mb * 2);
	put_row(result, &row);
}

/*
 * What is wrong with a worker that is wanted.  One that failed before is shown until
 * it has run well for a while.
 */
static void
describe_trouble(const LlmWorkerEntry *worker, TimestampTz now, Row *row)
{
	bool recovered = (worker->pid != 0 && now - worker->since > LLM_FAILURES_FORGOTTEN_MS * INT64CONST(1000));

	if (worker->pid == 0 && worker->no_process)
	{
		row->problem = "no worker slot";
		row->hint = psprintf("ALTER SYSTEM SET max_worker_processes = %d; then restart the server. Or wait: it starts when another process has ended.",
							 max_worker_processes + MORE_PROCESSES);
	}
	else if (worker->failures > 0 && !recovered)
	{
		row->problem = psprintf("it ended with an error %d times in a row", worker->failures);
		row->hint = "It is started again by itself. The server's log says why it ended; SELECT pg_current_logfile(); names the file, where PostgreSQL writes one.";
	}
}

static void
put_worker(ReturnSetInfo *result, const Picture *picture, LlmWorkerKind kind, TimestampTz now)
{
	const LlmWorkerEntry *worker = &picture->database.workers[kind];
	Row row = {.kind = (kind == LLM_WORKER_SENDER) ? "sender" : "writer"};

	row.subject = get_database_name(MyDatabaseId);
	row.state = "not running";
	if (picture->known)
	{
		row.since = worker->since;
		row.pid = worker->pid;
		row.slots_used = worker->slots_used;
		row.slots = worker->slots;
		if (worker->pid != 0)
			row.state = worker->state;
		else if (picture->database.blocked > 0)
			row.state = "stopped by a command that needs the database for itself";
		else if (worker->wanted != LLM_WANTED_NOT && (kind != LLM_WORKER_SENDER || llm_guc_enabled))
		{
			row.state = "about to start";
			describe_trouble(worker, now, &row);
		}
		if (worker->pid != 0)
			describe_trouble(worker, now, &row);
	}
	put_row(result, &row);
}

static bool
is_admin(void)
{
	Oid role = get_role_oid(ADMIN_ROLE, true);

	return superuser() || (OidIsValid(role) && has_privs_of_role(GetUserId(), role));
}

/* It watches the server: figures, and what needs somebody's attention, but nothing that holds an input. */
static bool
is_monitor(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

static void
put_problems(ReturnSetInfo *result, const Picture *picture)
{
	bool all = is_admin();
	bool some = all || is_monitor();

	for (int i = 0; i < picture->nproblems; i++)
	{
		const LlmProblemEntry *problem = &picture->problems[i];
		Row row = {.kind = "problem", .state = "waiting"};

		bool in_full = all || !OidIsValid(problem->role) || has_privs_of_role(GetUserId(), problem->role);

		if (!in_full && !some)
			continue;
		row.subject = problem->subject;
		row.problem = in_full ? problem->problem : "a role's tasks wait";
		row.hint = in_full ? problem->hint : "That role, and members of " ADMIN_ROLE ", see here why.";
		row.since = problem->since;
		put_row(result, &row);
	}
}

/* What ends a pause, and what says more; of a target the model is known, but not by which aliases it is asked. */
static char *
pause_hint(LlmErrorClass class, const char *model)
{
	static const char vectors[] = LLM_LIMITED_VECTORS;
	int length = strlen(model);
	int suffix = strlen(vectors);
	const char *what;

	if (length > suffix && strcmp(model + length - suffix, vectors) == 0)
		length -= suffix;
	switch (class)
	{
		case LLM_ERR_AUTH:
			what = "A new key, or one that may do more, is tried at once.";
			break;
		case LLM_ERR_QUOTA:
			what = "Raise it with the provider; it is tried again from time to time.";
			break;
		case LLM_ERR_UNKNOWN_MODEL:
			what = "SELECT llm.alter_model('...', model => '...'); is tried at once.";
			break;
		default:
			what = "What is changed of the server, its options and its user mappings is tried at once.";
	}
	return psprintf("%s What the provider says: SELECT llm.check(alias) FROM llm.model WHERE model = %s;", what,
					quote_literal_cstr(pnstrdup(model, length)));
}

static void
put_target(ReturnSetInfo *result, const LlmLimiterSlot *slot, TimestampTz now)
{
	const LlmLimiter *limiter = &slot->limiter;
	bool paused = (limiter->pause_class != LLM_OK);
	TimestampTz until = paused ? limiter->paused_until : limiter->not_before;
	Row row = {.kind = "target"};

	row.subject = psprintf("%s / %s", slot->host, slot->model);
	if (limiter->probing || until <= now)
		row.state = "trying one request";
	else
		row.state = psprintf("%s until %s", paused ? "paused" : "cooling",
							 timestamptz_to_str(llm_clock_to_wall(until)));
	if (paused)
	{
		row.problem = llm_error_pause_text(limiter->pause_class);
		row.hint = pause_hint(limiter->pause_class, slot->model);
	}
	row.slots_used = limiter->in_flight;
	row.slots = (limiter->window > 0) ? (int) limiter->window : 0;
	put_row(result, &row);
}

/* A model whose cost is not known, or an estimate, where that matters. */
static void
put_gap(ReturnSetInfo *result, const char *alias, bool bounded)
{
	LlmTarget *target = llm_catalog_target(alias, GetUserId());
	Row row = {.kind = "model", .subject = alias, .state = target->price == 0 ? "no price" : "estimated"};
	char *hint = NULL;

	if (target->price == 0 && !bounded && llm_guc_confirm_above < 0)
		return;
	row.problem = llm_price_gap(target, &hint);
	row.hint = hint;
	if (row.problem != NULL)
		put_row(result, &row);
}

/* All models, and whether the caller sees a budget that holds for it. */
static void
put_gaps(ReturnSetInfo *result)
{
	static LlmStatement models_statement = {
		.sql = "SELECT m.alias, EXISTS (SELECT FROM llm.budget_rule b WHERE COALESCE(b.server, m.server) = m.server"
			   "  AND (b.model IS NULL OR b.model = m.alias)) FROM llm.model m ORDER BY m.alias"};
	MemoryContext caller = CurrentMemoryContext;
	uint64 n;
	char **aliases;
	bool *bounded;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	n = llm_spi_execute(&models_statement, NULL, NULL, true);
	aliases = MemoryContextAlloc(caller, sizeof(char *) * (n + 1));
	bounded = MemoryContextAlloc(caller, sizeof(bool) * (n + 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;

		aliases[i] = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
		bounded[i] = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_finish();
	for (uint64 i = 0; i < n; i++)
		put_gap(result, aliases[i], bounded[i]);
}

/* SQL: llm.read_health() → the rows of llm.health that shared memory knows of */
Datum
llm_enrich_read_health(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = llm_clock_steady();
	Picture *picture;

	llm_shmem_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	picture = take_picture(now);
	put_launcher(result, picture);
	put_setting(result);
	put_memory(result);
	put_worker(result, picture, LLM_WORKER_SENDER, now);
	put_worker(result, picture, LLM_WORKER_WRITER, now);
	put_problems(result, picture);
	for (int i = 0; (is_admin() || is_monitor()) && i < picture->nlimiters; i++)
		put_target(result, &picture->limiters[i], now);
	put_gaps(result);
	return (Datum) 0;
}
