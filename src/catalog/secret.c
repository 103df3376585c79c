/*-------------------------------------------------------------------------
 *
 * secret.c
 *	  Read an API key, fingerprint it, wipe it.
 *
 * The sender reads a key when a target is resolved and after each reload of the
 * configuration, hands it to the transport and wipes it.  What goes into a log,
 * a table or a view is at most the fingerprint.
 *
 * A path may turn out to be anything, so the file is opened without waiting
 * for a writer (a named pipe would stall every provider) and must be a plain
 * and short one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/builtins.h"

#include "catalog/secret.h"

/* The longest keys in use are signed tokens of some kilobytes. */
#define MAX_KEY_BYTES 16384

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v';
}

const char *
llm_secret_fault(const char *key)
{
	const unsigned char *p;

	if (key[0] == '\0')
		return "is empty";
	if (strlen(key) > MAX_KEY_BYTES)
		return "is longer than 16 kB";
	for (p = (const unsigned char *) key; *p != '\0'; p++)
	{
		if (*p < ' ' || *p >= 0x7f)
			return "holds a line break, a control character or a character that is not ASCII";
	}
	return NULL;
}

/*
 * Copy a key without surrounding white space.  NULL with *fault set when it cannot be
 * one; a NUL inside is a control character like others.
 */
static char *
copy_trimmed(const char *data, size_t len, const char **fault)
{
	char *key;

	while (len > 0 && is_blank(data[len - 1]))
		len--;
	while (len > 0 && is_blank(data[0]))
	{
		data++;
		len--;
	}
	if (memchr(data, '\0', len) != NULL)
	{
		*fault = "holds a zero byte";
		return NULL;
	}
	key = pnstrdup(data, len);
	*fault = llm_secret_fault(key);
	if (*fault != NULL)
	{
		llm_secret_wipe(key);
		return NULL;
	}
	return key;
}

/* Fill the buffer from a file; -1 with errno set on failure. */
static ssize_t
read_all(int fd, char *buffer, size_t size)
{
	size_t len = 0;

	while (len < size)
	{
		ssize_t n = read(fd, buffer + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		len += n;
	}
	return (ssize_t) len;
}

/*
 * Read a file of at most MAX_KEY_BYTES bytes into a buffer one byte larger.  Returns its
 * length, or -1 with *why set to the end of a sentence (static or palloc'ed).
 */
static ssize_t
read_file(const char *path, char *buffer, const char **why)
{
	struct stat st;
	ssize_t len = -1;
	int fd;

	do
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	while (fd < 0 && errno == EINTR);
	if (fd < 0 || fstat(fd, &st) != 0)
		*why = pstrdup(strerror(errno));
	else if (!S_ISREG(st.st_mode))
		*why = "it is not a regular file";
	else if ((len = read_all(fd, buffer, MAX_KEY_BYTES + 1)) < 0)
		*why = pstrdup(strerror(errno));
	else if (len > MAX_KEY_BYTES)
	{
		*why = "it is larger than 16 kB";
		len = -1;
	}
	if (fd >= 0)
		close(fd);
	return len;
}

static char *
read_key_file(const char *path, const char **problem, const char **hint)
{
	char buffer[MAX_KEY_BYTES + 1];
	const char *why = NULL;
	char *key = NULL;
	ssize_t len = read_file(path, buffer, &why);

	if (len < 0)
	{
		*problem = psprintf("could not read key file \"%s\": %s", path, why);
		*hint = "The file must exist and be readable for the operating system user that runs PostgreSQL; then SELECT pg_reload_conf();";
	}
	else
	{
		key = copy_trimmed(buffer, (size_t) len, &why);
		if (key == NULL)
		{
			*problem = psprintf("the key in file \"%s\" %s", path, why);
			*hint = "The file must hold the key and nothing else; after correcting it: SELECT pg_reload_conf();";
		}
	}
	explicit_bzero(buffer, sizeof(buffer));
	return key;
}

static char *
read_key_variable(const char *name, const char **problem, const char **hint)
{
	const char *value = getenv(name);
	const char *why = NULL;
	char *key;

	if (value == NULL)
	{
		*problem = psprintf("environment variable \"%s\" is not set", name);
		*hint = "It is read from the environment in which PostgreSQL was started: set it there and restart.";
		return NULL;
	}
	key = copy_trimmed(value, strlen(value), &why);
	if (key == NULL)
	{
		*problem = psprintf("the key in environment variable \"%s\" %s", name, why);
		*hint = "Set it where PostgreSQL is started, and restart.";
	}
	return key;
}

/* The key typed into a user mapping, which its validator has looked at. */
static char *
read_key_mapping(const LlmTarget *target, const char **problem, const char **hint)
{
	const char *why = NULL;
	char *key = copy_trimmed(target->key_name, strlen(target->key_name), &why);

	if (key == NULL)
	{
		*problem = psprintf("the key in the user mapping of server \"%s\" %s", target->server, why);
		*hint = psprintf("ALTER USER MAPPING FOR ... SERVER %s OPTIONS (SET api_key '...');", quote_identifier(target->server));
	}
	return key;
}

char *
llm_secret_read(const LlmTarget *target, const char **problem, const char **hint)
{
	*problem = NULL;
	*hint = NULL;
	switch (target->key_source)
	{
		case LLM_KEY_FILE:
			return read_key_file(target->key_name, problem, hint);
		case LLM_KEY_ENV:
			return read_key_variable(target->key_name, problem, hint);
		case LLM_KEY_MAPPING:
			return read_key_mapping(target, problem, hint);
		case LLM_KEY_NONE:
			break;
	}
	return NULL;
}

char *
llm_secret_read_proxy_password(const LlmTarget *target, const char **problem, const char **hint)
{
	*problem = NULL;
	*hint = NULL;
	if (target->proxy_password_file == NULL)
		return NULL;
	return read_key_file(target->proxy_password_file, problem, hint);
}

uint64
llm_secret_fingerprint(const char *key)
{
	pg_cryptohash_ctx *hash;
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	uint64 fingerprint = 0;

	if (key == NULL)
		return 0;
	hash = pg_cryptohash_create(PG_SHA256);
	if (hash == NULL ||
		pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (const uint8 *) key, strlen(key)) < 0 ||
		pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(hash));
	pg_cryptohash_free(hash);
	for (int i = 0; i < 8; i++)
		fingerprint = (fingerprint << 8) | digest[i];
	/* 0 means no key */
	return fingerprint != 0 ? fingerprint : 1;
}

void
llm_secret_wipe(char *key)
{
	if (key == NULL)
		return;
	explicit_bzero(key, strlen(key));
	pfree(key);
}
