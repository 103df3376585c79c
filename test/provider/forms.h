/*-------------------------------------------------------------------------
 *
 * forms.h
 *	  Every form that the simulated provider speaks: one line each, sorted by name.
 *	  The first that claims a path has it.
 *
 *-------------------------------------------------------------------------
 */
FORM(openai)
