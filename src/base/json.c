/*-------------------------------------------------------------------------
 *
 * json.c
 *	  Trees of JSON values: made from text or jsonb, searched, compared,
 *	  stored; and JSON text written.
 *
 * All code that builds or reads jsonb in C goes through here, so that
 * differences between versions of the server's jsonb interface are in one file.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/json.h"

/* Integers of so many digits fit an int64. */
#define MAX_FAST_DIGITS 18

/* A text on its way to a tree. */
typedef struct Parse
{
	LlmJsonReader reader;
	int values; /* so far */
	StringInfo fault;
} Parse;

static bool read_value(Parse *parse, JsonbValue *value);

/* jsonb's order of keys: by length, then by bytes. */
static int
compare_text(const JsonbValue *a, const JsonbValue *b)
{
	if (a->val.string.len != b->val.string.len)
		return a->val.string.len < b->val.string.len ? -1 : 1;
	return memcmp(a->val.string.val, b->val.string.val, a->val.string.len);
}

static int
compare_pairs(const void *a, const void *b)
{
	return compare_text(&((const JsonbPair *) a)->key, &((const JsonbPair *) b)->key);
}

/* Sort an object's pairs; insertion is fastest for the few that there usually are. */
static void
sort_pairs(JsonbPair *pairs, int n)
{
	int j;

	if (n > 16)
	{
		llm_json_sort(pairs, n, sizeof(JsonbPair), compare_pairs);
		return;
	}
	for (int i = 1; i < n; i++)
	{
		JsonbPair pair = pairs[i];

		for (j = i; j > 0 && compare_pairs(&pairs[j - 1], &pair) > 0; j--)
			pairs[j] = pairs[j - 1];
		pairs[j] = pair;
	}
}

/* Say what is wrong with the text, once. */
static bool
fault(Parse *parse, const char *what)
{
	if (parse->fault->len == 0)
		appendStringInfo(parse->fault, "The answer %s.", what);
	return false;
}

/* A string value: borrowed from the text, or decoded where it has escapes. */
static bool
read_string(Parse *parse, const LlmJsonSlice *slice, JsonbValue *value)
{
	bool clean = true;
	size_t len = slice->len;

	value->type = jbvString;
	if (slice->escaped)
		value->val.string.val = llm_json_decode(slice, &len, &clean);
	else
		value->val.string.val = unconstify(char *, slice->at);
	value->val.string.len = (int) len;
	if (!clean)
		return fault(parse, "holds \\u0000 or half a surrogate pair, which cannot be stored");
	if (len > JENTRY_OFFLENMASK)
		return fault(parse, "holds a string that is too long");
	return true;
}

/* The number as int64 when it is a short integer. */
static bool
read_short_integer(const LlmJsonSlice *slice, int64 *number)
{
	const char *p = slice->at;
	const char *end = p + slice->len;
	bool negative = *p == '-';
	int64 n = 0;

	if (slice->len > MAX_FAST_DIGITS)
		return false;
	if (negative)
		p++;
	for (; p < end; p++)
	{
		if (*p < '0' || *p > '9')
			return false;
		n = n * 10 + (*p - '0');
	}
	*number = negative ? -n : n;
	return true;
}

/* A number value; numeric_in() cannot raise within the bounds checked first. */
static bool
read_number(Parse *parse, const LlmJsonSlice *slice, JsonbValue *value)
{
	int64 n;
	char str[LLM_JSON_MAX_NUMBER + 1];
	char *exponent;
	long power;

	value->type = jbvNumeric;
	if (read_short_integer(slice, &n))
	{
		value->val.numeric = int64_to_numeric(n);
		return true;
	}
	if (slice->len > LLM_JSON_MAX_NUMBER)
		return fault(parse, "holds a number that is too long");
	memcpy(str, slice->at, slice->len);
	str[slice->len] = '\0';
	exponent = strpbrk(str, "eE");
	power = exponent == NULL ? 0 : strtol(exponent + 1, NULL, 10);
	/* the length of what numeric_out() writes is at most that of both together */
	if (power > LLM_JSON_MAX_NUMBER - (long) slice->len || power < (long) slice->len - LLM_JSON_MAX_NUMBER)
		return fault(parse, "holds a number that is too large or too small");
	value->val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(str),
															 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return true;
}

/* Room for one more element: sizes double, so that the work stays linear. */
static void *
grow(void *array, int n, int *max, size_t size)
{
	if (n < *max)
		return array;
	*max = *max == 0 ? 4 : *max * 2;
	return array == NULL ? palloc(*max * size) : repalloc(array, *max * size);
}

/* Put an object's pairs in order and look for keys that we cannot take. */
static bool
check_keys(Parse *parse, JsonbPair *pairs, int n)
{
	sort_pairs(pairs, n);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && compare_pairs(&pairs[i - 1], &pairs[i]) == 0)
			return fault(parse, "has the same key twice in one object");
		if (llm_json_string_is(&pairs[i].key, LLM_MARKER_KEY))
			return fault(parse, "uses the key \"" LLM_MARKER_KEY "\", which is reserved");
	}
	return true;
}

static bool
read_object(Parse *parse, JsonbValue *value)
{
	JsonbPair *pairs = NULL;
	int max = 0;
	int i;
	LlmJsonSlice key;

	if (!llm_json_enter(&parse->reader, '{'))
		return false;
	for (i = 0; llm_json_next_key(&parse->reader, i, &key); i++)
	{
		pairs = grow(pairs, i, &max, sizeof(JsonbPair));
		pairs[i].order = i;
		if (!read_string(parse, &key, &pairs[i].key) || !read_value(parse, &pairs[i].value))
			return false;
	}
	value->type = jbvObject;
	value->val.object.nPairs = i;
	value->val.object.pairs = pairs;
	return parse->reader.problem == NULL && check_keys(parse, pairs, i);
}

static bool
read_array(Parse *parse, JsonbValue *value)
{
	JsonbValue *elements = NULL;
	int max = 0;
	int i;

	if (!llm_json_enter(&parse->reader, '['))
		return false;
	for (i = 0; llm_json_next_item(&parse->reader, i); i++)
	{
		elements = grow(elements, i, &max, sizeof(JsonbValue));
		if (!read_value(parse, &elements[i]))
			return false;
	}
	*value = llm_json_make_array(elements, i);
	return parse->reader.problem == NULL;
}

/* Recursion is bounded by the reader's own depth limit. */
static bool
read_value(Parse *parse, JsonbValue *value)
{
	LlmJsonSlice slice;

	if (++parse->values > LLM_JSON_MAX_VALUES)
		return fault(parse, "holds too many values");
	switch (llm_json_peek(&parse->reader))
	{
		case '{':
			return read_object(parse, value);
		case '[':
			return read_array(parse, value);
		case '"':
			return llm_json_string(&parse->reader, &slice) && read_string(parse, &slice, value);
		case '-':
			return llm_json_number(&parse->reader, &slice) && read_number(parse, &slice, value);
		case 't':
		case 'f':
			*value = llm_json_make_bool(*parse->reader.at == 't');
			return llm_json_skip(&parse->reader);
		default:
			value->type = jbvNull;
			return llm_json_skip(&parse->reader);
	}
}

bool
llm_json_parse(const char *str, size_t len, JsonbValue *value, StringInfo what)
{
	Parse parse;

	llm_json_open(&parse.reader, str, len);
	parse.values = 0;
	parse.fault = what;
	if (!llm_json_is_utf8(str, len))
		return fault(&parse, "is not valid UTF-8 text");
	if (read_value(&parse, value) && llm_json_close(&parse.reader))
		return true;
	if (parse.reader.problem != NULL)
		fault(&parse, parse.reader.problem);
	return false;
}

/* Tree of what an iterator just began; depth counts the levels above. */
static bool
tree_of_container(JsonbContainer *container, JsonbValue *value, int depth)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue v;
	int n = JsonContainerSize(container);

	if (depth >= LLM_JSON_MAX_DEPTH)
		return false;
	if (JsonContainerIsObject(container))
	{
		value->type = jbvObject;
		value->val.object.nPairs = n;
		value->val.object.pairs = palloc(Max(n, 1) * sizeof(JsonbPair));
	}
	else
		*value = llm_json_make_array(palloc(Max(n, 1) * sizeof(JsonbValue)), n);

	(void) JsonbIteratorNext(&it, &v, true);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *slot;

		(void) JsonbIteratorNext(&it, &v, true);
		if (value->type == jbvObject)
		{
			value->val.object.pairs[i].key = v;
			value->val.object.pairs[i].order = i;
			slot = &value->val.object.pairs[i].value;
			(void) JsonbIteratorNext(&it, &v, true);
		}
		else
			slot = &value->val.array.elems[i];
		*slot = v;
		if (v.type == jbvBinary && !tree_of_container(v.val.binary.data, slot, depth + 1))
			return false;
	}
	return true;
}

bool
llm_json_tree(Jsonb *jsonb, JsonbValue *value)
{
	if (JB_ROOT_IS_SCALAR(jsonb))
		return JsonbExtractScalar(&jsonb->root, value);
	return tree_of_container(&jsonb->root, value, 0);
}

Jsonb *
llm_json_store(const JsonbValue *value)
{
	return JsonbValueToJsonb(unconstify(JsonbValue *, value));
}

JsonbValue *
llm_json_find(const JsonbValue *object, const char *key, int len)
{
	JsonbPair wanted;
	JsonbPair *pair;

	if (object == NULL || object->type != jbvObject || object->val.object.nPairs == 0)
		return NULL;
	wanted.key = llm_json_make_string(key, len);
	pair = bsearch(&wanted, object->val.object.pairs, object->val.object.nPairs, sizeof(JsonbPair), compare_pairs);
	return pair == NULL ? NULL : &pair->value;
}

JsonbValue *
llm_json_get(const JsonbValue *object, const char *key)
{
	return llm_json_find(object, key, strlen(key));
}

static int
compare_arrays(const JsonbValue *a, const JsonbValue *b)
{
	int order;

	if (a->val.array.nElems != b->val.array.nElems)
		return a->val.array.nElems < b->val.array.nElems ? -1 : 1;
	for (int i = 0; i < a->val.array.nElems; i++)
	{
		order = llm_json_compare(&a->val.array.elems[i], &b->val.array.elems[i]);
		if (order != 0)
			return order;
	}
	return 0;
}

static int
compare_objects(const JsonbValue *a, const JsonbValue *b)
{
	int order;

	if (a->val.object.nPairs != b->val.object.nPairs)
		return a->val.object.nPairs < b->val.object.nPairs ? -1 : 1;
	for (int i = 0; i < a->val.object.nPairs; i++)
	{
		order = compare_pairs(&a->val.object.pairs[i], &b->val.object.pairs[i]);
		if (order == 0)
			order = llm_json_compare(&a->val.object.pairs[i].value, &b->val.object.pairs[i].value);
		if (order != 0)
			return order;
	}
	return 0;
}

int
llm_json_compare(const JsonbValue *a, const JsonbValue *b)
{
	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	switch (a->type)
	{
		case jbvString:
			return compare_text(a, b);
		case jbvNumeric:
			return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a->val.numeric),
													 NumericGetDatum(b->val.numeric)));
		case jbvBool:
			return (int) a->val.boolean - (int) b->val.boolean;
		case jbvArray:
			return compare_arrays(a, b);
		case jbvObject:
			return compare_objects(a, b);
		default:
			return 0;
	}
}

int
llm_json_order(const void *one, const void *other)
{
	return llm_json_compare(one, other);
}

JsonbValue
llm_json_make_string(const char *str, int len)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, str);
	value.val.string.len = len;
	return value;
}

JsonbValue
llm_json_make_text(const char *str)
{
	return llm_json_make_string(str, strlen(str));
}

JsonbValue
llm_json_make_int(int64 number)
{
	JsonbValue value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	return value;
}

JsonbValue
llm_json_make_bool(bool boolean)
{
	JsonbValue value;

	value.type = jbvBool;
	value.val.boolean = boolean;
	return value;
}

JsonbValue
llm_json_make_array(JsonbValue *elements, int n)
{
	JsonbValue value;

	value.type = jbvArray;
	value.val.array.nElems = n;
	value.val.array.elems = elements;
	value.val.array.rawScalar = false;
	return value;
}

JsonbValue
llm_json_make_object(JsonbPair *pairs, int n)
{
	JsonbValue value;

	sort_pairs(pairs, n);
	value.type = jbvObject;
	value.val.object.nPairs = n;
	value.val.object.pairs = pairs;
	return value;
}

void
llm_json_set_pair(JsonbPair *pair, const char *key, JsonbValue value)
{
	pair->key = llm_json_make_text(key);
	pair->value = value;
	pair->order = 0;
}

bool
llm_json_string_is(const JsonbValue *value, const char *str)
{
	size_t len = strlen(str);

	return value->type == jbvString && value->val.string.len == len &&
		   memcmp(value->val.string.val, str, len) == 0;
}

char *
llm_json_cstring(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

int
llm_json_to_int(const JsonbValue *value)
{
	return DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(value->val.numeric)));
}

const char *
llm_json_type(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "string";
		case jbvNumeric:
			return "number";
		case jbvBool:
			return "boolean";
		case jbvArray:
			return "array";
		default:
			return "object";
	}
}

Jsonb *
llm_json_store_member(const char *key, JsonbValue value)
{
	JsonbPair pair;
	JsonbValue object;

	llm_json_set_pair(&pair, key, value);
	object = llm_json_make_object(&pair, 1);
	return llm_json_store(&object);
}

bool
llm_json_is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

void
llm_json_trim(const char **str, size_t *len)
{
	while (*len > 0 && llm_json_is_blank((*str)[*len - 1]))
		(*len)--;
	while (*len > 0 && llm_json_is_blank(**str))
	{
		(*str)++;
		(*len)--;
	}
}
