/*-------------------------------------------------------------------------
 *
 * shape.h
 *	  What a write to a relation runs and obeys, as one hash.
 *
 * Between a statement and the write-back of its answers somebody else, the owner of the
 * table, may add a trigger, which then runs as the role that asked.  So the shape is
 * kept with the job, and asked for again before its cells are written.
 *
 *	  bind/       at the statement, without a lock
 *	  writeback/  under locks, before each set
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SHAPE_H
#define LLM_SHAPE_H

#include "base/llm_enrich.h"

#include "storage/lockdefs.h"

/*
 * The shape of a relation for a role, in the current context; NULL where nobody is to be
 * feared: each owner of the relations concerned is a member of the role, or a superuser.
 * Those relations are locked in "lock" until the transaction ends, unless it is NoLock;
 * ERROR 55P03 when they change while that is done.  Inside an own scope (spi.h), SPI connected.
 */
extern char *llm_shape_of(Oid relation, Oid role, LOCKMODE lock);

#endif /* LLM_SHAPE_H */
