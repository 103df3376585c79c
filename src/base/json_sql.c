/*-------------------------------------------------------------------------
 *
 * json_sql.c
 *	  A JSON value as a value of an SQL type, by the type's own input function.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/lsyscache.h"

#include "base/json.h"
#include "base/json_sql.h"
#include "base/vector.h"

void
llm_json_input(LlmJsonInput *input, Oid type)
{
	Oid function;

	input->type = type;
	getTypeInputInfo(type, &function, &input->io_param);
	fmgr_info(function, &input->input);
	input->element = get_element_type(type);
	if (!OidIsValid(input->element))
		return;
	getTypeInputInfo(input->element, &function, &input->element_io_param);
	fmgr_info(function, &input->element_input);
}

/* A JSON value as text: strings as they are, null as NULL. */
static char *
json_text(const JsonbValue *value)
{
	StringInfoData out;

	if (value->type == jbvNull)
		return NULL;
	if (value->type == jbvString)
		return llm_json_cstring(value);
	initStringInfo(&out);
	llm_json_append(&out, value);
	return out.data;
}

static Datum
read_scalar(FmgrInfo *function, Oid io_param, const JsonbValue *value, bool *is_null)
{
	char *words = json_text(value);

	*is_null = words == NULL;
	return words == NULL ? (Datum) 0 : InputFunctionCall(function, words, io_param, -1);
}

static Datum
read_array(LlmJsonInput *input, const JsonbValue *list)
{
	int n = list->val.array.nElems;
	Datum *values = palloc(Max(n, 1) * sizeof(Datum));
	bool *nulls = palloc(Max(n, 1) * sizeof(bool));
	int lower = 1;
	int16 length;
	bool by_value;
	char align;

	if (n == 0)
		return PointerGetDatum(construct_empty_array(input->element));
	for (int i = 0; i < n; i++)
		values[i] = read_scalar(&input->element_input, input->element_io_param, &list->val.array.elems[i], &nulls[i]);
	get_typlenbyvalalign(input->element, &length, &by_value, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower, input->element, length, by_value, align));
}

Datum
llm_json_to_datum(LlmJsonInput *input, const JsonbValue *value, bool *is_null)
{
	ArrayType *vector = NULL;

	*is_null = false;
	if (value->type == jbvString && input->type == FLOAT4ARRAYOID)
		vector = llm_vector_unpack(value->val.string.val, value->val.string.len);
	if (vector != NULL)
		return PointerGetDatum(vector);
	if (value->type == jbvArray && OidIsValid(input->element))
		return read_array(input, value);
	return read_scalar(&input->input, input->io_param, value, is_null);
}

List *
llm_json_strings(const JsonbValue *array)
{
	List *strings = NIL;

	for (int i = 0; array != NULL && array->type == jbvArray && i < array->val.array.nElems; i++)
	{
		if (array->val.array.elems[i].type == jbvString)
			strings = lappend(strings, llm_json_cstring(&array->val.array.elems[i]));
	}
	return strings;
}
