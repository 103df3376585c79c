/*-------------------------------------------------------------------------
 *
 * spi_plan.h
 *	  How statements of ours are planned: by index, whatever statistics say.
 *
 *	  _PG_init:  init(), once
 *	  then       a statement is prepared with one of these among its cursor options
 *
 * llm_spi_execute() does so by itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SPI_PLAN_H
#define LLM_SPI_PLAN_H

#include "base/llm_enrich.h"

/*
 * Bits that PostgreSQL has no use for: they go with a prepared statement to the planner, also when it
 * is planned again.  By index: in our tables, or in whatever tables it names.  Or over a whole job or
 * table of ours, by whatever suits many rows.
 */
#define LLM_PLAN_OURS 0x10000000
#define LLM_PLAN_ANY 0x20000000
#define LLM_PLAN_WHOLE 0x40000000

extern void llm_spi_plan_init(void);

#endif /* LLM_SPI_PLAN_H */
