/*-------------------------------------------------------------------------
 *
 * transition.h
 *	  States of a task, and everything that leads from one to another.
 *
 * A task is a row of llm.queue.  Nothing but transition.c changes one, with two exceptions
 * that go by store.c, since they are the many: rows are added by enqueue_rows.c and settled
 * by queue_settle.c.  What a transition sets is written once, there.
 *
 * Run inside a transaction of a worker, or as the owner of our tables (spi.h), with SPI
 * connected.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_TRANSITION_H
#define LLM_TRANSITION_H

#include "base/llm_enrich.h"

/*
 * What llm.queue.state says, with what may come next.  From ANSWERED on "outcome" says the
 * same.  A WAITING task with an outcome waits for the writer; one without for its time, or
 * for the answer of the task in "same_as"; one whose time never comes ("infinity") keeps an
 * answer that others need.
 */
typedef enum LlmTaskState
{
	/* no row */
	LLM_TASK_NONE = 0,

	/* → CLAIMED; FAILED (late, or its table or role is gone); CANCELLED; SUPERSEDED */
	LLM_TASK_READY,

	/* → ANSWERED; FAILED; CANCELLED; WAITING (back-off, or it follows); READY (at once, or not sent) */
	LLM_TASK_CLAIMED,

	/* → READY; ANSWERED, FAILED (as its leader); else as READY; or again what "outcome" says */
	LLM_TASK_WAITING,

	/* → WAITING (locked; others need it; to be asked again); done, failed, superseded or row_gone: the row goes */
	LLM_TASK_ANSWERED,

	/* → WAITING (locked); failed, superseded or row_gone: the row goes */
	LLM_TASK_FAILED,

	/* → WAITING (locked); cancelled, superseded or row_gone: the row goes */
	LLM_TASK_CANCELLED,

	/* → superseded: the row goes */
	LLM_TASK_SUPERSEDED
} LlmTaskState;

extern const char *llm_task_state_name(LlmTaskState state);

/* Is the task to be asked again? */
extern bool llm_task_is_open(LlmTaskState state);

/* What happens to tasks.  Arguments and results are at each statement in transition.c. */
typedef enum LlmTaskEvent
{
	/* the sender's */
	LLM_EVENT_CLAIM, /* READY → CLAIMED */
	LLM_EVENT_CLAIM_WITHIN, /* the same, as far as there is money */
	LLM_EVENT_UNCLAIM, /* CLAIMED → READY: not sent */
	LLM_EVENT_JOIN, /* CLAIMED → CLAIMED: another one's request carries it */
	LLM_EVENT_DIVERT, /* CLAIMED → CLAIMED: another model is asked than its job's */
	LLM_EVENT_FAIL_DEAR, /* CLAIMED → FAILED: not sent, since no budget can ever pay it */
	LLM_EVENT_FOLLOW, /* CLAIMED → WAITING: the same is being asked */
	LLM_EVENT_WAKE, /* WAITING → READY: its time has come */
	LLM_EVENT_WAKE_AHEAD, /* WAITING → READY: the clock was set back */
	LLM_EVENT_FAIL_GONE, /* READY, WAITING → FAILED: no table, or no column */
	LLM_EVENT_SERVE, /* WAITING → ANSWERED, FAILED: as its leader */
	LLM_EVENT_KEEP, /* ANSWERED → WAITING: others need the answer */
	LLM_EVENT_RELEASE, /* WAITING → ANSWERED: nobody does any more */
	LLM_EVENT_PROMOTE, /* WAITING → WAITING, due at once: it asks itself */

	/* the writer's */
	LLM_EVENT_END, /* any outcome → none: the cell is settled */
	LLM_EVENT_PUT_OFF, /* any outcome → WAITING */
	LLM_EVENT_ASK_AGAIN, /* ANSWERED → WAITING, due at once: the user's conditions do not hold */
	LLM_EVENT_COME_BACK, /* WAITING → what the outcome says */
	LLM_EVENT_COME_BACK_AHEAD, /* the same: the clock was set back */
	LLM_EVENT_FAIL_LATE, /* READY, WAITING → FAILED: deadline */
	LLM_EVENT_FAIL_ROLELESS, /* READY, WAITING → FAILED: no role */
	LLM_EVENT_STOP_CANCELLED, /* READY, WAITING → CANCELLED: it was under way when it was cancelled */

	/* a backend's */
	LLM_EVENT_CANCEL, /* READY, WAITING → CANCELLED; otherwise word is left */
	LLM_EVENT_SUPERSEDE, /* READY, WAITING → SUPERSEDED */
	LLM_EVENT_OVERTAKE, /* the same, of quiet cells; otherwise word is left */
	LLM_EVENT_RETRY /* a dead letter → READY, ANSWERED; CANCELLED if it is discarded */
} LlmTaskEvent;

/* Let it happen; nulls as for SPI.  How many rows the statement gave or changed; SPI has them. */
extern uint64 llm_transition(LlmTaskEvent event, Datum *values, const char *nulls);

/*
 * The columns that make an LlmClaim of a row "q", as queue.c reads them.  Only what was wrong
 * with an answer is told to the model.  Whether anybody follows a task is not asked for each
 * where nobody follows any.
 */
#define LLM_CLAIM_COLUMNS                                                                                             \
	"q.id, q.job, q.recipe, q.request, q.tries, q.attempts, q.outages, q.key, q.input,"                               \
	" CASE WHEN q.error IN ('invalid_output', 'check_failed') THEN q.message END, q.last_answer, q.application_name," \
	" COALESCE(q.same_as, 0), (SELECT true FROM llm.queue f WHERE " LLM_FOLLOWS " LIMIT 1) IS NOT NULL"               \
	" AND (SELECT true FROM llm.queue f WHERE f.same_as = ANY (ARRAY[q.id, q.same_as])"                               \
	"  AND " LLM_FOLLOWS " LIMIT 1) IS NOT NULL, q.fallback,"                                                         \
	" (q.reserved * 1000000000::numeric)::int8, q.claimed_at, q.asked"

/*
 * The name of today of the column that the answers of a job "j" are for; LLM_JOB_COLUMN: of one that is
 * gone, the name that it had.  By that name users steer.
 */
#define LLM_COLUMN_NOW                                                  \
	"(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a" \
	"  WHERE a.attrelid = j.relation AND a.attnum = j.column_numbers[1] AND NOT a.attisdropped)"
#define LLM_JOB_COLUMN "COALESCE(" LLM_COLUMN_NOW ", j.column_name)"

/* The same of a row that has the number of its job, which may be deleted, and the name. */
#define LLM_COLUMN_OF(row) \
	"COALESCE((SELECT " LLM_JOB_COLUMN " FROM llm.job j WHERE j.id = " row ".job), " row ".column_name)"

/* Of dead letters "d": those of a selection, arguments 1 to 7.  And the key columns of one "m" with its job "j", if any. */
#define LLM_LETTERS                                                                      \
	"($1 IS NULL OR d.job = $1) AND ($2 IS NULL OR d.task = $2)"                         \
	" AND ($3 IS NULL OR d.relation = $3 OR EXISTS (SELECT FROM llm.job o"               \
	"  WHERE o.id = d.job AND o.relation = $3)) AND ($5 OR d.role = $4)"                 \
	" AND ($6 IS NULL OR " LLM_COLUMN_OF("d") " = $6)"                                   \
											  " AND ($7 IS NULL OR d.reason = ANY ($7))" \
											  " AND EXISTS (SELECT FROM llm.recipe e WHERE e.id = d.recipe)"
#define LLM_LETTER_KEYS "COALESCE(j.key_columns, ARRAY(SELECT k.name FROM pg_catalog.jsonb_object_keys(m.key) AS k(name)))"

/*
 * What llm.none_answer.question is made of: who asks, the table as named, the model, the cell without its session's
 * settings, the operation and its spec, the row's key, the input and the leaves.
 */
#define LLM_NONE_QUESTION(role, relation, model, cell, operation, spec, key, input, leaves)                           \
	"pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat_ws(E'\\x01', " role ", " relation                      \
	", COALESCE(" model ", ''), " cell " - 'settings', " operation ", " spec ", " key ", " input ", COALESCE(" leaves \
	", '[]')), 'UTF8'))"

/* llm_enrich.max_cost of the session, as llm.job.max_cost has it. */
#define LLM_SESSION_MAX_COST                                                   \
	"(SELECT CASE WHEN v.setting::pg_catalog.numeric >= 0::pg_catalog.numeric" \
	"  THEN v.setting::pg_catalog.numeric END"                                 \
	" FROM (SELECT pg_catalog.current_setting('llm_enrich.max_cost') AS setting) AS v)"

/* Of a row "f": it waits for another task's answer, as the index queue_same says. */
#define LLM_FOLLOWS "f.state = 'waiting' AND f.same_as IS NOT NULL AND f.not_before IS NULL"

/* Of a row "q": the writer's, as the index queue_settled says. */
#define LLM_GIVEN_UP "q.state IN ('cancelled', 'superseded')"
#define LLM_SETTLED "q.state IN ('answered', 'failed', 'cancelled', 'superseded')"

#endif /* LLM_TRANSITION_H */
