/*-------------------------------------------------------------------------
 *
 * spi.h
 *	  Transactions of the workers and statements of ours: one bracket, one way
 *	  to prepare.
 *
 *	  worker:   begin() ... any SQL ... commit()     an ERROR in between ends the process
 *	  backend:  own_begin() ... SQL as the owner of our tables ... own_end()
 *
 * Our SQL is prepared with a pinned search_path, which its plans keep: what it names in pg_catalog
 * needs no qualification there, operators neither.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SPI_H
#define LLM_SPI_H

#include "base/llm_enrich.h"

#include "executor/spi.h"

/* How a statement of ours is planned. */
typedef enum LlmPlanning
{
	LLM_BY_INDEX, /* from the rows that it is asked about (ADR 30) */
	LLM_WHOLE, /* over a whole job or table, which may be long by now (ADR 111) */
	LLM_BY_STATISTICS /* as anybody's: by what is known of times and values */
} LlmPlanning;

/* A statement of ours, prepared at first use and kept for the life of the session. */
typedef struct LlmStatement
{
	const char *sql;
	int nargs;
	Oid args[27];
	LlmPlanning planning;
	bool fresh; /* sees what others have committed by now, in REPEATABLE READ, too */
	SPIPlanPtr plan; /* NULL until prepared */
} LlmStatement;

/* In a worker.  commit() also flushes statistics and says idle: it is the two below it. */
extern void llm_spi_begin(const char *activity);
extern void llm_spi_commit(void);

/* The transaction of the worker waits no longer than that for any lock: 55P03 then. */
extern void llm_spi_limit_lock_waits(int ms);
extern void llm_spi_commit_silently(void);
extern void llm_spi_report_commit(void);

/*
 * The transaction is on our disk when it has committed, as a claim is before its request leaves.  Whether
 * it waits for standbys is as the server or the database has it.  begin() does this.
 */
extern void llm_spi_commit_to_disk(void);

/* In a backend or in the writer's transaction: run as the owner of our tables with a pinned search_path. */
typedef struct LlmOwnScope
{
	Oid saved_user;
	int saved_context;
	int guc_nest;
} LlmOwnScope;

extern void llm_spi_own_begin(LlmOwnScope *scope);
extern void llm_spi_own_end(LlmOwnScope *scope);

/*
 * Execute; raises on any error.  SPI must be connected.  Returns SPI_processed.
 * The current memory context is the same afterwards, which SPI itself does not keep.
 */
extern uint64 llm_spi_execute(LlmStatement *statement, Datum *values, const char *nulls,
							  bool read_only);

/* Run a query that reads, with the current user's rights; its rows go to "dest", one by one.  SPI must be connected. */
extern void llm_spi_read(const char *sql, DestReceiver *dest);

/* Number of the current transaction, which gets one: later ones of this process have higher ones. */
extern int64 llm_spi_transaction(void);

/* Owner of our tables; InvalidOid when the extension is not here. */
extern Oid llm_spi_owner(void);

/* Is the extension installed in this database? */
extern bool llm_spi_extension_exists(void);

/* OID of schema "llm", of a table in it; ERROR 55000 when missing. */
extern Oid llm_spi_schema(void);
extern Oid llm_spi_relation(const char *name);

/* Is the relation one of ours? */
extern bool llm_spi_owns(Oid relation);

/* Arrays for statements over sets.  Elements are not copied; nulls may be NULL. */
extern Datum llm_spi_array(Oid type, Datum *values, bool *nulls, int n);

/* The owner of a table, ours or not; InvalidOid when there is no such table. */
extern Oid llm_relation_owner(Oid relation);

#endif /* LLM_SPI_H */
