/*-------------------------------------------------------------------------
 *
 * forms.h
 *	  Every form that the simulated provider speaks: one line each, sorted by name.
 *	  The first that claims a path has it, so openai stays behind those that share its end.
 *
 *-------------------------------------------------------------------------
 */
FORM(anthropic)
FORM(azure)
FORM(azure_embed)
FORM(bedrock)
FORM(gemini)
FORM(gemini_embed)
FORM(mistral)
FORM(mistral_embed)
FORM(ollama)
FORM(ollama_embed)
FORM(openai)
FORM(openai_embed)
