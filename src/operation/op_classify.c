/*-------------------------------------------------------------------------
 *
 * op_classify.c
 *	  llm_classify: one label, or several, out of a list or of the model's own.
 *
 *	  {"label": "billing"}          or, with multi,  {"labels": ["billing", "bug"]}
 *	  {"label": null}               where that is allowed, and no label fits
 *
 * A label is taken only if it is one of the list, letter by letter.  The labels
 * stand in the system text besides the schema, since some servers only bend
 * the model's output to a schema and never show it to the model.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/json.h"
#include "operation/operation.h"
#include "operation/prompt.h"
#include "operation/spec.h"
#include "operation/validate.h"

#define MAX_LABELS 1000
#define MAX_LABEL_LEN 200 /* characters */
#define MAX_DESCRIPTION_LEN 1000 /* characters */

/* Labels that the model names itself, in characters. */
#define MAX_FREE_LABEL_LEN 60

/* Answers with more labels than this are invalid when the model names them itself. */
#define MAX_FREE_LABELS 20

typedef struct Classify
{
	bool multi;
	bool allow_none;
	JsonbValue *given; /* the array as it was written, or NULL */
	JsonbValue *sorted; /* its elements in the order of llm_json_compare */
	int n;
} Classify;

pg_noreturn static void refuse_labels(const char *detail);

static void
refuse_labels(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("labels are not valid"),
			 errdetail("%s", detail),
			 errhint("Give 1 to %d different labels, for instance '{billing,bug,other}', or none to let the model name one.",
					 MAX_LABELS)));
}

static JsonbValue *
sort_labels(const JsonbValue *labels)
{
	int n = labels->val.array.nElems;
	JsonbValue *sorted = palloc(Max(n, 1) * sizeof(JsonbValue));

	/* an empty list may have no memory at all */
	if (n > 0)
	{
		memcpy(sorted, labels->val.array.elems, n * sizeof(JsonbValue));
		llm_json_sort(sorted, n, sizeof(JsonbValue), llm_json_order);
	}
	return sorted;
}

static void
check_label(const JsonbValue *label)
{
	const char *words = label->val.string.val;
	int len = label->val.string.len;

	if (llm_spec_is_blank(words, len))
		refuse_labels("A label is blank.");
	if (pg_mbstrlen_with_len(words, len) > MAX_LABEL_LEN)
		refuse_labels(psprintf("The label \"%.*s…\" is longer than %d characters.",
							   (int) llm_json_clip(words, len, 40), words, MAX_LABEL_LEN));
}

static JsonbValue
read_labels(ArrayType *array)
{
	JsonbValue labels;
	JsonbValue *sorted;
	Datum *elements;
	bool *nulls;
	int n;

	if (ARR_NDIM(array) > 1)
		refuse_labels("They are an array of several dimensions.");
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n == 0)
		refuse_labels("The array is empty.");
	if (n > MAX_LABELS)
		refuse_labels(psprintf("There are %d of them.", n));
	labels = llm_json_make_array(palloc(n * sizeof(JsonbValue)), n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			refuse_labels("A label is NULL.");
		labels.val.array.elems[i] = llm_json_make_text(TextDatumGetCString(elements[i]));
		check_label(&labels.val.array.elems[i]);
	}
	sorted = sort_labels(&labels);
	for (int i = 1; i < n; i++)
	{
		if (llm_json_order(&sorted[i - 1], &sorted[i]) == 0)
			refuse_labels(psprintf("The label \"%s\" is given twice.", llm_json_cstring(&sorted[i])));
	}
	pfree(sorted);
	return labels;
}

/* Check of the argument "labels". */
void
llm_argument_labels(LlmSpec *spec, LlmArg arg, Datum value)
{
	llm_spec_add(spec, llm_arguments[arg].name, read_labels(DatumGetArrayTypeP(value)));
}

static bool
is_label(const JsonbValue *labels, const JsonbValue *name)
{
	for (int i = 0; i < labels->val.array.nElems; i++)
	{
		if (llm_json_order(&labels->val.array.elems[i], name) == 0)
			return true;
	}
	return false;
}

/* Check of the argument "descriptions": what labels mean, by their names. */
void
llm_argument_descriptions(LlmSpec *spec, LlmArg arg, Datum value)
{
	const JsonbValue *labels = llm_spec_get(spec, "labels");
	JsonbValue descriptions;

	if (!llm_json_tree(DatumGetJsonbP(value), &descriptions) || descriptions.type != jbvObject ||
		descriptions.val.object.nPairs == 0)
		llm_spec_refuse(arg, "Give an object, {\"billing\": \"money, invoices\"}: a sentence for each label that needs one.");
	if (labels == NULL)
		llm_spec_refuse(arg, "They describe labels: give \"labels\", too.");
	for (int i = 0; i < descriptions.val.object.nPairs; i++)
	{
		const JsonbPair *pair = &descriptions.val.object.pairs[i];
		char *label = llm_json_cstring(&pair->key);

		if (!is_label(labels, &pair->key))
			llm_spec_refuse(arg, psprintf("There is no label \"%s\".", label));
		if (pair->value.type != jbvString || llm_spec_is_blank(pair->value.val.string.val, pair->value.val.string.len))
			llm_spec_refuse(arg, psprintf("The description of \"%s\" must be a string that is not blank.", label));
		if (pg_mbstrlen_with_len(pair->value.val.string.val, pair->value.val.string.len) > MAX_DESCRIPTION_LEN)
			llm_spec_refuse(arg, psprintf("The description of \"%s\" has more than %d characters.", label,
										  MAX_DESCRIPTION_LEN));
	}
	llm_spec_add(spec, llm_arguments[arg].name, descriptions);
}

static Jsonb *
make_spec(const LlmCallArgs *args)
{
	if (args->given[LLM_ARG_MULTI] && args->given[LLM_ARG_ALLOW_NONE])
		llm_spec_refuse(LLM_ARG_ALLOW_NONE, "Omit it: with \"multi\", an empty list says that no label fits.");
	return llm_spec_make(&llm_op_classify, args);
}

/* The labels, and null. */
static JsonbValue
with_null(const JsonbValue *labels)
{
	int n = labels->val.array.nElems;
	JsonbValue *elems = palloc((n + 1) * sizeof(JsonbValue));

	memcpy(elems, labels->val.array.elems, n * sizeof(JsonbValue));
	elems[n].type = jbvNull;
	return llm_json_make_array(elems, n + 1);
}

/* Schema of one label: a string, of the list if there is one; or null. */
static JsonbValue
label_schema(const Classify *own)
{
	JsonbPair *pairs = palloc(2 * sizeof(JsonbPair));
	JsonbValue *types = palloc(2 * sizeof(JsonbValue));
	int n = 0;

	types[0] = llm_json_make_text("string");
	types[1] = llm_json_make_text("null");
	llm_json_set_pair(&pairs[n++], "type", own->allow_none ? llm_json_make_array(types, 2) : types[0]);
	if (own->given != NULL)
		llm_json_set_pair(&pairs[n++], "enum", own->allow_none ? with_null(own->given) : *own->given);
	return llm_json_make_object(pairs, n);
}

static JsonbValue
answer_schema(const Classify *own)
{
	JsonbPair *list;
	JsonbValue schema = label_schema(own);

	if (!own->multi)
		return llm_prompt_object_schema("label", schema);
	list = palloc(2 * sizeof(JsonbPair));
	llm_json_set_pair(&list[0], "type", llm_json_make_text("array"));
	llm_json_set_pair(&list[1], "items", schema);
	return llm_prompt_object_schema("labels", llm_json_make_object(list, 2));
}

/* What labels mean, a line for each that is described, in the order of the labels. */
static void
append_descriptions(StringInfo buf, const Classify *own, const JsonbValue *descriptions)
{
	for (int i = 0; descriptions != NULL && i < own->n; i++)
	{
		const JsonbValue *label = &own->given->val.array.elems[i];
		const JsonbValue *words = llm_json_find(descriptions, label->val.string.val, label->val.string.len);

		if (words == NULL)
			continue;
		appendBinaryStringInfo(buf, label->val.string.val, label->val.string.len);
		appendStringInfoString(buf, ": ");
		appendBinaryStringInfo(buf, words->val.string.val, words->val.string.len);
		appendStringInfoChar(buf, '\n');
	}
}

static char *
system_text(const Classify *own, const JsonbValue *spec)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "Classify the user's message. ");
	if (own->given == NULL)
		appendStringInfo(&buf, own->multi ? "Name each label that applies in one to three words.\n" : "Name the one label that fits best in one to three words.\n");
	else
	{
		appendStringInfoString(&buf, own->multi ? "Choose each label that applies, none if none does, from: " : "Choose the one label that fits best from: ");
		llm_json_append(&buf, own->given);
		appendStringInfoChar(&buf, '\n');
		append_descriptions(&buf, own, llm_json_get(spec, "descriptions"));
	}
	if (own->allow_none)
		appendStringInfoString(&buf, "Where no label fits, answer {\"label\": null}.\n");
	llm_prompt_finish(&buf, spec, own->multi ? "{\"labels\": [\"…\"]}" : "{\"label\": \"…\"}", true);
	return buf.data;
}

/* As long as an answer may get with the labels that there are. */
static int
answer_bytes(const Classify *own)
{
	int64 longest = 0;
	int64 all = 0;

	for (int i = 0; own->given != NULL && i < own->n; i++)
	{
		longest = Max(longest, own->given->val.array.elems[i].val.string.len);
		all += own->given->val.array.elems[i].val.string.len + 4;
	}
	return (int) Min(own->multi ? all : longest, PG_INT16_MAX);
}

static void
load(LlmRecipe *recipe, const JsonbValue *spec)
{
	Classify *own = palloc0(sizeof(Classify));
	JsonbValue schema;

	own->multi = llm_json_get(spec, "multi") != NULL;
	own->allow_none = llm_json_get(spec, "allow_none") != NULL;
	own->given = llm_json_get(spec, "labels");
	if (own->given != NULL)
	{
		JsonbValue *copy = palloc(sizeof(JsonbValue));

		*copy = *own->given;
		own->given = copy;
		own->n = copy->val.array.nElems;
		own->sorted = sort_labels(copy);
	}
	schema = answer_schema(own);
	recipe->schema = llm_json_store(&schema);
	recipe->system = system_text(own, spec);
	recipe->value_key = own->multi ? "labels" : "label";
	recipe->output_tokens = Max(recipe->output_tokens, answer_bytes(own));
	recipe->private_data = own;
}

/* Say that a label is not in the list, and what is. */
static void
report_foreign(const Classify *own, const JsonbValue *label, StringInfo fault)
{
	appendStringInfoString(fault, "The label ");
	llm_json_append_string(fault, label->val.string.val,
						   llm_json_clip(label->val.string.val, label->val.string.len, 60));
	appendStringInfoString(fault, " is not one of: ");
	for (int i = 0; i < own->n && fault->len < LLM_FAULT_MAX; i++)
	{
		const JsonbValue *known = &own->given->val.array.elems[i];

		if (i > 0)
			appendStringInfoString(fault, ", ");
		llm_json_escape(fault, known->val.string.val, known->val.string.len);
	}
	appendStringInfoChar(fault, '.');
	llm_validate_clip(fault);
}

/* Is this a label that we take?  If not, say why. */
static bool
accept_label(const Classify *own, const JsonbValue *label, StringInfo fault)
{
	const char *words = label->val.string.val;
	int len = label->val.string.len;

	if (label->type == jbvNull && own->allow_none)
		return true;
	if (label->type != jbvString)
		appendStringInfo(fault, "A label must be a string, not a JSON %s.", llm_json_type(label));
	else if (own->given != NULL)
	{
		if (bsearch(label, own->sorted, own->n, sizeof(JsonbValue), llm_json_order) != NULL)
			return true;
		report_foreign(own, label, fault);
	}
	else if (llm_spec_is_blank(words, len))
		appendStringInfoString(fault, "The label is blank.");
	else if (pg_mbstrlen_with_len(words, len) > MAX_FREE_LABEL_LEN)
		appendStringInfo(fault, "The label is longer than %d characters.", MAX_FREE_LABEL_LEN);
	else
		return true;
	return false;
}

static bool
accept_labels(const Classify *own, const JsonbValue *labels, StringInfo fault)
{
	int max = own->given != NULL ? own->n : MAX_FREE_LABELS;
	JsonbValue *sorted;

	if (labels->type != jbvArray)
	{
		appendStringInfo(fault, "\"labels\" must be a list, not a JSON %s.", llm_json_type(labels));
		return false;
	}
	if (labels->val.array.nElems > max)
	{
		appendStringInfo(fault, "There are %d labels; at most %d are possible.", labels->val.array.nElems, max);
		return false;
	}
	for (int i = 0; i < labels->val.array.nElems; i++)
	{
		if (!accept_label(own, &labels->val.array.elems[i], fault))
			return false;
	}
	sorted = sort_labels(labels);
	for (int i = 1; i < labels->val.array.nElems; i++)
	{
		if (llm_json_order(&sorted[i - 1], &sorted[i]) != 0)
			continue;
		appendStringInfoString(fault, "The label ");
		llm_json_append_string(fault, sorted[i].val.string.val, sorted[i].val.string.len);
		appendStringInfoString(fault, " is given twice.");
		llm_validate_clip(fault);
		return false;
	}
	return true;
}

static Jsonb *
check(const LlmRecipe *recipe, const LlmCandidate *given, StringInfo fault)
{
	const Classify *own = recipe->private_data;
	const char *key = own->multi ? "labels" : "label";
	JsonbValue answer;
	JsonbValue *value;

	if (!llm_validate_object(given->str, given->len, &answer, fault))
		return NULL;
	value = llm_json_get(&answer, key);
	if (value == NULL || answer.val.object.nPairs != 1)
	{
		appendStringInfo(fault, "The answer must have the property \"%s\" and no other.", key);
		return NULL;
	}
	if (own->multi ? !accept_labels(own, value, fault) : !accept_label(own, value, fault))
		return NULL;
	return llm_json_store(&answer);
}

const LlmOperation llm_op_classify = {
	.name = "classify",
	.function = "llm_classify",
	.output_tokens = 64,
	.takes = LLM_TAKES(LABELS) | LLM_TAKES(MULTI) | LLM_TAKES(DESCRIPTIONS) | LLM_TAKES(ALLOW_NONE),
	.make_spec = make_spec,
	.load = load,
	.check = check,
};
