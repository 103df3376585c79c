/*-------------------------------------------------------------------------
 *
 * marker.c
 *	  The marker in a cell: made, found, laid over what was there, taken away.
 *
 * A jsonb cell is asked by key.  A json or text cell is cut and pasted as text
 * (marker_text.c), so that what the user wrote comes back byte for byte.  Nearly
 * all cells hold no marker: they are told by one search for the key's bytes.
 *
 * Called by bind and keep in the user's statement (defer.c), by the write-back
 * (resolve in sql_marker.c), and by the functions users ask.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "base/compat.h"
#include "cell/marker.h"
#include "cell/marker_text.h"

#define KEY_LEN ((int) strlen(LLM_MARKER_KEY))

/* Longest message kept in a cell; the whole of it is in llm.dead_letter. */
#define MESSAGE_BYTES 500

/* More than the largest pending marker has. */
#define PENDING_BYTES 128

/* What a cell says about its marker. */
typedef struct MarkerView
{
	bool present;
	bool nested; /* the key is there, but not as a whole marker at the top */
	int64 task;
	const char *status; /* constant string */
} MarkerView;

static bool
has_key_bytes(const char *data, int len)
{
	return memmem(data, len, LLM_MARKER_KEY, KEY_LEN) != NULL;
}

static LlmSpan
text_span(Datum cell)
{
	text *value = DatumGetTextPP(cell);
	LlmSpan span = {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};

	return span;
}

static JsonbValue
string_value(const char *string)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, string);
	value.val.string.len = strlen(string);
	return value;
}

static JsonbValue
number_value(int64 number)
{
	JsonbValue value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	return value;
}

/* A positive integer that fits; 0 for all else, NaN and fractions included. */
static int64
numeric_task(Numeric number)
{
	const char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	int64 task = 0;

	for (int i = 0; digits[i] != '\0'; i++)
	{
		if (digits[i] < '0' || digits[i] > '9' || i >= 18)
			return 0;
		task = task * 10 + (digits[i] - '0');
	}
	return task;
}

/* The status that the marker's object names, as a constant; NULL when it is none of ours. */
static const char *
jsonb_status(JsonbContainer *marker)
{
	JsonbValue buffer;
	JsonbValue *status = getKeyJsonValueFromContainer(marker, "status", 6, &buffer);

	if (status == NULL || status->type != jbvString)
		return NULL;
	if (status->val.string.len == 7 && memcmp(status->val.string.val, "pending", 7) == 0)
		return "pending";
	if (status->val.string.len == 6 && memcmp(status->val.string.val, "failed", 6) == 0)
		return "failed";
	return NULL;
}

/* The whole marker at the top of the cell, or NULL; what it says goes to *view. */
static JsonbContainer *
find_jsonb_marker(Jsonb *cell, MarkerView *view)
{
	JsonbValue buffer;
	JsonbValue *value;
	JsonbContainer *marker;

	if (!JB_ROOT_IS_OBJECT(cell))
		return NULL;
	value = getKeyJsonValueFromContainer(&cell->root, LLM_MARKER_KEY, KEY_LEN, &buffer);
	if (value == NULL || value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return NULL;
	marker = value->val.binary.data;
	view->status = jsonb_status(marker);
	if (view->status == NULL)
		return NULL;
	value = getKeyJsonValueFromContainer(marker, "task", 4, &buffer);
	if (value != NULL)
		view->task = value->type == jbvNumeric ? numeric_task(value->val.numeric) : 0;
	if (view->task == 0 && (value != NULL || strcmp(view->status, "failed") != 0))
		return NULL;
	view->present = true;
	return marker;
}

/* Is the reserved key a key somewhere in there, also in JSON kept as a string? */
static bool
jsonb_mentions(Jsonb *cell)
{
	JsonbIterator *walk = JsonbIteratorInit(&cell->root);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&walk, &value, false)) != WJB_DONE)
	{
		LlmSpan span;

		if ((token != WJB_KEY && token != WJB_VALUE && token != WJB_ELEM) || value.type != jbvString)
			continue;
		span.data = value.val.string.val;
		span.len = value.val.string.len;
		if (token == WJB_KEY && span.len == KEY_LEN && memcmp(span.data, LLM_MARKER_KEY, KEY_LEN) == 0)
			return true;
		if (token != WJB_KEY && llm_marker_text_mentions(span))
			return true;
	}
	return false;
}

static MarkerView
view_cell(LlmCellType type, Datum cell)
{
	MarkerView view = {0};

	if (type == LLM_CELL_JSONB)
	{
		Jsonb *object = DatumGetJsonbP(cell);

		if (has_key_bytes(VARDATA(object), VARSIZE(object) - VARHDRSZ) &&
			find_jsonb_marker(object, &view) == NULL)
			view.nested = jsonb_mentions(object);
	}
	else if (type != LLM_CELL_OTHER)
	{
		LlmSpan span = text_span(cell);
		LlmMarkerText parts;

		if (!has_key_bytes(span.data, span.len))
			return view;
		llm_marker_text_read(span, &parts);
		view.present = parts.has_marker;
		view.nested = !parts.has_marker && llm_marker_text_mentions(span);
		view.task = parts.has_marker ? parts.task : 0;
		view.status = parts.status;
	}
	return view;
}

LlmCellType
llm_marker_cell_type(Oid type)
{
	switch (getBaseType(type))
	{
		case JSONBOID:
			return LLM_CELL_JSONB;
		case JSONOID:
			return LLM_CELL_JSON;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return LLM_CELL_TEXT;
		default:
			return LLM_CELL_OTHER;
	}
}

/* Start {"llm_enrich": {"task": .., "status": ..; more members may follow. */
static LlmJsonbState
open_marker(int64 task, const char *status)
{
	LlmJsonbState state = {0};
	JsonbValue value;

	llm_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
	value = string_value(LLM_MARKER_KEY);
	llm_jsonb_push(&state, WJB_KEY, &value);
	llm_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
	if (task != 0)
	{
		value = string_value("task");
		llm_jsonb_push(&state, WJB_KEY, &value);
		value = number_value(task);
		llm_jsonb_push(&state, WJB_VALUE, &value);
	}
	value = string_value("status");
	llm_jsonb_push(&state, WJB_KEY, &value);
	value = string_value(status);
	llm_jsonb_push(&state, WJB_VALUE, &value);
	return state;
}

static Jsonb *
close_marker(LlmJsonbState state)
{
	llm_jsonb_push(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(llm_jsonb_push(&state, WJB_END_OBJECT, NULL));
}

/*
 * One is made for each call of a statement, and all that differs is the number: so it is
 * written over in a copy of the last one, where that has as many bytes.
 */
Jsonb *
llm_marker_pending(int64 task)
{
	static char pattern[PENDING_BYTES]; /* the last one that was made in full */
	static Size size = 0; /* 0: none */
	static Size number_at; /* in bytes from the start */
	Numeric number = int64_to_numeric(task);
	MarkerView view = {0};
	JsonbContainer *marker;
	JsonbValue buffer;
	Jsonb *made;

	if (size > 0 && VARSIZE_ANY(number) == VARSIZE_ANY(pattern + number_at))
	{
		made = palloc(size);
		memcpy(made, pattern, size);
		memcpy((char *) made + number_at, number, VARSIZE_ANY(number));
		return made;
	}
	made = close_marker(open_marker(task, "pending"));
	marker = find_jsonb_marker(made, &view);
	if (marker != NULL && VARSIZE(made) <= PENDING_BYTES)
	{
		size = VARSIZE(made);
		memcpy(pattern, made, size);
		number_at = (char *) getKeyJsonValueFromContainer(marker, "task", 4, &buffer)->val.numeric - (char *) made;
	}
	return made;
}

Jsonb *
llm_marker_failed(int64 task, const char *error, const char *message)
{
	LlmJsonbState state = open_marker(task, "failed");
	JsonbValue value;

	value = string_value("error");
	llm_jsonb_push(&state, WJB_KEY, &value);
	value = string_value(error);
	llm_jsonb_push(&state, WJB_VALUE, &value);
	value = string_value("message");
	llm_jsonb_push(&state, WJB_KEY, &value);
	value = string_value(message);
	value.val.string.len = pg_mbcliplen(message, value.val.string.len, MESSAGE_BYTES);
	llm_jsonb_push(&state, WJB_VALUE, &value);
	return close_marker(state);
}

int64
llm_marker_task(LlmCellType type, Datum cell, bool *nested)
{
	MarkerView view = view_cell(type, cell);

	*nested = view.nested;
	return view.task;
}

const char *
llm_marker_status(LlmCellType type, Datum cell)
{
	MarkerView view = view_cell(type, cell);

	return view.present ? view.status : NULL;
}

Datum
llm_marker_cell(LlmCellType type, Jsonb *object)
{
	StringInfoData out;

	if (type == LLM_CELL_JSONB)
		return JsonbPGetDatum(object);
	initStringInfo(&out);
	JsonbToCString(&out, &object->root, VARSIZE(object));
	return PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
}

/* Push the members of an object at the iterator's top level, "without" left out; returns how many. */
static int
push_members(LlmJsonbState *state, JsonbContainer *object, const char *without)
{
	JsonbIterator *walk = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue value;
	int without_len = without ? strlen(without) : -1;
	int pushed = 0;

	(void) JsonbIteratorNext(&walk, &value, true);
	while ((token = JsonbIteratorNext(&walk, &value, true)) == WJB_KEY)
	{
		bool skip = value.val.string.len == without_len &&
					memcmp(value.val.string.val, without, without_len) == 0;

		if (!skip)
			(void) llm_jsonb_push(state, token, &value);
		token = JsonbIteratorNext(&walk, &value, true);
		if (!skip)
		{
			(void) llm_jsonb_push(state, token, &value);
			pushed++;
		}
	}
	return pushed;
}

/* A cell as a value to put into an object: a scalar is taken out of its wrapping. */
static void
whole_value(Jsonb *cell, JsonbValue *value)
{
	if (JB_ROOT_IS_SCALAR(cell) && JsonbExtractScalar(&cell->root, value))
		return;
	value->type = jbvBinary;
	value->val.binary.data = &cell->root;
	value->val.binary.len = VARSIZE(cell) - VARHDRSZ;
}

/* llm_marker_keep() for jsonb; "fresh" is a bare marker, "marker" its object. */
static Datum
keep_jsonb(Jsonb *old, JsonbContainer *marker)
{
	MarkerView view = {0};
	JsonbContainer *old_marker = find_jsonb_marker(old, &view);
	LlmJsonbState state = {0};
	JsonbValue buffer;
	JsonbValue *previous = NULL;
	JsonbValue value;
	JsonbValue reserved;
	int kept = 0;
	bool is_foreign;

	/* A value under our key that we did not make is the user's: kept whole. */
	is_foreign = JB_ROOT_IS_OBJECT(old) && old_marker == NULL &&
				 getKeyJsonValueFromContainer(&old->root, LLM_MARKER_KEY, KEY_LEN, &reserved) != NULL;

	(void) llm_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
	if (JB_ROOT_IS_OBJECT(old) && !is_foreign)
		kept = push_members(&state, &old->root, LLM_MARKER_KEY);
	if (old_marker != NULL)
		previous = getKeyJsonValueFromContainer(old_marker, "previous", 8, &buffer);
	else if (kept == 0)
	{
		whole_value(old, &buffer);
		previous = &buffer;
	}

	value = string_value(LLM_MARKER_KEY);
	(void) llm_jsonb_push(&state, WJB_KEY, &value);
	(void) llm_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
	(void) push_members(&state, marker, NULL);
	if (previous != NULL)
	{
		value = string_value("previous");
		(void) llm_jsonb_push(&state, WJB_KEY, &value);
		(void) llm_jsonb_push(&state, WJB_VALUE, previous);
	}
	return JsonbPGetDatum(close_marker(state));
}

/* Append text as a JSON string, or as it is. */
static void
append_previous(StringInfo out, LlmSpan value, bool quote)
{
	appendStringInfoString(out, ", \"previous\": ");
	if (quote)
	{
		char *copy = pnstrdup(value.data, value.len);

		escape_json(out, copy);
		pfree(copy);
	}
	else
		appendBinaryStringInfo(out, value.data, value.len);
}

/* An object and nothing else, no blanks around it: in text it comes back byte for byte without being quoted. */
static bool
is_bare_object(LlmSpan cell, const LlmMarkerText *parts)
{
	return parts->is_object && !parts->has_key && cell.data[0] == '{' && cell.data[cell.len - 1] == '}';
}

/* llm_marker_keep() for json and text; "marker" is the object of the bare fresh marker. */
static Datum
keep_text(LlmCellType type, LlmSpan old, LlmSpan marker)
{
	LlmMarkerText parts;
	StringInfoData out;
	bool beside; /* old members stay beside the marker */
	int tail;

	if (type == LLM_CELL_JSON && !llm_marker_text_can_keep(old))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the JSON value that the cell holds is nested too deeply to keep"),
				 errhint("Set the column to NULL first, or change its type to jsonb.")));
	llm_marker_text_read(old, &parts);
	beside = parts.members > 0 && parts.has_key == parts.has_marker;
	tail = Max(parts.paste_at, parts.cut_end);

	initStringInfo(&out);
	if (beside)
	{
		appendBinaryStringInfo(&out, old.data, parts.has_marker ? parts.cut_start : parts.paste_at);
		if (parts.has_marker)
			appendBinaryStringInfo(&out, old.data + parts.cut_end, Max(0, parts.paste_at - parts.cut_end));
		appendStringInfoString(&out, ", ");
	}
	else
		appendStringInfoChar(&out, '{');
	appendStringInfoString(&out, "\"" LLM_MARKER_KEY "\": ");
	appendBinaryStringInfo(&out, marker.data, marker.len - 1);
	if (parts.previous.data != NULL && parts.has_marker)
		append_previous(&out, parts.previous, false);
	else if (!beside && !parts.has_marker)
		append_previous(&out, old, type == LLM_CELL_TEXT && !is_bare_object(old, &parts));
	appendStringInfoChar(&out, '}');
	if (beside)
		appendBinaryStringInfo(&out, old.data + tail, old.len - tail);
	else
		appendStringInfoChar(&out, '}');
	return PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
}

Datum
llm_marker_keep(LlmCellType type, Datum old, bool old_is_null, Datum fresh)
{
	if (old_is_null || type == LLM_CELL_OTHER)
		return fresh;
	if (type == LLM_CELL_JSONB)
	{
		Jsonb *cell = DatumGetJsonbP(fresh);
		MarkerView view = {0};
		JsonbContainer *marker = find_jsonb_marker(cell, &view);
		JsonbValue previous;

		if (marker == NULL || JB_ROOT_COUNT(cell) != 1 ||
			getKeyJsonValueFromContainer(marker, "previous", 8, &previous) != NULL)
			return fresh;
		return keep_jsonb(DatumGetJsonbP(old), marker);
	}
	else
	{
		LlmMarkerText parts;

		llm_marker_text_read(text_span(fresh), &parts);
		if (!parts.has_marker || parts.members > 0 || parts.previous.data != NULL)
			return fresh;
		return keep_text(type, text_span(old), parts.marker);
	}
}

static bool
restore_jsonb(Datum cell, Datum *held)
{
	Jsonb *object = DatumGetJsonbP(cell);
	MarkerView view = {0};
	JsonbContainer *marker = find_jsonb_marker(object, &view);
	LlmJsonbState state = {0};
	JsonbValue buffer;
	JsonbValue *value;

	*held = cell;
	if (marker == NULL)
		return true;
	if (JB_ROOT_COUNT(object) > 1)
	{
		(void) llm_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
		(void) push_members(&state, &object->root, LLM_MARKER_KEY);
		value = llm_jsonb_push(&state, WJB_END_OBJECT, NULL);
	}
	else
	{
		value = getKeyJsonValueFromContainer(marker, "previous", 8, &buffer);
		if (value == NULL)
			return false;
	}
	*held = JsonbPGetDatum(JsonbValueToJsonb(value));
	return true;
}

/* The text that a JSON string stands for; the scanner has checked it. */
static Datum
unquote(LlmSpan string)
{
	Jsonb *value = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													  CStringGetDatum(pnstrdup(string.data, string.len))));
	JsonbValue scalar;

	if (!JsonbExtractScalar(&value->root, &scalar) || scalar.type != jbvString)
		elog(ERROR, "a JSON string was expected");
	return PointerGetDatum(cstring_to_text_with_len(scalar.val.string.val, scalar.val.string.len));
}

bool
llm_marker_restore(LlmCellType type, Datum cell, Datum *held)
{
	LlmSpan span;
	LlmMarkerText parts;
	StringInfoData out;

	if (type == LLM_CELL_JSONB)
		return restore_jsonb(cell, held);
	*held = cell;
	if (type == LLM_CELL_OTHER)
		return true;
	span = text_span(cell);
	llm_marker_text_read(span, &parts);
	if (!parts.has_marker)
		return true;
	if (parts.members > 0)
	{
		initStringInfo(&out);
		appendBinaryStringInfo(&out, span.data, parts.cut_start);
		appendBinaryStringInfo(&out, span.data + parts.cut_end, span.len - parts.cut_end);
		*held = PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
		return true;
	}
	if (parts.previous.data == NULL)
		return false;
	if (type == LLM_CELL_TEXT && parts.previous.data[0] == '"')
		*held = unquote(parts.previous);
	else
		*held = PointerGetDatum(cstring_to_text_with_len(parts.previous.data, parts.previous.len));
	return true;
}
