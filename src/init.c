/*-------------------------------------------------------------------------
 *
 * init.c
 *	  Where PostgreSQL meets the library.
 *
 * Without shared_preload_libraries only the settings exist, and every function
 * says what to do (llm_shmem_require_preload).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "clock.h"
#include "defer.h"
#include "guc.h"
#include "launcher.h"
#include "planner.h"
#include "shmem.h"
#include "spi_plan.h"
#include "utility.h"

PG_MODULE_MAGIC;

extern void _PG_init(void);

void
_PG_init(void)
{
	llm_guc_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	llm_clock_init();
	llm_shmem_init();
	llm_spi_plan_init();
	llm_planner_init();
	llm_defer_init();
	llm_utility_init();
	llm_launcher_init();
}
