/*-------------------------------------------------------------------------
 *
 * fault_shim.c
 *	  What a machine can do to a server, on request: LD_PRELOADed into it by
 *	  LLMFault.pm, which writes a test's wishes into a file that all processes map.
 *
 *	  LLM_FAULT_FILE   that file: a struct Wishes
 *
 * Only glibc: the allocator's own functions go by names of theirs.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* In the order in which LLMFault.pm packs it. */
struct Wishes
{
	int64_t clock_s; /* the wall clock is so far off */
	int64_t disk_full; /* 1: no table grows; 2: none of a tablespace */
	int64_t victim; /* the process that the rest is meant for */
	int64_t no_sockets; /* it gets no descriptor for one */
	int64_t allocations; /* its allocation after so many more fails, once; 0: none does */
	int64_t failed; /* allocations that failed */
	int64_t no_shared; /* there is no more shared memory */
};

static struct Wishes *wishes = NULL;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

__attribute__((constructor)) static void
map_wishes(void)
{
	const char *name = getenv("LLM_FAULT_FILE");
	int fd = name == NULL ? -1 : open(name, O_RDWR | O_CLOEXEC);
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(struct Wishes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		wishes = map;
}

static void *
next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

static int
is_victim(void)
{
	return wishes != NULL && wishes->victim != 0 && wishes->victim == getpid();
}

/* The wall clock */

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	(void) tz;
	(void) clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	static int (*real)(clockid_t, struct timespec *) = NULL;
	int rc;

	if (real == NULL)
		real = (int (*)(clockid_t, struct timespec *)) next("clock_gettime");
	rc = real(clock, ts);
	if (rc == 0 && clock == CLOCK_REALTIME && wishes != NULL)
		ts->tv_sec += wishes->clock_s;
	return rc;
}

time_t
time(time_t *at)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_REALTIME, &ts);
	if (at != NULL)
		*at = ts.tv_sec;
	return ts.tv_sec;
}

/* The disk: what is there can be written, and no table's file grows */

static int
is_below(int fd, const char *folder)
{
	char link[64];
	char path[4096];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return 0;
	path[len] = '\0';
	return strstr(path, folder) != NULL;
}

static int
is_refused(int fd, off_t end)
{
	struct stat st;

	if (wishes == NULL || !wishes->disk_full)
		return 0;
	return fstat(fd, &st) == 0 && end > st.st_size && is_below(fd, wishes->disk_full == 2 ? "/pg_tblspc/" : "/base/");
}

ssize_t
pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off_t) = NULL;

	if (real == NULL)
		real = (ssize_t(*)(int, const void *, size_t, off_t)) next("pwrite");
	if (is_refused(fd, at + (off_t) len))
	{
		errno = ENOSPC;
		return -1;
	}
	return real(fd, bytes, len, at);
}

ssize_t
pwrite64(int fd, const void *bytes, size_t len, off_t at)
{
	return pwrite(fd, bytes, len, at);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int n, off_t at)
{
	static ssize_t (*real)(int, const struct iovec *, int, off_t) = NULL;
	off_t end = at;

	if (real == NULL)
		real = (ssize_t(*)(int, const struct iovec *, int, off_t)) next("pwritev");
	for (int i = 0; i < n; i++)
		end += (off_t) parts[i].iov_len;
	if (is_refused(fd, end))
	{
		errno = ENOSPC;
		return -1;
	}
	return real(fd, parts, n, at);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int n, off_t at)
{
	return pwritev(fd, parts, n, at);
}

int
posix_fallocate(int fd, off_t at, off_t len)
{
	static int (*real)(int, off_t, off_t) = NULL;

	if (real == NULL)
		real = (int (*)(int, off_t, off_t)) next("posix_fallocate");
	if (is_refused(fd, at + len) || (wishes != NULL && wishes->no_shared && is_below(fd, "/dev/shm/")))
		return ENOSPC;
	return real(fd, at, len);
}

int
posix_fallocate64(int fd, off_t at, off_t len)
{
	return posix_fallocate(fd, at, len);
}

/* Shared memory of System V, which a server takes where it may not write to /dev/shm. */
int
shmget(key_t key, size_t size, int flags)
{
	static int (*real)(key_t, size_t, int) = NULL;

	if (real == NULL)
		real = (int (*)(key_t, size_t, int)) next("shmget");
	if (wishes != NULL && wishes->no_shared && (flags & IPC_CREAT) != 0)
	{
		errno = ENOSPC;
		return -1;
	}
	return real(key, size, flags);
}

/* Descriptors and names */

int
socket(int family, int type, int protocol)
{
	static int (*real)(int, int, int) = NULL;

	if (real == NULL)
		real = (int (*)(int, int, int)) next("socket");
	if (is_victim() && wishes->no_sockets && (family == AF_INET || family == AF_INET6))
	{
		errno = EMFILE;
		return -1;
	}
	return real(family, type, protocol);
}

/* No resolver is asked for a name that cannot be. */
int
getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
			struct addrinfo **restrict found)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;

	if (real == NULL)
		real = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **)) next("getaddrinfo");
	if (node != NULL && strstr(node, ".invalid") != NULL)
		return EAI_AGAIN;
	return real(node, service, hints, found);
}

/* Memory */

static int
is_short(void)
{
	if (!is_victim() || wishes->allocations == 0 || --wishes->allocations > 0)
		return 0;
	wishes->failed++;
	errno = ENOMEM;
	return 1;
}

void *
malloc(size_t size)
{
	return is_short() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return is_short() ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *old, size_t size)
{
	return is_short() ? NULL : __libc_realloc(old, size);
}
