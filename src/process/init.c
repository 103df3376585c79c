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

#include "ask/ask_frame.h"
#include "ask/ask_node.h"
#include "base/clock.h"
#include "base/committing.h"
#include "base/guard.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "base/spi_plan.h"
#include "bind/defer.h"
#include "bind/planner.h"
#include "letter/mailbox.h"
#include "limiter/limiter_shared.h"
#include "process/launcher.h"
#include "process/utility.h"

PG_MODULE_MAGIC;

extern void _PG_init(void);

void
_PG_init(void)
{
	llm_guc_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	llm_clock_init();
	llm_shmem_add(&llm_mailbox_memory);
	llm_shmem_add(&llm_committing_memory);
	llm_shmem_add(&llm_limiter_memory);
	llm_shmem_init();
	llm_spi_plan_init();
	llm_guard_init();
	llm_planner_init();
	llm_defer_init();
	llm_ask_frame_init();
	llm_ask_plan_init();
	llm_utility_init();
	llm_launcher_init();
}
