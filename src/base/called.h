/*-------------------------------------------------------------------------
 *
 * called.h
 *	  Which functions an expression calls, so that it does not call others when it is read again.
 *
 * An expression that is stored as text may mean something else later: a cast, an operator,
 * a function with a closer argument, or a condition of a domain was added meanwhile, by
 * somebody who is no member of the role that asked (ADR 112).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_CALLED_H
#define LLM_CALLED_H

#include "base/llm_enrich.h"

#include "nodes/pg_list.h"

/*
 * Signatures (char *) of the functions that an expression calls, and that the domains call which its values
 * pass through, but for those of pg_catalog, and the conditions of these domains; under the settings of pinned.h,
 * in the current context.
 */
extern List *llm_called_by(Node *expr);

/*
 * Raise 55000 where the expression calls a function, or its values meet a condition, that is not among these
 * signatures, and whose owner could not act as the current role.
 */
extern void llm_called_check(Node *expr, const List *signatures);

/*
 * The same for what the parser itself calls: it reads literals, and those of arrays, composite types and ranges
 * pass through the conditions of domains within them.  Before the raw expression, whose value becomes one of the
 * target type, is transformed.
 */
extern void llm_called_check_literals(Node *raw, Oid target, const List *signatures);

#endif /* LLM_CALLED_H */
