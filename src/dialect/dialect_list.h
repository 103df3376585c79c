/*-------------------------------------------------------------------------
 *
 * dialect_list.h
 *	  Every dialect there is: one line each, sorted by name.  Included more than
 *	  once, each time with another meaning of LLM_DIALECT.
 *
 *-------------------------------------------------------------------------
 */
LLM_DIALECT(openai)
