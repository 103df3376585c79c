/*-------------------------------------------------------------------------
 *
 * json_sql.h
 *	  A JSON value as a value of an SQL type, by the type's own input function.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_JSON_SQL_H
#define LLM_JSON_SQL_H

#include "base/llm_enrich.h"

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* How values of a type are read. */
typedef struct LlmJsonInput
{
	Oid type;
	FmgrInfo input;
	Oid io_param;
	Oid element; /* of an array; InvalidOid: it is none */
	FmgrInfo element_input;
	Oid element_io_param;
} LlmJsonInput;

/* Look the type up; its function stays in the current context. */
extern void llm_json_input(LlmJsonInput *input, Oid type);

/*
 * A string gives what it says, any other value its JSON text; a JSON array gives an array where
 * the type is one, as does a packed vector (vector.h); null gives NULL.  In the current context.
 * Raises what the type's input function does, and depends on the settings that it does.
 */
extern Datum llm_json_to_datum(LlmJsonInput *input, const JsonbValue *value, bool *is_null);

/* The strings (char *) of an array, in the current context; none where it is NULL or something else. */
extern List *llm_json_strings(const JsonbValue *array);

#endif /* LLM_JSON_SQL_H */
