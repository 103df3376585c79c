/*-------------------------------------------------------------------------
 *
 * bill.h
 *	  Groups of the bill: rows of the sums, added up by the words that are asked for.
 *
 *	  create() ... add() for each row ... emit(), which forgets the groups and keeps the words
 *
 * A word is met in thousands of rows: it is looked at once, and is a number from then on.  So a
 * row costs a hash of each of its words, and groups are put in order by comparing numbers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_BILL_H
#define LLM_BILL_H

#include "base/llm_enrich.h"

/* Columns of llm.bill(): times, words, tags, then what is added up. */
#define LLM_BILL_TIMES 4
#define LLM_BILL_WORDS 8
#define LLM_BILL_COLUMNS 27

/* requests, tasks, rows done, five kinds of tokens, rows without a price */
#define LLM_BILL_COUNTS 9
/* cost, estimated cost, wasted, saved */
#define LLM_BILL_AMOUNTS 4

typedef struct LlmBillGroups LlmBillGroups;

/*
 * Groups in the current memory context.  "words" says which columns (from 0) the words of a row are for, ascending;
 * "tags" which tags are asked for: then a row's last word is its tags.  Nothing is copied but what a row has.
 */
extern LlmBillGroups *llm_bill_create(const int *words, int nwords, char **tags, int ntags);

/* Add a row: its words (text, then jsonb), LLM_BILL_COUNTS int8 and LLM_BILL_AMOUNTS numeric.  22003: out of range. */
extern void llm_bill_add(LlmBillGroups *groups, const Datum *values, const bool *nulls);

/*
 * Call "row" for each group, in the order of their words, with all columns of llm.bill() but the times, which are NULL.
 * The values live until it returns.
 */
typedef void (*LlmBillRow)(Datum *values, bool *nulls, void *arg);
extern void llm_bill_emit(LlmBillGroups *groups, LlmBillRow row, void *arg);

#endif /* LLM_BILL_H */
