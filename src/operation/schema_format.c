/*-------------------------------------------------------------------------
 *
 * schema_format.c
 *	  The formats of strings that we check: date, time, date-time, uuid, email.
 *
 * Pure functions over bytes.  Dates and times are those of RFC 3339, a leap
 * second included; an e-mail address is something@something.something without
 * blanks, since whether it exists no check can tell.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "operation/schema.h"

/* Digits of a fixed width at a place; -1 when something else stands there. */
static int
read_digits(const char *str, int len, int at, int width)
{
	int value = 0;

	if (at + width > len)
		return -1;
	for (int i = at; i < at + width; i++)
	{
		if (str[i] < '0' || str[i] > '9')
			return -1;
		value = value * 10 + (str[i] - '0');
	}
	return value;
}

static int
days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

static bool
is_date(const char *str, int len)
{
	int year = read_digits(str, len, 0, 4);
	int month = read_digits(str, len, 5, 2);
	int day = read_digits(str, len, 8, 2);

	return len == 10 && str[4] == '-' && str[7] == '-' && year >= 0 && month >= 1 && month <= 12 &&
		   day >= 1 && day <= days_in_month(year, month);
}

/* "Z" or "+01:30" */
static bool
is_zone(const char *str, int len)
{
	int hour = read_digits(str, len, 1, 2);
	int minute = read_digits(str, len, 4, 2);

	if (len == 1)
		return str[0] == 'Z' || str[0] == 'z';
	return len == 6 && (str[0] == '+' || str[0] == '-') && str[3] == ':' &&
		   hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59;
}

static bool
is_time(const char *str, int len)
{
	int hour = read_digits(str, len, 0, 2);
	int minute = read_digits(str, len, 3, 2);
	int second = read_digits(str, len, 6, 2);
	int at = 8;

	if (len < 9 || str[2] != ':' || str[5] != ':' || hour < 0 || hour > 23 ||
		minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;
	if (str[at] == '.')
	{
		if (read_digits(str, len, at + 1, 1) < 0)
			return false;
		for (at++; at < len && str[at] >= '0' && str[at] <= '9'; at++)
			/* skip the fraction */;
	}
	return is_zone(str + at, len - at);
}

static bool
is_date_time(const char *str, int len)
{
	return len > 11 && is_date(str, 10) && (str[10] == 'T' || str[10] == 't' || str[10] == ' ') &&
		   is_time(str + 11, len - 11);
}

static bool
is_uuid(const char *str, int len)
{
	if (len != 36)
		return false;
	for (int i = 0; i < len; i++)
	{
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? str[i] != '-' : !isxdigit((unsigned char) str[i]))
			return false;
	}
	return true;
}

static bool
is_email(const char *str, int len)
{
	const char *at = memchr(str, '@', len);
	const char *domain;
	int domain_len;

	for (int i = 0; i < len; i++)
	{
		if ((unsigned char) str[i] <= ' ' || str[i] == 0x7f || strchr("<>(),;:\\\"[]", str[i]) != NULL)
			return false;
	}
	if (at == NULL || at == str || at - str > 64 || len > 254)
		return false;
	domain = at + 1;
	domain_len = len - (int) (domain - str);
	if (domain_len < 3 || memchr(domain, '@', domain_len) != NULL || memchr(domain, '.', domain_len) == NULL)
		return false;
	if (domain[0] == '.' || domain[domain_len - 1] == '.')
		return false;
	for (int i = 1; i < domain_len; i++)
	{
		if (domain[i] == '.' && domain[i - 1] == '.')
			return false;
	}
	return true;
}

static const struct
{
	const char *name;
	LlmSchemaFormat check;
} formats[] = {
	{"date", is_date},
	{"date-time", is_date_time},
	{"email", is_email},
	{"time", is_time},
	{"uuid", is_uuid},
};

LlmSchemaFormat
llm_schema_find_format(const char *name)
{
	for (int i = 0; i < lengthof(formats); i++)
	{
		if (strcmp(formats[i].name, name) == 0)
			return formats[i].check;
	}
	return NULL;
}

const char *
llm_schema_formats(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < lengthof(formats); i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", formats[i].name);
	return buf.data;
}
