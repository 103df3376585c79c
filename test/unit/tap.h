/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  The few words of the Test Anything Protocol, for programs without a server.
 *
 * A test program includes this once, calls ok() and is() any number of times, and
 * returns finish() from main().
 *
 *-------------------------------------------------------------------------
 */
#ifndef TAP_H
#define TAP_H

#include "postgres.h"

#include <stdio.h>
#include <stdlib.h>

/* The server's own stands in a library that is not linked here. */
#undef printf
#undef snprintf

/* Stands for ExceptionalCondition(), see Makefile. */
void llm_tap_assertion_failed(void);

void
llm_tap_assertion_failed(void)
{
	printf("Bail out! an assertion failed\n");
	fflush(stdout);
	abort();
}

static int tests_run = 0;
static int tests_failed = 0;

static bool
ok(bool passed, const char *name)
{
	tests_run++;
	if (!passed)
		tests_failed++;
	printf("%sok %d - %s\n", passed ? "" : "not ", tests_run, name);
	return passed;
}

static void
is(int64 got, int64 expected, const char *name)
{
	if (!ok(got == expected, name))
		printf("#   got %lld, expected %lld\n", (long long) got, (long long) expected);
}

static int
finish(void)
{
	printf("1..%d\n", tests_run);
	return tests_failed == 0 ? 0 : 1;
}

#endif /* TAP_H */
