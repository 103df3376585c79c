/*-------------------------------------------------------------------------
 *
 * writeback_check.c
 *	  Are answers as the user's own conditions want them?
 *
 * Each answer is tested where it is about to be written, also those that came to a task because
 * another one had the same question: rows may differ in what the conditions look at elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/guc.h"
#include "operation/condition.h"
#include "writeback/writeback_check.h"
#include "writeback/writeback_error.h"

/* NULL: they cannot be read any more, and *error says why. */
static LlmConditions *
prepare(Jsonb *spec, ErrorData **error)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	LlmConditions *volatile conditions = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		conditions = llm_conditions_prepare(spec);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (*error != NULL && ((*error)->sqlerrcode == ERRCODE_QUERY_CANCELED ||
						   llm_writeback_is_lock_error((*error)->sqlerrcode)))
		ReThrowError(*error);
	return conditions;
}

/* The answer will not do: once more, or that was the last time. */
static void
refuse(LlmWriteRow *row, char *fault)
{
	row->explanation = fault;
	if (row->tries + 1 < llm_guc_max_tries)
	{
		row->fate = LLM_FATE_AGAIN;
		return;
	}
	/* as if the sender had settled it so: a cell that shows it is to show this */
	row->outcome = pstrdup("failed");
	row->error = pstrdup("check_failed");
	row->message = fault;
	row->answer = NULL;
}

/* It cannot be checked here at all, and no other answer would be: a cell that shows its task shows that. */
static void
leave_unchecked(LlmWriteRow *row, ErrorData *error)
{
	llm_writeback_fail_by_error(row, error);
	row->fate = LLM_FATE_OPEN;
	row->outcome = pstrdup("failed");
	row->error = pstrdup("not_writable");
	row->message = row->explanation;
	row->answer = NULL; /* of the cell; llm.queue has it */
}

void
llm_writeback_check(LlmWriteJob *job)
{
	ErrorData *error = NULL;
	LlmConditions *conditions = prepare(job->spec, &error);

	for (int i = 0; i < job->nrows; i++)
	{
		LlmWriteRow *row = &job->rows[i];
		ErrorData *forbidden = NULL;
		char *fault;

		if (row->fate != LLM_FATE_OPEN || strcmp(row->outcome, "answered") != 0 || row->input == NULL)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (conditions == NULL)
		{
			if (error == NULL)
				return;
			leave_unchecked(row, error);
			continue;
		}
		fault = llm_conditions_fault(conditions, row->answer, row->input, strlen(row->input), &forbidden);
		if (fault != NULL)
			refuse(row, fault);
		else if (forbidden != NULL)
			leave_unchecked(row, forbidden);
	}
}
