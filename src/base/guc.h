/*-------------------------------------------------------------------------
 *
 * guc.h
 *	  All settings llm_enrich.*, in one place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_GUC_H
#define LLM_GUC_H

#include "base/llm_enrich.h"

/* What an immediate call gives that has no answer. */
typedef enum LlmOnError
{
	LLM_ON_ERROR_RAISE,
	LLM_ON_ERROR_NULL
} LlmOnError;

extern bool llm_guc_allow_table_writes;
extern char *llm_guc_bill_tags;
extern char *llm_guc_carry_settings;
extern double llm_guc_confirm_above;
extern bool llm_guc_enabled;
extern int llm_guc_idle_timeout_ms;
extern int llm_guc_immediate_mb;
extern int llm_guc_keep_answers_s;
extern int llm_guc_keep_answers_size_kb;
extern int llm_guc_max_aggregate_kb;
extern int llm_guc_max_answer_kb;
extern int llm_guc_max_connections;
extern int llm_guc_max_immediate_calls;
extern int llm_guc_max_in_flight;
extern double llm_guc_max_cost; /* US dollars; -1: no cap */
extern double llm_guc_max_retry_share;
extern int llm_guc_max_tries;
extern char *llm_guc_model; /* as it is set; see llm_guc_model_or() */
extern bool llm_guc_notices;
extern int llm_guc_on_error;
extern int llm_guc_patience_ms;
extern char *llm_guc_tags;
extern bool llm_guc_writeback;
extern int llm_guc_writeback_lock_timeout_ms;
extern int llm_guc_writeback_timeout_ms;

/* Define them all; called once from _PG_init. */
extern void llm_guc_init(void);

/* llm_guc_max_cost in nanodollars, rounded down; -1: no cap. */
extern int64 llm_guc_max_cost_nano(void);

/* The model that a call names, else the session's; NULL: neither, so that it is the default one. */
extern const char *llm_guc_model_or(const char *named);

#endif /* LLM_GUC_H */
