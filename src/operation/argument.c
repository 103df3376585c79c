/*-------------------------------------------------------------------------
 *
 * argument.c
 *	  The table of arguments, and what is done by it alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "operation/argument.h"
#include "operation/spec.h"

const LlmArgument llm_arguments[LLM_ARGS] = {
#define LLM_ARGUMENT(symbol, name, type, takers, check) \
	[LLM_ARG_##symbol] = {name, LLM_ARG_TYPE_##type, LLM_ARG_TAKERS_##takers, check},
#include "operation/argument_list.h"
#undef LLM_ARGUMENT
};

StaticAssertDecl(LLM_ARGS <= 64, "an operation lists its arguments in 64 bits");

LlmArg
llm_argument_find(const char *name)
{
	int arg = 0;

	while (arg < LLM_ARGS && strcmp(llm_arguments[arg].name, name) != 0)
		arg++;
	return (LlmArg) arg;
}

Oid
llm_argument_type_oid(LlmArg arg)
{
	switch (llm_arguments[arg].type)
	{
		case LLM_ARG_TYPE_BOOL:
			return BOOLOID;
		case LLM_ARG_TYPE_INT:
			return INT4OID;
		case LLM_ARG_TYPE_FLOAT8:
			return FLOAT8OID;
		case LLM_ARG_TYPE_TEXT:
			return TEXTOID;
		case LLM_ARG_TYPE_TEXTS:
			return TEXTARRAYOID;
		case LLM_ARG_TYPE_JSONB:
			break;
	}
	return JSONBOID;
}

void
llm_argument_set(LlmCallArgs *args, LlmArg arg, Datum value)
{
	args->given[arg] = llm_arguments[arg].type != LLM_ARG_TYPE_BOOL || DatumGetBool(value);
	args->values[arg] = value;
}

text *
llm_argument_text(const LlmCallArgs *args, LlmArg arg)
{
	Assert(llm_arguments[arg].type == LLM_ARG_TYPE_TEXT);
	return args->given[arg] ? DatumGetTextPP(args->values[arg]) : NULL;
}

Jsonb *
llm_argument_jsonb(const LlmCallArgs *args, LlmArg arg)
{
	Assert(llm_arguments[arg].type == LLM_ARG_TYPE_JSONB);
	return args->given[arg] ? DatumGetJsonbP(args->values[arg]) : NULL;
}

void
llm_argument_append(StringInfo content, LlmArg arg, Datum value, bool is_null)
{
	appendStringInfoChar(content, is_null ? 'n' : 'v');
	if (is_null)
		return;
	switch (llm_arguments[arg].type)
	{
		case LLM_ARG_TYPE_BOOL:
		case LLM_ARG_TYPE_INT:
		case LLM_ARG_TYPE_FLOAT8:
			appendBinaryStringInfo(content, (const char *) &value, sizeof(Datum));
			break;
		case LLM_ARG_TYPE_TEXT:
		case LLM_ARG_TYPE_TEXTS:
		case LLM_ARG_TYPE_JSONB:
		{
			struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);
			int32 len = VARSIZE_ANY_EXHDR(bytes);

			appendBinaryStringInfo(content, (const char *) &len, sizeof(len));
			appendBinaryStringInfo(content, VARDATA_ANY(bytes), len);
			break;
		}
	}
}
