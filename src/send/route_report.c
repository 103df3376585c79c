/*-------------------------------------------------------------------------
 *
 * route_report.c
 *	  What llm.health says of a route itself, and which answers take it away.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/error.h"
#include "base/shmem.h"
#include "send/route.h"

bool
llm_route_is_answer(LlmErrorClass class)
{
	return class == LLM_OK || class == LLM_ERR_INVALID || class == LLM_ERR_REFUSED || class == LLM_ERR_TRUNCATED ||
		   class == LLM_ERR_TOO_LONG;
}

void
llm_route_report(LlmRoute *route, const char *problem, const char *hint)
{
	const char *alias = route->alias != NULL ? route->alias : "(default)";
	char *subject = psprintf(route->kind == LLM_REQUEST_CHAT ? "model \"%s\"" : "model \"%s\" (vectors)", alias);

	llm_shmem_report_problem_of(route->role, subject, problem, hint);
	route->reported = (problem != NULL);
	route->reported_in_doubt = false;
	pfree(subject);
}
