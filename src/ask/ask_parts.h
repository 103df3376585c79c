/*-------------------------------------------------------------------------
 *
 * ask_parts.h
 *	  Which of an aggregate's texts are asked about together.
 *
 *	  budget()  by the model;  cut()  what does not fit alone;  divide()  the rest
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_ASK_PARTS_H
#define LLM_ASK_PARTS_H

#include "base/llm_enrich.h"

#include "ask/ask_call.h"
#include "ask/ask_collect.h"
#include "nodes/pg_list.h"

/*
 * Estimates are in units of which 40 are a token: four bytes of ASCII to a token, and a
 * little more than one token to any other character.
 */
#define LLM_PARTS_BYTE 10

/* Consecutive texts that are asked about together. */
typedef struct LlmPart
{
	LlmItem *items;
	int n;
} LlmPart;

/* Units of the texts of one question, by the model that is asked. */
extern int64 llm_parts_budget(const LlmCallSite *site, const LlmCallArgs *args);

/* Texts in which those that do not fit alone are cut, with their units; *n is their number. */
extern LlmItem *llm_parts_cut(const LlmItem *items, int *n, int64 budget);

/* Texts that were cut, in their order, in as few parts as fit; a list of LlmPart. */
extern List *llm_parts_divide(LlmItem *items, int n, int64 budget);

/* The two halves of a part that is too long; NIL: it is not to be divided. */
extern List *llm_parts_halve(const LlmPart *part);

/* The texts as what is asked about: a JSON array. */
extern text *llm_parts_input(const LlmPart *part);

/* So many answers there may be at most, where what is too long is halved. */
extern int llm_parts_most_answers(const List *parts);

#endif /* LLM_ASK_PARTS_H */
