/*-------------------------------------------------------------------------
 *
 * error.h
 *	  Names of the classes of errors, what a pause for one means, and who has raised one.
 *	  What a provider says, and which class that is, is the dialects' (src/dialect).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ERROR_H
#define LLM_ERROR_H

#include "base/llm_enrich.h"

/* "ok", "transient", …: the class for messages, tests and views. */
extern const char *llm_error_name(LlmErrorClass class);

/*
 * What has to be put right before a target that is paused for this class can answer, for
 * llm.progress and llm.health.
 */
extern const char *llm_error_pause_text(LlmErrorClass class);

/*
 * Was it raised by a function's own words (RAISE in PL/pgSQL, and the like), and not by the server?  What it
 * says then, of a lock or a cancel, is what the function says.
 */
extern bool llm_error_is_said(const ErrorData *error);

#endif /* LLM_ERROR_H */
