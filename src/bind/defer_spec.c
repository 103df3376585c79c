/*-------------------------------------------------------------------------
 *
 * defer_spec.c
 *	  Write and read what the planner hook tells the functions it puts in.
 *
 * It is a text, since EXPLAIN VERBOSE prints it: a word for what it is, then numbers and
 * names, each with its length before it, with blanks between them.  Both sides are one
 * library in one server; nothing is stored, so there is no version.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "bind/defer_spec.h"

/* A place in the bytes that are read. */
typedef struct Reader
{
	const char *next;
	const char *end;
} Reader;

/* A role of an argument as a letter: printable for all there may be. */
#define LETTER_OF_ROLE(role) ((char) ((role) + '@'))
#define ROLE_OF_LETTER(letter) ((char) ((letter) - '@'))

static void
start_spec(StringInfo out, const char *what)
{
	initStringInfo(out);
	appendStringInfoSpaces(out, VARHDRSZ);
	appendStringInfoString(out, what);
}

static text *
finish_spec(StringInfo out)
{
	SET_VARSIZE(out->data, out->len);
	return (text *) out->data;
}

static void
write_number(StringInfo out, uint64 number)
{
	appendStringInfo(out, " " UINT64_FORMAT, number);
}

static void
write_name(StringInfo out, const char *name)
{
	appendStringInfo(out, " %zu:%s", strlen(name), name);
}

static void
write_roles(StringInfo out, const char *roles)
{
	char *letters = pstrdup(roles);

	for (char *c = letters; *c != '\0'; c++)
		*c = LETTER_OF_ROLE(*c);
	write_name(out, letters);
}

static void
fail_to_read(void)
{
	elog(ERROR, "specification of a deferred call is cut off");
}

static void
start_reading(Reader *reader, const text *spec, const char *what)
{
	size_t len = strlen(what);

	reader->next = VARDATA_ANY(spec);
	reader->end = reader->next + VARSIZE_ANY_EXHDR(spec);
	if (reader->end - reader->next < len || memcmp(reader->next, what, len) != 0)
		fail_to_read();
	reader->next += len;
}

/* A number and the blank before it. */
static uint64
read_number(Reader *reader)
{
	uint64 number = 0;

	if (reader->end - reader->next < 2 || *reader->next++ != ' ')
		fail_to_read();
	for (; reader->next < reader->end && *reader->next >= '0' && *reader->next <= '9'; reader->next++)
		number = number * 10 + (*reader->next - '0');
	return number;
}

static char *
read_name(Reader *reader)
{
	uint64 len = read_number(reader);
	char *name;

	if (reader->next == reader->end || *reader->next++ != ':' || reader->end - reader->next < len)
		fail_to_read();
	name = pnstrdup(reader->next, len);
	reader->next += len;
	return name;
}

static char *
read_roles(Reader *reader)
{
	char *roles = read_name(reader);

	for (char *c = roles; *c != '\0'; c++)
		*c = ROLE_OF_LETTER(*c);
	return roles;
}

static void
write_target(StringInfo out, const LlmDeferTarget *target)
{
	write_number(out, target->number);
	write_number(out, target->relation);
	write_number(out, target->nkeys);
	for (int i = 0; i < target->nkeys; i++)
	{
		write_name(out, target->keys[i]);
		write_number(out, target->key_attnos[i]);
	}
	write_number(out, target->root);
	write_number(out, target->ncolumns);
	write_number(out, target->nshowing);
	for (int i = 0; i < target->ncolumns; i++)
	{
		write_name(out, target->columns[i].name);
		write_number(out, target->columns[i].type);
		write_number(out, target->columns[i].attno);
	}
}

static LlmDeferTarget *
read_target(Reader *reader)
{
	LlmDeferTarget *target = palloc(sizeof(LlmDeferTarget));

	target->number = read_number(reader);
	target->relation = read_number(reader);
	target->nkeys = read_number(reader);
	target->keys = palloc(target->nkeys * sizeof(char *));
	target->key_attnos = palloc(target->nkeys * sizeof(AttrNumber));
	for (int i = 0; i < target->nkeys; i++)
	{
		target->keys[i] = read_name(reader);
		target->key_attnos[i] = (AttrNumber) read_number(reader);
	}
	target->root = read_number(reader);
	target->ncolumns = read_number(reader);
	target->nshowing = read_number(reader);
	target->columns = palloc(target->ncolumns * sizeof(LlmDeferColumn));
	for (int i = 0; i < target->ncolumns; i++)
	{
		target->columns[i].name = read_name(reader);
		target->columns[i].type = (LlmCellType) read_number(reader);
		target->columns[i].attno = (AttrNumber) read_number(reader);
	}
	return target;
}

text *
llm_defer_write_site(const LlmDeferSite *site)
{
	StringInfoData out;

	start_spec(&out, "call");
	write_number(&out, site->number);
	write_number(&out, site->direct);
	write_number(&out, site->function);
	write_name(&out, site->name);
	write_roles(&out, site->args);
	return finish_spec(&out);
}

LlmDeferSite *
llm_defer_read_site(const text *spec)
{
	LlmDeferSite *site = palloc(sizeof(LlmDeferSite));
	Reader reader;

	start_reading(&reader, spec, "call");
	site->number = read_number(&reader);
	site->direct = read_number(&reader) != 0;
	site->function = read_number(&reader);
	site->name = read_name(&reader);
	site->args = read_roles(&reader);
	return site;
}

text *
llm_defer_write_cell(const LlmDeferCell *cell)
{
	StringInfoData out;

	start_spec(&out, "cell");
	write_target(&out, cell->target);
	write_number(&out, cell->column);
	write_number(&out, cell->type);
	write_number(&out, cell->is_update);
	write_number(&out, cell->moves_key);
	return finish_spec(&out);
}

LlmDeferCell *
llm_defer_read_cell(const text *spec)
{
	LlmDeferCell *cell = palloc(sizeof(LlmDeferCell));
	Reader reader;

	start_reading(&reader, spec, "cell");
	cell->target = read_target(&reader);
	cell->column = read_number(&reader);
	cell->type = (LlmCellType) read_number(&reader);
	cell->is_update = read_number(&reader) != 0;
	cell->moves_key = read_number(&reader) != 0;
	return cell;
}

text *
llm_defer_write_check(const LlmDeferCheck *check)
{
	StringInfoData out;

	start_spec(&out, "check");
	write_target(&out, check->target);
	write_number(&out, check->first);
	write_number(&out, check->count);
	return finish_spec(&out);
}

LlmDeferCheck *
llm_defer_read_check(const text *spec)
{
	LlmDeferCheck *check = palloc(sizeof(LlmDeferCheck));
	Reader reader;

	start_reading(&reader, spec, "check");
	check->target = read_target(&reader);
	check->first = read_number(&reader);
	check->count = read_number(&reader);
	return check;
}

text *
llm_defer_write_quiet(const LlmDeferQuiet *quiet)
{
	StringInfoData out;

	start_spec(&out, "quiet");
	write_target(&out, quiet->target);
	write_number(&out, quiet->column);
	write_number(&out, quiet->is_update);
	write_number(&out, quiet->clear);
	write_number(&out, quiet->offered);
	write_number(&out, quiet->reads);
	write_name(&out, quiet->kept);
	return finish_spec(&out);
}

LlmDeferQuiet *
llm_defer_read_quiet(const text *spec)
{
	LlmDeferQuiet *quiet = palloc(sizeof(LlmDeferQuiet));
	Reader reader;

	start_reading(&reader, spec, "quiet");
	quiet->target = read_target(&reader);
	quiet->column = read_number(&reader);
	quiet->is_update = read_number(&reader) != 0;
	quiet->clear = read_number(&reader) != 0;
	quiet->offered = (int) read_number(&reader);
	quiet->reads = read_number(&reader);
	quiet->kept = read_name(&reader);
	return quiet;
}
