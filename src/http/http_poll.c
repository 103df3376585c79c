/*-------------------------------------------------------------------------
 *
 * http_poll.c
 *	  One wait for sockets, latch and postmaster death.
 *
 * libcurl's descriptors live in an epoll set of our own, whose descriptor stands
 * next to the latch in one WaitEventSet that is never rebuilt.  While answers
 * keep coming the epoll set is asked alone, without sleeping, which costs one
 * system call; the latch is a look at shared memory then, and the postmaster is
 * looked for once a second.
 *
 * A connection changes hands thousands of times a second, and libcurl has its
 * descriptor removed and added each time.  For sockets that we opened, and hear of
 * before they are closed, the set is changed only when it has to be: right before
 * it is asked, or when an idle socket has something to say.  Descriptors that
 * libcurl opens by itself (the pair that tells of a name resolved) are added and
 * removed at once, since libcurl does not say when it closes them.
 *
 * Some versions of libcurl (7.88 for one) do not say either when they close a socket
 * that never got as far as being connected.  Such a one shows by its number: when
 * libcurl loses interest in it, or when a new socket has the number.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/compat.h"
#include "http/http_descriptors.h"
#include "http/http_poll.h"

#define POSTMASTER_CHECK_US INT64CONST(1000000)

/* Entries of the first table; descriptors are small numbers. */
#define FIRST_ROOM 256

typedef struct Watch
{
	uint32 registered; /* epoll events in the set; 0 = not in it */
	uint32 wanted; /* epoll events that should be */
	bool own; /* we opened it and are to hear when it is closed */
	bool fresh; /* own, and may have been closed without a word */
	bool dirty; /* is in the list of those to look at */
	ino_t inode; /* of the fresh one */
} Watch;

/* All of it lives as long as the process, from start() to stop(). */
static int epoll_fd = -1;
static WaitEventSet *wait_set = NULL; /* latch, postmaster death, epoll_fd */
static Watch *watches = NULL; /* by descriptor; malloc'ed, as callbacks grow it */
static int *dirty = NULL; /* descriptors to look at before the next wait */
static int room = 0; /* entries of both */
static int ndirty = 0;
static int nsockets = 0; /* opened and not closed */
static int64 checked_at = 0; /* last look for the postmaster, monotonic */

void
llm_http_poll_start(void)
{
	Assert(epoll_fd < 0);
	if (!llm_http_descriptors_take())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start sending requests: too many open files"),
				 errhint("Raise \"max_files_per_process\".")));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
	{
		llm_http_descriptors_release();
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not start sending requests: %m")));
	}
	wait_set = llm_create_wait_event_set(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);
}

/* Make the tables reach fd. */
static bool
reach(int fd)
{
	int more = Max(room, FIRST_ROOM);
	Watch *new_watches;
	int *new_dirty;

	if (fd < room)
		return true;
	while (more <= fd)
		more *= 2;
	new_watches = realloc(watches, more * sizeof(Watch));
	if (new_watches == NULL)
		return false;
	watches = new_watches;
	new_dirty = realloc(dirty, more * sizeof(int));
	if (new_dirty == NULL)
		return false;
	dirty = new_dirty;
	memset(watches + room, 0, (more - room) * sizeof(Watch));
	room = more;
	return true;
}

/* Put into the set what is wanted of fd.  False when the kernel refuses. */
static bool
apply(int fd)
{
	Watch *watch = &watches[fd];
	struct epoll_event event = {0};
	int rc;

	if (watch->wanted == watch->registered)
		return true;
	event.events = watch->wanted;
	event.data.fd = fd;
	if (watch->wanted == 0)
	{
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		watch->registered = 0;
		return true;
	}
	rc = epoll_ctl(epoll_fd, watch->registered != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
	if (rc < 0 && errno == ENOENT)
		rc = epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
	else if (rc < 0 && errno == EEXIST)
		rc = epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
	if (rc < 0)
		return false;
	watch->registered = watch->wanted;
	return true;
}

/* Keep the change for the next wait. */
static void
mark_dirty(int fd)
{
	if (watches[fd].dirty)
		return;
	watches[fd].dirty = true;
	dirty[ndirty++] = fd;
}

/* A socket of ours is gone.  The kernel takes it out of the set by itself. */
static void
forget(int fd)
{
	if (fd < room)
	{
		watches[fd].registered = 0;
		watches[fd].own = false;
	}
	nsockets--;
	llm_http_descriptors_release();
}

static ino_t
inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* Remember a socket that was just opened. */
static void
remember(int fd)
{
	nsockets++;
	/* a table that cannot grow is no trouble yet: watch() says so when it is needed */
	if (!reach(fd))
		return;
	if (watches[fd].own)
	{
		/* closed without a word, and libcurl thinks that it still waits for that number */
		forget(fd);
		mark_dirty(fd);
	}
	else
		watches[fd].wanted = 0;
	watches[fd].registered = 0;
	watches[fd].own = true;
	watches[fd].fresh = true;
	watches[fd].inode = inode_of(fd);
}

/*
 * Called from within libcurl.  To take a descriptor may close files that fd.c keeps
 * open for convenience, and does not raise.
 */
int
llm_http_poll_open(int family, int type, int protocol, bool *no_descriptor)
{
	int fd;

	if (!llm_http_descriptors_take())
	{
		*no_descriptor = true;
		return -1;
	}
	fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
	if (fd < 0)
	{
		if (errno == EMFILE || errno == ENFILE)
			*no_descriptor = true;
		llm_http_descriptors_release();
		return -1;
	}
	remember(fd);
	return fd;
}

int
llm_http_poll_close(int fd)
{
	if (fd < room)
		watches[fd].wanted = 0;
	forget(fd);
	return close(fd);
}

bool
llm_http_poll_can_open(int in_use)
{
	if (nsockets > in_use)
		return true;
	if (!llm_http_descriptors_take())
		return false;
	llm_http_descriptors_release();
	return true;
}

bool
llm_http_poll_watch(int fd, int events)
{
	Watch *watch;

	if (!reach(fd))
		return false;
	watch = &watches[fd];
	watch->wanted = ((events & LLM_HTTP_POLL_IN) ? EPOLLIN : 0) | ((events & LLM_HTTP_POLL_OUT) ? EPOLLOUT : 0);
	if (watch->own && watch->fresh && events == 0)
	{
		/* connected, used and idle now; or given up and closed without a word */
		if (inode_of(fd) == watch->inode)
			watch->fresh = false;
		else
			forget(fd);
	}
	if (watch->own)
	{
		mark_dirty(fd);
		return true;
	}
	/* may be another file by that number than the one we remember */
	if (events != 0)
		watch->registered = 0;
	return apply(fd);
}

/* Bring the set in line, but leave idle sockets in it that only listen. */
static bool
apply_all(void)
{
	bool ok = true;

	for (int i = 0; i < ndirty; i++)
	{
		Watch *watch = &watches[dirty[i]];

		watch->dirty = false;
		if (watch->wanted == 0 && watch->registered == EPOLLIN)
			continue;
		ok &= apply(dirty[i]);
	}
	ndirty = 0;
	return ok;
}

/* What is ready now. */
static int
look(LlmHttpReady *ready)
{
	struct epoll_event events[LLM_HTTP_POLL_MOST];
	int n = epoll_wait(epoll_fd, events, LLM_HTTP_POLL_MOST, 0);
	int filled = 0;

	for (int i = 0; i < n; i++)
	{
		int fd = events[i].data.fd;

		if (watches[fd].wanted == 0)
		{
			/* an idle connection was closed over there: libcurl looks before it uses one */
			(void) apply(fd);
			continue;
		}
		ready[filled].fd = fd;
		ready[filled].events = ((events[i].events & EPOLLIN) ? LLM_HTTP_POLL_IN : 0) |
							   ((events[i].events & EPOLLOUT) ? LLM_HTTP_POLL_OUT : 0) |
							   ((events[i].events & (EPOLLERR | EPOLLHUP)) ? LLM_HTTP_POLL_ERROR : 0);
		filled++;
	}
	return filled;
}

int
llm_http_poll_look(LlmHttpReady *ready, bool *broken)
{
	if (!apply_all())
		*broken = true;
	return look(ready);
}

int
llm_http_poll_wait(long timeout_ms, uint32 wait_event_info, LlmHttpReady *ready, bool *woken, bool *broken)
{
	WaitEvent event;
	int64 now = llm_clock_monotonic_us();
	int n = llm_http_poll_look(ready, broken);

	if (n > 0 || *broken)
		timeout_ms = 0;
	if (timeout_ms != 0 || now - checked_at >= POSTMASTER_CHECK_US)
	{
		int occurred = WaitEventSetWait(wait_set, timeout_ms, &event, 1, wait_event_info);

		checked_at = now;
		if (n == 0 && occurred > 0 && (event.events & WL_SOCKET_READABLE))
			n = look(ready);
	}
	if (MyLatch->is_set)
	{
		ResetLatch(MyLatch);
		*woken = true;
	}
	return n;
}
