/*-------------------------------------------------------------------------
 *
 * dollars.c
 *	  An amount of money as people read it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "money/dollars.h"

/* Less is as good as nothing. */
#define MOST_DIGITS 10

char *
llm_dollars(double amount)
{
	int digits = amount > 0 ? Min(Max(2 - (int) ceil(log10(amount)), 2), MOST_DIGITS) : 2;

	return psprintf("%.*f", digits, amount);
}
