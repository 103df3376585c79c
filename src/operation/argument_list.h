/*-------------------------------------------------------------------------
 *
 * argument_list.h
 *	  The arguments of the public functions, the input apart: one row each.
 *
 *	  LLM_ARGUMENT(symbol, name in SQL, type, operations that take it, check)
 *
 * "check" is what spec.c calls with a value that was given: it raises 22023, or adds
 * to the recipe's content; NULL for an argument that is no part of the recipe.  It is
 * called in the order of the rows, so that "examples", which are checked against all
 * else, come last.  A row here, the check, and the argument in the SQL of the functions
 * that take it: that is all there is to a new argument.
 *
 * Included by argument.h and argument.c, each with a macro of its own; hence without a
 * guard.
 *
 *-------------------------------------------------------------------------
 */
/* *INDENT-OFF* */
LLM_ARGUMENT(LABELS, "labels", TEXTS, OWN, llm_argument_labels)
LLM_ARGUMENT(MULTI, "multi", BOOL, OWN, llm_argument_flag)
LLM_ARGUMENT(DESCRIPTIONS, "descriptions", JSONB, OWN, llm_argument_descriptions)
LLM_ARGUMENT(ALLOW_NONE, "allow_none", BOOL, OWN, llm_argument_flag)
LLM_ARGUMENT(SCHEMA, "schema", JSONB, OWN, llm_argument_schema)
LLM_ARGUMENT(MAX_WORDS, "max_words", INT, OWN, llm_argument_max_words)
LLM_ARGUMENT(CONDITION, "condition", TEXT, OWN, llm_argument_words)
LLM_ARGUMENT(CRITERION, "criterion", TEXT, OWN, llm_argument_words)
LLM_ARGUMENT(MIN, "min", FLOAT8, OWN, llm_argument_number)
LLM_ARGUMENT(MAX, "max", FLOAT8, OWN, llm_argument_number)
LLM_ARGUMENT(TO_LANGUAGE, "to_language", TEXT, OWN, llm_argument_name)
LLM_ARGUMENT(FROM_LANGUAGE, "from_language", TEXT, OWN, llm_argument_name)
LLM_ARGUMENT(KINDS, "kinds", TEXTS, OWN, llm_argument_kinds)
LLM_ARGUMENT(ASPECTS, "aspects", TEXTS, OWN, llm_argument_names)
LLM_ARGUMENT(INSTRUCTION, "instruction", TEXT, OWN, llm_argument_words)
LLM_ARGUMENT(STAGE, "stage", TEXT, OWN, llm_argument_stage)
LLM_ARGUMENT(DIMENSIONS, "dimensions", INT, OWN, llm_argument_dimensions)
LLM_ARGUMENT(MODEL, "model", TEXT, ALL, NULL)
LLM_ARGUMENT(INSTRUCTIONS, "instructions", TEXT, ALL, llm_argument_instructions)
LLM_ARGUMENT(OPTIONS, "options", JSONB, ALL, llm_argument_options)
LLM_ARGUMENT(CHECKS, "checks", TEXTS, ALL, llm_argument_checks)
LLM_ARGUMENT(EXAMPLES, "examples", JSONB, ALL, llm_argument_examples)
