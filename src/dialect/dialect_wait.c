/*-------------------------------------------------------------------------
 *
 * dialect_wait.c
 *	  How long a provider asks us to wait: from headers, or from its words.
 *
 * A date is relative to the answer's own Date header, so that a clock that is
 * wrong, theirs or ours, does not matter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "utils/datetime.h"

#include "dialect/dialect_shared.h"

#define MS_PER_DAY (INT64CONST(24) * 3600 * 1000)

/* Milliseconds from a number of units, kept within a day; -1 for nonsense. */
static int64
clamp_ms(double ms)
{
	if (!(ms >= 0))
		return -1;
	return ms >= (double) MS_PER_DAY ? MS_PER_DAY : (int64) ceil(ms);
}

/* A plain decimal number that is the whole text but for blanks; -1 if it is not. */
static double
whole_number(const char *str)
{
	size_t len;

	while (*str == ' ')
		str++;
	len = strspn(str, "0123456789.");
	if (len == 0 || str[len + strspn(str + len, " ")] != '\0')
		return -1;
	return strtod(str, NULL);
}

/* Seconds since some epoch of "Sun, 06 Nov 1994 08:49:37 GMT"; false for anything else. */
static bool
read_http_date(const char *str, int64 *seconds)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	char month[4];
	const char *found;
	int day;
	int year;
	int hour;
	int minute;
	int second;

	if (sscanf(str, "%*3s, %2d %3s %4d %2d:%2d:%2d GMT", &day, month, &year, &hour, &minute, &second) != 6)
		return false;
	found = strstr(names, month);
	if (found == NULL || strlen(month) != 3 || (found - names) % 3 != 0)
		return false;
	if (day < 1 || day > 31 || year < 1970 || year > 9999 || hour < 0 || minute < 0 || second < 0)
		return false;
	*seconds = (int64) date2j(year, (int) (found - names) / 3 + 1, day) * 86400 + hour * 3600 + minute * 60 + second;
	return true;
}

/* A duration as Go writes it: "1m2.5s", "20s", "350ms", "1h2m3s"; -1 if there is none. */
static double
read_duration(const char *p)
{
	static const struct
	{
		const char *unit; /* longer ones first */
		double ms;
	} units[] = {{"ms", 1}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};
	double total = -1;

	while (*p >= '0' && *p <= '9')
	{
		char *end;
		double value = strtod(p, &end);
		int i;

		while (*end == ' ')
			end++;
		for (i = 0; i < lengthof(units); i++)
		{
			if (strncmp(end, units[i].unit, strlen(units[i].unit)) == 0)
				break;
		}
		if (i == lengthof(units))
			break;
		total = (total < 0 ? 0 : total) + value * units[i].ms;
		p = end + strlen(units[i].unit);
	}
	return total;
}

/* The last resort: "Please try again in 20s." */
static int64
read_message(const char *message)
{
	static const char *const leads[] = {"try again in ", "retry in ", "retry after "};
	int i;

	for (i = 0; i < lengthof(leads); i++)
	{
		const char *found = strstr(message, leads[i]);

		if (found != NULL)
			return clamp_ms(read_duration(found + strlen(leads[i])));
	}
	return -1;
}

int64
llm_dialect_retry_after_ms(const char *retry_after, const char *retry_after_ms,
						   const char *date, const char *message)
{
	int64 ms = -1;
	int64 then;
	int64 now;

	if (retry_after_ms != NULL)
		ms = clamp_ms(whole_number(retry_after_ms));
	if (ms < 0 && retry_after != NULL)
		ms = clamp_ms(whole_number(retry_after) * 1000);
	if (ms < 0 && retry_after != NULL && date != NULL &&
		read_http_date(retry_after, &then) && read_http_date(date, &now))
		ms = clamp_ms((double) Max(then - now, 0) * 1000);
	if (ms < 0 && message != NULL)
		ms = read_message(message);
	return ms;
}
