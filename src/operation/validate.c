/*-------------------------------------------------------------------------
 *
 * validate.c
 *	  Check an answer against its schema.
 *
 * The sentence about a fault goes back to the model, which then knows what to
 * correct, so it names the path and what was expected there.  Answers are what
 * anyone may have written: nothing here raises, recursion is bounded by the
 * depth of the tree and of the schema's references, and work by a budget,
 * since alternatives within alternatives could multiply.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "base/json.h"
#include "operation/validate.h"

/*
 * Steps of checking one answer: far above any honest answer, a second at worst.  A step is
 * a value that is looked at, or as much work: so many bytes, or values compared.
 */
#define MAX_STEPS 1000000
#define BYTES_PER_STEP 64
#define COMPARISONS_PER_STEP 8

/* Calls on the stack: the depth of the answer times a few references on each level. */
#define MAX_NESTING 1000

/* Bytes of a name or value shown in a sentence. */
#define MAX_SHOWN 60

/* Where we are in the answer. */
typedef struct Path
{
	const struct Path *parent;
	const JsonbValue *name; /* NULL: use index */
	int index;
	int depth;
} Path;

typedef struct Check
{
	StringInfo fault;
	int fault_depth; /* of the path that the fault names */
	bool fault_is_type; /* the fault is a value of another type */
	int64 steps;
	int nesting;
	MemoryContext outer; /* for what outlives a report */
	MemoryContext scratch; /* current while we check; emptied with each report */
} Check;

static bool check_value(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path);

/* Steps that it takes to look at the whole value once. */
static int64
weight(const JsonbValue *v)
{
	int64 sum = 1;

	switch (v->type)
	{
		case jbvString:
			return 1 + v->val.string.len / BYTES_PER_STEP;
		case jbvArray:
			for (int i = 0; i < v->val.array.nElems; i++)
				sum += weight(&v->val.array.elems[i]);
			return sum;
		case jbvObject:
			for (int i = 0; i < v->val.object.nPairs; i++)
				sum += weight(&v->val.object.pairs[i].key) + weight(&v->val.object.pairs[i].value);
			return sum;
		default:
			return 1;
	}
}

/* Append JSON text, cut short: of a scalar, or of a value that the schema holds. */
static void
append_shown(StringInfo buf, const JsonbValue *value)
{
	StringInfoData str;
	size_t len;

	initStringInfo(&str);
	if (value->type == jbvString && value->val.string.len > MAX_SHOWN)
	{
		len = llm_json_clip(value->val.string.val, value->val.string.len, MAX_SHOWN);
		llm_json_escape(&str, value->val.string.val, len);
		appendStringInfo(buf, "\"%s…\"", str.data);
	}
	else
	{
		llm_json_append(&str, value);
		len = llm_json_clip(str.data, str.len, MAX_SHOWN);
		appendBinaryStringInfo(buf, str.data, len);
		if (len < str.len)
			appendStringInfoString(buf, "…");
	}
	pfree(str.data);
}

static void
append_path(StringInfo buf, const Path *path)
{
	if (path->parent == NULL)
		return;
	append_path(buf, path->parent);
	if (path->name == NULL)
		appendStringInfo(buf, "/%d", path->index);
	else
	{
		appendStringInfoChar(buf, '/');
		llm_json_escape(buf, path->name->val.string.val,
						llm_json_clip(path->name->val.string.val, path->name->val.string.len, MAX_SHOWN));
	}
}

static void report(Check *check, const Path *path, const char *format, ...) pg_attribute_printf(3, 4);

/* Replace the sentence by one about this path.  The words given live in scratch, and end here. */
static void
report(Check *check, const Path *path, const char *format, ...)
{
	StringInfo buf = check->fault;

	resetStringInfo(buf);
	if (path->parent == NULL)
		appendStringInfoString(buf, "The answer is not what was asked for: ");
	else
	{
		appendStringInfoString(buf, "The answer is not what was asked for at ");
		append_path(buf, path);
		appendStringInfoString(buf, ": ");
	}
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(buf, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(buf, needed);
	}
	appendStringInfoChar(buf, '.');
	check->fault_depth = path->depth;
	check->fault_is_type = false;
	MemoryContextReset(check->scratch);
}

/* A value of the schema for report(). */
static const char *
written(const JsonbValue *value)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_shown(&buf, value);
	return buf.data;
}

/* A value of the answer for report(); lists and objects, which may be huge, by their name alone. */
static const char *
shown(const JsonbValue *value)
{
	if (value->type == jbvArray)
		return "this list";
	if (value->type == jbvObject)
		return "this object";
	return written(value);
}

static const char *
shown_number(Numeric number)
{
	JsonbValue value;

	value.type = jbvNumeric;
	value.val.numeric = number;
	return written(&value);
}

static bool
is_integer(Numeric number)
{
	Numeric whole = DatumGetNumeric(DirectFunctionCall2(numeric_trunc, NumericGetDatum(number), Int32GetDatum(0)));

	return DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(whole), NumericGetDatum(number)));
}

static bool
has_type(int types, const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvNull:
			return (types & LLM_SCHEMA_NULL) != 0;
		case jbvBool:
			return (types & LLM_SCHEMA_BOOLEAN) != 0;
		case jbvString:
			return (types & LLM_SCHEMA_STRING) != 0;
		case jbvNumeric:
			return (types & LLM_SCHEMA_NUMBER) != 0 ||
				   ((types & LLM_SCHEMA_INTEGER) != 0 && is_integer(v->val.numeric));
		case jbvArray:
			return (types & LLM_SCHEMA_ARRAY) != 0;
		default:
			return (types & LLM_SCHEMA_OBJECT) != 0;
	}
}

static const char *
type_names(int types)
{
	static const char *const names[] = {"null", "boolean", "string", "integer", "number", "array", "object"};
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(names); i++)
	{
		if (types & (1 << i))
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? " or " : "", names[i]);
	}
	return buf.data;
}

/* The list of an "enum", as much as fits into a sentence. */
static const char *
shown_list(Check *check, const JsonbValue *list)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < list->val.array.nElems && buf.len < LLM_FAULT_MAX; i++)
	{
		if (i > 0)
			appendStringInfoString(&buf, ", ");
		append_shown(&buf, &list->val.array.elems[i]);
		check->steps += weight(&list->val.array.elems[i]);
	}
	return buf.data;
}

static bool
check_choices(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	if (s->choices != NULL)
		check->steps += weight(v) * (1 + pg_leftmost_one_pos32(s->nchoices)) / COMPARISONS_PER_STEP;
	if (s->constant != NULL)
		check->steps += weight(s->constant);
	if (s->choices != NULL &&
		bsearch(v, s->choices, s->nchoices, sizeof(JsonbValue), llm_json_order) == NULL)
	{
		report(check, path, "%s is not one of: %s", shown(v), shown_list(check, s->enumeration));
		return false;
	}
	if (s->constant != NULL && llm_json_compare(s->constant, v) != 0)
	{
		report(check, path, "%s must be %s", shown(v), written(s->constant));
		return false;
	}
	return true;
}

static int
compare_numbers(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

static bool
is_multiple(Numeric number, Numeric of)
{
	Numeric rest = DatumGetNumeric(DirectFunctionCall2(numeric_mod, NumericGetDatum(number), NumericGetDatum(of)));

	return compare_numbers(rest, int64_to_numeric(0)) == 0;
}

static bool
check_number(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	Numeric n = v->val.numeric;

	if (s->multiple_of != NULL)
		check->steps += VARSIZE(s->multiple_of) / COMPARISONS_PER_STEP; /* it divides by each of its digits */
	if (s->minimum != NULL && compare_numbers(n, s->minimum) < 0)
		report(check, path, "%s is less than %s", shown(v), shown_number(s->minimum));
	else if (s->maximum != NULL && compare_numbers(n, s->maximum) > 0)
		report(check, path, "%s is greater than %s", shown(v), shown_number(s->maximum));
	else if (s->exclusive_minimum != NULL && compare_numbers(n, s->exclusive_minimum) <= 0)
		report(check, path, "%s is not greater than %s", shown(v), shown_number(s->exclusive_minimum));
	else if (s->exclusive_maximum != NULL && compare_numbers(n, s->exclusive_maximum) >= 0)
		report(check, path, "%s is not less than %s", shown(v), shown_number(s->exclusive_maximum));
	else if (s->multiple_of != NULL && !is_multiple(n, s->multiple_of))
		report(check, path, "%s is not a multiple of %s", shown(v), shown_number(s->multiple_of));
	else
		return true;
	return false;
}

static bool
check_string(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	if (s->min_length >= 0 || s->max_length >= 0 || s->format != NULL)
		check->steps += v->val.string.len / BYTES_PER_STEP;
	if (s->min_length >= 0 || s->max_length >= 0)
	{
		int n = pg_mbstrlen_with_len(v->val.string.val, v->val.string.len);

		if (n < s->min_length)
		{
			report(check, path, "a string of %d characters; it must have at least %d", n, s->min_length);
			return false;
		}
		if (s->max_length >= 0 && n > s->max_length)
		{
			report(check, path, "a string of %d characters; it may have at most %d", n, s->max_length);
			return false;
		}
	}
	if (s->format != NULL && !s->format(v->val.string.val, v->val.string.len))
	{
		report(check, path, "%s is not of the format \"%s\"", shown(v), s->format_name);
		return false;
	}
	return true;
}

/* Are two elements equal?  Sorts a copy, so that a long list costs n log n. */
static bool
has_duplicates(Check *check, const JsonbValue *array)
{
	int n = array->val.array.nElems;
	JsonbValue *copy;
	bool found = false;

	if (n < 2)
		return false;
	check->steps += weight(array) * (1 + pg_leftmost_one_pos32(n)) / COMPARISONS_PER_STEP;
	copy = palloc(n * sizeof(JsonbValue));
	memcpy(copy, array->val.array.elems, n * sizeof(JsonbValue));
	llm_json_sort(copy, n, sizeof(JsonbValue), llm_json_order);
	for (int i = 1; i < n && !found; i++)
		found = llm_json_compare(&copy[i - 1], &copy[i]) == 0;
	pfree(copy);
	return found;
}

static bool
check_array(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	int n = v->val.array.nElems;

	if (n < s->min_items)
	{
		report(check, path, "a list of %d; it must have at least %d", n, s->min_items);
		return false;
	}
	if (s->max_items >= 0 && n > s->max_items)
	{
		report(check, path, "a list of %d; it may have at most %d", n, s->max_items);
		return false;
	}
	for (int i = 0; i < n && s->items != NULL; i++)
	{
		Path here = {path, NULL, i, path->depth + 1};

		if (!check_value(check, s->items, &v->val.array.elems[i], &here))
			return false;
	}
	if (s->unique_items && has_duplicates(check, v))
	{
		report(check, path, "a list with the same value twice");
		return false;
	}
	return true;
}

/* Schema of a property; the one for properties that are not named, or NULL. */
static const LlmSchema *
find_property(const LlmSchema *s, const JsonbValue *name)
{
	int low = 0;
	int high = s->nproperties;

	while (low < high)
	{
		int middle = (low + high) / 2;
		const JsonbValue *other = &s->properties[middle].name;
		int order = name->val.string.len - other->val.string.len;

		if (order == 0)
			order = memcmp(name->val.string.val, other->val.string.val, name->val.string.len);
		if (order == 0)
			return s->properties[middle].schema;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return s->additional;
}

static bool
check_counts(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	int n = v->val.object.nPairs;

	check->steps += (s->nrequired + n) / COMPARISONS_PER_STEP;
	for (int i = 0; i < s->nrequired; i++)
	{
		const JsonbValue *name = &s->required[i];

		if (llm_json_find(v, name->val.string.val, name->val.string.len) == NULL)
		{
			report(check, path, "the property %s is missing", shown(name));
			return false;
		}
	}
	if (n < s->min_properties)
		report(check, path, "an object of %d properties; it must have at least %d", n, s->min_properties);
	else if (s->max_properties >= 0 && n > s->max_properties)
		report(check, path, "an object of %d properties; it may have at most %d", n, s->max_properties);
	else
		return true;
	return false;
}

static bool
check_object(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	if (!check_counts(check, s, v, path))
		return false;
	for (int i = 0; i < v->val.object.nPairs; i++)
	{
		const JsonbPair *pair = &v->val.object.pairs[i];
		const LlmSchema *property = find_property(s, &pair->key);
		Path here = {path, &pair->key, 0, path->depth + 1};

		if (property == NULL)
			continue;
		if (property->nothing)
		{
			report(check, path, "the property %s is not allowed", shown(&pair->key));
			return false;
		}
		if (!check_value(check, property, &pair->value, &here))
			return false;
	}
	return true;
}

/*
 * At least one alternative must hold.  Of the faults of all we tell the one
 * that lies deepest, or that of one of the right type: that alternative was
 * meant.
 */
static bool
check_any(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	StringInfo outer = check->fault;
	StringInfoData best;
	StringInfoData last;
	int best_depth = path->depth;
	bool ok = false;

	MemoryContextSwitchTo(check->outer);
	initStringInfo(&best);
	initStringInfo(&last);
	MemoryContextSwitchTo(check->scratch);
	check->fault = &last;
	for (int i = 0; i < s->nany && !ok; i++)
	{
		ok = check_value(check, s->any_of[i], v, path);
		if (!ok && (check->fault_depth > best_depth || (best.len == 0 && !check->fault_is_type)))
		{
			resetStringInfo(&best);
			appendBinaryStringInfo(&best, last.data, last.len);
			best_depth = check->fault_depth;
		}
	}
	check->fault = outer;
	if (!ok && best.len == 0)
		report(check, path, "%s fits none of the alternatives", shown(v));
	else if (!ok)
	{
		resetStringInfo(outer);
		appendBinaryStringInfo(outer, best.data, best.len);
		check->fault_depth = best_depth;
		check->fault_is_type = false;
	}
	pfree(best.data);
	pfree(last.data);
	return ok;
}

static bool
check_rules(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	if (s->nothing)
	{
		report(check, path, "no value is allowed here");
		return false;
	}
	if (s->types != 0 && !has_type(s->types, v))
	{
		report(check, path, "%s was expected, not %s", type_names(s->types), shown(v));
		check->fault_is_type = true;
		return false;
	}
	if (!check_choices(check, s, v, path))
		return false;
	if (v->type == jbvNumeric && !check_number(check, s, v, path))
		return false;
	if (v->type == jbvString && !check_string(check, s, v, path))
		return false;
	if (v->type == jbvArray && !check_array(check, s, v, path))
		return false;
	if (v->type == jbvObject && !check_object(check, s, v, path))
		return false;
	if (s->reference != NULL && !check_value(check, s->reference, v, path))
		return false;
	return s->nany == 0 || check_any(check, s, v, path);
}

static bool
check_value(Check *check, const LlmSchema *s, const JsonbValue *v, const Path *path)
{
	bool ok;

	check->steps++;
	if (check->steps > MAX_STEPS || check->nesting >= MAX_NESTING)
	{
		report(check, path, "it is too complicated to be checked");
		return false;
	}
	check->nesting++;
	ok = check_rules(check, s, v, path);
	check->nesting--;
	return ok;
}

bool
llm_validate(const LlmSchema *schema, const JsonbValue *value, StringInfo fault)
{
	Check check = {.fault = fault, .outer = CurrentMemoryContext};
	Path top = {0};
	bool ok;

	check.scratch = AllocSetContextCreate(CurrentMemoryContext, "llm_enrich check", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(check.scratch);
	ok = check_value(&check, schema, value, &top);
	/* what was found on the way says little then */
	if (!ok && check.steps > MAX_STEPS)
		report(&check, &top, "it is too complicated to be checked");
	MemoryContextSwitchTo(check.outer);
	MemoryContextDelete(check.scratch);
	if (!ok)
		llm_validate_clip(fault);
	return ok;
}

Jsonb *
llm_validate_answer(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	JsonbValue answer;

	if (!llm_validate_object(given->str, given->len, &answer, fault) ||
		!llm_validate(recipe->private_data, &answer, fault))
		return NULL;
	return llm_json_store(&answer);
}
