/*-------------------------------------------------------------------------
 *
 * notice.c
 *	  What a statement tells about the jobs that it has queued (llm_enrich.notices).
 *
 * A statement may have a job for each row, when its arguments vary: then the first ones are
 * named, and the rest is counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/guc.h"
#include "bind/notice.h"

/* Jobs that a statement names, each in a message of its own. */
#define NAMED_JOBS 5

/* The relation as it is written in SQL. */
static char *
relation_name(const LlmNewJob *job)
{
	char *name = get_rel_name(job->relation);
	char *schema = get_namespace_name(get_rel_namespace(job->relation));

	return name == NULL ? pstrdup("a table") : quote_qualified_identifier(schema, name);
}

void
llm_notice_kept(LlmNewJob *job, int64 paused_job)
{
	job->kept_rows++;
	job->kept_job = job->kept_job == 0 || job->kept_job == paused_job ? paused_job : -1;
}

static void
tell_kept(LlmNewJob *job)
{
	char *relation = relation_name(job);

	ereport(NOTICE,
			(errmsg_plural("%lld row waits already, and what it waits for is paused",
						   "%lld rows wait already, and what they wait for is paused", (unsigned long) job->kept_rows,
						   (long long) job->kept_rows),
			 job->kept_job > 0
				 ? errdetail("Column \"%s\" of %s keeps its tasks in job %lld.", job->column_name, relation,
							 (long long) job->kept_job)
				 : errdetail("Column \"%s\" of %s keeps its tasks in several jobs.", job->column_name, relation),
			 job->kept_job > 0 ? errhint("SELECT llm.resume(job => %lld);", (long long) job->kept_job)
							   : errhint("SELECT llm.resume(relation => %s);", quote_literal_cstr(relation))));
	job->kept_rows = 0;
	job->kept_job = 0;
}

/* Else a statement that finds all of its rows pending would say nothing at all. */
static void
tell_asked(LlmNewJob *job)
{
	ereport(NOTICE,
			(errmsg("%lld rows are being asked already", (long long) job->asked_rows),
			 errdetail("Column \"%s\" of %s: the same question is on its way for them, and was not queued again.",
					   job->column_name, relation_name(job))));
	job->asked_rows = 0;
}

/* Else the rows that were queued would be fewer than those that the statement has changed, and nothing said why. */
static void
tell_blank(int64 blank_rows)
{
	ereport(NOTICE,
			(errmsg_plural("%lld row has a blank input, and is not asked about",
						   "%lld rows have a blank input, and are not asked about", (unsigned long) blank_rows,
						   (long long) blank_rows),
			 errdetail_plural("Its cell says \"empty_input\".", "Their cells say \"empty_input\".",
							  (unsigned long) blank_rows)));
}

void
llm_notice_tell(List *jobs, int64 blank_rows)
{
	int named = 0;
	int64 rows = blank_rows;
	int64 more_jobs = 0;
	int64 more_rows = 0;

	if (!llm_guc_notices)
		return;
	foreach_ptr(LlmNewJob, job, jobs)
	{
		if (job->kept_rows > 0)
			tell_kept(job);
		if (job->asked_rows > 1)
			tell_asked(job);
		rows += job->queued;
		if (job->queued <= 1 || job->is_unconfirmed)
			continue;
		if (named < NAMED_JOBS)
		{
			ereport(NOTICE,
					(errmsg("job %lld: %lld rows are queued for column \"%s\" of %s", (long long) job->id,
							(long long) job->queued, job->column_name, relation_name(job))));
			named++;
		}
		else
		{
			more_jobs++;
			more_rows += job->queued;
		}
	}
	if (more_jobs > 0)
		ereport(NOTICE,
				(errmsg_plural("%lld more job, of %lld rows", "%lld more jobs, of %lld rows in all",
							   (unsigned long) more_jobs, (long long) more_jobs, (long long) more_rows),
				 errhint("See llm.progress.")));
	if (blank_rows > 0 && rows > 1)
		tell_blank(blank_rows);
}
