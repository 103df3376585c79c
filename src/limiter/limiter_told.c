/*-------------------------------------------------------------------------
 *
 * limiter_told.c
 *	  Durations and counts as providers write them into rate-limit headers.
 *
 * Pure; the code that books an answer asks.  What is not understood counts as not told.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "limiter/limiter.h"

/* No header is believed to tell of more than a day. */
#define TOLD_CAP_MS (INT64CONST(24) * 3600 * 1000)

/* Doubles are not exact. */
#define ROUNDING 1e-6

/* Milliseconds of one unit; moves *at behind it.  -1: none of ours. */
static double
read_unit(const char **at)
{
	static const struct
	{
		const char *name;
		double ms;
	} units[] = {
		{"ms", 1},
		{"us", 0.001},
		{"\xc2\xb5s", 0.001},
		{"ns", 0.000001},
		{"s", 1000},
		{"m", 60000},
		{"h", 3600000},
		{"d", 86400000},
	};

	for (int i = 0; i < lengthof(units); i++)
	{
		size_t len = strlen(units[i].name);

		if (strncmp(*at, units[i].name, len) == 0)
		{
			*at += len;
			return units[i].ms;
		}
	}
	return -1;
}

/* An unsigned decimal number; moves *at behind it.  -1: there is none. */
static double
read_number(const char **at)
{
	const char *p = *at;
	double number = 0;
	double place = 1;
	bool digits = false;

	for (; *p >= '0' && *p <= '9'; p++, digits = true)
		number = number * 10 + (*p - '0');
	if (*p == '.')
	{
		for (p++; *p >= '0' && *p <= '9'; p++, digits = true)
			number += (*p - '0') * (place /= 10);
	}
	*at = p;
	return digits ? number : -1;
}

int64
llm_limiter_parse_duration_ms(const char *value)
{
	double total = 0;
	double number;
	double unit;

	if (value == NULL || *value == '\0')
		return -1;
	while (*value != '\0')
	{
		number = read_number(&value);
		if (number < 0)
			return -1;
		if (*value == '\0' && total == 0)
			unit = 1000; /* a bare number is seconds */
		else
			unit = read_unit(&value);
		if (unit < 0)
			return -1;
		total += number * unit;
	}
	/* doubles are not exact: 51.189 s are 51189 ms, not one more */
	return (total > (double) TOLD_CAP_MS) ? TOLD_CAP_MS : (int64) ceil(total - ROUNDING);
}

int64
llm_limiter_parse_count(const char *value)
{
	double number;

	if (value == NULL)
		return -1;
	number = read_number(&value);
	if (number < 0 || *value != '\0' || number > 1e15)
		return -1;
	return (int64) number;
}
