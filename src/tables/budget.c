/*-------------------------------------------------------------------------
 *
 * budget.c
 *	  Budgets: their rules, and what is spent and reserved of each.
 *
 * Rules are written by users and periods by the sender alone, so that neither waits for
 * the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "tables/budget.h"

static LlmStatement set_statement = {
	.sql = "INSERT INTO llm.budget_rule AS b (amount, per, role, relation, model, server, tag, value, time_zone, set_by,"
		   "  set_at, role_name, relation_name)"
		   " SELECT $1, $2, $3::regrole, $4::regclass, $5, $6, $7, $8, COALESCE($9, current_setting('TimeZone')), $10,"
		   "  llm.clock(), (SELECT r.rolname::text FROM pg_roles r WHERE r.oid = $3),"
		   "  (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c"
		   "   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $4)"
		   " ON CONFLICT (per, role, relation, model, server, tag, value) DO UPDATE SET amount = excluded.amount,"
		   "  time_zone = excluded.time_zone, set_by = excluded.set_by, set_at = excluded.set_at,"
		   "  role_name = excluded.role_name, relation_name = excluded.relation_name"
		   "  WHERE $11 OR b.set_by = excluded.set_by RETURNING b.id",
	.nargs = 11,
	.args = {NUMERICOID, TEXTOID, OIDOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID},
	.fresh = true};

static LlmStatement server_statement = {
	.sql = "SELECT COALESCE(b.server, (SELECT m.server FROM llm.model m WHERE m.alias = b.model))"
		   " FROM llm.budget_rule b WHERE b.id = $1",
	.nargs = 1,
	.args = {INT8OID},
	.fresh = true};

static LlmStatement drop_statement = {
	.sql = "DELETE FROM llm.budget_rule b WHERE b.id = $1 AND ($3 OR b.set_by = $2) RETURNING b.id",
	.nargs = 3,
	.args = {INT8OID, TEXTOID, BOOLOID},
	.fresh = true};

/* Rounded down, and up. */
#define NANO_OF(dollars) "floor(" dollars " * 1000000000::numeric)::int8"
#define NANO_SPENT(dollars) "ceil(" dollars " * 1000000000::numeric)::int8"
#define DOLLARS_OF(nano) nano "::numeric * 0.000000001"

/* A line of C is a line of SQL. */
/* clang-format off */

/* What stands in the period that runs now. */
static LlmStatement read_statement = {
	.sql = "SELECT b.id, " NANO_OF("b.amount") ", w.starts_at, llm.budget_end(b.per, b.time_zone, n.at),"
		   "  CASE WHEN b.per = 'total' THEN w.starts_at"
		   "   ELSE llm.budget_start(b.per, b.time_zone, w.starts_at - '1 us'::interval) END,"
		   "  COALESCE(b.role::oid, 0), COALESCE(b.relation::oid, 0), b.model, COALESCE(m.server, b.server), m.model,"
		   "  b.tag, b.value, p.budget IS NOT NULL, " NANO_SPENT("COALESCE(p.spent, 0::numeric)") ","
		   "  " NANO_SPENT("COALESCE(p.reserved, 0::numeric)")
		   " FROM llm.budget_rule b CROSS JOIN (SELECT llm.clock() AS at) n"
		   " CROSS JOIN LATERAL (SELECT llm.budget_start(b.per, b.time_zone, n.at) AS starts_at) w"
		   " LEFT JOIN llm.model m ON m.alias = b.model AND (b.server IS NULL OR b.server = m.server)"
		   " LEFT JOIN llm.budget_period p ON p.budget = b.id AND p.starts_at = w.starts_at ORDER BY b.id"};

/* Each name once that a role or table with that number had when jobs were queued, however many these are. */
#define NAMES_OF_JOBS(number, name, wanted) \
	"(WITH RECURSIVE n(name) AS (SELECT (SELECT min(j." name ") FROM llm.job j WHERE j." number " = " wanted ")" \
	"  UNION ALL SELECT (SELECT min(j." name ") FROM llm.job j WHERE j." number " = " wanted " AND j." name " > n.name)" \
	"  FROM n WHERE n.name IS NOT NULL) SELECT n.name FROM n WHERE n.name IS NOT NULL)"

/*
 * Budget $1 in the period from $2: what the ledger has of it.  Of a role with what its members
 * have spent, however far down.  Of a tag the sums are read, where it was declared all the time.  The ledger has
 * names: those that jobs know of a role or table count, too, where nobody else has them now.
 */
#define SPENT_WITH \
	"WITH RECURSIVE rule AS MATERIALIZED (SELECT b.* FROM llm.budget_rule b WHERE b.id = $1)," \
	" member(oid) AS (SELECT r.role::oid FROM rule r WHERE r.role IS NOT NULL" \
	"  UNION SELECT a.member FROM pg_auth_members a JOIN member m ON a.roleid = m.oid)," \
	" names AS (SELECT array_agg(x.name) AS of FROM (" \
	"   SELECT a.rolname::text AS name FROM pg_authid a JOIN member m ON m.oid = a.oid" \
	"   UNION SELECT j.name FROM member m CROSS JOIN LATERAL " NAMES_OF_JOBS("role", "role_name", "m.oid") " j" \
	"    WHERE NOT EXISTS (SELECT FROM pg_authid o WHERE o.rolname = j.name::name)) x)," \
	" wanted AS MATERIALIZED (SELECT r.tag, r.value, n.of AS roles, r.model AS alias, m.model," \
	"  COALESCE(m.server, r.server) AS server, r.role IS NULL AS of_any," \
	"  CASE WHEN r.relation IS NOT NULL THEN ARRAY(SELECT quote_ident(s.nspname) || '.' || quote_ident(c.relname)" \
	"    FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE c.oid = r.relation::oid" \
	"   UNION SELECT j.name FROM " NAMES_OF_JOBS("relation", "relation_name", "r.relation::oid") " j" \
	"    WHERE to_regclass(NULLIF(j.name, '')) IS NULL) END AS relations," \
	"  r.relation IS NULL AS on_any" \
	"  FROM rule r CROSS JOIN names n LEFT JOIN llm.model m ON m.alias = r.model" \
	"   AND (r.server IS NULL OR r.server = m.server))"
#define SPENT \
	" COALESCE(CASE" \
	"  WHEN w.tag IS NULL OR EXISTS (SELECT FROM llm.ledger_summed s WHERE s.tags_since <= $2" \
	"     AND s.tags = current_setting('llm_enrich.bill_tags') AND EXISTS (" \
	"      SELECT FROM string_to_table(s.tags, ',') d WHERE btrim(d) = w.tag))" \
	"   THEN (SELECT sum(x.cost) FROM llm.bill(array_remove(ARRAY['tag:' || w.tag," \
	"    CASE WHEN NOT w.of_any THEN 'role' END, CASE WHEN NOT w.on_any THEN 'relation' END," \
	"    CASE WHEN w.server IS NOT NULL THEN 'server' END, CASE WHEN w.alias IS NOT NULL THEN 'model' END], NULL)," \
	"    $2) x WHERE (w.of_any OR x.role = ANY (w.roles)) AND (w.on_any OR x.relation = ANY (w.relations))" \
	"    AND (w.server IS NULL OR x.server = w.server) AND (w.alias IS NULL OR x.model = w.model)" \
	"    AND (w.tag IS NULL OR x.tags ->> w.tag = w.value))" \
	"  ELSE (SELECT sum(x.cost) FROM llm.ledger x WHERE x.at >= $2 AND x.tags ->> w.tag = w.value" \
	"    AND (w.of_any OR x.role = ANY (w.roles)) AND (w.on_any OR x.relation = ANY (w.relations))" \
	"    AND (w.server IS NULL OR x.server = w.server) AND (w.alias IS NULL OR x.model = w.model)) END, 0::numeric)"

static LlmStatement open_statement = {
	.sql = SPENT_WITH " INSERT INTO llm.budget_period (budget, starts_at, spent) SELECT $1, $2," SPENT
		   " FROM wanted w RETURNING " NANO_SPENT("spent"),
	.nargs = 2,
	.args = {INT8OID, TIMESTAMPTZOID},
	.planning = LLM_BY_STATISTICS};

static LlmStatement spent_statement = {
	.sql = SPENT_WITH " SELECT " SPENT " FROM wanted w",
	.nargs = 2,
	.args = {INT8OID, TIMESTAMPTZOID},
	.planning = LLM_BY_STATISTICS};

static LlmStatement tidy_statement = {
	.sql = "DELETE FROM llm.budget_period p WHERE NOT EXISTS (SELECT FROM llm.budget_rule b WHERE b.id = p.budget)"
		   " OR p.starts_at > '-infinity' AND p.starts_at < llm.clock() - '400 days'::interval"};

static LlmStatement add_statement = {
	.sql = "INSERT INTO llm.budget_period AS p (budget, starts_at, spent, reserved)"
		   " SELECT v.budget, v.starts_at, COALESCE(v.spent, 0::numeric), " DOLLARS_OF("v.reserved")
		   " FROM unnest($1, $2, $3, $4) AS v(budget, starts_at, spent, reserved)"
		   " ON CONFLICT (budget, starts_at) DO UPDATE SET spent = p.spent + excluded.spent,"
		   "  reserved = p.reserved + excluded.reserved"
		   " RETURNING p.budget, p.starts_at, " NANO_SPENT("p.spent"),
	.nargs = 4,
	.args = {INT8ARRAYOID, TIMESTAMPTZARRAYOID, NUMERICARRAYOID, INT8ARRAYOID}};

static LlmStatement reserved_statement = {
	.sql = "UPDATE llm.budget_period p SET reserved = " DOLLARS_OF("$3") " WHERE p.budget = $1 AND p.starts_at = $2",
	.nargs = 3,
	.args = {INT8OID, TIMESTAMPTZOID, INT8OID}};

static LlmStatement waiting_statement = {
	.sql = "UPDATE llm.budget_period p SET needed = NULLIF(" DOLLARS_OF("$3") ", 0::numeric), waiting = $4"
		   " WHERE p.budget = $1 AND p.starts_at = $2",
	.nargs = 4,
	.args = {INT8OID, TIMESTAMPTZOID, INT8OID, INT4OID}};
/* clang-format on */

/* Run a statement of a user's call as the owner of our tables; SPI stays connected until end(). */
static uint64
begin(LlmStatement *statement, Datum *values, const char *nulls, LlmOwnScope *scope)
{
	SPI_connect();
	llm_spi_own_begin(scope);
	return llm_spi_execute(statement, values, nulls, false);
}

static void
end(LlmOwnScope *scope)
{
	llm_spi_own_end(scope);
	SPI_finish();
}

static void
set_text(Datum *value, char *null, const char *string)
{
	*null = string == NULL ? 'n' : ' ';
	*value = string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}

int64
llm_budget_set(const LlmBudgetRule *rule, bool any)
{
	Datum values[11];
	char nulls[11];
	LlmOwnScope scope;
	bool isnull;
	int64 id = 0;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = rule->amount;
	set_text(&values[1], &nulls[1], rule->per);
	values[2] = ObjectIdGetDatum(rule->role);
	nulls[2] = OidIsValid(rule->role) ? ' ' : 'n';
	values[3] = ObjectIdGetDatum(rule->relation);
	nulls[3] = OidIsValid(rule->relation) ? ' ' : 'n';
	set_text(&values[4], &nulls[4], rule->model);
	set_text(&values[5], &nulls[5], rule->server);
	set_text(&values[6], &nulls[6], rule->tag);
	set_text(&values[7], &nulls[7], rule->value);
	set_text(&values[8], &nulls[8], rule->time_zone);
	set_text(&values[9], &nulls[9], rule->set_by);
	values[10] = BoolGetDatum(any);
	if (begin(&set_statement, values, nulls, &scope) == 1)
		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	end(&scope);
	return id;
}

bool
llm_budget_server_of(int64 id, char **server)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum values[1] = {Int64GetDatum(id)};
	LlmOwnScope scope;
	bool found = begin(&server_statement, values, NULL, &scope) > 0;
	char *name = found ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : NULL;

	*server = name == NULL ? NULL : MemoryContextStrdup(caller, name);
	end(&scope);
	return found;
}

bool
llm_budget_spent(int64 id, TimestampTz since, Datum *spent)
{
	static LlmStatement see_statement = {
		.sql = "SELECT FROM llm.budget_rule b WHERE b.id = $1",
		.nargs = 1,
		.args = {INT8OID}};
	MemoryContext caller = CurrentMemoryContext;
	Datum values[2] = {Int64GetDatum(id), TimestampTzGetDatum(since)};
	LlmOwnScope scope;
	bool isnull;
	bool found;

	SPI_connect();
	found = llm_spi_execute(&see_statement, values, NULL, true) > 0; /* row security decides */
	if (found)
	{
		llm_spi_own_begin(&scope);
		found = llm_spi_execute(&spent_statement, values, NULL, true) > 0;
		if (found)
		{
			*spent = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
			MemoryContextSwitchTo(caller);
			*spent = datumCopy(*spent, false, -1);
		}
		llm_spi_own_end(&scope);
	}
	SPI_finish();
	return found;
}

bool
llm_budget_cheapest(const char *server, const char *alias, int input_tokens, int output_tokens, double *dollars)
{
	static LlmStatement cheapest_statement = {
		.sql = "SELECT min(GREATEST(p.input_per_mtok, p.cached_input_per_mtok, p.cache_write_per_mtok) * $3::numeric"
			   "  + p.output_per_mtok * $4::numeric)::float8 / 1000000::float8"
			   " FROM llm.model m JOIN llm.price p ON p.server = m.server AND p.model = m.model"
			   "  AND p.valid_from <= llm.clock() AND p.valid_until > llm.clock()"
			   " WHERE ($1 IS NULL OR m.server = $1) AND ($2 IS NULL OR m.alias = $2)",
		.nargs = 4,
		.args = {TEXTOID, TEXTOID, INT4OID, INT4OID},
		.fresh = true};
	Datum values[4];
	char nulls[4] = {' ', ' ', ' ', ' '};
	LlmOwnScope scope;
	bool isnull = true;

	set_text(&values[0], &nulls[0], server);
	set_text(&values[1], &nulls[1], alias);
	values[2] = Int32GetDatum(input_tokens);
	values[3] = Int32GetDatum(output_tokens);
	if (begin(&cheapest_statement, values, nulls, &scope) > 0)
		*dollars = DatumGetFloat8(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	end(&scope);
	return !isnull;
}

bool
llm_budget_drop(int64 id, const char *role, bool any)
{
	Datum values[3] = {Int64GetDatum(id), CStringGetTextDatum(role), BoolGetDatum(any)};
	LlmOwnScope scope;
	bool dropped = begin(&drop_statement, values, NULL, &scope) > 0;

	end(&scope);
	return dropped;
}

int64
llm_budget_rename_server(const char *name, const char *new_name)
{
	static LlmStatement left_statement = {
		.sql = "SELECT b.id FROM llm.budget_rule b WHERE b.server = $1 LIMIT 1",
		.nargs = 1,
		.args = {TEXTOID},
		.fresh = true};
	static LlmStatement rename_statement = {
		.sql = "UPDATE llm.budget_rule b SET server = $2 WHERE b.server = $1",
		.nargs = 2,
		.args = {TEXTOID, TEXTOID},
		.fresh = true};
	Datum values[2] = {CStringGetTextDatum(new_name)};
	LlmOwnScope scope;
	bool isnull;
	int64 left = 0;

	if (begin(&left_statement, values, NULL, &scope) > 0)
		left = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	end(&scope);
	if (left != 0)
		return left;
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(new_name);
	(void) begin(&rename_statement, values, NULL, &scope);
	end(&scope);
	return 0;
}

/*
 * The sender's
 */

static char *
get_text(uint64 i, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, column);
}

static Datum
get_datum(uint64 i, int column)
{
	bool isnull;

	return SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, column, &isnull);
}

/* Row "i" of the current result. */
static LlmBudgetRow *
read_row(uint64 i)
{
	LlmBudgetRow *row = palloc0(sizeof(LlmBudgetRow));

	row->id = DatumGetInt64(get_datum(i, 1));
	row->amount = DatumGetInt64(get_datum(i, 2));
	row->starts_at = DatumGetTimestampTz(get_datum(i, 3));
	row->ends_at = DatumGetTimestampTz(get_datum(i, 4));
	row->previous = DatumGetTimestampTz(get_datum(i, 5));
	row->role = DatumGetObjectId(get_datum(i, 6));
	row->relation = DatumGetObjectId(get_datum(i, 7));
	row->alias = get_text(i, 8);
	row->server = get_text(i, 9);
	row->server_oid = row->server == NULL ? InvalidOid : get_foreign_server_oid(row->server, true);
	row->model = get_text(i, 10);
	row->tag = get_text(i, 11);
	row->value = get_text(i, 12);
	row->open = DatumGetBool(get_datum(i, 13));
	row->spent = DatumGetInt64(get_datum(i, 14));
	row->reserved = DatumGetInt64(get_datum(i, 15));
	return row;
}

List *
llm_budget_read(void)
{
	List *rows = NIL;

	/* not with the snapshot of the transaction: what has told us of a change may have been committed since */
	(void) llm_spi_execute(&read_statement, NULL, NULL, false);
	for (uint64 i = 0; i < SPI_processed; i++)
		rows = lappend(rows, read_row(i));
	SPI_freetuptable(SPI_tuptable);
	return rows;
}

void
llm_budget_open(LlmBudgetRow *row)
{
	Datum values[2] = {Int64GetDatum(row->id), TimestampTzGetDatum(row->starts_at)};

	if (llm_spi_execute(&open_statement, values, NULL, false) > 0)
		row->spent = DatumGetInt64(get_datum(0, 1));
	row->reserved = 0;
	row->open = true;
	SPI_freetuptable(SPI_tuptable);
}

void
llm_budget_tidy(void)
{
	(void) llm_spi_execute(&tidy_statement, NULL, NULL, false);
}

/* Of the changes the one of this budget and period. */
static void
note_spent(LlmBudgetChange *changes, int n, int64 budget, TimestampTz starts_at, int64 spent)
{
	for (int i = 0; i < n; i++)
	{
		if (changes[i].budget == budget && changes[i].starts_at == starts_at)
			changes[i].spent_now = spent;
	}
}

void
llm_budget_add(LlmBudgetChange *changes, int n)
{
	Datum *budgets = palloc(sizeof(Datum) * Max(n, 1));
	Datum *starts = palloc(sizeof(Datum) * Max(n, 1));
	Datum *spent = palloc(sizeof(Datum) * Max(n, 1));
	bool *nothing = palloc(sizeof(bool) * Max(n, 1));
	Datum *reserved = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[4];

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		budgets[i] = Int64GetDatum(changes[i].budget);
		starts[i] = TimestampTzGetDatum(changes[i].starts_at);
		spent[i] = changes[i].spent;
		nothing[i] = (changes[i].spent == (Datum) 0);
		reserved[i] = Int64GetDatum(changes[i].reserved);
	}
	values[0] = llm_spi_array(INT8OID, budgets, NULL, n);
	values[1] = llm_spi_array(TIMESTAMPTZOID, starts, NULL, n);
	values[2] = llm_spi_array(NUMERICOID, spent, nothing, n);
	values[3] = llm_spi_array(INT8OID, reserved, NULL, n);
	(void) llm_spi_execute(&add_statement, values, NULL, false);
	for (uint64 i = 0; i < SPI_processed; i++)
		note_spent(changes, n, DatumGetInt64(get_datum(i, 1)), DatumGetTimestampTz(get_datum(i, 2)),
				   DatumGetInt64(get_datum(i, 3)));
	SPI_freetuptable(SPI_tuptable);
}

void
llm_budget_set_reserved(int64 budget, TimestampTz starts_at, int64 reserved)
{
	Datum values[3] = {Int64GetDatum(budget), TimestampTzGetDatum(starts_at), Int64GetDatum(reserved)};

	(void) llm_spi_execute(&reserved_statement, values, NULL, false);
}

void
llm_budget_set_waiting(int64 budget, TimestampTz starts_at, int64 needed, int waiting)
{
	Datum values[4] = {Int64GetDatum(budget), TimestampTzGetDatum(starts_at), Int64GetDatum(needed),
					   Int32GetDatum(waiting)};

	(void) llm_spi_execute(&waiting_statement, values, NULL, false);
}
