/*-------------------------------------------------------------------------
 *
 * command.h
 *	  What immediate commands may spend: llm_enrich.max_cost of each.
 *
 *	  join()    a letter is held; its command's purse, or NULL: it has no cap
 *	  leave()   the letter is freed
 *	  open()    budgets are read again: nothing is reserved, until hold() tells
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_COMMAND_H
#define LLM_COMMAND_H

#include "base/llm_enrich.h"

#include "letter/letter.h"
#include "money/budget.h"

extern LlmPurse *llm_command_join(const LlmLetterQuestion *question);
extern void llm_command_leave(LlmPurse *purse);
extern void llm_command_open(void);

#endif /* LLM_COMMAND_H */
