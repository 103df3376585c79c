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
FORM(bedrock)
FORM(gemini)
FORM(mistral)
FORM(ollama)
FORM(openai)
