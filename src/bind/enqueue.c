/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  Bound rows of a statement become rows of llm.recipe, llm.job and llm.queue.
 *
 * In the user's transaction and as the owner of the tables, and so that sessions
 * never wait for each other or hold up a worker: recipes and shared jobs are
 * found or made without a unique index to wait at (a duplicate does no harm),
 * and locks are taken only where nobody else has one.  What workers have changed
 * meanwhile is seen in REPEATABLE READ, too, so that it makes no user's statement
 * fail to serialize.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/guc.h"
#include "base/json.h"
#include "base/spi.h"
#include "base/wake.h"
#include "bind/control.h"
#include "bind/enqueue.h"
#include "bind/enqueue_rows.h"
#include "bind/notice.h"
#include "bind/session.h"
#include "operation/meaning.h"
#include "operation/spec.h"
#include "tables/recipe.h"
#include "tables/shape.h"
#include "tables/transition.h"

/* As llm.task_id's INCREMENT says. */
#define IDS_PER_DRAW 64

/* Arguments of add_job_statement. */
#define NJOBVALUES 20

/* The lock keeps the job from being closed; a session that finds it locked makes another one. */
static LlmStatement find_day_job_statement = {
	.sql = "SELECT j.id, NULLIF($13, j.application_name) FROM llm.job j WHERE j.relation = $1"
		   " AND j.recipe = $2 AND j.role = $3"
		   " AND j.day = (pg_catalog.now() AT TIME ZONE 'UTC')::pg_catalog.date"
		   " AND j.state = 'open'"
		   " AND j.relation_name = $4 AND j.column_name = $5"
		   " AND j.key_columns = $6 AND j.column_numbers = $14 AND j.shape IS NOT DISTINCT FROM $15"
		   " AND j.model IS NOT DISTINCT FROM $7 AND j.priority = $8"
		   " AND j.tags IS NOT DISTINCT FROM $9 AND j.settings IS NOT DISTINCT FROM $10"
		   " AND j.deadline IS NOT DISTINCT FROM $11"
		   " AND j.role_name = $12 AND j.cell IS NOT DISTINCT FROM $16 AND j.hides_key = $17"
		   " AND j.max_cost IS NOT DISTINCT FROM " LLM_SESSION_MAX_COST
		   " ORDER BY j.id DESC LIMIT 1 FOR KEY SHARE SKIP LOCKED",
	.nargs = 17,
	.args = {OIDOID, INT8OID, OIDOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, INT4OID, JSONBOID, JSONBOID,
			 TIMESTAMPTZOID, TEXTOID, TEXTOID, INT2ARRAYOID, TEXTOID, JSONBOID, BOOLOID},
	.fresh = true};

static LlmStatement add_job_statement = {
	.sql = "INSERT INTO llm.job (relation, recipe, role, relation_name, column_name, key_columns, model,"
		   " priority, tags, settings, deadline, role_name, application_name, column_numbers, shape, cell, hides_key, cell_kind,"
		   " operation, total, day, max_cost)"
		   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
		   " CASE WHEN $16 IS NULL THEN 'marker' ELSE 'quiet' END, $18, $19,"
		   " CASE WHEN $20 THEN (pg_catalog.now() AT TIME ZONE 'UTC')::pg_catalog.date END, " LLM_SESSION_MAX_COST ")"
		   " RETURNING id",
	.nargs = NJOBVALUES,
	.args = {OIDOID, INT8OID, OIDOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, INT4OID, JSONBOID, JSONBOID,
			 TIMESTAMPTZOID, TEXTOID, TEXTOID, INT2ARRAYOID, TEXTOID, JSONBOID, BOOLOID, TEXTOID, INT8OID, BOOLOID}};

static LlmStatement set_total_statement = {
	.sql = "UPDATE llm.job SET total = $2 WHERE id = $1",
	.nargs = 2,
	.args = {INT8OID, INT8OID}};

static LlmStatement is_same_statement = {
	.sql = "SELECT q.job, j.state = 'paused' AND q.state IN ('ready', 'waiting') FROM llm.queue q JOIN llm.job j ON j.id = q.job"
		   " JOIN llm.recipe r ON r.id = q.recipe"
		   " WHERE q.id = $1 AND q.state IN ('ready', 'waiting', 'claimed', 'answered')"
		   " AND (q.outcome IS NULL OR q.outcome = 'answered')"
		   " AND q.role = $2 AND q.key = $3"
		   " AND q.input = $4"
		   " AND j.relation = $5 AND j.column_numbers[1] = $6"
		   " AND j.model IS NOT DISTINCT FROM $7"
		   " AND r.operation = $8 AND r.spec = $9"
		   " AND NOT EXISTS (SELECT FROM llm.cancellation c WHERE c.task = q.id)",
	.nargs = 9,
	.args = {INT8OID, OIDOID, JSONBOID, TEXTOID, OIDOID, INT2OID, TEXTOID, TEXTOID, JSONBOID},
	.fresh = true};

/*
 * Task ids drawn and not yet used, and the sequence they are from: written by
 * llm_enqueue_next_id().  Any change of a relation makes it look whether the sequence is
 * still that one, so that DROP and CREATE EXTENSION leave no ids of the old one.
 */
static int64 next_id = 0;
static int64 run_of_ids = 0; /* the first of the ids since which no other session has drawn any */
static int ids_left = 0;
static Oid ids_sequence = InvalidOid;
static bool ids_checked = false;
static bool ids_callback_registered = false;

static void
recheck_ids(Datum arg, Oid relation)
{
	ids_checked = false;
}

int64
llm_enqueue_next_id(void)
{
	if (!ids_checked || ids_left == 0)
	{
		Oid sequence;

		if (!ids_callback_registered)
		{
			CacheRegisterRelcacheCallback(recheck_ids, (Datum) 0);
			ids_callback_registered = true;
		}
		ids_checked = true;
		sequence = llm_spi_relation("task_id");
		if (sequence != ids_sequence || ids_left == 0)
		{
			int64 end = sequence == ids_sequence ? next_id + ids_left : 0;

			ids_left = 0;
			next_id = nextval_internal(sequence, false);
			if (next_id != end)
				run_of_ids = next_id;
			ids_sequence = sequence;
			ids_left = IDS_PER_DRAW;
		}
	}
	ids_left--;
	return next_id++;
}

/* Add a setting and its value now, if it has one. */
static void
push_setting(LlmJsonbState *state, const char *name)
{
	const char *setting = GetConfigOption(name, true, false);
	JsonbValue value;

	if (setting == NULL)
		return;
	value.type = jbvString;
	value.val.string.val = unconstify(char *, name);
	value.val.string.len = strlen(name);
	(void) llm_jsonb_push(state, WJB_KEY, &value);
	value.val.string.val = pstrdup(setting);
	value.val.string.len = strlen(setting);
	(void) llm_jsonb_push(state, WJB_VALUE, &value);
}

/*
 * The settings that llm_enrich.carry_settings lists, with their values now.  And always
 * the path, since triggers name tables by it, now and when the answer is written.
 */
Jsonb *
llm_enqueue_carried_settings(bool with_path)
{
	LlmJsonbState state = {0};
	List *names = NIL;
	ListCell *cell;

	if (llm_guc_carry_settings != NULL && !SplitGUCList(pstrdup(llm_guc_carry_settings), ',', &names))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("setting \"llm_enrich.carry_settings\" is not a list of names")));
	(void) llm_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
	if (with_path)
		push_setting(&state, "search_path");
	foreach(cell, names)
		push_setting(&state, lfirst(cell));
	return JsonbValueToJsonb(llm_jsonb_push(&state, WJB_END_OBJECT, NULL));
}

/* The int8 in the first row of SPI's result, which ends here. */
static int64
result_id(void)
{
	bool is_null;
	int64 id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null));

	SPI_freetuptable(SPI_tuptable);
	return id;
}

/* Look for a row; when there is none, its empty result ends here. */
static bool
finds(LlmStatement *statement, Datum *values, const char *nulls)
{
	if (llm_spi_execute(statement, values, nulls, false) > 0)
		return true;
	SPI_freetuptable(SPI_tuptable);
	return false;
}

Jsonb *
llm_enqueue_cell_description(const LlmNewJob *job)
{
	Jsonb *kept = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(job->kept)));
	const LlmRecipe *recipe = llm_operation_load(0, job->op->name, job->spec);
	JsonbValue description;
	JsonbPair *pairs;
	int n;

	if (!llm_json_tree(kept, &description))
		elog(ERROR, "description of a cell nests too deep");
	n = description.val.object.nPairs;
	pairs = palloc((n + 2) * sizeof(JsonbPair));
	memcpy(pairs, description.val.object.pairs, n * sizeof(JsonbPair));
	if (recipe != NULL && recipe->value_key != NULL)
		llm_json_set_pair(&pairs[n++], "value", llm_json_make_text(recipe->value_key));
	if (llm_json_get(&description, "expression") != NULL)
		llm_json_set_pair(&pairs[n++], "settings", llm_meaning());
	description = llm_json_make_object(pairs, n);
	return llm_json_store(&description);
}

Jsonb *
llm_enqueue_instructions(text *instructions)
{
	LlmSpec spec = {0};
	JsonbValue value;

	llm_argument_instructions(&spec, LLM_ARG_INSTRUCTIONS, PointerGetDatum(instructions));
	value.type = jbvObject;
	value.val.object.nPairs = spec.n;
	value.val.object.pairs = spec.pairs;
	return JsonbValueToJsonb(&value);
}

/* May the role not read the key of the rows?  Then no row of ours that it sees has it. */
static bool
hides_key(const LlmNewJob *job)
{
	ListCell *cell;

	if (pg_class_aclcheck(job->relation, job->role, ACL_SELECT) == ACLCHECK_OK)
		return false;
	foreach(cell, job->key_columns)
	{
		if (pg_attribute_aclcheck(job->relation, get_attnum(job->relation, lfirst(cell)), job->role, ACL_SELECT) !=
			ACLCHECK_OK)
			return true;
	}
	return false;
}

/* What a job is found or made by; the rest of its columns beside. */
static void
job_values(const LlmNewJob *job, Jsonb *settings, Datum *values, char *nulls)
{
	int nkeys = list_length(job->key_columns);
	Datum *keys = palloc(nkeys * sizeof(Datum));
	Datum *numbers = palloc((1 + nkeys) * sizeof(Datum));
	char *shape = llm_shape_of(job->relation, job->role, NoLock);
	ListCell *cell;

	numbers[0] = Int16GetDatum(get_attnum(job->relation, job->column_name));
	foreach(cell, job->key_columns)
	{
		keys[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
		numbers[1 + foreach_current_index(cell)] = Int16GetDatum(get_attnum(job->relation, lfirst(cell)));
	}
	memset(nulls, ' ', NJOBVALUES);
	values[0] = ObjectIdGetDatum(job->relation);
	values[1] = Int64GetDatum(job->recipe);
	values[2] = ObjectIdGetDatum(job->role);
	values[3] = CStringGetTextDatum(quote_qualified_identifier(get_namespace_name(get_rel_namespace(job->relation)),
															   get_rel_name(job->relation)));
	values[4] = CStringGetTextDatum(job->column_name);
	values[5] = llm_spi_array(TEXTOID, keys, NULL, nkeys);
	values[6] = job->model == NULL ? (Datum) 0 : CStringGetTextDatum(job->model);
	nulls[6] = job->model == NULL ? 'n' : ' ';
	values[7] = Int32GetDatum(job->priority);
	values[8] = JsonbPGetDatum(job->tags);
	nulls[8] = job->tags == NULL ? 'n' : ' ';
	values[9] = JsonbPGetDatum(settings);
	nulls[9] = settings == NULL ? 'n' : ' ';
	values[10] = TimestampTzGetDatum(job->deadline);
	nulls[10] = job->deadline == DT_NOEND ? 'n' : ' ';
	values[11] = CStringGetTextDatum(GetUserNameFromId(job->role, false));
	values[12] = CStringGetTextDatum(application_name == NULL ? "" : application_name);
	values[13] = llm_spi_array(INT2OID, numbers, NULL, 1 + nkeys);
	values[14] = shape == NULL ? (Datum) 0 : CStringGetTextDatum(shape);
	nulls[14] = shape == NULL ? 'n' : ' ';
	values[15] = job->kept == NULL ? (Datum) 0 : JsonbPGetDatum(job->cell);
	nulls[15] = job->kept == NULL ? 'n' : ' ';
	values[16] = BoolGetDatum(hides_key(job));
}

/* The job that was found may be another application's: then its new task says so. */
static void
take_application(LlmNewJob *job)
{
	bool is_null;
	Datum name = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &is_null);
	MemoryContext saved = MemoryContextSwitchTo(GetMemoryChunkContext(job));

	job->application = is_null ? NULL : DatumGetTextPCopy(name);
	MemoryContextSwitchTo(saved);
}

/*
 * Find or make the job's row.  A single row joins the open job that such statements
 * share for a day; "total" is -1 while it is not known.
 */
static void
write_job(LlmNewJob *job, Jsonb *settings, bool single, int64 total)
{
	Datum values[NJOBVALUES];
	char nulls[NJOBVALUES];

	job->recipe = llm_recipe_find_or_add(job->op->name, job->spec);
	job->shared = single;
	job_values(job, settings, values, nulls);
	if (single && finds(&find_day_job_statement, values, nulls))
		take_application(job);
	else
	{
		values[17] = CStringGetTextDatum(job->op->name);
		values[18] = Int64GetDatum(total);
		nulls[18] = single || total < 0 ? 'n' : ' ';
		values[19] = BoolGetDatum(single);
		(void) llm_spi_execute(&add_job_statement, values, nulls, false);
	}
	job->id = result_id();
}

/* The statement is over and the job was written before: say how many tasks it has. */
static void
write_total(const LlmNewJob *job)
{
	Datum values[2];

	values[0] = Int64GetDatum(job->id);
	values[1] = Int64GetDatum(job->queued + job->in_set);
	(void) llm_spi_execute(&set_total_statement, values, NULL, false);
}

static void
count_tasks(LlmNewTask *tasks, int ntasks, List *jobs)
{
	foreach_ptr(LlmNewJob, job, jobs)
		job->in_set = 0;
	for (int i = 0; i < ntasks; i++)
		tasks[i].job->in_set++;
}

/* Write what there is to say of a job now that a set of tasks comes, or that the statement is over. */
static void
note_job(LlmNewJob *job, Jsonb *settings, bool last)
{
	if (job->in_set > 0 && job->id == 0)
		write_job(job, settings, last && job->in_set == 1 && !job->is_unconfirmed, last ? job->in_set : -1);
	else if (last && job->id != 0)
		write_total(job);
	job->queued += job->in_set;
}

/* The session may wait for what was written: for each job once, and for its tasks where others share the job. */
static void
note_queued(const LlmNewTask *tasks, int ntasks, List *jobs)
{
	foreach_ptr(LlmNewJob, job, jobs)
	{
		if (job->id != 0 && !job->shared && !job->noted)
			llm_session_note_job(job->id);
		job->noted = job->id != 0;
	}
	for (int i = 0; i < ntasks; i++)
	{
		if (tasks[i].job->shared)
			llm_session_note_task(tasks[i].job->id, tasks[i].id, run_of_ids);
	}
}

void
llm_enqueue_tasks(LlmNewTask *tasks, int ntasks, List *jobs, bool last)
{
	LlmOwnScope scope;
	Jsonb *settings = ntasks > 0 ? llm_enqueue_carried_settings(true) : NULL;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich job", ALLOCSET_SMALL_SIZES);
	ListCell *cell;

	count_tasks(tasks, ntasks, jobs);
	SPI_connect();
	llm_spi_own_begin(&scope);
	if (quote_all_identifiers) /* jobs of one relation shall have one name for it */
		(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	foreach(cell, jobs)
	{
		MemoryContext caller = MemoryContextSwitchTo(scratch);

		note_job(lfirst(cell), settings, last);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(scratch); /* there may be a job for each row */
		if (((LlmNewJob *) lfirst(cell))->deadline != DT_NOEND)
			llm_wake_at_commit(LLM_WORKER_WRITER); /* it ends what is late */
	}
	if (ntasks > 0)
		llm_enqueue_write_rows(tasks, ntasks);
	note_queued(tasks, ntasks, jobs);
	if (llm_session_is_full())
		llm_control_tidy_session();
	llm_spi_own_end(&scope);
	SPI_finish();
	MemoryContextDelete(scratch);
	if (ntasks > 0)
		llm_wake_at_commit(LLM_WORKER_SENDER);
}

void
llm_enqueue_supersede(const LlmOldTask *tasks, int ntasks)
{
	LlmOwnScope scope;
	Datum *columns[4];
	Datum values[4];

	if (ntasks == 0)
		return;
	SPI_connect();
	llm_spi_own_begin(&scope);
	for (int i = 0; i < lengthof(columns); i++)
		columns[i] = palloc(ntasks * sizeof(Datum));
	for (int i = 0; i < ntasks; i++)
	{
		columns[0][i] = Int64GetDatum(tasks[i].id);
		columns[1][i] = ObjectIdGetDatum(tasks[i].leaf);
		columns[2][i] = JsonbPGetDatum(tasks[i].key);
		columns[3][i] = CStringGetTextDatum(tasks[i].column_name);
	}
	values[0] = llm_spi_array(INT8OID, columns[0], NULL, ntasks);
	values[1] = llm_spi_array(OIDOID, columns[1], NULL, ntasks);
	values[2] = llm_spi_array(JSONBOID, columns[2], NULL, ntasks);
	values[3] = llm_spi_array(TEXTOID, columns[3], NULL, ntasks);
	if (llm_transition(LLM_EVENT_SUPERSEDE, values, NULL) > 0)
		llm_wake_at_commit(LLM_WORKER_WRITER);
	llm_spi_own_end(&scope);
	SPI_finish();
}

bool
llm_enqueue_is_same(int64 task, LlmNewJob *job, Jsonb *key, text *input)
{
	LlmOwnScope scope;
	Datum values[9];
	char nulls[9];
	bool same;

	SPI_connect();
	llm_spi_own_begin(&scope);
	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(task);
	values[1] = ObjectIdGetDatum(job->role);
	values[2] = JsonbPGetDatum(key);
	values[3] = PointerGetDatum(input);
	values[4] = ObjectIdGetDatum(job->relation);
	values[5] = Int16GetDatum(get_attnum(job->relation, job->column_name));
	values[6] = job->model == NULL ? (Datum) 0 : CStringGetTextDatum(job->model);
	nulls[6] = job->model == NULL ? 'n' : ' ';
	values[7] = CStringGetTextDatum(job->op->name);
	values[8] = JsonbPGetDatum(job->spec);
	same = llm_spi_execute(&is_same_statement, values, nulls, false) > 0;
	if (same)
	{
		bool is_null;
		bool is_paused = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &is_null));
		int64 kept_in = result_id();

		llm_session_note_kept(kept_in, task);
		if (is_paused)
			llm_notice_kept(job, kept_in);
		else
			job->asked_rows++;
	}
	llm_spi_own_end(&scope);
	SPI_finish();
	return same;
}
