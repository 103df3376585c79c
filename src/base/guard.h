/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  Nobody but the extension writes its tables.
 *
 *	  _PG_init:  init(), once
 *	  then       enter() ... leave() around statements of ours
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_GUARD_H
#define LLM_GUARD_H

#include "base/llm_enrich.h"

#include "nodes/primnodes.h"

extern void llm_guard_init(void);

/* Our own code writes from here on.  What it was before, for leave(), which an ERROR needs, too. */
extern bool llm_guard_enter(void);
extern void llm_guard_leave(bool before);

/* Raise 42501 if this is a table of ours and "what" (say "create a trigger on") is not for the caller. */
extern void llm_guard_check_command(const RangeVar *relation, const char *what);

#endif /* LLM_GUARD_H */
