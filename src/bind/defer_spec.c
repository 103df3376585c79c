/*-------------------------------------------------------------------------
 *
 * defer_spec.c
 *	  Write and read what the planner hook tells the functions it puts in.
 *
 * Numbers are four bytes in network order, names end in a zero byte.  Both
 * sides are one library in one server; nothing is stored, so there is no
 * version.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "port/pg_bswap.h"

#include "bind/defer_spec.h"

/* A place in the bytes that are read. */
typedef struct Reader
{
	const char *next;
	const char *end;
} Reader;

static void
start_spec(StringInfo out)
{
	initStringInfo(out);
	appendStringInfoSpaces(out, VARHDRSZ);
}

static bytea *
finish_spec(StringInfo out)
{
	SET_VARSIZE(out->data, out->len);
	return (bytea *) out->data;
}

static void
write_name(StringInfo out, const char *name)
{
	appendBinaryStringInfo(out, name, strlen(name) + 1);
}

static void
start_reading(Reader *reader, const bytea *spec)
{
	reader->next = VARDATA_ANY(spec);
	reader->end = reader->next + VARSIZE_ANY_EXHDR(spec);
}

static uint32
read_number(Reader *reader)
{
	uint32 number;

	if (reader->end - reader->next < sizeof(number))
		elog(ERROR, "specification of a deferred call is cut off");
	memcpy(&number, reader->next, sizeof(number));
	reader->next += sizeof(number);
	return pg_ntoh32(number);
}

static const char *
read_name(Reader *reader)
{
	const char *name = reader->next;
	const char *zero = memchr(name, '\0', reader->end - name);

	if (zero == NULL)
		elog(ERROR, "specification of a deferred call is cut off");
	reader->next = zero + 1;
	return name;
}

static void
write_target(StringInfo out, const LlmDeferTarget *target)
{
	int i;

	pq_sendint32(out, target->number);
	pq_sendint32(out, target->relation);
	pq_sendint32(out, target->nkeys);
	for (i = 0; i < target->nkeys; i++)
	{
		write_name(out, target->keys[i]);
		pq_sendint32(out, target->key_attnos[i]);
	}
	pq_sendint32(out, target->root);
	pq_sendint32(out, target->ncolumns);
	pq_sendint32(out, target->nshowing);
	for (i = 0; i < target->ncolumns; i++)
	{
		write_name(out, target->columns[i].name);
		pq_sendint32(out, target->columns[i].type);
		pq_sendint32(out, target->columns[i].attno);
	}
}

static LlmDeferTarget *
read_target(Reader *reader)
{
	LlmDeferTarget *target = palloc(sizeof(LlmDeferTarget));
	int i;

	target->number = read_number(reader);
	target->relation = read_number(reader);
	target->nkeys = read_number(reader);
	target->keys = palloc(target->nkeys * sizeof(char *));
	target->key_attnos = palloc(target->nkeys * sizeof(AttrNumber));
	for (i = 0; i < target->nkeys; i++)
	{
		target->keys[i] = read_name(reader);
		target->key_attnos[i] = (AttrNumber) read_number(reader);
	}
	target->root = read_number(reader);
	target->ncolumns = read_number(reader);
	target->nshowing = read_number(reader);
	target->columns = palloc(target->ncolumns * sizeof(LlmDeferColumn));
	for (i = 0; i < target->ncolumns; i++)
	{
		target->columns[i].name = read_name(reader);
		target->columns[i].type = (LlmCellType) read_number(reader);
		target->columns[i].attno = (AttrNumber) read_number(reader);
	}
	return target;
}

bytea *
llm_defer_write_site(const LlmDeferSite *site)
{
	StringInfoData out;

	start_spec(&out);
	pq_sendint32(&out, site->number);
	pq_sendint32(&out, site->direct);
	pq_sendint32(&out, site->function);
	write_name(&out, site->name);
	write_name(&out, site->args);
	return finish_spec(&out);
}

LlmDeferSite *
llm_defer_read_site(const bytea *spec)
{
	LlmDeferSite *site = palloc(sizeof(LlmDeferSite));
	Reader reader;

	start_reading(&reader, spec);
	site->number = read_number(&reader);
	site->direct = read_number(&reader) != 0;
	site->function = read_number(&reader);
	site->name = read_name(&reader);
	site->args = read_name(&reader);
	return site;
}

bytea *
llm_defer_write_cell(const LlmDeferCell *cell)
{
	StringInfoData out;

	start_spec(&out);
	write_target(&out, cell->target);
	pq_sendint32(&out, cell->column);
	pq_sendint32(&out, cell->type);
	pq_sendint32(&out, cell->is_update);
	pq_sendint32(&out, cell->moves_key);
	return finish_spec(&out);
}

LlmDeferCell *
llm_defer_read_cell(const bytea *spec)
{
	LlmDeferCell *cell = palloc(sizeof(LlmDeferCell));
	Reader reader;

	start_reading(&reader, spec);
	cell->target = read_target(&reader);
	cell->column = read_number(&reader);
	cell->type = (LlmCellType) read_number(&reader);
	cell->is_update = read_number(&reader) != 0;
	cell->moves_key = read_number(&reader) != 0;
	return cell;
}

bytea *
llm_defer_write_check(const LlmDeferCheck *check)
{
	StringInfoData out;

	start_spec(&out);
	write_target(&out, check->target);
	pq_sendint32(&out, check->first);
	pq_sendint32(&out, check->count);
	return finish_spec(&out);
}

LlmDeferCheck *
llm_defer_read_check(const bytea *spec)
{
	LlmDeferCheck *check = palloc(sizeof(LlmDeferCheck));
	Reader reader;

	start_reading(&reader, spec);
	check->target = read_target(&reader);
	check->first = read_number(&reader);
	check->count = read_number(&reader);
	return check;
}

bytea *
llm_defer_write_quiet(const LlmDeferQuiet *quiet)
{
	StringInfoData out;

	start_spec(&out);
	write_target(&out, quiet->target);
	pq_sendint32(&out, quiet->column);
	pq_sendint32(&out, quiet->is_update);
	pq_sendint32(&out, quiet->clear);
	pq_sendint32(&out, quiet->offered);
	pq_sendint32(&out, (uint32) (quiet->reads >> 32));
	pq_sendint32(&out, (uint32) quiet->reads);
	write_name(&out, quiet->kept);
	return finish_spec(&out);
}

LlmDeferQuiet *
llm_defer_read_quiet(const bytea *spec)
{
	LlmDeferQuiet *quiet = palloc(sizeof(LlmDeferQuiet));
	Reader reader;

	start_reading(&reader, spec);
	quiet->target = read_target(&reader);
	quiet->column = read_number(&reader);
	quiet->is_update = read_number(&reader) != 0;
	quiet->clear = read_number(&reader) != 0;
	quiet->offered = (int) read_number(&reader);
	quiet->reads = (uint64) read_number(&reader) << 32;
	quiet->reads |= read_number(&reader);
	quiet->kept = read_name(&reader);
	return quiet;
}
