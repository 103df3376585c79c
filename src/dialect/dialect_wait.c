/*-------------------------------------------------------------------------
 *
 * dialect_wait.c
 *	  Times as providers tell them: how long to wait, and when a limit is whole again.
 *
 * A moment (a date, or seconds since 1970) is relative to the answer's own Date header, so that
 * a clock that is wrong, theirs or ours, does not matter; without one our clock has to do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "utils/datetime.h"

#include "dialect/dialect_shared.h"

/* Doubles are not exact: 51.189 s are 51189 ms, not one more. */
#define ROUNDING 1e-6

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

/* Seconds since 1970 of "2026-11-30T08:49:37.5Z", with whole seconds; false for anything else. */
static bool
read_iso_date(const char *str, int64 *seconds)
{
	int part[6];

	if (sscanf(str, "%4d-%2d-%2dT%2d:%2d:%2d", &part[0], &part[1], &part[2], &part[3], &part[4], &part[5]) != 6)
		return false;
	if (part[0] < 1970 || part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > 31 || str[strlen(str) - 1] != 'Z')
		return false;
	*seconds = ((int64) date2j(part[0], part[1], part[2]) - date2j(1970, 1, 1)) * 86400 +
			   part[3] * 3600 + part[4] * 60 + part[5];
	return true;
}

/* Units of a duration, as they are written in headers and sentences; lower case, longer ones first. */
static const struct
{
	const char *unit;
	double ms;
} units[] = {
	{"milliseconds", 1},
	{"millisecond", 1},
	{"msecs", 1},
	{"msec", 1},
	{"ms", 1},
	{"microseconds", 0.001},
	{"us", 0.001},
	{"\xc2\xb5s", 0.001},
	{"ns", 0.000001},
	{"seconds", 1000},
	{"second", 1000},
	{"secs", 1000},
	{"sec", 1000},
	{"s", 1000},
	{"minutes", 60000},
	{"minute", 60000},
	{"mins", 60000},
	{"min", 60000},
	{"m", 60000},
	{"hours", 3600000},
	{"hour", 3600000},
	{"hrs", 3600000},
	{"hr", 3600000},
	{"h", 3600000},
	{"days", 86400000},
	{"day", 86400000},
	{"d", 86400000},
};

/* Milliseconds of the unit that the text begins with, whatever its case; -1: there is none. */
static double
read_unit(const char **at)
{
	for (int i = 0; i < lengthof(units); i++)
	{
		size_t len = strlen(units[i].unit);

		/* a word ends with its unit: "5 small ones" are no 5 s; "1m2s" are a minute and two seconds */
		if (pg_strncasecmp(*at, units[i].unit, len) != 0 || isalpha((unsigned char) (*at)[len]))
			continue;
		*at += len;
		return units[i].ms;
	}
	return -1;
}

/* A duration: "1m2.5s", "20s", "350ms", "500 milliseconds", "1 hour, 2 minutes"; -1 if there is none. */
static double
read_duration(const char **at)
{
	const char *p = *at;
	double total = -1;

	while (*p >= '0' && *p <= '9')
	{
		char *end;
		double value = strtod(p, &end);
		const char *next = end + strspn(end, " ");
		double ms = read_unit(&next);

		if (ms < 0)
			break;
		total = (total < 0 ? 0 : total) + value * ms;
		*at = next;
		p = next + strspn(next, " ,");
		if (pg_strncasecmp(p, "and ", 4) == 0)
			p += 4;
	}
	return total;
}

/* The last resort: "Please try again in 20s." */
static int64
read_message(const char *message)
{
	static const char *const leads[] = {
		"try again in ",
		"retry in ",
		"retry after ",
		"retrydelay: ",
		"wait ",
		"available in ",
	};

	for (const char *p = message; *p != '\0'; p++)
	{
		for (int i = 0; i < lengthof(leads); i++)
		{
			size_t len = strlen(leads[i]);
			const char *at = p + len;
			int64 ms;

			if (pg_strncasecmp(p, leads[i], len) != 0)
				continue;
			if (pg_strncasecmp(at, "about ", 6) == 0)
				at += 6;
			ms = clamp_ms(read_duration(&at));
			if (ms >= 0)
				return ms;
		}
	}
	return -1;
}

/* A number of seconds so large is a moment: September 2001 was the first. */
#define FIRST_MOMENT 1e9

/* Likewise of milliseconds. */
#define FIRST_MOMENT_MS 1e12

/* What the answer's clock says, in seconds since 1970. */
static int64
answered_at(const LlmRawAnswer *raw)
{
	const char *date = llm_dialect_header(raw, "date");
	int64 seconds;

	if (date == NULL || !read_http_date(date, &seconds))
		return raw->now;
	return seconds - (int64) date2j(1970, 1, 1) * 86400;
}

int64
llm_dialect_time_ms(const LlmRawAnswer *raw, const char *value)
{
	const char *at = value;
	double number;
	int64 moment;

	if (value == NULL || value[0] == '\0')
		return -1;
	number = whole_number(value);
	if (number >= FIRST_MOMENT_MS)
		return clamp_ms(Max(number - (double) answered_at(raw) * 1000, 0));
	if (number >= FIRST_MOMENT)
		return clamp_ms(Max(number - (double) answered_at(raw), 0) * 1000);
	if (number >= 0)
		return clamp_ms(number * 1000);
	if (read_http_date(value, &moment))
		return clamp_ms((double) Max(moment - (int64) date2j(1970, 1, 1) * 86400 - answered_at(raw), 0) * 1000);
	if (read_iso_date(value, &moment))
		return clamp_ms((double) Max(moment - answered_at(raw), 0) * 1000);
	number = read_duration(&at);
	return *at == '\0' ? clamp_ms(number - ROUNDING) : -1;
}

int64
llm_dialect_retry_after_ms(const LlmRawAnswer *raw, const char *message)
{
	int64 ms = -1;
	const char *told = llm_dialect_header(raw, "retry-after-ms");

	if (told != NULL)
		ms = clamp_ms(whole_number(told));
	if (ms < 0)
		ms = llm_dialect_time_ms(raw, llm_dialect_header(raw, "retry-after"));
	if (ms < 0 && message != NULL)
		ms = read_message(message);
	return ms;
}
