/*-------------------------------------------------------------------------
 *
 * control_pause.c
 *	  Pauses of a server, of a model, of a role's tasks or of everything: rows of llm.pause.
 *
 * They hold for later jobs, too, and are obeyed where the sender finds out where a task goes
 * (route.c).  A trigger of the table tells it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "bind/control.h"

#define IS_SAME "p.server IS NOT DISTINCT FROM $1 AND p.model IS NOT DISTINCT FROM $2 AND p.role IS NOT DISTINCT FROM $3"

static LlmStatement add_statement = {
	.sql = "INSERT INTO llm.pause (server, model, role, paused_by) SELECT $1, $2, $3, $4"
		   " WHERE NOT EXISTS (SELECT FROM llm.pause p WHERE " IS_SAME ")",
	.nargs = 4,
	.args = {TEXTOID, TEXTOID, OIDOID, TEXTOID}};

static LlmStatement remove_statement = {
	.sql = "DELETE FROM llm.pause p WHERE " IS_SAME,
	.nargs = 3,
	.args = {TEXTOID, TEXTOID, OIDOID}};

static void
pause_values(const LlmPauseOf *of, Datum *values, char *nulls)
{
	values[0] = of->server == NULL ? (Datum) 0 : CStringGetTextDatum(of->server);
	nulls[0] = of->server == NULL ? 'n' : ' ';
	values[1] = of->model == NULL ? (Datum) 0 : CStringGetTextDatum(of->model);
	nulls[1] = of->model == NULL ? 'n' : ' ';
	values[2] = ObjectIdGetDatum(of->role);
	nulls[2] = OidIsValid(of->role) ? ' ' : 'n';
}

int64
llm_control_pause_target(const LlmPauseOf *of)
{
	Datum values[4];
	char nulls[4];

	pause_values(of, values, nulls);
	values[3] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	nulls[3] = ' ';
	return llm_control_count(&add_statement, values, nulls);
}

int64
llm_control_resume_target(const LlmPauseOf *of)
{
	Datum values[3];
	char nulls[3];

	pause_values(of, values, nulls);
	return llm_control_count(&remove_statement, values, nulls);
}
