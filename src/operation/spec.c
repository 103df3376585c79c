/*-------------------------------------------------------------------------
 *
 * spec.c
 *	  From the arguments of a call to a recipe's canonical content.
 *
 * Called by llm_operation_spec() for each operation, in the user's statement: what is
 * wrong with a call is said before a single row is queued.  The content is a
 * jsonb object in which an argument that was not given has no key, so that the
 * same call gives the same bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/blank.h"
#include "base/compat.h"
#include "base/json.h"
#include "operation/prompt.h"
#include "operation/spec.h"
#include "operation/validate.h"

/* Examples are sent with each row; more than this is a mistake. */
#define MAX_EXAMPLES 100

bool
llm_spec_is_blank(const char *str, size_t len)
{
	return llm_blank_prefix(str, len) == len;
}

/* Providers speak UTF-8, and an answer may hold any character. */
static void
need_utf8_database(void)
{
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("llm_enrich needs a database with encoding \"UTF8\""),
				 errdetail("The encoding of this database is \"%s\", which cannot hold every answer.",
						   GetDatabaseEncodingName())));
}

void
llm_spec_add(LlmSpec *spec, const char *key, JsonbValue value)
{
	if (spec->n >= LLM_SPEC_MAX_KEYS)
		elog(ERROR, "too many keys in the recipe of \"%s\"", spec->op->name);
	llm_json_set_pair(&spec->pairs[spec->n++], key, value);
}

const JsonbValue *
llm_spec_get(const LlmSpec *spec, const char *key)
{
	for (int i = 0; i < spec->n; i++)
	{
		if (llm_json_string_is(&spec->pairs[i].key, key))
			return &spec->pairs[i].value;
	}
	return NULL;
}

void
llm_spec_refuse(LlmArg arg, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for argument \"%s\"", llm_arguments[arg].name),
			 errhint("%s", hint)));
}

void
llm_argument_schema(LlmSpec *spec, LlmArg arg, Datum value)
{
	Jsonb *schema = DatumGetJsonbP(value);
	JsonbValue tree;

	if (llm_json_tree(schema, &tree) && llm_schema_is_short(&tree))
	{
		tree = llm_schema_expand(&tree);
		schema = llm_json_store(&tree);
	}
	(void) llm_schema_compile(schema);
	(void) llm_json_tree(schema, &tree);
	llm_spec_add(spec, llm_arguments[arg].name, tree);
}

void
llm_argument_instructions(LlmSpec *spec, LlmArg arg, Datum value)
{
	text *instructions = DatumGetTextPP(value);
	const char *words = VARDATA_ANY(instructions);
	size_t len = VARSIZE_ANY_EXHDR(instructions);

	if (llm_spec_is_blank(words, len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("instructions must not be blank"),
				 errhint("Omit \"instructions\", or say what the model should know about all rows.")));
	llm_spec_add(spec, "instructions", llm_json_make_string(words, len));
}

/* Does the option say what goes without saying?  Then the question is the same without it. */
static bool
is_default(const LlmOperation *op, const LlmOption *option, const JsonbValue *value)
{
	bool is_set = (strcmp(option->name, "reuse") == 0 && !op->not_kept);

	if (option->type == LLM_OPTION_MEMBERS)
		return value->val.object.nPairs == 0;
	return option->type == LLM_OPTION_FLAG && value->val.boolean == is_set;
}

/* Options that change the question are part of the recipe; the others steer the job. */
void
llm_argument_options(LlmSpec *spec, LlmArg arg, Datum value)
{
	const JsonbValue *options = llm_options_check(DatumGetJsonbP(value));
	const LlmOption *known;
	int n;

	known = llm_options(&n);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *option = llm_json_get(options, known[i].name);

		if (option != NULL && known[i].only != NULL && strcmp(known[i].only, spec->op->name) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s has no option \"%s\"", spec->op->function, known[i].name),
					 errhint("Omit it: llm_%s has it.", known[i].only)));
		if (option != NULL && known[i].in_recipe && !is_default(spec->op, &known[i], option))
			llm_spec_add(spec, known[i].name, *option);
	}
}

pg_noreturn static void refuse_example(int number, const char *detail);

static void
refuse_example(int number, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 number > 0 ? errmsg("example %d is not valid", number) : errmsg("examples are not valid"),
			 errdetail("%s", detail),
			 errhint("Examples are an array of objects: [{\"input\": \"…\", \"output\": …}].")));
}

/* The answer that an example shows, as the model would write it. */
static void
append_example_answer(StringInfo str, const LlmRecipe *recipe, const JsonbValue *output)
{
	if (recipe->schema == NULL)
		appendBinaryStringInfo(str, output->val.string.val, output->val.string.len);
	else
		llm_json_append(str, output);
}

/* Make one example canonical: {"input": text, "output": what the operation answers}. */
static JsonbValue
read_example(const LlmRecipe *recipe, const JsonbValue *example, int number)
{
	JsonbPair *pairs = palloc(2 * sizeof(JsonbPair));
	JsonbValue *input = llm_json_get(example, "input");
	JsonbValue *output = llm_json_get(example, "output");
	StringInfoData str;
	StringInfoData fault;
	LlmCandidate given;

	if (input == NULL || output == NULL || example->val.object.nPairs != 2)
		refuse_example(number, "It must be an object with the keys \"input\" and \"output\", and no other.");
	if (input->type != jbvString || llm_spec_is_blank(input->val.string.val, input->val.string.len))
		refuse_example(number, "Its \"input\" must be a string that is not blank.");
	if (recipe->schema == NULL && output->type != jbvString)
		refuse_example(number, "Its \"output\" must be a string, since no schema is given.");
	if (recipe->value_key != NULL && recipe->schema != NULL && output->type != jbvObject)
	{
		JsonbPair *wrapped = palloc(sizeof(JsonbPair));

		llm_json_set_pair(wrapped, recipe->value_key, *output);
		*output = llm_json_make_object(wrapped, 1);
	}
	initStringInfo(&str);
	initStringInfo(&fault);
	append_example_answer(&str, recipe, output);
	given = (LlmCandidate){str.data, str.len, input->val.string.val, input->val.string.len};
	if (recipe->op->check(recipe, &given, &fault) == NULL)
		refuse_example(number, psprintf("Its \"output\" would not be accepted as an answer. %s", fault.data));
	llm_json_set_pair(&pairs[0], "input", *input);
	llm_json_set_pair(&pairs[1], "output", *output);
	return llm_json_make_object(pairs, 2);
}

/* Outputs are checked as answers are, by the recipe as it stands without examples. */
void
llm_argument_examples(LlmSpec *spec, LlmArg arg, Datum value)
{
	JsonbPair pairs[LLM_SPEC_MAX_KEYS];
	JsonbValue examples;
	JsonbValue content;
	LlmRecipe *recipe;

	if (!llm_json_tree(DatumGetJsonbP(value), &examples) || examples.type != jbvArray || examples.val.array.nElems == 0)
		refuse_example(0, "They must be an array with at least one element.");
	if (examples.val.array.nElems > MAX_EXAMPLES)
		refuse_example(0, psprintf("There are %d of them; at most %d are allowed.", examples.val.array.nElems, MAX_EXAMPLES));
	memcpy(pairs, spec->pairs, sizeof(pairs));
	content = llm_json_make_object(pairs, spec->n);
	recipe = llm_operation_load(0, spec->op->name, llm_json_store(&content));
	for (int i = 0; i < examples.val.array.nElems; i++)
		examples.val.array.elems[i] = read_example(recipe, &examples.val.array.elems[i], i + 1);
	llm_spec_add(spec, "examples", examples);
}

/* Refuse an argument that the operation does not have. */
static void
check_taken(const LlmOperation *op, LlmArg arg)
{
	if (llm_arguments[arg].takers == LLM_ARG_TAKERS_OWN && (op->takes & (UINT64CONST(1) << arg)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has no argument \"%s\"", op->function, llm_arguments[arg].name),
				 errhint("Omit \"%s\".", llm_arguments[arg].name)));
}

/* Refuse a call that lacks one of the arguments that it cannot do without. */
static void
check_needed(const LlmOperation *op, const LlmCallArgs *args)
{
	for (int arg = 0; arg < LLM_ARGS; arg++)
	{
		if ((op->needs & (UINT64CONST(1) << arg)) != 0 && !args->given[arg])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s needs argument \"%s\"", op->function, llm_arguments[arg].name),
					 errhint("Give it a value that is not NULL.")));
	}
}

Jsonb *
llm_spec_make(const LlmOperation *op, const LlmCallArgs *args)
{
	LlmSpec spec = {.op = op};
	JsonbValue content;
	int arg;

	need_utf8_database();
	for (arg = 0; arg < LLM_ARGS; arg++)
	{
		if (args->given[arg])
			check_taken(op, arg);
	}
	check_needed(op, args);
	for (arg = 0; arg < LLM_ARGS; arg++)
	{
		if (args->given[arg] && llm_arguments[arg].check != NULL)
			llm_arguments[arg].check(&spec, arg, args->values[arg]);
	}
	content = llm_json_make_object(spec.pairs, spec.n);
	return llm_json_store(&content);
}

Jsonb *
llm_operation_spec(const LlmOperation *op, const LlmCallArgs *args)
{
	return op->make_spec != NULL ? op->make_spec(args) : llm_spec_make(op, args);
}
