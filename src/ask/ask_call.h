/*-------------------------------------------------------------------------
 *
 * ask_call.h
 *	  A place where a statement asks: what its questions share, and each of them.
 *
 *	  make()   once;  set()  what the questions share;  then for each input
 *	  ahead()  its question is on its way, and will be wanted
 *	  ask()    its answer
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_CALL_H
#define LLM_ASK_CALL_H

#include "base/llm_enrich.h"

#include "ask/ask_ring.h"
#include "fmgr.h"
#include "operation/condition.h"
#include "operation/operation.h"

typedef struct LlmCallSite
{
	MemoryContext context; /* of "asked", reset when it changes */
	const LlmOperation *op;
	const char *name;
	Oid returns;
	bool in_where; /* the planner hook says so */
	int nargs;
	LlmArg args[FUNC_MAX_ARGS]; /* of the arguments but the input */

	StringInfoData content; /* of the arguments that "asked" was made from */
	bool has_asked;
	LlmLetterQuestion asked; /* all but the input */
	const char *value_key; /* the answer's own value, where that is what the function returns */
	TimestampTz deadline; /* DT_NOEND: none */
	LlmConditions *conditions; /* of the user's; or NULL */
	char *wasted; /* what the last answer cost, in the memory of that; or NULL */
	bool splits; /* an input that does not fit the model is the caller's to divide, and no failure */
	bool too_long; /* the last one did not */
	void (*meanwhile)(void); /* called while an answer is waited for; or NULL */
} LlmCallSite;

/* A site of an operation, in the current context; without arguments. */
extern LlmCallSite *llm_call_site_make(const LlmOperation *op, const char *name, Oid returns);

/* What the questions share from here on; raises on bad arguments. */
extern void llm_call_site_set(LlmCallSite *site, const LlmCallArgs *args);

/* Raise unless the user may ask this model by this operation; NULL: the session's, or the default one. */
extern void llm_call_check_model(const LlmOperation *op, const char *model);

/* Raise where nothing can be asked at all: the server's switch, the database's encoding. */
extern void llm_call_check_server(void);

/*
 * Post the question about this input, if there is room and it may be asked; a letter of the
 * ring, or NULL.  "unless_asked": nor where the ring of the row under way has it already.
 */
extern LlmAhead *llm_call_site_ahead(LlmCallSite *site, LlmAskRing *ring, const text *input, bool unless_asked);

/*
 * The answer, in the current context; NULL when there is none and that will do, or the input is
 * too_long.  "ahead" is its letter, or NULL: one of the ring of the row under way will do.
 */
extern Jsonb *llm_call_site_ask(LlmCallSite *site, const text *input, LlmAhead *ahead);

/*
 * Evaluate a call of a public function so far as to post its question for a row ahead; none where
 * there is none to ask, or it has to be left to the call itself.
 */
extern void llm_ask_call_ahead(LlmAskRing *ring, FunctionCallInfo fcinfo, LlmAskRow *row);

/* Are calls counted, and not asked?  Then tell what would be. */
extern bool llm_call_is_measured(void);
extern void llm_call_site_measure(const LlmCallSite *site, Oid function, int location, text *input);

#endif /* LLM_ASK_CALL_H */
