/*-------------------------------------------------------------------------
 *
 * dialect_list.h
 *	  Every dialect there is: one line each, sorted by name.  Included more than
 *	  once, each time with another meaning of LLM_DIALECT.
 *
 *-------------------------------------------------------------------------
 */
LLM_DIALECT(anthropic)
LLM_DIALECT(azure)
LLM_DIALECT(bedrock)
LLM_DIALECT(gemini)
LLM_DIALECT(mistral)
LLM_DIALECT(ollama)
LLM_DIALECT(openai)
