/*-------------------------------------------------------------------------
 *
 * limit.c
 *	  How many requests a second a bare libcurl loop gets out of a provider:
 *	  the bound for everything that uses libcurl on the same machine.
 *
 *	  limit URL BODY-FILE TOTAL IN-FLIGHT [fields | read]
 *
 * Sends TOTAL times the body in BODY-FILE by POST, with IN-FLIGHT requests at a
 * time, over kept connections, in one thread: curl_multi_socket_action() and
 * epoll, which is the fastest that libcurl offers.  Answers are counted and thrown
 * away.  The body is given whole (fields: CURLOPT_POSTFIELDS, libcurl may send a
 * request twice) or by callback (read: it cannot, and needs one more system call);
 * without a mode, each is measured in turn.  LIMIT_KEY in the environment is sent
 * as bearer token.
 *
 * Prints one line a mode: mode, requests/s, answers that were not 200, transfers
 * that failed.  Ends with 1 if there were any of the latter two.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#define EVENTS_A_TURN 256

typedef struct Transfer
{
	CURL *easy;
	size_t sent; /* bytes of the body */
} Transfer;

/* What the command line says. */
static const char *url;
static char *body;
static size_t body_len;
static long total;
static int in_flight;

/* One run. */
static CURLM *multi;
static int epoll_fd;
static double deadline; /* libcurl wants to be called then; -1: not */
static long started;
static long failed;
static long not_ok;

static void
give_up(const char *what)
{
	fprintf(stderr, "limit: %s\n", what);
	exit(2);
}

static double
now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void
read_body(const char *path)
{
	FILE *file = fopen(path, "rb");
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
		give_up("could not read the body file");
	rewind(file);
	body_len = (size_t) size;
	body = malloc(body_len + 1);
	if (body == NULL || fread(body, 1, body_len, file) != body_len)
		give_up("could not read the body file");
	fclose(file);
}

static size_t
on_read(char *buffer, size_t size, size_t nitems, void *userdata)
{
	Transfer *transfer = userdata;
	size_t len = body_len - transfer->sent;

	if (len > size * nitems)
		len = size * nitems;
	memcpy(buffer, body + transfer->sent, len);
	transfer->sent += len;
	return len;
}

static size_t
on_answer(char *bytes, size_t size, size_t nmemb, void *userdata)
{
	(void) bytes;
	(void) userdata;
	return size * nmemb;
}

static int
on_watch(CURL *easy, curl_socket_t fd, int what, void *userdata, void *known)
{
	struct epoll_event event = {0};

	(void) easy;
	(void) userdata;
	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		curl_multi_assign(multi, fd, NULL);
		return 0;
	}
	event.events = ((what & CURL_POLL_IN) ? EPOLLIN : 0) | ((what & CURL_POLL_OUT) ? EPOLLOUT : 0);
	event.data.fd = fd;
	if (epoll_ctl(epoll_fd, known != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0)
		give_up("could not watch a socket");
	curl_multi_assign(multi, fd, &epoll_fd);
	return 0;
}

static int
on_timer(CURLM *handle, long timeout_ms, void *userdata)
{
	(void) handle;
	(void) userdata;
	deadline = (timeout_ms < 0) ? -1 : now_s() + timeout_ms / 1e3;
	return 0;
}

static void
set_up(Transfer *transfer, struct curl_slist *headers, bool by_callback)
{
	CURL *easy = curl_easy_init();

	if (easy == NULL)
		give_up("out of memory");
	transfer->easy = easy;
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 60000L);
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body_len);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
	if (by_callback)
	{
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	}
	else
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
}

static void
start(Transfer *transfer)
{
	transfer->sent = 0;
	started++;
	if (curl_multi_add_handle(multi, transfer->easy) != CURLM_OK)
		give_up("could not start a transfer");
}

/* Count the transfers that are through, and start others in their place. */
static int
collect(void)
{
	CURLMsg *message;
	int left;
	int done = 0;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		char *transfer = NULL;
		long status = 0;

		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (message->data.result != CURLE_OK)
			failed++;
		else if (status != 200)
			not_ok++;
		curl_multi_remove_handle(multi, easy);
		done++;
		if (started < total)
			start((Transfer *) transfer);
	}
	return done;
}

static int
wait_ms(void)
{
	double left;

	if (deadline < 0)
		return -1;
	left = deadline - now_s();
	return left <= 0 ? 0 : (int) (left * 1e3) + 1;
}

/* One turn of the loop; returns the number of transfers that it ended. */
static int
turn(void)
{
	struct epoll_event events[EVENTS_A_TURN];
	int running;
	int n = epoll_wait(epoll_fd, events, EVENTS_A_TURN, wait_ms());

	if (n < 0 && errno != EINTR)
		give_up("could not wait for sockets");
	for (int i = 0; i < n; i++)
		curl_multi_socket_action(multi, events[i].data.fd,
								 ((events[i].events & EPOLLIN) ? CURL_CSELECT_IN : 0) |
									 ((events[i].events & EPOLLOUT) ? CURL_CSELECT_OUT : 0) |
									 ((events[i].events & (EPOLLERR | EPOLLHUP)) ? CURL_CSELECT_ERR : 0),
								 &running);
	if (deadline >= 0 && now_s() >= deadline)
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	return collect();
}

static struct curl_slist *
make_headers(void)
{
	const char *key = getenv("LIMIT_KEY");
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	char line[512];

	headers = curl_slist_append(headers, "Accept: application/json");
	headers = curl_slist_append(headers, "Expect:");
	snprintf(line, sizeof(line), "Authorization: Bearer %s", key != NULL ? key : "limit");
	return curl_slist_append(headers, line);
}

/* Measure one mode.  False when something went wrong with a request. */
static bool
measure(bool by_callback)
{
	struct curl_slist *headers = make_headers();
	Transfer *transfers = calloc((size_t) in_flight, sizeof(Transfer));
	double began;
	double took;

	multi = curl_multi_init();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (multi == NULL || epoll_fd < 0 || transfers == NULL)
		give_up("out of memory");
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_watch);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);
	started = failed = not_ok = 0;
	deadline = -1;

	began = now_s();
	for (int i = 0; i < in_flight; i++)
	{
		set_up(&transfers[i], headers, by_callback);
		if (started < total)
			start(&transfers[i]);
	}
	for (long done = 0; done < total;)
		done += turn();
	took = now_s() - began;

	printf("%s %.0f requests/s, %ld not 200, %ld failed\n", by_callback ? "read  " : "fields", total / took, not_ok, failed);
	for (int i = 0; i < in_flight; i++)
		curl_easy_cleanup(transfers[i].easy);
	curl_multi_cleanup(multi);
	curl_slist_free_all(headers);
	close(epoll_fd);
	free(transfers);
	return failed == 0 && not_ok == 0;
}

int
main(int argc, char **argv)
{
	const char *mode = argc == 6 ? argv[5] : "";
	bool ok = true;

	if (argc < 5 || argc > 6 || (argc == 6 && strcmp(mode, "fields") != 0 && strcmp(mode, "read") != 0))
		give_up("usage: limit URL BODY-FILE TOTAL IN-FLIGHT [fields | read]");
	url = argv[1];
	read_body(argv[2]);
	total = strtol(argv[3], NULL, 10);
	in_flight = (int) strtol(argv[4], NULL, 10);
	if (total < 1 || in_flight < 1)
		give_up("TOTAL and IN-FLIGHT are whole numbers from 1 on");
	curl_global_init(CURL_GLOBAL_DEFAULT);
	if (strcmp(mode, "read") != 0)
		ok = measure(false) && ok;
	if (strcmp(mode, "fields") != 0)
		ok = measure(true) && ok;
	free(body);
	curl_global_cleanup();
	return ok ? 0 : 1;
}
