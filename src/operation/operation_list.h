/*-------------------------------------------------------------------------
 *
 * operation_list.h
 *	  The operations, sorted by name: LLM_OPERATION(x) is llm_op_x, in op_x.c or with its like.
 *
 * Included by operation.h and operation.c, each with a macro of its own; hence without a
 * guard.
 *
 *-------------------------------------------------------------------------
 */
LLM_OPERATION(agg)
LLM_OPERATION(classify)
LLM_OPERATION(complete)
LLM_OPERATION(embed)
LLM_OPERATION(extract)
LLM_OPERATION(filter)
LLM_OPERATION(redact)
LLM_OPERATION(score)
LLM_OPERATION(sentiment)
LLM_OPERATION(summarize)
LLM_OPERATION(summarize_agg)
LLM_OPERATION(translate)
