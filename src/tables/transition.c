/*-------------------------------------------------------------------------
 *
 * transition.c
 *	  Everything that leads a task from one state to another.
 *
 * All statements work on sets.  The workers' skip rows that somebody else has locked, so
 * that a user's open transaction holds up nobody but itself.  Users' transactions lock rows
 * that are ready or waiting and never rows that are claimed (queue_lock.c, ADR 11).
 *
 * The time is asked for once, in a sub-select: compared with a volatile function, all that
 * waits would be looked at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "base/spi.h"
#include "tables/transition.h"

#define NOW "(SELECT llm.clock())"

/* What a task is when it gets there, whatever it was before. */
#define IS_READY "state = 'ready', reason = NULL, not_before = NULL"
#define IS_OVER(outcome) "state = '" outcome "', outcome = '" outcome "', reason = NULL, not_before = NULL"
/* The same by a user, who may meet an answer that was put off: the writer looks for it among those of no sender. */
#define IS_ENDED(outcome) IS_OVER(outcome) ", landed = NULL"
#define HAS_FAILED(error, message) IS_OVER("failed") ", error = '" error "', message = '" message "'"
#define IS_BACK "state = q.outcome, landed = NULL, reason = NULL, not_before = NULL"

/* Of a task "g" that is final: its answer was not as the user's conditions want it, and is none. */
#define UNCHECKED "(g.reason = 'check_failed' AND g.answer IS NOT NULL)"

/*
 * Of a task "q" that somebody gave up while it was under way: it ends now.  One that has come goes to the writer
 * otherwise, which gives the cell back; but not while a look at the table is waited for.
 */
#define MAY_STOP                                                                                           \
	"(q.state IN ('ready', 'waiting') AND q.outcome IS NULL"                                               \
	" OR q.state IN ('answered', 'failed') AND (SELECT j.state = 'paused' AND j.shape_put_off IS NOT NULL" \
	"  FROM llm.job j WHERE j.id = q.job))"

/* Rows "q" of the ids in a common table expression. */
#define OF(from) " FROM " from " p WHERE q.id = p.id"

/* At most $1 tasks that were not sent of each job "j" that is told by a condition, and in all. */
#define UNSENT(columns, more, condition)                                            \
	"SELECT p.* FROM llm.job j CROSS JOIN LATERAL (SELECT " columns                 \
	"  FROM llm.queue q WHERE q.job = j.id AND " more " LIMIT $1"                   \
	"  FOR NO KEY UPDATE SKIP LOCKED) p WHERE j.state <> 'finished' AND " condition \
	" LIMIT $1"
#define UNSENT_READY(columns, condition) UNSENT(columns, "q.state = 'ready' ORDER BY q.id", condition)
#define UNSENT_WAITING(condition) \
	UNSENT("q.id", "q.state = 'waiting' AND q.outcome IS NULL AND q.answer IS NULL", condition)

/*
 * Are the columns of job "j" there, whatever their names are now, or others of the same names,
 * to which the markers may have been copied?  Not asked of a job that knows no numbers.
 */
#define COLUMNS_STAND                                                                            \
	"(((SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = j.relation" \
	"   AND a.attnum = ANY (j.column_numbers) AND NOT a.attisdropped)"                           \
	"  >= pg_catalog.cardinality(j.column_numbers)) IS NOT FALSE"                                \
	" OR (SELECT pg_catalog.bool_and((SELECT true FROM pg_catalog.pg_attribute a"                \
	"   WHERE a.attrelid = j.relation AND NOT a.attisdropped"                                    \
	"   AND (a.attnum = n.number OR a.attname = n.name) LIMIT 1) IS NOT NULL)"                   \
	"  FROM unnest(j.column_numbers, j.column_name || j.key_columns) AS n(number, name)))"
#define TARGET_GONE                                                                                  \
	"j.relation <> 0 AND ((SELECT true FROM pg_catalog.pg_class r WHERE r.oid = j.relation) IS NULL" \
	" OR NOT " COLUMNS_STAND ")"
#define LATE "j.deadline <= llm.clock()"
#define ROLE_GONE "NOT EXISTS (SELECT FROM pg_catalog.pg_authid a WHERE a.oid = j.role)"

/* A job "j" of $1, which "s" names, from which tasks may be claimed. */
#define CLAIMABLE                                                           \
	"EXISTS (SELECT FROM llm.job j WHERE j.id = s.job AND j.state = 'open'" \
	"  AND (j.deadline IS NULL OR j.deadline > llm.clock())"                \
	"  AND (SELECT true FROM pg_catalog.pg_class r WHERE r.oid = j.relation) AND " COLUMNS_STAND ")"
#define NOT_CANCELLED                                                                          \
	"(NOT EXISTS (SELECT FROM llm.cancellation) OR NOT EXISTS (SELECT FROM llm.cancellation x" \
	"   WHERE x.task = c.id))"
#define IS_CLAIMED                                                   \
	"state = 'claimed', claimed_at = llm.clock(),"                   \
	"  reason = NULL, not_before = NULL, attempts = q.attempts + 1," \
	"  request = pg_catalog.nextval('llm.request_id'), asked = NULL"

/* What a task "c" may cost at most, by $7 and $8 of its job: nanodollars; NULL where nothing bounds it. */
#define COST                                                                    \
	"(s.fixed + pg_catalog.ceil(s.per_byte * (pg_catalog.octet_length(c.input)" \
	"  + COALESCE(pg_catalog.octet_length(c.message), 0) + COALESCE(pg_catalog.octet_length(c.last_answer), 0)))::int8)"

/* A line of C is a line of SQL. */
/* clang-format off */
static LlmStatement transitions[] = {
	/*
	 * Of each job in $1 those above $2, at most $3, and not in $4; all together inputs of $5
	 * bytes, or one: LLM_CLAIM_COLUMNS, and whether that left some.  What was cancelled while
	 * somebody held it is left to the writer, unsent.  A row that changed between snapshot and
	 * lock is not at the place that was found: next time.
	 */
	[LLM_EVENT_CLAIM] = {
		.sql = "WITH picked AS MATERIALIZED ("
			   " SELECT p.place, p.bytes FROM unnest($1, $2, $3) AS s(job, first, want)"
			   " CROSS JOIN LATERAL (SELECT c.ctid AS place, pg_catalog.octet_length(c.input) AS bytes FROM llm.queue c"
			   "  WHERE c.job = s.job AND c.state = 'ready' AND c.id > s.first AND c.id <> ALL ($4)"
			   "  AND " NOT_CANCELLED
			   "  ORDER BY c.id LIMIT s.want FOR NO KEY UPDATE SKIP LOCKED) AS p"
			   " WHERE " CLAIMABLE "),"
			   " summed AS MATERIALIZED (SELECT p.place, pg_catalog.sum(p.bytes) OVER sofar AS bytes,"
			   "  pg_catalog.count(*) OVER sofar AS n FROM picked p WINDOW sofar AS (ROWS UNBOUNDED PRECEDING))"
			   " UPDATE llm.queue q SET " IS_CLAIMED
			   " FROM summed s WHERE q.ctid = s.place AND (s.bytes <= $5 OR s.n = 1) RETURNING " LLM_CLAIM_COLUMNS ","
			   "  (SELECT pg_catalog.bool_or(l.bytes > $5 AND l.n > 1) FROM summed l), false",
		.nargs = 5,
		.args = {INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8OID}},

	/*
	 * As CLAIM, up to the tasks in $6.  Of a job whose $7 is not NULL those that may cost no more
	 * than $9, alone and together; and those that may cost more than $10, which are too dear.  The
	 * last column says which these are.
	 */
	[LLM_EVENT_CLAIM_WITHIN] = {
		.sql = "WITH picked AS MATERIALIZED ("
			   " SELECT s.job, s.room, s.ever, p.* FROM unnest($1, $2, $3, $6, $7, $8, $9, $10)"
			   "  AS s(job, first, want, last, fixed, per_byte, room, ever)"
			   " CROSS JOIN LATERAL (SELECT c.ctid AS place, c.id, pg_catalog.octet_length(c.input) AS bytes, " COST " AS cost"
			   "  FROM llm.queue c WHERE c.job = s.job AND c.state = 'ready' AND c.id > s.first AND c.id <= s.last"
			   "  AND c.id <> ALL ($4) AND (s.fixed IS NULL OR " COST " <= s.room OR " COST " > s.ever)"
			   "  AND " NOT_CANCELLED
			   "  ORDER BY c.id LIMIT s.want FOR NO KEY UPDATE SKIP LOCKED) AS p"
			   " WHERE " CLAIMABLE "),"
			   " summed AS MATERIALIZED (SELECT p.place, p.cost, COALESCE(p.cost > p.ever, false) AS dear,"
			   "  pg_catalog.sum(p.bytes) OVER sofar AS bytes, pg_catalog.count(*) OVER sofar AS n,"
			   "  COALESCE(pg_catalog.sum(p.cost) FILTER (WHERE p.cost <= p.ever) OVER of_job <= p.room::numeric, true) AS fits"
			   "  FROM picked p WINDOW sofar AS (ORDER BY p.job, p.id ROWS UNBOUNDED PRECEDING),"
			   "  of_job AS (PARTITION BY p.job ORDER BY p.id ROWS UNBOUNDED PRECEDING))"
			   " UPDATE llm.queue q SET " IS_CLAIMED ", reserved = CASE WHEN s.dear THEN NULL ELSE"
			   "  s.cost::numeric * 0.000000001 END"
			   " FROM summed s WHERE q.ctid = s.place AND (s.bytes <= $5 OR s.n = 1) AND (s.fits OR s.dear)"
			   " RETURNING " LLM_CLAIM_COLUMNS ","
			   "  (SELECT pg_catalog.bool_or(l.bytes > $5 AND l.n > 1 OR NOT l.fits AND NOT l.dear) FROM summed l), s.dear",
		.nargs = 10,
		.args = {INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8OID, INT8ARRAYOID, INT8ARRAYOID,
				 FLOAT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}},

	/* Tasks: as if they had not been claimed. */
	[LLM_EVENT_UNCLAIM] = {
		.sql = "UPDATE llm.queue q SET state = 'ready', claimed_at = NULL, request = NULL, attempts = q.attempts - 1,"
			   "  reserved = NULL WHERE q.id = ANY ($1) AND q.state = 'claimed'",
		.nargs = 1,
		.args = {INT8ARRAYOID}},

	/* Tasks and, beside each, the request that carries it. */
	[LLM_EVENT_JOIN] = {
		.sql = "UPDATE llm.queue q SET request = v.request FROM unnest($1, $2) AS v(task, request)"
			   " WHERE q.id = v.task AND q.state = 'claimed'",
		.nargs = 2,
		.args = {INT8ARRAYOID, INT8ARRAYOID}},

	/* Tasks and, beside each, the alias of the model that is asked. */
	[LLM_EVENT_DIVERT] = {
		.sql = "UPDATE llm.queue q SET asked = v.asked FROM unnest($1, $2) AS v(task, asked)"
			   " WHERE q.id = v.task AND q.state = 'claimed'",
		.nargs = 2,
		.args = {INT8ARRAYOID, TEXTARRAYOID}},

	/* Tasks and, beside each, a sentence; in transaction $3. */
	[LLM_EVENT_FAIL_DEAR] = {
		.sql = "UPDATE llm.queue q SET " IS_OVER("failed") ", error = 'too_dear', message = v.message, landed = $3,"
			   "  claimed_at = NULL, request = NULL, attempts = q.attempts - 1, reserved = NULL"
			   " FROM unnest($1, $2) AS v(task, message) WHERE q.id = v.task AND q.state = 'claimed'",
		.nargs = 3,
		.args = {INT8ARRAYOID, TEXTARRAYOID, INT8OID}},

	/* Tasks and, beside each, the one that asks the same. */
	[LLM_EVENT_FOLLOW] = {
		.sql = "UPDATE llm.queue q SET state = 'waiting', reason = 'same_question', same_as = v.leader,"
			   "  attempts = q.attempts - 1, request = NULL, claimed_at = NULL, reserved = NULL"
			   " FROM unnest($1, $2) AS v(task, leader) WHERE q.id = v.task AND q.state = 'claimed'",
		.nargs = 2,
		.args = {INT8ARRAYOID, INT8ARRAYOID}},

	/* At most $1 of the sender's: their jobs and ids. */
	[LLM_EVENT_WAKE] = {
		.sql = "WITH due AS MATERIALIZED (SELECT w.id FROM llm.queue w"
			   "  WHERE w.state = 'waiting' AND w.outcome IS NULL AND w.not_before <= " NOW
			   "  ORDER BY w.not_before LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)"
			   " UPDATE llm.queue q SET " IS_READY OF("due") " RETURNING q.job, q.id",
		.nargs = 1,
		.args = {INT4OID}},

	/*
	 * At most $1 that were claimed later than now, or not at all and yet have to wait: the clock
	 * was set back since, and the time until which such a task waits is as far ahead.  Only what
	 * is due later than in $2 seconds is looked at.
	 */
	[LLM_EVENT_WAKE_AHEAD] = {
		.sql = "WITH ahead AS MATERIALIZED (SELECT w.id FROM llm.queue w"
			   "  WHERE w.state = 'waiting' AND w.outcome IS NULL AND w.not_before < 'infinity'"
			   "  AND w.not_before > (SELECT llm.clock() + pg_catalog.make_interval(secs => $2))"
			   "  AND (w.claimed_at <= llm.clock()) IS NOT TRUE"
			   "  ORDER BY w.not_before DESC LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)"
			   " UPDATE llm.queue q SET " IS_READY OF("ahead"),
		.nargs = 2,
		.args = {INT4OID, FLOAT8OID}},

	/*
	 * At most twice $1, in transaction $2.  Nobody waits for what was to go into a table or column
	 * that was dropped, or is found by a key that was.  An answer that is kept for others is theirs.
	 */
	[LLM_EVENT_FAIL_GONE] = {
		.sql = "WITH ready AS MATERIALIZED (" UNSENT_READY("q.id", TARGET_GONE) "),"
			   " waiting AS MATERIALIZED (" UNSENT_WAITING(TARGET_GONE) ")"
			   " UPDATE llm.queue q SET " IS_OVER("failed") ", landed = $2, (error, message) ="
			   "  (SELECT CASE WHEN r.oid IS NULL THEN 'relation_gone' ELSE 'column_gone' END,"
			   "    CASE WHEN r.oid IS NULL THEN 'the table' ELSE 'a column that the answer needs' END"
			   "    || ' was dropped before the question was sent'"
			   "   FROM llm.job j LEFT JOIN pg_catalog.pg_class r ON r.oid = j.relation WHERE j.id = q.job)"
			   OF("(SELECT id FROM ready UNION ALL SELECT id FROM waiting)"),
		.nargs = 2,
		.args = {INT4OID, INT8OID}},

	/*
	 * Hand on the answers of $1, or their certain failures, to at most $2 followers in transaction
	 * $3, each with its row on the ledger.  How many, and those among them that are followed
	 * themselves.
	 */
	[LLM_EVENT_SERVE] = {
		.sql = "WITH lead AS MATERIALIZED (SELECT l.id, l.same_as,"
			   "  CASE WHEN l.answer IS NULL THEN 'failed' ELSE 'answered' END AS state,"
			   "  b.server, b.model, COALESCE(b.paid_by, l.id) AS payer"
			   "  FROM llm.queue l LEFT JOIN LATERAL (SELECT r.server, r.model, r.paid_by FROM llm.ledger r"
			   "   WHERE r.task = l.id AND r.outcome = ANY ('{ok,cached}') LIMIT 1) b ON true"
			   "  WHERE l.id = ANY ($1) AND (l.answer IS NOT NULL"
			   "   OR l.state = 'failed' AND l.error = ANY ('{too_long,rejected}'))),"
			   " picked AS MATERIALIZED (SELECT p.id, lead.id AS leader, lead.state, lead.server, lead.model, lead.payer"
			   "  FROM lead CROSS JOIN LATERAL (SELECT f.id FROM llm.queue f"
			   "  WHERE f.same_as = ANY (ARRAY[lead.id, lead.same_as]) AND " LLM_FOLLOWS
			   "  LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED) p LIMIT $2),"
			   " served AS (UPDATE llm.queue q SET state = picked.state, outcome = picked.state, reason = NULL,"
			   "  landed = $3, claimed_at = l.claimed_at, answer = l.answer,"
			   "  error = CASE WHEN l.answer IS NULL THEN l.error END,"
			   "  message = CASE WHEN l.answer IS NULL THEN l.message END"
			   "  FROM picked JOIN llm.queue l ON l.id = picked.leader WHERE q.id = picked.id"
			   "  RETURNING q.id, q.job, q.application_name, q.key, q.state, picked.server, picked.model, picked.payer),"
			   " booked AS (INSERT INTO llm.ledger (task, job, role, application_name, server, model, relation,"
			   "   column_name, key, operation, lane, outcome, paid_by, cost, tags)"
			   "  SELECT s.id, s.job, j.role_name, COALESCE(s.application_name, j.application_name), s.server, s.model,"
			   "   j.relation_name, j.column_name, CASE WHEN NOT j.hides_key THEN s.key END, j.operation, 'cache', 'cached', s.payer, 0, j.tags"
			   "  FROM served s JOIN llm.job j ON j.id = s.job WHERE s.state = 'answered'),"
			   " costless AS (INSERT INTO llm.job_cost (job, requests, input_tokens, output_tokens, cost)"
			   "  SELECT DISTINCT s.job, 0, 0, 0, 0 FROM served s ON CONFLICT DO NOTHING)"
			   " SELECT pg_catalog.count(*), pg_catalog.array_agg(s.id) FILTER (WHERE (SELECT true FROM llm.queue f"
			   "  WHERE f.same_as = s.id AND " LLM_FOLLOWS " LIMIT 1)) FROM served s",
		.nargs = 3,
		.args = {INT8ARRAYOID, INT4OID, INT8OID}},

	/* Tasks, of which those that are followed.  The writer may have been faster: then the sweep sees to it. */
	[LLM_EVENT_KEEP] = {
		.sql = "WITH source AS MATERIALIZED (SELECT l.id FROM llm.queue l WHERE l.id = ANY ($1)"
			   "  AND l.state = 'answered' AND (SELECT true FROM llm.queue f"
			   "   WHERE f.same_as = ANY (ARRAY[l.id, l.same_as]) AND " LLM_FOLLOWS " LIMIT 1)"
			   "  FOR NO KEY UPDATE SKIP LOCKED)"
			   " UPDATE llm.queue q SET state = 'waiting', outcome = NULL, landed = NULL,"
			   "  reason = 'same_question', not_before = 'infinity'" OF("source"),
		.nargs = 1,
		.args = {INT8ARRAYOID}},

	/* Tasks that were kept so. */
	[LLM_EVENT_RELEASE] = {
		.sql = "WITH free AS MATERIALIZED (SELECT l.id FROM llm.queue l WHERE l.id = ANY ($1)"
			   "  AND l.state = 'waiting' AND l.outcome IS NULL"
			   "  AND l.not_before = 'infinity' FOR NO KEY UPDATE SKIP LOCKED)"
			   " UPDATE llm.queue q SET " IS_OVER("answered") OF("free"),
		.nargs = 1,
		.args = {INT8ARRAYOID}},

	/* Tasks, locked; and beside each whether it leads those who follow the same as it did. */
	[LLM_EVENT_PROMOTE] = {
		.sql = "UPDATE llm.queue q SET not_before = llm.clock(),"
			   "  same_as = CASE WHEN v.leads THEN q.same_as END"
			   " FROM unnest($1, $2) AS v(task, leads) WHERE q.id = v.task",
		.nargs = 2,
		.args = {INT8ARRAYOID, BOOLARRAYOID}},

	/*
	 * Tasks of job $1, in $2; what became of each, why and in a sentence.  Failed ones are kept as
	 * dead letters, one at most of a quiet cell; what such a task cost is the sum of its rows in
	 * the ledger.  Of quiet cells that got NULL ($6) it is remembered what they were asked.  How many there
	 * were of each fate: done, failed, superseded, cancelled, row_gone.
	 */
	[LLM_EVENT_END] = {
		.sql = "WITH fate AS MATERIALIZED (SELECT * FROM unnest($2, $3, $4, $5, $6)"
			   "  AS f(task, fate, reason, message, is_none)),"
			   " gone AS (DELETE FROM llm.queue q USING fate f WHERE q.id = f.task"
			   "  RETURNING q.id, q.recipe, q.role, q.relation, q.application_name, q.key, q.tries, q.attempts, q.input,"
			   "  q.last_answer, q.answer, q.cell, q.fence, q.leaves, f.fate, f.reason, f.message,"
			   "  f.is_none),"
			   " dead AS (INSERT INTO llm.dead_letter AS d (task, failed_at, job, recipe, role, relation, relation_name,"
			   "   column_name, application_name, key, reason, message, tries, attempts, cost, input, last_answer, answer,"
			   "   cell, fence, leaves, hides_key)"
			   "  SELECT g.id, llm.clock(), j.id, g.recipe, g.role, g.relation, j.relation_name,"
			   "   j.column_name, g.application_name, g.key, g.reason, g.message,"
			   "   CASE WHEN " UNCHECKED " THEN g.tries + 1 ELSE g.tries END, g.attempts,"
			   "   (SELECT CASE WHEN pg_catalog.count(*) = 0 THEN 0 ELSE pg_catalog.sum(l.cost) END"
			   "    FROM llm.ledger l WHERE l.task = g.id),"
			   "   g.input, CASE WHEN " UNCHECKED " THEN g.answer::pg_catalog.text ELSE g.last_answer END,"
			   "   CASE WHEN NOT " UNCHECKED " THEN g.answer END, g.cell, g.fence, g.leaves, j.hides_key"
			   "  FROM gone g JOIN llm.job j ON j.id = $1 WHERE g.fate = 'failed'"
			   "  ON CONFLICT (task) DO UPDATE SET failed_at = excluded.failed_at, relation = excluded.relation,"
			   "   reason = excluded.reason, message = excluded.message, tries = excluded.tries,"
			   "   attempts = excluded.attempts, cost = excluded.cost, last_answer = excluded.last_answer,"
			   "   answer = excluded.answer),"
			   " buried AS (DELETE FROM llm.dead_letter d WHERE d.task IN (SELECT o.task FROM gone g"
			   "  JOIN llm.dead_letter o ON o.cell = g.cell AND o.task <> g.id AND o.key = g.key"
			   "  WHERE g.cell IS NOT NULL AND g.fate IN ('done', 'failed') FOR UPDATE OF o SKIP LOCKED)),"
			   " none AS (INSERT INTO llm.none_answer (task, at, cell, question, role, job, relation, column_name)"
			   "  SELECT g.id, llm.clock(), g.cell, " LLM_NONE_QUESTION("g.role", "j.relation", "j.model", "j.cell", "r.operation",
																	   "r.spec", "g.key", "g.input", "g.leaves") ","
			   "   g.role, j.id, g.relation, j.column_name FROM gone g JOIN llm.job j ON j.id = $1"
			   "   JOIN llm.recipe r ON r.id = g.recipe"
			   "  WHERE g.is_none AND g.cell IS NOT NULL AND g.fate = 'done' ON CONFLICT (task) DO NOTHING),"
			   " other AS (DELETE FROM llm.none_answer d WHERE d.task IN (SELECT o.task FROM gone g"
			   "  JOIN llm.none_answer o ON o.cell = g.cell AND o.task <> g.id"
			   "  WHERE g.cell IS NOT NULL AND g.fate IN ('done', 'failed') FOR UPDATE OF o SKIP LOCKED)),"
			   " freed AS (DELETE FROM llm.cancellation c USING fate f WHERE c.task = f.task)"
			   " SELECT pg_catalog.count(*) FILTER (WHERE g.fate = 'done'),"
			   "  pg_catalog.count(*) FILTER (WHERE g.fate = 'failed'),"
			   "  pg_catalog.count(*) FILTER (WHERE g.fate = 'superseded'),"
			   "  pg_catalog.count(*) FILTER (WHERE g.fate = 'cancelled'),"
			   "  pg_catalog.count(*) FILTER (WHERE g.fate = 'row_gone') FROM gone g",
		.nargs = 6,
		.args = {INT8OID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID}},

	/*
	 * Tasks, for at least $2 milliseconds.  The longer one has been under way, the longer it
	 * waits: no count has to be kept.
	 */
	[LLM_EVENT_PUT_OFF] = {
		.sql = "UPDATE llm.queue q SET state = 'waiting', outcome = q.state, reason = $3,"
			   "  not_before = llm.clock() + GREATEST("
			   "   pg_catalog.make_interval(secs => $2 / 1000.0::pg_catalog.float8),"
			   "   LEAST('10 s'::pg_catalog.interval, (llm.clock() -"
			   "    COALESCE(q.claimed_at, q.queued_at)) / 4.0::pg_catalog.float8))"
			   " FROM pg_catalog.unnest($1) AS v(task) WHERE q.id = v.task AND " LLM_SETTLED,
		.nargs = 3,
		.args = {INT8ARRAYOID, INT4OID, TEXTOID}},

	/* Tasks with answers, and what is wrong with each; a try is charged.  They ask themselves from now on. */
	[LLM_EVENT_ASK_AGAIN] = {
		.sql = "UPDATE llm.queue q SET state = 'waiting', outcome = NULL, landed = NULL, reason = 'check_failed',"
			   "  not_before = llm.clock(), tries = q.tries + 1, error = 'check_failed', message = v.message,"
			   "  last_answer = q.answer::pg_catalog.text, answer = NULL"
			   " FROM unnest($1, $2) AS v(task, message) WHERE q.id = v.task AND q.state = 'answered'",
		.nargs = 2,
		.args = {INT8ARRAYOID, TEXTARRAYOID}},

	/* At most $1. */
	[LLM_EVENT_COME_BACK] = {
		.sql = "WITH due AS MATERIALIZED (SELECT q.id FROM llm.queue q"
			   "  WHERE q.state = 'waiting' AND q.outcome IS NOT NULL AND q.not_before <= " NOW
			   "  ORDER BY q.not_before LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)"
			   " UPDATE llm.queue q SET " IS_BACK OF("due"),
		.nargs = 1,
		.args = {INT4OID}},

	/* All that wait for longer than any row is put off for. */
	[LLM_EVENT_COME_BACK_AHEAD] = {
		.sql = "WITH ahead AS MATERIALIZED (SELECT q.id FROM llm.queue q"
			   "  WHERE q.state = 'waiting' AND q.outcome IS NOT NULL"
			   "  AND q.not_before > (SELECT llm.clock() + '1 min'::pg_catalog.interval)"
			   "  FOR NO KEY UPDATE SKIP LOCKED)"
			   " UPDATE llm.queue q SET " IS_BACK OF("ahead")},

	/*
	 * About $1 that were not sent before their job's deadline, with those that wait for their
	 * answers; others that wait come when they are ready again.
	 */
	[LLM_EVENT_FAIL_LATE] = {
		.sql = "WITH late AS MATERIALIZED (" UNSENT_READY("q.id, q.job, q.same_as", LATE) "),"
			   " same AS MATERIALIZED (SELECT s.id FROM late CROSS JOIN LATERAL (SELECT f.id FROM llm.queue f"
			   "  WHERE f.same_as = ANY (ARRAY[late.id, late.same_as]) AND f.job = late.job AND " LLM_FOLLOWS
			   "  AND f.outcome IS NULL LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) s LIMIT $1)"
			   " UPDATE llm.queue q SET " HAS_FAILED("deadline", "it was not sent before its deadline")
			   OF("(SELECT id FROM late UNION ALL SELECT id FROM same)"),
		.nargs = 1,
		.args = {INT4OID}},

	/* At most twice $1. */
	[LLM_EVENT_FAIL_ROLELESS] = {
		.sql = "WITH ready AS MATERIALIZED (" UNSENT_READY("q.id", ROLE_GONE) "),"
			   " waiting AS MATERIALIZED (" UNSENT("q.id", "q.state = 'waiting' AND q.outcome IS NULL", ROLE_GONE) ")"
			   " UPDATE llm.queue q SET " HAS_FAILED("role_gone", "the role that asked was dropped")
			   OF("(SELECT id FROM ready UNION ALL SELECT id FROM waiting)"),
		.nargs = 1,
		.args = {INT4OID}},

	/*
	 * Tasks that were locked or under way when they were cancelled, and are to be sent (again)
	 * now: no request leaves for them, and here they end.  At most $2 cancellations, above $1, in
	 * the order of their ids.  Those of tasks that have ended go: each would be looked at in every
	 * pass.  How many tasks somebody has locked still, which come again; how many cancellations
	 * were looked at; and the last one.
	 */
	[LLM_EVENT_STOP_CANCELLED] = {
		.sql = "WITH seen AS MATERIALIZED (SELECT c.id, c.task FROM llm.cancellation c"
			   "  WHERE c.id > $1 ORDER BY c.id LIMIT $2),"
			   " due AS MATERIALIZED (SELECT q.id, CASE WHEN (SELECT true FROM llm.cancellation c WHERE c.task = q.id"
			   "   AND c.superseded LIMIT 1) THEN 'superseded' ELSE 'cancelled' END AS word"
			   "  FROM llm.queue q WHERE q.id = ANY (ARRAY(SELECT s.task FROM seen s))"
			   "  AND " MAY_STOP "),"
			   " free AS MATERIALIZED (SELECT q.id, due.word FROM llm.queue q JOIN due ON due.id = q.id"
			   "  WHERE " MAY_STOP " FOR UPDATE OF q SKIP LOCKED),"
			   " stopped AS (UPDATE llm.queue q SET state = p.word, outcome = p.word, reason = NULL, not_before = NULL,"
			   "  landed = NULL" OF("free") " RETURNING q.id),"
			   " stale AS (DELETE FROM llm.cancellation c USING seen s WHERE c.id = s.id"
			   "  AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.id = s.task))"
			   " SELECT (SELECT pg_catalog.count(*) FROM due) - (SELECT pg_catalog.count(*) FROM stopped),"
			   "  (SELECT pg_catalog.count(*) FROM seen), (SELECT pg_catalog.max(id) FROM seen)",
		.nargs = 2,
		.args = {INT8OID, INT4OID}},

	/*
	 * Of job $1, task $2, relation $3, column $6 (NULL: any), of role $4 unless $5, and in one of the
	 * ranges $7 to $8 (NULL: no matter).  What is under way, or locked, cannot be stopped at once: word
	 * is left for it.  How many are cancelled, or will be.
	 */
	[LLM_EVENT_CANCEL] = {
		.sql = "WITH mine AS MATERIALIZED (SELECT q.id, q.ctid AS place, q.state IN ('ready', 'waiting') AS is_free"
			   "  FROM llm.queue q WHERE ($1 IS NULL OR q.job = $1) AND ($2 IS NULL OR q.id = $2)"
			   "  AND ($3 IS NULL OR q.relation = $3 OR EXISTS (SELECT FROM llm.job j"
			   "   WHERE j.id = q.job AND j.relation = $3)) AND ($5 OR q.role = $4)"
			   "  AND ($6 IS NULL OR EXISTS (SELECT FROM llm.job j WHERE j.id = q.job AND " LLM_JOB_COLUMN " = $6))"
			   "  AND ($7 IS NULL OR EXISTS (SELECT FROM unnest($7, $8) AS r(first, last)"
			   "   WHERE q.id >= r.first AND q.id <= r.last))"
			   "  AND COALESCE(q.outcome, 'answered') = 'answered' AND q.state <> ALL ('{cancelled,superseded,failed}')),"
			   " tried AS MATERIALIZED (SELECT mine.id, CASE WHEN mine.is_free THEN llm.lock_task(mine.place)"
			   "  ELSE false END AS is_locked FROM mine),"
			   " free AS (SELECT tried.id FROM tried WHERE tried.is_locked),"
			   " stopped AS (UPDATE llm.queue q SET " IS_ENDED("cancelled") OF("free") " RETURNING q.id),"
			   " asked AS (INSERT INTO llm.cancellation (task) SELECT mine.id FROM tried mine"
			   "  WHERE NOT mine.is_locked AND NOT EXISTS (SELECT FROM llm.cancellation c WHERE c.task = mine.id) RETURNING task)"
			   " SELECT (SELECT pg_catalog.count(*) FROM stopped) + (SELECT pg_catalog.count(*) FROM asked)",
		.nargs = 8,
		.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID, INT8ARRAYOID, INT8ARRAYOID},
		.planning = LLM_WHOLE,
		.fresh = true},

	/* Tasks with the relation, key and column of their cells.  What is under way will find the cell taken. */
	[LLM_EVENT_SUPERSEDE] = {
		.sql = "UPDATE llm.queue q SET " IS_ENDED("superseded")
			   " FROM (WITH old AS MATERIALIZED (SELECT w.id, w.ctid AS place"
			   "  FROM unnest($1, $2, $3, $4) AS o(id, relation, key, column_name)"
			   "  JOIN llm.queue w ON w.id = o.id JOIN llm.job j ON j.id = w.job"
			   "  WHERE w.state IN ('ready', 'waiting') AND w.relation = o.relation"
			   "  AND w.key = o.key AND o.column_name = " LLM_JOB_COLUMN ")"
			   "  SELECT old.id FROM old WHERE llm.lock_task(old.place)) p WHERE q.id = p.id",
		.nargs = 4,
		.args = {INT8ARRAYOID, OIDARRAYOID, JSONBARRAYOID, TEXTARRAYOID},
		.fresh = true},

	/*
	 * Tasks of quiet cells that were asked about again.  Of what is under way the writer learns
	 * when it has locked the row.
	 */
	[LLM_EVENT_OVERTAKE] = {
		.sql = "WITH old AS MATERIALIZED (SELECT q.id, q.ctid AS place, q.state IN ('ready', 'waiting') AS is_free"
			   "  FROM llm.queue q WHERE q.id = ANY ($1) AND q.state <> ALL ('{cancelled,superseded,failed}')),"
			   " tried AS MATERIALIZED (SELECT old.id, CASE WHEN old.is_free THEN llm.lock_task(old.place)"
			   "  ELSE false END AS is_locked FROM old),"
			   " free AS (SELECT tried.id FROM tried WHERE tried.is_locked),"
			   " stopped AS (UPDATE llm.queue q SET " IS_ENDED("superseded") OF("free") "),"
			   " noted AS (INSERT INTO llm.cancellation (task, superseded) SELECT tried.id, true FROM tried"
			   "  WHERE NOT tried.is_locked)"
			   " SELECT pg_catalog.count(*) FROM old",
		.nargs = 1,
		.args = {INT8ARRAYOID},
		.fresh = true},

	/*
	 * As for CANCEL, but for one of the reasons $7 (NULL: any), and not $8, whose cells moved on: these
	 * letters are closed.  Dead letters that a job could have had together get one; of a job that is
	 * deleted what the letters tell of it.  $9 is another model, or NULL; recipes $10 become $11; to
	 * the settings of the caller's own jobs $12 is added.  If $13, nothing is asked: cells get back
	 * what they held.  Those with an answer need no request: they go straight to the writer.  The others
	 * begin to count again from nought, or what was given up after many requests would be given up
	 * again at its next failure.  How many, and the new jobs.
	 */
	[LLM_EVENT_RETRY] = {
		.sql = "WITH closed AS (DELETE FROM llm.dead_letter d WHERE d.task = ANY ($8)),"
			   " mine AS (DELETE FROM llm.dead_letter d WHERE " LLM_LETTERS " AND d.task <> ALL ($8) RETURNING d.*),"
			   " letter AS MATERIALIZED (SELECT m.task, m.role, m.relation AS leaf, m.key, m.input, m.answer, m.attempts,"
			   "  COALESCE(m.application_name, j.application_name, '') AS application_name,"
			   "  COALESCE(j.relation, m.relation) AS relation, m.relation_name, m.column_name, " LLM_LETTER_KEYS " AS key_columns,"
			   "  j.column_numbers, j.shape, COALESCE(j.cell_kind, 'marker') AS cell_kind, j.cell AS job_cell,"
			   "  m.cell, m.fence, m.leaves, m.hides_key, COALESCE(j.role_name, (SELECT a.rolname FROM pg_catalog.pg_authid a WHERE a.oid = m.role), '') AS role_name,"
			   "  r.operation, COALESCE(x.new, m.recipe) AS recipe, COALESCE($9, j.model) AS model,"
			   "  COALESCE(j.priority, 0) AS priority, j.tags,"
			   "  CASE WHEN m.role = $4 THEN COALESCE(j.settings || $12, j.settings, $12) ELSE j.settings END AS settings"
			   "  FROM mine m JOIN llm.recipe r ON r.id = m.recipe LEFT JOIN llm.job j ON j.id = m.job"
			   "  LEFT JOIN unnest($10, $11) AS x(old, new) ON x.old = m.recipe),"
			   " sorted AS MATERIALIZED (SELECT l.*, pg_catalog.dense_rank() OVER (ORDER BY l.role, l.role_name, l.relation,"
			   "  l.relation_name, l.column_name, l.key_columns, l.column_numbers, l.shape, l.cell_kind, l.job_cell, l.operation, l.recipe, l.model, l.priority, l.tags,"
			   "  l.settings, l.hides_key) AS place FROM letter l),"
			   " fresh AS MATERIALIZED (SELECT p.place, p.tasks, pg_catalog.nextval('llm.job_id_seq') AS id FROM"
			   "  (SELECT s.place, pg_catalog.count(*) AS tasks FROM sorted s GROUP BY s.place ORDER BY s.place) p),"
			   " opened AS (INSERT INTO llm.job (id, role, role_name, application_name, relation, relation_name,"
			   "   column_name, key_columns, column_numbers, shape, operation, recipe, model, priority, tags, settings,"
			   "   cell_kind, cell, hides_key, total, fresh, max_cost)"
			   "  OVERRIDING SYSTEM VALUE SELECT DISTINCT ON (f.id) f.id, s.role, s.role_name, s.application_name, s.relation,"
			   "   s.relation_name, s.column_name, s.key_columns, s.column_numbers, s.shape, s.operation, s.recipe, s.model,"
			   "   s.priority, s.tags, s.settings, s.cell_kind, s.job_cell, s.hides_key, f.tasks, true,"
			   "   " LLM_SESSION_MAX_COST " FROM fresh f JOIN sorted s ON s.place = f.place ORDER BY f.id, s.task RETURNING id),"
			   " queued AS (INSERT INTO llm.queue (id, job, recipe, role, relation, state, outcome, attempts,"
			   "   application_name, key, input, answer, cell, fence, leaves)"
			   "  SELECT s.task, f.id, s.recipe, s.role, s.leaf,"
			   "   CASE WHEN $13 THEN 'cancelled' WHEN s.answer IS NULL THEN 'ready' ELSE 'answered' END,"
			   "   CASE WHEN $13 THEN 'cancelled' WHEN s.answer IS NULL THEN NULL ELSE 'answered' END,"
			   "   CASE WHEN s.answer IS NULL THEN 0 ELSE s.attempts END, s.application_name, s.key, s.input,"
			   "   CASE WHEN $13 THEN NULL ELSE s.answer END,"
			   "   s.cell, s.fence, s.leaves"
			   "  FROM sorted s JOIN fresh f ON f.place = s.place RETURNING job)"
			   " SELECT (SELECT pg_catalog.count(*) FROM queued), ARRAY(SELECT o.id FROM opened o ORDER BY o.id)",
		.nargs = 13,
		.args = {INT8OID, INT8OID, OIDOID, OIDOID, BOOLOID, TEXTOID, TEXTARRAYOID, INT8ARRAYOID, TEXTOID, INT8ARRAYOID,
				 INT8ARRAYOID, JSONBOID, BOOLOID},
		.planning = LLM_WHOLE},
};
/* clang-format on */

StaticAssertDecl(lengthof(transitions) == LLM_EVENT_RETRY + 1, "a statement for each event");

static const char *const state_names[] = {
	[LLM_TASK_NONE] = NULL,
	[LLM_TASK_READY] = "ready",
	[LLM_TASK_CLAIMED] = "claimed",
	[LLM_TASK_WAITING] = "waiting",
	[LLM_TASK_ANSWERED] = "answered",
	[LLM_TASK_FAILED] = "failed",
	[LLM_TASK_CANCELLED] = "cancelled",
	[LLM_TASK_SUPERSEDED] = "superseded",
};

const char *
llm_task_state_name(LlmTaskState state)
{
	return state_names[state];
}

bool
llm_task_is_open(LlmTaskState state)
{
	return state == LLM_TASK_READY || state == LLM_TASK_WAITING;
}

uint64
llm_transition(LlmTaskEvent event, Datum *values, const char *nulls)
{
	return llm_spi_execute(&transitions[event], values, nulls, false);
}
