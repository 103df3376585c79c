/*-------------------------------------------------------------------------
 *
 * fuzz.c
 *	  Run the fuzz targets in a backend: over kept inputs, or driven by libFuzzer.
 *
 * test/fuzz/run starts a server in single-user mode, which has no other process,
 * and calls, as superuser:
 *
 *	  llm_enrich_fuzz_replay(target, folder)    every file of a folder, once → number of files
 *	  llm_enrich_fuzz_drive(target, arguments)  libFuzzer with its own arguments; ends the process
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "fuzz.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(llm_enrich_fuzz_replay);

static const LlmFuzzTarget *const targets[] = {
	&llm_fuzz_answer,
	&llm_fuzz_check,
	&llm_fuzz_json,
	&llm_fuzz_marker,
	&llm_fuzz_schema,
	&llm_fuzz_words,
};

MemoryContext llm_fuzz_lasting;

static const LlmFuzzTarget *target;
static MemoryContext input_context;

void
llm_fuzz_fail(const char *sentence, const char *file, int line)
{
	fprintf(stderr, "%s:%d: this should hold: %s\n", file, line, sentence);
	abort();
}

char *
llm_fuzz_piece(const uint8 **at, const uint8 *end, char until, size_t *len)
{
	const uint8 *stop = memchr(*at, until, end - *at);
	char *copy;

	*len = (stop == NULL ? end : stop) - *at;
	copy = palloc(*len + 1);
	memcpy(copy, *at, *len);
	copy[*len] = '\0';
	*at = stop == NULL ? end : stop + 1;
	return copy;
}

bool
llm_fuzz_is_shown(const char *str, size_t max)
{
	size_t len = strlen(str);

	for (const char *p = str; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			return false;
	}
	return len <= max && pg_encoding_verifymbstr(PG_UTF8, str, (int) len) == (int) len;
}

int
llm_fuzz_raises(void (*step)(void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int sqlstate = 0;

	PG_TRY();
	{
		step(arg);
	}
	PG_CATCH();
	{
		sqlstate = geterrcode();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return sqlstate;
}

/* One input.  What it leaves is measured and taken away. */
static void
run_input(const uint8 *data, size_t size)
{
	MemoryContext outer = MemoryContextSwitchTo(input_context);
	size_t taken;

	llm_fuzz_memory_start();
	PG_TRY();
	{
		target->run(data, size);
	}
	PG_CATCH();
	{
		ErrorData *raised;

		MemoryContextSwitchTo(input_context);
		raised = CopyErrorData();
		llm_fuzz_fail(psprintf("no error is raised; but %s", raised->message), __FILE__, __LINE__);
	}
	PG_END_TRY();
	must(CurrentMemoryContext == input_context);
	taken = llm_fuzz_memory_peak() + MemoryContextMemAllocated(input_context, true);
	if (taken > target->fixed + size * target->per_byte)
		llm_fuzz_fail(psprintf("memory for %zu bytes is bounded; but %zu were taken", size, taken), __FILE__, __LINE__);
	MemoryContextSwitchTo(outer);
	MemoryContextReset(input_context);
}

static void
choose_target(const char *name)
{
	int i;

	for (i = 0; i < lengthof(targets); i++)
	{
		if (strcmp(targets[i]->name, name) == 0)
			target = targets[i];
	}
	if (target == NULL)
		elog(ERROR, "no such target");
	llm_fuzz_lasting = AllocSetContextCreate(TopMemoryContext, "fuzz", ALLOCSET_DEFAULT_SIZES);
	input_context = AllocSetContextCreate(TopMemoryContext, "fuzz input", ALLOCSET_DEFAULT_SIZES);
}

/* A file's bytes in memory of exactly that size, as libFuzzer has them. */
static void
replay_file(const char *path)
{
	FILE *file = AllocateFile(path, "rb");
	struct stat st;
	uint8 *data;

	if (file == NULL || fstat(fileno(file), &st) != 0)
		elog(ERROR, "could not read \"%s\": %m", path);
	data = malloc(Max(st.st_size, 1));
	if (data == NULL || fread(data, 1, st.st_size, file) != st.st_size)
		elog(ERROR, "could not read \"%s\": %m", path);
	FreeFile(file);
	/* whatever the process dies of, this line names the input */
	fprintf(stderr, "%s\n", path);
	run_input(data, st.st_size);
	free(data);
}

/* SQL: (target text, folder text) → int */
Datum
llm_enrich_fuzz_replay(PG_FUNCTION_ARGS)
{
	char *folder = TextDatumGetCString(PG_GETARG_DATUM(1));
	DIR *dir = AllocateDir(folder);
	struct dirent *entry;
	int32 n = 0;

	choose_target(TextDatumGetCString(PG_GETARG_DATUM(0)));
	while ((entry = ReadDir(dir, folder)) != NULL)
	{
		if (entry->d_name[0] == '.')
			continue;
		replay_file(psprintf("%s/%s", folder, entry->d_name));
		n++;
	}
	FreeDir(dir);
	PG_RETURN_INT32(n);
}

#ifdef LLM_FUZZ_DRIVER

PG_FUNCTION_INFO_V1(llm_enrich_fuzz_drive);

extern int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*run)(const uint8 *data, size_t size));

static int
drive_input(const uint8 *data, size_t size)
{
	run_input(data, size);
	return 0;
}

/* SQL: (target text, arguments text[]); never returns */
Datum
llm_enrich_fuzz_drive(PG_FUNCTION_ARGS)
{
	Datum *elements;
	char **argv;
	int argc;
	int i;

	choose_target(TextDatumGetCString(PG_GETARG_DATUM(0)));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &argc);
	argv = MemoryContextAllocZero(llm_fuzz_lasting, (argc + 2) * sizeof(char *));
	argv[0] = MemoryContextStrdup(llm_fuzz_lasting, target->name);
	for (i = 0; i < argc; i++)
		argv[i + 1] = MemoryContextStrdup(llm_fuzz_lasting, TextDatumGetCString(elements[i]));
	argc++;
	/* libFuzzer sets its own handlers only where there is none */
	pqsignal(SIGALRM, SIG_DFL);
	pqsignal(SIGINT, SIG_DFL);
	pqsignal(SIGTERM, SIG_DFL);
	pqsignal(SIGFPE, SIG_DFL);
	exit(LLVMFuzzerRunDriver(&argc, &argv, drive_input));
}

#endif
