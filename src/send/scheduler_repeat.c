/*-------------------------------------------------------------------------
 *
 * scheduler_repeat.c
 *	  The sender's part in paying the same question once.
 *
 * Repeats within a statement come as followers already (enqueue.c).  Those of other
 * statements are found here, when they are claimed while the same is being asked:
 * they go back to wait for that answer before they cost anything.
 *
 * A task that was promoted leads others, which would not find it if it followed
 * again: it asks.  So does a task with a temperature: a sample is to be an answer of
 * its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/compat.h"
#include "send/joblist.h"
#include "send/question.h"
#include "send/scheduler_repeat.h"

/* Between two steps of a look at all groups. */
#define STEP_MS 50

/* All static: the sender's life. */
static bool more = true; /* answers are kept back for followers that are left */
static bool sweeping = false;
static int64 swept = 0; /* groups up to this one */
static TimestampTz step_at = DT_NOBEGIN;

/* Is any answer to the recipe as good as another? */
static bool
is_shareable(const LlmSharedRecipe *recipe)
{
	const char *temperature;

	if (recipe == NULL)
		return false;
	temperature = recipe->recipe->params.temperature;
	return temperature == NULL || strtod(temperature, NULL) <= 0;
}

List *
llm_scheduler_repeat_ask(List *claims)
{
	int n = list_length(claims);
	int64 *tasks = palloc(sizeof(int64) * Max(n, 1));
	int64 *leaders = palloc(sizeof(int64) * Max(n, 1));
	List *questions = NIL;
	int nfollowers = 0;

	foreach_ptr(LlmClaim, claim, claims)
	{
		LlmRoute *route = llm_joblist_find(claim->job)->route;
		LlmQuestion *question = NULL;

		if (claim->same_as == 0 && !claim->elsewhere && !claim->kept &&
			is_shareable(llm_flight_recipe(claim->recipe)))
			question = llm_question_ask(route, claim->recipe, claim->input, claim->input_len, claim->task);
		if (question != NULL && question->task != claim->task)
		{
			claim->follows = true;
			question->followed = true;
			tasks[nfollowers] = claim->task;
			leaders[nfollowers++] = question->task;
			question = NULL;
		}
		questions = lappend(questions, question);
	}
	llm_repeat_follow(tasks, leaders, nfollowers);
	return questions;
}

void
llm_scheduler_repeat_store(dlist_head *landed, int n, LlmRepeatResult *result)
{
	LlmRepeatLead *leads = palloc(sizeof(LlmRepeatLead) * Max(n, 1));
	int nleads = 0;
	dlist_iter iter;

	dlist_foreach(iter, landed)
	{
		LlmFlight *flight = dlist_container(LlmFlight, node, iter.cur);

		if (n-- == 0)
			break;
		if (flight->question != NULL)
			llm_question_close(flight->question);
		if (flight->letter != NULL)
			continue; /* no task waits for its answer */
		if (!flight->followed && (flight->question == NULL || !flight->question->followed))
			continue;
		leads[nleads].task = flight->task;
		leads[nleads].job = flight->job;
		leads[nleads++].same_as = flight->same_as;
	}
	if (nleads == 0)
		return;
	llm_repeat_settled(leads, nleads, result);
	more = more || result->more;
}

void
llm_scheduler_repeat_note(const LlmRepeatResult *result)
{
	more = more || result->more;
}

void
llm_scheduler_repeat_tend(bool sweep, TimestampTz now, LlmRepeatResult *result)
{
	LlmRepeatResult rest = {0};

	if (sweep && !sweeping)
	{
		sweeping = true;
		swept = 0;
	}
	if (more || sweep)
		llm_repeat_go_on(&rest);
	if (sweeping && step_at <= now)
	{
		sweeping = llm_repeat_sweep(&swept, &rest);
		step_at = TimestampTzPlusMilliseconds(now, STEP_MS);
	}
	more = rest.more;
	result->served += rest.served;
	result->promoted += rest.promoted;
}

void
llm_scheduler_repeat_undo(dlist_head *landed)
{
	dlist_iter iter;

	dlist_foreach(iter, landed)
	{
		LlmFlight *flight = dlist_container(LlmFlight, node, iter.cur);

		if (flight->question != NULL)
			llm_question_reopen(flight->question);
	}
	more = true;
}

TimestampTz
llm_scheduler_repeat_due(void)
{
	if (more)
		return DT_NOBEGIN;
	return sweeping ? step_at : DT_NOEND;
}
