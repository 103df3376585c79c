/*-------------------------------------------------------------------------
 *
 * store.h
 *	  Rows of our tables without SQL: added as COPY adds them, replaced as UPDATE
 *	  replaces them.
 *
 *	  begin(CMD_INSERT)   next() and put() for each row     end()
 *	  begin(CMD_UPDATE)   find() and replace() for each     end()
 *
 * In a transaction, as the owner of our tables or a superuser.  Memory is taken from the
 * context that is current at begin() and given back by end(); an ERROR needs no clean-up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_STORE_H
#define LLM_STORE_H

#include "base/llm_enrich.h"

#include "access/relscan.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"

/* A column that is written, or read. */
typedef struct LlmStoreColumn
{
	const char *name;
	Oid type;
} LlmStoreColumn;

typedef struct LlmStore LlmStore;

/*
 * Open the table "name".  "numbers" gets where each of the columns stands in a row, from 0;
 * for an UPDATE the first of them is the primary key, a bigint.  Raises 55000 where somebody
 * has changed a column.
 */
extern LlmStore *llm_store_begin(const char *name, CmdType what, const LlmStoreColumn *columns, int ncolumns,
								 int *numbers);

/* The next row to add, with its defaults; the caller fills in tts_values and tts_isnull. */
extern TupleTableSlot *llm_store_next(LlmStore *store);

/*
 * The row that next() gave is complete.  What its values point to stays where it is until
 * end().  "bytes" is about how much that is, for few large rows to be formed at a time.
 */
extern void llm_store_put(LlmStore *store, Size bytes);

/*
 * The row with this primary key, as the active snapshot sees it, with all its values; NULL
 * when there is none.  Good until the next find().
 */
extern TupleTableSlot *llm_store_find(LlmStore *store, int64 key);

/* The row that find() gave, to be changed and given to replace(). */
extern TupleTableSlot *llm_store_copy(LlmStore *store);

/*
 * Put that copy in the place of the row that find() gave.  Waits for a transaction that
 * has locked it.  False, and nothing done, when the row is no longer the one that the snapshot sees.
 */
extern bool llm_store_replace(LlmStore *store);

/* Finish, and make it visible to what comes next in the transaction. */
extern void llm_store_end(LlmStore *store);

/*
 * One column, of a type like text, of rows by primary key, a bigint: also of rows that this
 * transaction has added since its last snapshot, and without the predicate locks of a
 * SERIALIZABLE one, since no other can have changed those.  Fills values[] with copies in
 * the current context, compressed or out of line as they are; leaves alone those whose row
 * is not there, or where the table is not as ours is.
 */
extern void llm_store_read(const char *name, const char *column, const int64 *keys, int n, struct varlena **values);

#endif /* LLM_STORE_H */
