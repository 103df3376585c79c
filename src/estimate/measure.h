/*-------------------------------------------------------------------------
 *
 * measure.h
 *	  What the calls of a statement would ask, counted while it is read.
 *
 *	  make()   in the context that the sums are to live in
 *	  site()   for each call that stands in the statement, so that it is there with 0, too
 *	  tell()   for each call that is evaluated (ask_measure.h)
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_MEASURE_H
#define LLM_MEASURE_H

#include "base/llm_enrich.h"

#include "ask/ask_measure.h"
#include "money/kept_share.h"
#include "nodes/pg_list.h"
#include "utils/hsearch.h"

/* What calls with the same arguments ask, wherever they stand. */
typedef struct LlmMeasuredQuestion
{
	uint32 number; /* from 1 */
	const LlmOperation *op;
	Jsonb *spec;
	const char *model;
	bool is_shareable;
} LlmMeasuredQuestion;

/* One question at one call site. */
typedef struct LlmMeasuredPart
{
	const LlmMeasuredQuestion *question;
	double tasks; /* inputs that are not NULL */
	double asked; /* of these, not blank */
	double calls; /* of these, the first with their text */
	double once; /* of these, texts that came once so far */
	double bytes; /* of inputs that make a call, escaped */
	double ascii; /* of these, in ASCII */
	LlmKeptShare *kept; /* looks up which of these calls have a kept answer; NULL: none */
} LlmMeasuredPart;

/* A call site. */
typedef struct LlmMeasuredSite
{
	int location;
	Oid function;
	const LlmOperation *op; /* NULL: it was never evaluated */
	List *parts; /* of LlmMeasuredPart */
} LlmMeasuredSite;

typedef struct LlmMeasure
{
	MemoryContext context;
	List *sites; /* of LlmMeasuredSite */
	List *questions; /* of LlmMeasuredQuestion */
	HTAB *texts; /* that were seen */
	long most_texts; /* with more of them, new ones count as new */
	LlmMeasuredSite *last; /* what the last call was */
	double rows; /* tasks of all sites */
} LlmMeasure;

extern LlmMeasure *llm_measure_make(void);
extern LlmMeasuredSite *llm_measure_site(LlmMeasure *measure, int location, Oid function);

/* An LlmMeasurer; its argument is the LlmMeasure. */
extern void llm_measure_tell(const LlmMeasuredCall *call, void *arg);

/* Bytes of a text within a body; *ascii of them stand for themselves. */
extern Size llm_measure_escaped(const char *str, Size len, Size *ascii);

#endif /* LLM_MEASURE_H */
