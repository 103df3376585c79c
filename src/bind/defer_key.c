/*-------------------------------------------------------------------------
 *
 * defer_key.c
 *	  Keys of stored rows: copied as they are, written as JSON at the end.
 *
 * A key must match years later and in a session with other settings.  Integers
 * and finite numerics become JSON numbers; everything else is the text that the
 * type's output function gives under settings that are pinned here, whatever
 * DateStyle, extra_float_digits, lc_monetary or search_path say in this session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "base/compat.h"
#include "base/pinned.h"
#include "bind/defer.h"
#include "cell/image.h"

/* Does the text of such values depend on settings?  Of all but these it may. */
static bool
needs_settings(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case UUIDOID:
			return false;
		default:
			return true;
	}
}

/* Fill target->keys from the types of the arguments. */
static void
note_key_columns(LlmRun *run, LlmTargetState *target, FunctionCallInfo fcinfo, int first)
{
	int nkeys = target->spec->nkeys;
	LlmKeyColumn *keys = MemoryContextAllocZero(run->context, nkeys * sizeof(LlmKeyColumn));

	for (int i = 0; i < nkeys; i++)
	{
		Oid type = get_fn_expr_argtype(fcinfo->flinfo, first + i);
		Oid output;
		bool is_varlena;

		if (!OidIsValid(type))
			elog(ERROR, "could not determine the type of a key column");
		keys[i].type = getBaseType(type);
		get_typlenbyval(keys[i].type, &keys[i].length, &keys[i].by_value);
		getTypeOutputInfo(keys[i].type, &output, &is_varlena);
		fmgr_info_cxt(output, &keys[i].output, run->context);
		run->pins_settings = run->pins_settings || needs_settings(keys[i].type);
	}
	target->keys = keys;
}

/* Copy a key into one chunk; its values are detoasted. */
static Datum *
copy_values(const LlmTargetState *target, const Datum *values, Size *bytes)
{
	int nkeys = target->spec->nkeys;
	Datum *copy;
	char *next;

	*bytes = MAXALIGN(nkeys * sizeof(Datum));
	for (int i = 0; i < nkeys; i++)
	{
		if (!target->keys[i].by_value)
			*bytes += MAXALIGN(datumGetSize(values[i], false, target->keys[i].length));
	}
	copy = palloc(*bytes);
	next = (char *) copy + MAXALIGN(nkeys * sizeof(Datum));
	for (int i = 0; i < nkeys; i++)
	{
		Size size;

		copy[i] = values[i];
		if (target->keys[i].by_value)
			continue;
		size = datumGetSize(values[i], false, target->keys[i].length);
		memcpy(next, DatumGetPointer(values[i]), size);
		copy[i] = PointerGetDatum(next);
		next += MAXALIGN(size);
	}
	return copy;
}

Datum *
llm_defer_take_key(LlmRun *run, LlmTargetState *target, FunctionCallInfo fcinfo, int first, Size *bytes)
{
	Datum values[INDEX_MAX_KEYS];

	if (target->keys == NULL)
		note_key_columns(run, target, fcinfo, first);
	for (int i = 0; i < target->spec->nkeys; i++)
	{
		if (PG_ARGISNULL(first + i))
			return NULL;
		values[i] = PG_GETARG_DATUM(first + i);
		if (target->keys[i].length == -1)
			values[i] = PointerGetDatum(PG_DETOAST_DATUM(values[i]));
	}
	return copy_values(target, values, bytes);
}

Datum *
llm_defer_copy_key(const LlmTargetState *target, const Datum *key)
{
	Size bytes;

	return copy_values(target, key, &bytes);
}

bool
llm_defer_is_same_key(const LlmTargetState *target, const Datum *key, FunctionCallInfo fcinfo, int first)
{
	for (int i = 0; i < target->spec->nkeys; i++)
	{
		if (PG_ARGISNULL(first + i) ||
			!datum_image_eq(key[i], PG_GETARG_DATUM(first + i), target->keys[i].by_value, target->keys[i].length))
			return false;
	}
	return true;
}

int
llm_defer_key_begin(const LlmRun *run)
{
	return run->pins_settings ? llm_pinned_begin() : 0;
}

void
llm_defer_key_end(int nest)
{
	if (nest > 0)
		llm_pinned_end(nest);
}

/* A value of a key as a number; NULL when it is none that JSON can write. */
static Numeric
read_number(const LlmKeyColumn *column, Datum datum)
{
	switch (column->type)
	{
		case INT2OID:
			return int64_to_numeric(DatumGetInt16(datum));
		case INT4OID:
			return int64_to_numeric(DatumGetInt32(datum));
		case INT8OID:
			return int64_to_numeric(DatumGetInt64(datum));
		case NUMERICOID:
			if (numeric_is_nan(DatumGetNumeric(datum)) || numeric_is_inf(DatumGetNumeric(datum)))
				return NULL;
			return DatumGetNumeric(datum);
		default:
			return NULL;
	}
}

static void
read_value(LlmKeyColumn *column, Datum datum, JsonbValue *value)
{
	value->val.numeric = read_number(column, datum);
	value->type = jbvNumeric;
	if (value->val.numeric != NULL)
		return;
	value->type = jbvString;
	value->val.string.val = OutputFunctionCall(&column->output, datum);
	value->val.string.len = strlen(value->val.string.val);
}

/*
 * A key of one number, made from the last one by writing the number over; NULL when it
 * has another size, or nothing to start from.
 */
static Jsonb *
fill_pattern(const LlmTargetState *target, Numeric number)
{
	const Jsonb *pattern = target->key_pattern;
	Jsonb *copy;

	if (pattern == NULL || number == NULL ||
		VARSIZE_ANY(number) != VARSIZE_ANY((const char *) pattern + target->number_at))
		return NULL;
	copy = palloc(VARSIZE(pattern));
	memcpy(copy, pattern, VARSIZE(pattern));
	memcpy((char *) copy + target->number_at, number, VARSIZE_ANY(number));
	return copy;
}

/* Keep a key of one number to make the next ones from. */
static void
keep_pattern(LlmRun *run, LlmTargetState *target, const Jsonb *object)
{
	JsonbValue buffer;
	JsonbValue *value;

	if (target->key_pattern != NULL)
		pfree(target->key_pattern);
	target->key_pattern = MemoryContextAlloc(run->context, VARSIZE(object));
	memcpy(target->key_pattern, object, VARSIZE(object));
	value = getKeyJsonValueFromContainer(&target->key_pattern->root, target->spec->keys[0],
										 strlen(target->spec->keys[0]), &buffer);
	target->number_at = (char *) value->val.numeric - (char *) target->key_pattern;
}

Jsonb *
llm_defer_key_object(LlmRun *run, LlmTargetState *target, const Datum *key)
{
	bool is_one = target->spec->nkeys == 1;
	LlmJsonbState state = {0};
	JsonbValue value;
	Jsonb *object = NULL;

	if (is_one)
		object = fill_pattern(target, read_number(&target->keys[0], key[0]));
	if (object != NULL)
		return object;
	(void) llm_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < target->spec->nkeys; i++)
	{
		value.type = jbvString;
		value.val.string.val = unconstify(char *, target->spec->keys[i]);
		value.val.string.len = strlen(target->spec->keys[i]);
		(void) llm_jsonb_push(&state, WJB_KEY, &value);
		read_value(&target->keys[i], key[i], &value);
		(void) llm_jsonb_push(&state, WJB_VALUE, &value);
	}
	object = JsonbValueToJsonb(llm_jsonb_push(&state, WJB_END_OBJECT, NULL));
	if (is_one && value.type == jbvNumeric)
		keep_pattern(run, target, object);
	return object;
}

int64
llm_defer_cell_number(LlmRun *run, const LlmBound *bound)
{
	LlmTargetState *target = bound->target;
	const LlmDeferTarget *spec = target->spec;
	Oid table = OidIsValid(spec->root) ? spec->root : bound->leaf;
	AttrNumber attno = spec->columns[bound->column].attno;
	LlmImage image = {{0, 0}};

	if (spec->nkeys == 1 && target->keys[0].type == INT8OID)
		return llm_cell_number_near(table, attno, spec->key_attnos[0], DatumGetInt64(bound->key[0]));
	if (spec->nkeys == 1 && target->keys[0].type == INT4OID)
		return llm_cell_number_near(table, attno, spec->key_attnos[0], DatumGetInt32(bound->key[0]));
	if (target->key_images == NULL)
	{
		target->key_images = MemoryContextAllocZero(run->context, spec->nkeys * sizeof(LlmImageType));
		for (int i = 0; i < spec->nkeys; i++)
			llm_image_type(target->keys[i].type, run->context, &target->key_images[i]);
	}
	for (int i = 0; i < spec->nkeys; i++)
		llm_image_add(&image, &target->key_images[i], bound->key[i], false);
	return llm_cell_number(table, attno, spec->key_attnos, spec->nkeys, &image);
}
