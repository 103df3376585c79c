/*-------------------------------------------------------------------------
 *
 * spi_plan.h
 *	  How statements of ours are planned: by index, whatever statistics say.
 *
 *	  _PG_init:  init(), once
 *	  begin()    ... llm_spi_execute(), which plans at first use ... end()
 *
 * A process that runs nothing but statements of ours may take the settings for life
 * instead (worker.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SPI_PLAN_H
#define LLM_SPI_PLAN_H

#include "base/llm_enrich.h"

#include "base/spi.h"

/* A setting and its value. */
typedef struct LlmSetting
{
	const char *name;
	const char *value;
} LlmSetting;

#define LLM_SPI_BY_INDEX 8
extern const LlmSetting llm_spi_by_index[LLM_SPI_BY_INDEX];

extern void llm_spi_plan_init(void);

/*
 * In the planner: whether the statement is one of ours over tables that are not, which look
 * long to it, too.  Returns what it was before, to be put back.
 */
extern bool llm_spi_look_long(bool statement_is_ours);

/* The level of settings to give back to end(); an ERROR in between needs no end(). */
extern int llm_spi_by_index_begin(void);
extern void llm_spi_by_index_end(int nest);

/* own_begin() with these settings, which end with own_end(). */
extern void llm_spi_own_begin_by_index(LlmOwnScope *scope);

#endif /* LLM_SPI_PLAN_H */
