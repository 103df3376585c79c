/*-------------------------------------------------------------------------
 *
 * server.c
 *	  The event loop: sockets, timers, partial reads and writes.
 *
 * One thread, edge-triggered epoll, one registration per connection for its
 * whole life, a heap of timers for delayed answers.  Requests of a connection
 * are answered one after the other, so that pipelined answers keep their
 * order.  A connection is in one of five states:
 *
 *	  READING	the next request has not come whole
 *	  WAITING	the answer is ready but its time has not come
 *	  HOLDING	there will be no answer (a played hang)
 *	  WRITING	the answer is on its way
 *	  PAUSED	in the middle of an answer (played slowness)
 *
 * A client that closes while it is waited for is seen at once (EPOLLRDHUP) and
 * its request is settled as client_gone.  main.c calls server_run(); api.c
 * makes the answers.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_ROOM 4096 /* first size of a connection's input */
#define KEEP_ROOM (16 * 1024) /* larger buffers are freed between requests */
#define FILL_PIECE (64 * 1024)

typedef enum State
{
	READING,
	WAITING,
	HOLDING,
	WRITING,
	PAUSED
} State;

typedef struct Conn
{
	struct Conn *previous;
	struct Conn *next;
	int fd;
	State state;
	bool readable;
	bool peer_closed;
	bool continued; /* 100 Continue was sent for this request */
	bool keep_alive;
	bool settled; /* the meter has been told how it ended */
	uint64_t served;
	Buf in;
	size_t in_start; /* where the present request begins */
	Chunks chunks;
	Buf out;
	size_t out_at;
	Reply reply;
	Timer timer;
} Conn;

static volatile sig_atomic_t stopping = 0;
static sigset_t no_signals; /* SIGTERM is let in only while waiting */
static int epoll_fd = -1;
static int spare_fd = -1; /* given up to refuse a connection when no descriptor is left */
static Conn *all_conns = NULL;
static Buf scratch; /* body of the answer being made */

static void conn_advance(Conn *conn);

double
clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

double
clock_epoch_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double) now.tv_sec * 1000 + (double) now.tv_nsec / 1e6;
}

/* ---- the life of a connection ---- */

/*
 * Tell the meter how the present request ended; only the first call counts.
 */
static void
conn_settle(Conn *conn, bool whole)
{
	Reply *reply = &conn->reply;
	Outcome outcome = reply->outcome;

	if (reply->lane == NULL || conn->settled)
		return;
	conn->settled = true;
	if (!whole && outcome != OUT_CUT && outcome != OUT_HUNG && outcome != OUT_DIED_ON_REUSE &&
		outcome != OUT_OVERSIZED)
		outcome = OUT_CLIENT_GONE;
	meter_settle(reply->lane, reply->entry, reply->drop || reply->hold ? 0 : reply->status, outcome,
				 &reply->usage, whole && reply->usage_told);
}

static void
conn_close(Conn *conn)
{
	timer_clear(&conn->timer);
	if (conn->state != READING)
	{
		conn_settle(conn, false);
		if (conn->reply.lane != NULL)
			meter_leave(conn->reply.lane);
	}
	if (conn->previous != NULL)
		conn->previous->next = conn->next;
	else
		all_conns = conn->next;
	if (conn->next != NULL)
		conn->next->previous = conn->previous;
	close(conn->fd);
	buf_free(&conn->in);
	buf_free(&conn->out);
	buf_free(&conn->reply.tail);
	free(conn);
}

static void
conn_open(int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	Conn *conn = need(calloc(1, sizeof(Conn)));
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	conn->fd = fd;
	conn->next = all_conns;
	if (all_conns != NULL)
		all_conns->previous = conn;
	all_conns = conn;
	event.data.ptr = conn;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		conn_close(conn);
}

static void
accept_all(int listen_fd)
{
	for (;;)
	{
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			conn_open(fd);
		else if ((errno == EMFILE || errno == ENFILE) && spare_fd >= 0)
		{
			/* take it and hang up: a waiting connection would wake us for ever */
			close(spare_fd);
			fd = accept(listen_fd, NULL, NULL);
			if (fd >= 0)
				close(fd);
			spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		}
		else if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

/* ---- reading ---- */

/*
 * Read once; false when there is nothing to read at present.
 */
static bool
conn_read(Conn *conn, uint64_t expected)
{
	size_t room = READ_ROOM / 4;
	ssize_t got;

	if (!conn->readable)
		return false;
	if (conn->in_start > 0 && conn->in_start == conn->in.len)
		conn->in_start = conn->in.len = 0;
	else if (conn->in_start > READ_ROOM)
	{
		memmove(conn->in.at, conn->in.at + conn->in_start, conn->in.len - conn->in_start);
		conn->in.len -= conn->in_start;
		conn->in_start = 0;
	}
	if (expected > conn->in.len - conn->in_start)
	{
		uint64_t missing = expected - (conn->in.len - conn->in_start);

		/* not all at once: a client that only claims a large body costs nothing */
		room = missing > 1024 * 1024 ? 1024 * 1024 : (size_t) missing + 1;
	}
	if (conn->in.at == NULL)
		conn->in = (Buf){need(malloc(READ_ROOM)), 0, READ_ROOM};
	buf_reserve(&conn->in, room);
	got = recv(conn->fd, conn->in.at + conn->in.len, conn->in.room - conn->in.len, 0);
	if (got > 0)
	{
		/* with edge triggering a short read means that the socket is empty */
		if ((size_t) got < conn->in.room - conn->in.len && !conn->peer_closed)
			conn->readable = false;
		conn->in.len += (size_t) got;
		return true;
	}
	if (got < 0 && errno == EINTR)
		return true;
	conn->readable = false;
	if (got == 0 || errno != EAGAIN)
		conn->peer_closed = true;
	return false;
}

static void
conn_say_continue(Conn *conn)
{
	static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";

	conn->continued = true;
	if (send(conn->fd, line, sizeof(line) - 1, MSG_NOSIGNAL) < 0)
		conn->peer_closed = true;
}

/*
 * Start answering: make the reply, then wait, hold or write.
 */
static void
conn_answer(Conn *conn, HttpRequest *request, Progress progress)
{
	Reply *reply = &conn->reply;

	memset(reply, 0, sizeof(*reply));
	reply->retry_after = -1;
	reply->body = scratch;
	reply->body.len = 0;
	conn->settled = false;
	request->reused = conn->served > 0;
	if (progress == COME_WHOLE)
		api_handle(request, reply);
	else
	{
		bool large_head = !request->chunked && request->content_length <= MAX_BODY;

		reply->close = true;
		api_error(reply,
				  progress == NOT_HTTP ? 400
				  : large_head		   ? 431
									   : 413,
				  "invalid_request_error", NULL, NULL,
				  progress == NOT_HTTP ? "This is not an HTTP/1.1 request."
									   : "The request is too large.");
	}
	if (reply->lane != NULL)
		conn->served++;
	conn->keep_alive = request->keep_alive && !reply->close;
	conn->out.len = conn->out_at = 0;
	if (!reply->drop && !reply->hold)
		http_write_reply(&conn->out, reply, conn->keep_alive);
	scratch = reply->body;
	reply->body = (Buf){0};
	if (scratch.room > 1024 * 1024)
		buf_free(&scratch);

	conn->state = reply->hold ? HOLDING : WAITING;
	if (reply->hold)
		conn_settle(conn, false); /* known at once, so that a test need not wait */
	if (reply->delay_ms > 0)
		timer_set(&conn->timer, clock_now() + reply->delay_ms / 1000);
	else if (!reply->hold)
		conn->state = WRITING;
}

/*
 * Look whether a request has come whole, and answer it; false: read more.
 */
static bool
conn_try_request(Conn *conn, uint64_t *expected)
{
	char *bytes;
	size_t len;
	size_t taken;
	HttpRequest request;
	Progress progress;

	while (conn->in_start < conn->in.len &&
		   (conn->in.at[conn->in_start] == '\r' || conn->in.at[conn->in_start] == '\n'))
		conn->in_start++;
	bytes = conn->in.at + conn->in_start;
	len = conn->in.len - conn->in_start;
	if (len == 0)
		return false;
	progress = http_parse_head(&request, bytes, len);
	if (progress == STILL_COMING)
		return false;
	taken = request.head_len;
	if (progress == COME_WHOLE && request.chunked)
	{
		progress = http_read_chunks(&conn->chunks, bytes + taken, len - taken);
		request.body = (Span){bytes + taken, conn->chunks.len};
		taken += conn->chunks.raw;
	}
	else if (progress == COME_WHOLE)
	{
		request.body = (Span){bytes + taken, (size_t) request.content_length};
		taken += (size_t) request.content_length;
		*expected = taken;
		if (len < taken)
			progress = STILL_COMING;
	}
	if (progress == STILL_COMING)
	{
		if (request.expects_continue && !conn->continued)
			conn_say_continue(conn);
		return false;
	}
	conn_answer(conn, &request, progress);
	conn->in_start += progress == COME_WHOLE ? taken : len;
	conn->chunks = (Chunks){0};
	conn->continued = false;
	return true;
}

/* ---- writing ---- */

/*
 * Append the next piece of what does not lie ready: filler, then the tail.
 */
static void
conn_refill(Conn *conn)
{
	Reply *reply = &conn->reply;
	size_t piece = reply->fill < FILL_PIECE ? reply->fill : FILL_PIECE;

	conn->out.len = conn->out_at = 0;
	buf_reserve(&conn->out, piece + 1);
	memset(conn->out.at, 'x', piece);
	conn->out.len = piece;
	reply->fill -= piece;
	if (reply->fill == 0)
	{
		buf_add(&conn->out, reply->tail.at, reply->tail.len);
		buf_free(&reply->tail);
	}
}

/*
 * The answer is out: settle it and get ready for the next request.
 */
static void
conn_finish(Conn *conn)
{
	conn_settle(conn, true);
	if (conn->reply.lane != NULL)
		meter_leave(conn->reply.lane);
	conn->state = READING;
	conn->out.len = conn->out_at = 0;
	if (conn->out.room > KEEP_ROOM)
		buf_free(&conn->out);
	if (conn->in_start == conn->in.len)
	{
		conn->in_start = conn->in.len = 0;
		if (conn->in.room > KEEP_ROOM)
			buf_free(&conn->in);
	}
}

/*
 * Write what may be written.  False: nothing more to do for now, or the
 * connection is closed.
 */
static bool
conn_write(Conn *conn)
{
	Reply *reply = &conn->reply;
	size_t limit = conn->out.len;
	ssize_t sent;

	if (reply->drop)
	{
		conn_settle(conn, false);
		conn_close(conn);
		return false;
	}
	if (reply->pause_at > 0 && reply->pause_at < limit)
		limit = reply->pause_at;
	if (reply->cut_at > 0 && reply->cut_at < limit)
		limit = reply->cut_at;
	sent = send(conn->fd, conn->out.at + conn->out_at, limit - conn->out_at, MSG_NOSIGNAL);
	if (sent < 0)
	{
		if (errno == EINTR)
			return true;
		if (errno != EAGAIN)
			conn_close(conn);
		return false;
	}
	conn->out_at += (size_t) sent;
	if (conn->out_at < limit)
		return true;
	if (limit == reply->cut_at)
	{
		conn_close(conn);
		return false;
	}
	if (limit == reply->pause_at)
	{
		reply->pause_at = 0;
		conn->state = PAUSED;
		timer_set(&conn->timer, clock_now() + reply->pause_ms / 1000);
		return false;
	}
	if (reply->fill > 0)
	{
		conn_refill(conn);
		return true;
	}
	conn_finish(conn);
	if (conn->keep_alive)
		return true;
	conn_close(conn);
	return false;
}

/*
 * Do all that can be done now.  The connection may be gone afterwards.
 */
static void
conn_advance(Conn *conn)
{
	for (;;)
	{
		uint64_t expected = 0;

		if (conn->state == WRITING)
		{
			if (!conn_write(conn))
				return;
		}
		else if (conn->state != READING)
		{
			if (conn->peer_closed)
				conn_close(conn);
			return;
		}
		else if (!conn_try_request(conn, &expected) && !conn_read(conn, expected))
		{
			if (conn->peer_closed)
				conn_close(conn);
			return;
		}
	}
}

/* ---- the loop ---- */

static void
run_timers(void)
{
	double now = clock_now();

	for (Timer *first = timer_first(); first != NULL && first->due <= now; first = timer_first())
	{
		Conn *conn = (Conn *) (void *) ((char *) first - offsetof(Conn, timer));

		timer_clear(&conn->timer);
		if (conn->state == HOLDING)
			conn_close(conn);
		else
		{
			conn->state = WRITING;
			conn_advance(conn);
		}
	}
}

/*
 * Wait for events.  A timer is not rounded up to a millisecond where the
 * system can do better, else a latency of 1 ms would be 2.
 */
static int
wait_for_events(struct epoll_event *events, int room)
{
	static bool precise = true;
	const Timer *first = timer_first();
	struct timespec timeout = {0, 0};
	double wait = -1;

	if (first != NULL)
	{
		wait = first->due - clock_now();
		if (wait < 0)
			wait = 0;
		timeout.tv_sec = (time_t) wait;
		timeout.tv_nsec = (long) ((wait - (double) timeout.tv_sec) * 1e9);
	}
	if (precise)
	{
		int count = epoll_pwait2(epoll_fd, events, room, wait < 0 ? NULL : &timeout, &no_signals);

		if (count >= 0 || (errno != ENOSYS && errno != EPERM))
			return count;
		precise = false;
	}
	if (wait > 3600)
		wait = 3600;
	return epoll_pwait(epoll_fd, events, room, wait < 0 ? -1 : (int) (wait * 1000) + (wait > 0),
					   &no_signals);
}

static void
stdin_event(void)
{
	char bytes[512];
	ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));

	if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
		stopping = 1;
}

static void
run_loop(int listen_fd)
{
	struct epoll_event events[256];

	while (!stopping)
	{
		int count = wait_for_events(events, 256);

		for (int i = 0; i < count; i++)
		{
			Conn *conn = events[i].data.ptr;

			if (conn == NULL)
				stdin_event();
			else if ((void *) conn == (void *) &epoll_fd)
				accept_all(listen_fd);
			else
			{
				if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
					conn->readable = true;
				if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
					conn->peer_closed = true;
				conn_advance(conn);
			}
		}
		run_timers();
	}
}

static void
die(const char *what)
{
	fprintf(stderr, "llm-provider: could not %s: %s\n", what, strerror(errno));
	exit(1);
}

/*
 * Listen on loopback, and nowhere else.
 */
static int
open_listener(int *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("create a socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16_t) *port);
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("bind to 127.0.0.1");
	if (listen(fd, 4096) != 0)
		die("listen");
	if (getsockname(fd, (struct sockaddr *) &address, &len) != 0)
		die("learn the port");
	*port = ntohs(address.sin_port);
	return fd;
}

/*
 * Write the port under another name first, so that nobody reads half of it.
 */
static void
write_port_file(const char *path, int port)
{
	Buf name = {0};
	FILE *file;

	buf_print(&name, "%s.new", path);
	buf_char(&name, '\0');
	file = fopen(name.at, "w");
	if (file == NULL || fprintf(file, "%d\n", port) < 0 || fclose(file) != 0)
		die("write the port file");
	if (rename(name.at, path) != 0)
		die("rename the port file");
	buf_free(&name);
}

/*
 * Called by the signal handler.
 */
void
server_stop(int signal_number)
{
	(void) signal_number;
	stopping = 1;
}

static void
register_fd(int fd, void *tag, const char *what)
{
	struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = tag}};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		die(what);
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/*
 * Serve until SIGTERM, SIGINT or, if asked for, the end of standard input.
 */
void
server_run(int port, const char *port_file, bool exit_with_stdin)
{
	int listen_fd = open_listener(&port);

	sigemptyset(&no_signals);
	raise_descriptor_limit();
	spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("create an epoll set");
	register_fd(listen_fd, &epoll_fd, "watch the listening socket");
	if (exit_with_stdin)
		register_fd(STDIN_FILENO, NULL, "watch standard input (it must be a pipe or a terminal)");
	if (port_file != NULL)
		write_port_file(port_file, port);
	else
		printf("%d\n", port);
	fflush(stdout);

	run_loop(listen_fd);

	while (all_conns != NULL)
		conn_close(all_conns);
	close(listen_fd);
	close(epoll_fd);
	if (spare_fd >= 0)
		close(spare_fd);
	timers_free();
	buf_free(&scratch);
}
