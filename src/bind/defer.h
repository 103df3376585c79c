/*-------------------------------------------------------------------------
 *
 * defer.h
 *	  A statement with deferred calls while it runs.
 *
 *	  issue()   evaluates a call: a marker, and what it asks is remembered   (defer_call.c)
 *	  keep()    gives the marker to one row, over what the cell held         (defer_cell.c)
 *	  bind()    finds the marker in the row as stored: now it is a task      (defer_bind.c)
 *	  keep_quiet(), bind_quiet()   the same for cells that show nothing      (defer_quiet.c)
 *	  flush     writes the tasks, when the statement is over                 (defer.c)
 *
 * A marker that is issued and never bound is normal (LIMIT, ON CONFLICT, a
 * trigger that suppresses the row, a row version that was too old) and costs
 * nothing.  Everything here lives in the statement's own memory and goes with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_DEFER_H
#define LLM_DEFER_H

#include "base/llm_enrich.h"

#include "base/compat.h"
#include "base/siphash.h"
#include "bind/defer_spec.h"
#include "bind/enqueue.h"
#include "cell/image.h"
#include "executor/execdesc.h"
#include "fmgr.h"
#include "operation/operation.h"
#include "utils/hsearch.h"

/* Arguments of bind() and bind_quiet(). */
#define LLM_BIND_LEAF LLM_DEFER_FIXED_ARGS
#define LLM_BIND_KEY (LLM_DEFER_FIXED_ARGS + 1)

/* Copies of values up to this size are kept to know them again without parsing. */
#define LLM_KNOWN_CELL 512

/* What rows of a call site share: one for arguments that do not vary, else one by content. */
typedef struct LlmAsked
{
	const LlmOperation *op;
	Jsonb *spec;
	const char *model; /* or NULL */
	int priority;
	Jsonb *tags; /* or NULL */
	TimestampTz deadline; /* DT_NOEND: none */
	bool shares; /* an answer serves every row with the same input */
	List *jobs; /* of LlmNewJob: one per column that got its markers */

	/* of the cache by content */
	uint64 hash;
	char *content;
	int content_len;
	struct LlmAsked *next;
} LlmAsked;

/* A marker that was issued. */
typedef struct LlmIssued
{
	int64 id; /* of the task that it will be; key of the hash table */
	LlmAsked *asked;
	text *input; /* not out of line; may be compressed */
	bool given; /* to a row: the next one needs an id of its own */
} LlmIssued;

/* A value that we made last, to be known again by its bytes; a stored row has it under another header. */
typedef struct LlmKnownCell
{
	int len; /* of the bytes behind the header; 0: none */
	char data[LLM_KNOWN_CELL];
} LlmKnownCell;

/* A call site while the statement runs. */
typedef struct LlmSiteState
{
	LlmDeferSite *spec;
	LlmAsked *only; /* what it asks when its arguments do not vary */
	HTAB *asked; /* else by content: hash -> list */
	LlmIssued last; /* direct sites: the only marker that can still be stored */
	text *input_buffer; /* last.input */
	Size input_size; /* allocated for it */
	LlmKnownCell known; /* last's bytes as jsonb */
} LlmSiteState;

/* A marker that was given to a row. */
typedef struct LlmGiven
{
	int64 id; /* 0: none, or bound already */
	LlmAsked *asked;
	text *input; /* good until the site issues its next marker */
	bool input_stays; /* and longer: until the statement is over */
} LlmGiven;

/* A pending task whose marker a column of the row held, and the row as it was. */
typedef struct LlmOldCell
{
	int64 task; /* 0: none */
	Oid leaf; /* tableoid of the row */
	Datum *key;
} LlmOldCell;

/* A leaf of what is around a call: its type, and how to copy and write it. */
typedef struct LlmLeafType
{
	bool by_value;
	int16 length;
	FmgrInfo output;
} LlmLeafType;

/* A call for a quiet cell of a row. */
typedef struct LlmQuietGiven
{
	LlmGiven given; /* id 0: none, or bound already */
	bool is_blank; /* it fails without a request */
	const LlmDeferQuiet *spec;
	int nleaves;
	const LlmLeafType *types; /* of leaves */
	NullableDatum *leaves; /* in memory of its own */
	MemoryContext context; /* of leaves; NULL until there are any */
} LlmQuietGiven;

/* What the row that is being stored has in one column. */
typedef struct LlmSlotState
{
	LlmGiven given;
	int64 bound_id; /* of the marker given to it, once that is bound */
	LlmGiven offered; /* to the row that INSERT made, which EXCLUDED shows after a conflict */
	LlmOldCell old;
	bool keeps_old; /* the cell keeps that marker, since its task asks the same */
	LlmKnownCell known; /* the value that keep() made */
	LlmQuietGiven quiet; /* of a quiet cell */
	LlmQuietGiven quiet_offered; /* likewise what EXCLUDED shows */
	Datum passed; /* what came instead of a marker, until the row is made */
	bool passed_is_null;
	Oid writer; /* the role that is known to be allowed to store answers in the column */
} LlmSlotState;

/* A column of a key: its type, domains looked through, and how to write it. */
typedef struct LlmKeyColumn
{
	Oid type;
	bool by_value;
	int16 length;
	FmgrInfo output;
} LlmKeyColumn;

/* A relation that rows are stored in, while the statement runs. */
typedef struct LlmTargetState
{
	LlmDeferTarget *spec;
	LlmSlotState *slots; /* one per column */
	LlmKeyColumn *keys; /* NULL until a key is first seen */
	LlmImageType *key_images; /* likewise */
	Jsonb *key_pattern; /* the last key of one number that was written, or NULL */
	Size number_at; /* where its number is, in bytes from the start */
	Oid last_leaf; /* the table that was checked last */
} LlmTargetState;

/* A cell that will be a task, until it is written. */
typedef struct LlmBound
{
	int64 id;
	LlmNewJob *job;
	LlmTargetState *target;
	Oid leaf;
	text *input; /* not out of line; may be compressed */
	Datum *key;
	bool shares; /* as in LlmAsked */
	int column;
	bool is_quiet; /* what follows is of quiet cells only */
	bool is_blank;
	int nleaves;
	const LlmLeafType *leaf_types;
	NullableDatum *leaves;
	LlmCellFence fence;
	int64 same_as; /* as in LlmNewTask; known when the set is written */
} LlmBound;

/* A pending task whose cell was overwritten, until it is written. */
typedef struct LlmOverwritten
{
	int64 task;
	LlmTargetState *target;
	int column;
	Oid leaf;
	Datum *key;
} LlmOverwritten;

/* Ids drawn by one statement, as runs. */
typedef struct LlmIdRange
{
	int64 first;
	int64 last;
} LlmIdRange;

/* The inputs that a statement has bound (defer_same.c). */
typedef struct LlmQuestions LlmQuestions;

/* A statement that issued a marker. */
typedef struct LlmRun
{
	struct LlmRun *next;
	EState *estate;
	MemoryContext context; /* until the statement is over */
	MemoryContext batch; /* until the bound cells are written */
	MemoryContextCallback on_reset;

	LlmSiteState **sites; /* by number */
	int nsites;
	LlmTargetState **targets; /* by number */
	int ntargets;
	HTAB *issued; /* of LlmIssued, markers of sites that are not direct */
	LlmIssued blank; /* the last one that failed at once, its input being blank; without an id */
	int64 blank_rows; /* cells that say so, since a marker without a task is stored in them */
	List *jobs; /* of LlmNewJob */
	LlmQuestions *questions; /* NULL until one is bound */
	List *models; /* of char *: kinds of requests and aliases that were checked, no alias for the default */

	bool pins_settings; /* the text of some key depends on settings */

	LlmIdRange *ids;
	int nids;
	int ids_size;

	LlmBound *bound;
	int nbound;
	int bound_size;
	Size bound_bytes; /* input and keys */
	LlmOverwritten *overwritten;
	int noverwritten;
	int overwritten_size;
} LlmRun;

/* Install the executor hooks; called once from _PG_init. */
extern void llm_defer_init(void);

/*
 * The statement that is evaluating this expression; 0A000 when none is that the
 * planner hook has prepared.
 */
extern LlmRun *llm_defer_current_run(void);

/* Raise 0A000 unless the planner hook has put this call there. */
extern void llm_defer_check_magic(FunctionCallInfo fcinfo, const char *name);

/*
 * Make room for one more element of "width" bytes behind the first n of an array of *size;
 * it lives as long as the statement.
 */
extern void *llm_defer_grow(LlmRun *run, void *array, int n, int *size, Size width);

/* A new id, remembered as one of this statement. */
extern int64 llm_defer_new_id(LlmRun *run);

/* Was this id drawn by this statement? */
extern bool llm_defer_is_own_id(const LlmRun *run, int64 id);

/* Was it drawn by any statement of this session that is not over? */
extern bool llm_defer_is_being_asked(int64 id);

/* The states for what a spec tells, made at first sight. */
extern LlmSiteState *llm_defer_site(LlmRun *run, const LlmDeferSite *spec);
extern LlmTargetState *llm_defer_target(LlmRun *run, const LlmDeferTarget *spec);

/* Write what is bound; "last" when the statement is over. */
extern void llm_defer_flush(LlmRun *run, bool last);

/*
 * Values that are or hold markers (defer_bind.c).  A value that is known is one that we
 * made last, by its bytes.  may_hold_marker() takes a value that is compressed or out of
 * line for one of a stored row, which has none of the running statement, unless it is to
 * "look_inside".
 */
extern bool llm_defer_is_known(const LlmKnownCell *known, Datum cell);
extern bool llm_defer_may_hold_marker(Datum cell, bool look_inside);

/*
 * The job that a task of this column will belong to, made when it is the first.  "kept" is
 * what is around the call, for a quiet cell; else NULL.
 */
extern LlmNewJob *llm_defer_job(LlmRun *run, LlmAsked *asked, const LlmDeferTarget *target, int column,
								const char *kept);

/*
 * Room for one more bound cell, filled in with what both kinds have in common: the row is
 * that of bind(), whose table and key are arguments from BIND_LEAF on.  In run->batch.
 */
extern LlmBound *llm_defer_bind(LlmRun *run, LlmTargetState *target, int column, LlmGiven *given,
								const char *kept, FunctionCallInfo fcinfo);

/* Write what is bound if there is enough of it. */
extern void llm_defer_flush_if_full(LlmRun *run);

/*
 * A marker that came as a value (defer_cell.c): its task's id, 0 for one that failed at once,
 * else -1.  find_issued() looks for it among those of the running statement; false: it is
 * none of them.  given->id is 0 when the row needs an id of its own.
 */
extern int64 llm_defer_fresh_task(LlmRun *run, LlmCellType type, Datum fresh);
extern bool llm_defer_find_issued(LlmRun *run, LlmTargetState *target, int column, int64 id, bool is_old,
								  LlmGiven *given);

/*
 * The same question is asked once (defer_same.c): fill same_as of all that is bound, before
 * it is written.  Works in the current context.
 */
extern void llm_defer_find_same(LlmRun *run);

/* Raise 42501 unless the current user may store answers in that column (defer_right.c). */
extern void llm_defer_check_right(LlmTargetState *target, int column);

/* Raise 0A000: a marker of the running statement will never get an answer in that column. */
pg_noreturn extern void llm_defer_refuse_stray(const LlmDeferTarget *target, int column);

/*
 * Keys (defer_key.c).  They are taken from the arguments of keep() and bind(), from the
 * first on; NULL when a part of them is NULL.  The copy is one chunk in the current
 * context, *bytes its size.
 */
extern Datum *llm_defer_take_key(LlmRun *run, LlmTargetState *target, FunctionCallInfo fcinfo, int first, Size *bytes);
extern Datum *llm_defer_copy_key(const LlmTargetState *target, const Datum *key);
extern bool llm_defer_is_same_key(const LlmTargetState *target, const Datum *key, FunctionCallInfo fcinfo, int first);

/*
 * Keys as JSON objects.  Between begin() and end() values are written under settings
 * that do not depend on the session.  Result in the current context.
 */
extern int llm_defer_key_begin(const LlmRun *run);
extern Jsonb *llm_defer_key_object(LlmRun *run, LlmTargetState *target, const Datum *key);
extern void llm_defer_key_end(int nest);

/* A number for a cell of a table: of the column and the row's key. */
extern int64 llm_defer_cell_number(LlmRun *run, const LlmBound *bound);

#endif /* LLM_DEFER_H */
