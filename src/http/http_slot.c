/*-------------------------------------------------------------------------
 *
 * http_slot.c
 *	  What libcurl is told of one exchange, and what it tells us back.
 *
 * An easy handle keeps its options from one exchange to the next, and only what
 * differs is set again, since setting all of them costs more than the rest of our
 * part of a request.
 *
 * Never twice: libcurl sends a request again by itself when a connection that was
 * used before dies ahead of the answer's first byte, and the provider may bill both.
 * Each of its attempts passes on_request(), which stops every attempt but the first
 * once anything has been written; the exchange is lost then, and the caller decides.
 * (Handing the body out by callback, without a way to rewind, would stop it too, but
 * costs a system call and a packet for each request.)
 *
 * Callbacks run inside libcurl, so they neither raise nor use memory contexts: they
 * note what is wrong and return.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "http/http_poll.h"
#include "http/http_slot.h"

#if LIBCURL_VERSION_NUM < 0x075000
#error "llm_enrich needs libcurl 7.80 or later"
#endif

/* Connections are not used beyond this age, so that a changed address is followed. */
#define CONNECTION_AGE_S 300L
#define NAME_CACHE_S 60L

/* A peer that vanished without a word is noticed after 60 s + 9 times 15 s. */
#define KEEPALIVE_IDLE_S 60L
#define KEEPALIVE_INTERVAL_S 15L

/* From the first take() to free_all(); changed by this process only. */
static dlist_head all_slots = DLIST_STATIC_INIT(all_slots);
static dlist_head free_slots = DLIST_STATIC_INIT(free_slots);

/* Only while libcurl is at work. */
static bool signals_blocked = false;
static sigset_t saved_signals;

/*
 * Before a name is resolved: libcurl's thread for that inherits our mask, and must
 * not run our signal handlers.
 */
static int
on_resolve(void *state, void *reserved, void *userdata)
{
	sigset_t all;

	if (!signals_blocked)
	{
		sigfillset(&all);
		signals_blocked = (pthread_sigmask(SIG_SETMASK, &all, &saved_signals) == 0);
	}
	return 0;
}

void
llm_http_slot_restore_signals(void)
{
	if (!signals_blocked)
		return;
	(void) pthread_sigmask(SIG_SETMASK, &saved_signals, NULL);
	signals_blocked = false;
}

static curl_socket_t
on_open(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
	LlmHttpSlot *slot = userdata;
	int fd;

	llm_http_origin_resolved(slot->origin, slot);
	fd = llm_http_poll_open(address->family, address->socktype, address->protocol, &slot->no_descriptor);
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* Called with what on_open() gave, long after that slot may have gone. */
static int
on_close(void *userdata, curl_socket_t fd)
{
	return llm_http_poll_close(fd);
}

static long
bytes_sent(const LlmHttpSlot *slot)
{
	long bytes = 0;

	(void) curl_easy_getinfo(slot->easy, CURLINFO_REQUEST_SIZE, &bytes);
	return bytes;
}

/* Counts over all of libcurl's attempts at one exchange; what a proxy was told is no part of the request. */
bool
llm_http_slot_has_sent(const LlmHttpSlot *slot)
{
	return slot->requested && bytes_sent(slot) > slot->sent_before;
}

/*
 * Right before a request is written.  A second time in one exchange means that
 * libcurl starts over; it may, unless something of the request has left already.
 */
static int
on_request(void *userdata, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	LlmHttpSlot *slot = userdata;

	llm_http_origin_resolved(slot->origin, slot);
	if (slot->requested && llm_http_slot_has_sent(slot))
		return CURL_PREREQFUNC_ABORT;
	slot->sent_before = bytes_sent(slot);
	slot->requested = true;
	return CURL_PREREQFUNC_OK;
}

static size_t
on_header(char *line, size_t size, size_t nitems, void *userdata)
{
	LlmHttpSlot *slot = userdata;

	if (!llm_http_answer_header(&slot->answer, line, size * nitems))
		return 0; /* not what was given: ends the transfer */
	return size * nitems;
}

static size_t
on_answer(char *bytes, size_t size, size_t nmemb, void *userdata)
{
	LlmHttpSlot *slot = userdata;

	if (!llm_http_answer_append(&slot->answer, bytes, size * nmemb))
		return 0; /* not what was given: ends the transfer */
	return size * nmemb;
}

#define SET(option, value) (curl_easy_setopt(slot->easy, option, value) == CURLE_OK)

/* What libcurl 7.80 does not have yet. */
#if LIBCURL_VERSION_NUM >= 0x075500
#define SET_PROTOCOLS() SET(CURLOPT_PROTOCOLS_STR, "http,https")
#else
#define SET_PROTOCOLS() SET(CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS))
#endif
/* Before 7.87 a worker that ends while a name is looked up waits for that. */
#if LIBCURL_VERSION_NUM >= 0x075700
#define SET_QUICK_EXIT() SET(CURLOPT_QUICK_EXIT, 1L)
#else
#define SET_QUICK_EXIT() true
#endif

/* What holds for every exchange. */
static bool
set_common_options(LlmHttpSlot *slot)
{
	return SET(CURLOPT_PRIVATE, slot) &&
		   SET(CURLOPT_NOSIGNAL, 1L) &&
		   SET_PROTOCOLS() &&
		   SET(CURLOPT_FOLLOWLOCATION, 0L) &&
		   SET(CURLOPT_PROXY, "") &&
		   SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED) &&
		   SET(CURLOPT_SSL_VERIFYPEER, 1L) &&
		   SET(CURLOPT_SSL_VERIFYHOST, 2L) &&
		   SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1) &&
		   SET(CURLOPT_ACCEPT_ENCODING, "") &&
		   SET(CURLOPT_USERAGENT, "llm_enrich/" LLM_ENRICH_VERSION) &&
		   SET(CURLOPT_TCP_KEEPALIVE, 1L) &&
		   SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S) &&
		   SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S) &&
		   SET(CURLOPT_MAXAGE_CONN, CONNECTION_AGE_S) &&
		   SET(CURLOPT_MAXLIFETIME_CONN, CONNECTION_AGE_S) &&
		   SET(CURLOPT_DNS_CACHE_TIMEOUT, NAME_CACHE_S) &&
		   SET_QUICK_EXIT() &&
		   SET(CURLOPT_ERRORBUFFER, slot->detail);
}

static bool
set_callbacks(LlmHttpSlot *slot)
{
	return SET(CURLOPT_WRITEFUNCTION, on_answer) &&
		   SET(CURLOPT_WRITEDATA, slot) &&
		   SET(CURLOPT_HEADERFUNCTION, on_header) &&
		   SET(CURLOPT_HEADERDATA, slot) &&
		   SET(CURLOPT_PREREQFUNCTION, on_request) &&
		   SET(CURLOPT_PREREQDATA, slot) &&
		   SET(CURLOPT_RESOLVER_START_FUNCTION, on_resolve) &&
		   SET(CURLOPT_OPENSOCKETFUNCTION, on_open) &&
		   SET(CURLOPT_OPENSOCKETDATA, slot) &&
		   SET(CURLOPT_CLOSESOCKETFUNCTION, on_close);
}

/* Wipe and free a header list. */
static void
free_headers(struct curl_slist *headers)
{
	for (struct curl_slist *line = headers; line != NULL; line = line->next)
		explicit_bzero(line->data, strlen(line->data));
	curl_slist_free_all(headers);
}

/* Forget the key, after libcurl was pointed elsewhere. */
static void
drop_headers(LlmHttpSlot *slot)
{
	free_headers(slot->headers);
	slot->headers = NULL;
}

static void
free_network(LlmHttpNetwork *network)
{
	if (network->proxy_password != NULL)
		explicit_bzero(unconstify(char *, network->proxy_password), strlen(network->proxy_password));
	free(unconstify(char *, network->ca_file));
	free(unconstify(char *, network->client_cert_file));
	free(unconstify(char *, network->client_key_file));
	free(unconstify(char *, network->proxy));
	free(unconstify(char *, network->proxy_user));
	free(unconstify(char *, network->proxy_password));
	memset(network, 0, sizeof(*network));
}

/* Free the URL, which may hold the key. */
static void
free_url(LlmHttpSlot *slot)
{
	if (slot->url != NULL)
		explicit_bzero(slot->url, strlen(slot->url));
	free(slot->url);
	slot->url = NULL;
}

static void
free_slot(LlmHttpSlot *slot)
{
	llm_http_origin_leave(slot->origin);
	curl_easy_cleanup(slot->easy);
	drop_headers(slot);
	llm_http_answer_free(&slot->answer);
	free_url(slot);
	free_network(&slot->network);
	free(slot->method);
	free(slot->detail);
	dlist_delete(&slot->all_node);
	free(slot);
}

/* A slot that carries nothing yet; NULL when memory is short. */
static LlmHttpSlot *
make_slot(void)
{
	LlmHttpSlot *slot = calloc(1, sizeof(LlmHttpSlot));

	if (slot == NULL)
		return NULL;
	dlist_push_tail(&all_slots, &slot->all_node);
	slot->detail = calloc(1, CURL_ERROR_SIZE);
	slot->easy = curl_easy_init();
	if (slot->detail != NULL && slot->easy != NULL && set_common_options(slot) && set_callbacks(slot))
		return slot;
	free_slot(slot);
	return NULL;
}

static bool
set_url(LlmHttpSlot *slot, const char *url)
{
	LlmHttpOrigin *origin;
	char *copy;

	if (slot->url != NULL && strcmp(slot->url, url) == 0)
		return true;
	copy = strdup(url);
	origin = (copy == NULL) ? NULL : llm_http_origin_enter(url);
	if (origin == NULL)
	{
		free(copy);
		return false;
	}
	llm_http_origin_leave(slot->origin);
	slot->origin = origin;
	free_url(slot);
	slot->url = copy;
	if (SET(CURLOPT_URL, url))
		return true;
	free_url(slot);
	return false;
}

static bool
add_line(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);

	if (longer == NULL)
		return false;
	*list = longer;
	return true;
}

/*
 * What goes with every request.  Both are left out so: an Expect, so that large bodies do not wait
 * for a 100 Continue, and a wish for compression; a server that compresses all the same is understood.
 */
static const char *const own_headers[] = {"Expect:", "Accept-Encoding:"};

/* Are these the lines that the handle has? */
static bool
has_headers(const LlmHttpSlot *slot, const char *const *lines)
{
	const struct curl_slist *had = slot->headers;

	if (had == NULL)
		return false;
	for (int i = 0; i < lengthof(own_headers); i++)
		had = had->next;
	for (; had != NULL && lines != NULL && *lines != NULL; had = had->next, lines++)
	{
		if (strcmp(had->data, *lines) != 0)
			return false;
	}
	return had == NULL && (lines == NULL || *lines == NULL);
}

static bool
set_headers(LlmHttpSlot *slot, const char *const *lines)
{
	struct curl_slist *list = NULL;
	bool ok = true;

	if (has_headers(slot, lines))
		return true;
	for (int i = 0; ok && i < lengthof(own_headers); i++)
		ok = add_line(&list, own_headers[i]);
	for (; ok && lines != NULL && *lines != NULL; lines++)
		ok = add_line(&list, *lines);
	if (!ok || !SET(CURLOPT_HTTPHEADER, list))
	{
		free_headers(list);
		return false;
	}
	drop_headers(slot);
	slot->headers = list;
	return true;
}

/* POST and GET are libcurl's own; any other word goes as it is, with the body that there is. */
static bool
set_method(LlmHttpSlot *slot, const char *method)
{
	bool get = strcmp(method, "GET") == 0;
	char *copy;

	if (slot->method != NULL && strcmp(slot->method, method) == 0)
		return true;
	free(slot->method);
	slot->method = NULL;
	copy = strdup(method);
	if (copy == NULL || !(get ? SET(CURLOPT_HTTPGET, 1L) : SET(CURLOPT_POST, 1L)) ||
		!SET(CURLOPT_CUSTOMREQUEST, get || strcmp(method, "POST") == 0 ? NULL : method))
	{
		free(copy);
		return false;
	}
	slot->method = copy;
	return true;
}

/* After set_method(); a request without a body has an empty one where its method wants some. */
static bool
set_body(LlmHttpSlot *slot, const char *body, size_t len)
{
	if (strcmp(slot->method, "GET") == 0)
		return true;
	return SET(CURLOPT_POSTFIELDS, body != NULL ? body : "") &&
		   SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) (body != NULL ? len : 0));
}

static bool
set_timeouts(LlmHttpSlot *slot, int timeout_ms, int connect_timeout_ms)
{
	if (slot->timeout_ms != timeout_ms && !SET(CURLOPT_TIMEOUT_MS, (long) timeout_ms))
		return false;
	slot->timeout_ms = timeout_ms;
	if (slot->connect_timeout_ms != connect_timeout_ms && !SET(CURLOPT_CONNECTTIMEOUT_MS, (long) connect_timeout_ms))
		return false;
	slot->connect_timeout_ms = connect_timeout_ms;
	return true;
}

/* One member of a network: is it another one now?  A copy of it; false when memory is short. */
static bool
copy_word(const char **to, const char *word)
{
	*to = word == NULL ? NULL : strdup(word);
	return word == NULL || *to != NULL;
}

static bool
is_same_word(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool
llm_http_is_same_network(const LlmHttpNetwork *a, const LlmHttpNetwork *b)
{
	return is_same_word(a->ca_file, b->ca_file) && is_same_word(a->client_cert_file, b->client_cert_file) &&
		   is_same_word(a->client_key_file, b->client_key_file) && is_same_word(a->proxy, b->proxy) &&
		   is_same_word(a->proxy_user, b->proxy_user) && is_same_word(a->proxy_password, b->proxy_password);
}

/* Everything that the handle was told is void: as after make_slot(). */
static bool
start_over(LlmHttpSlot *slot)
{
	curl_easy_reset(slot->easy);
	drop_headers(slot);
	free_url(slot);
	free_network(&slot->network);
	free(slot->method);
	slot->method = NULL;
	slot->timeout_ms = 0;
	slot->connect_timeout_ms = 0;
	return set_common_options(slot) && set_callbacks(slot);
}

/*
 * The network of a host.  It differs between few hosts, and libcurl's own default for the
 * authorities cannot be set again, so a handle that changes it starts over.
 */
static bool
set_network(LlmHttpSlot *slot, const LlmHttpNetwork *given)
{
	static const LlmHttpNetwork plain = {NULL};
	const LlmHttpNetwork *network = given != NULL ? given : &plain;
	LlmHttpNetwork *to = &slot->network;

	if (llm_http_is_same_network(to, network))
		return true;
	if (!start_over(slot) || !copy_word(&to->ca_file, network->ca_file) ||
		!copy_word(&to->client_cert_file, network->client_cert_file) ||
		!copy_word(&to->client_key_file, network->client_key_file) || !copy_word(&to->proxy, network->proxy) ||
		!copy_word(&to->proxy_user, network->proxy_user) || !copy_word(&to->proxy_password, network->proxy_password))
		return false;
	return (to->ca_file == NULL || SET(CURLOPT_CAINFO, to->ca_file)) &&
		   (to->client_cert_file == NULL || SET(CURLOPT_SSLCERT, to->client_cert_file)) &&
		   (to->client_key_file == NULL || SET(CURLOPT_SSLKEY, to->client_key_file)) &&
		   (to->proxy == NULL || (SET(CURLOPT_PROXY, to->proxy) && SET(CURLOPT_HTTPPROXYTUNNEL, 1L))) &&
		   (to->proxy_user == NULL || SET(CURLOPT_PROXYUSERNAME, to->proxy_user)) &&
		   (to->proxy_password == NULL || SET(CURLOPT_PROXYPASSWORD, to->proxy_password));
}

LlmHttpSlot *
llm_http_slot_take(LlmHttpExchange *exchange)
{
	LlmHttpSlot *slot;

	/* the one used last: its buffers are warm */
	if (dlist_is_empty(&free_slots))
		slot = make_slot();
	else
		slot = dlist_container(LlmHttpSlot, node, dlist_pop_head_node(&free_slots));
	if (slot == NULL)
		return NULL;
	if (!set_network(slot, exchange->network) ||
		!set_url(slot, exchange->url) ||
		!set_method(slot, exchange->method) ||
		!set_headers(slot, exchange->headers) ||
		!set_timeouts(slot, exchange->timeout_ms, exchange->connect_timeout_ms) ||
		!set_body(slot, exchange->body, exchange->body_len))
	{
		dlist_push_head(&free_slots, &slot->node);
		return NULL;
	}
	slot->requested = false;
	slot->sent_before = 0;
	slot->no_descriptor = false;
	slot->detail[0] = '\0';
	llm_http_answer_start(&slot->answer, exchange->answer_limit);
	slot->exchange = exchange;
	exchange->handle = slot;
	return slot;
}

void
llm_http_slot_put(LlmHttpSlot *slot)
{
	llm_http_answer_clear(slot->exchange);
	llm_http_answer_trim(&slot->answer);
	slot->exchange->handle = NULL;
	slot->exchange = NULL;
	slot->state = LLM_SLOT_IDLE;
	dlist_push_head(&free_slots, &slot->node);
}

LlmHttpSlot *
llm_http_slot_of(void *easy)
{
	char *slot = NULL;

	(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, &slot);
	return (LlmHttpSlot *) slot;
}

/* Did the other side end the connection with a word of TLS about our certificate?  It has read nothing then. */
static bool
wants_client_cert(const char *detail)
{
	static const char *const words[] = {"certificate required", "bad certificate", "unknown ca", "certificate unknown",
										"unsupported certificate", "certificate expired", "certificate revoked"};

	if (strstr(detail, "alert") == NULL)
		return false;
	for (int i = 0; i < lengthof(words); i++)
	{
		if (strstr(detail, words[i]) != NULL)
			return true;
	}
	return false;
}

/* Why there is no connection, as far as somebody can do something about it. */
static LlmHttpCause
cause_of(const LlmHttpSlot *slot, CURLcode code)
{
	long status = 0;

	switch (code)
	{
		case CURLE_PEER_FAILED_VERIFICATION:
			return LLM_HTTP_CAUSE_CA;
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CERTPROBLEM:
			return LLM_HTTP_CAUSE_FILE;
		case CURLE_COULDNT_RESOLVE_PROXY:
		case CURLE_PROXY:
			return LLM_HTTP_CAUSE_PROXY;
		default:
			break;
	}
	if (wants_client_cert(slot->detail))
		return LLM_HTTP_CAUSE_CLIENT_CERT;
	if (slot->network.proxy == NULL || slot->requested)
		return LLM_HTTP_CAUSE_NONE;
	(void) curl_easy_getinfo(slot->easy, CURLINFO_HTTP_CONNECTCODE, &status);
	/* 401: some proxies say so where the password is wrong, and 407 where there is none */
	if (status == 407 || status == 401)
		return LLM_HTTP_CAUSE_PROXY_PASSWORD;
	return status >= 300 || code == CURLE_COULDNT_CONNECT ? LLM_HTTP_CAUSE_PROXY : LLM_HTTP_CAUSE_NONE;
}

/* CURLE_TOO_LARGE, which libcurl has since 8.6. */
#define CODE_TOO_LARGE 100

/* Is it libcurl's bound on a header, which it reports as want of memory, and not our memory? */
static bool
is_head_too_large(const LlmHttpSlot *slot, CURLcode code)
{
	curl_off_t began = 0;

	if (code != CURLE_OUT_OF_MEMORY && (int) code != CODE_TOO_LARGE)
		return false;
	(void) curl_easy_getinfo(slot->easy, CURLINFO_STARTTRANSFER_TIME_T, &began);
	return began > 0 && slot->answer.len == 0 && !slot->answer.no_memory;
}

/*
 * A name that cannot be resolved is LOCAL: libcurl does not tell a resolver that is down
 * from a name that is wrong, and no task is to fail for the former.
 */
static LlmHttpOutcome
outcome_of(const LlmHttpSlot *slot, CURLcode code)
{
	bool sent = llm_http_slot_has_sent(slot);

	if (code == CURLE_OK)
		return LLM_HTTP_DONE;
	if (slot->answer.too_large || (sent && is_head_too_large(slot, code)))
		return LLM_HTTP_TOO_LARGE;
	/* with TLS 1.3 the request has left when the other side says that it wants a certificate first */
	if (cause_of(slot, code) == LLM_HTTP_CAUSE_CLIENT_CERT && slot->answer.len == 0)
		return LLM_HTTP_NOT_SENT;
	if (sent && (slot->answer.no_memory || code == CURLE_OUT_OF_MEMORY))
		return LLM_HTTP_DROPPED;
	if (sent)
		return code == CURLE_OPERATION_TIMEDOUT ? LLM_HTTP_TIMEOUT : LLM_HTTP_LOST;
	if (slot->no_descriptor || code == CURLE_OUT_OF_MEMORY || code == CURLE_COULDNT_RESOLVE_HOST)
		return LLM_HTTP_LOCAL;
	return LLM_HTTP_NOT_SENT;
}

/* A time in microseconds from the start; 0 when that point was not reached. */
static int64
time_us(const LlmHttpSlot *slot, CURLINFO info)
{
	curl_off_t us = 0;

	(void) curl_easy_getinfo(slot->easy, info, &us);
	return us;
}

static void
describe_failure(LlmHttpSlot *slot, LlmHttpOutcome outcome, CURLcode code)
{
	LlmHttpFailure failure = {0};

	failure.outcome = outcome;
	failure.timed_out = (code == CURLE_OPERATION_TIMEDOUT);
	failure.closed = (outcome == LLM_HTTP_LOST && code == CURLE_ABORTED_BY_CALLBACK);
	failure.no_descriptor = slot->no_descriptor;
	failure.head = is_head_too_large(slot, code);
	failure.answer_limit = slot->answer.limit;
	failure.words = llm_http_failure_clean(slot->detail, slot->url) ? slot->detail : curl_easy_strerror(code);
	failure.resolved_us = time_us(slot, CURLINFO_NAMELOOKUP_TIME_T);
	failure.connected_us = time_us(slot, CURLINFO_CONNECT_TIME_T);
	failure.secured_us = time_us(slot, CURLINFO_APPCONNECT_TIME_T);
	failure.ready_us = time_us(slot, CURLINFO_PRETRANSFER_TIME_T);
	failure.answering_us = time_us(slot, CURLINFO_STARTTRANSFER_TIME_T);
	failure.total_us = time_us(slot, CURLINFO_TOTAL_TIME_T);
	llm_http_failure_describe(&failure, slot->failure);
}

void
llm_http_slot_conclude(LlmHttpSlot *slot, int code)
{
	LlmHttpExchange *exchange = slot->exchange;
	LlmHttpOutcome outcome = outcome_of(slot, (CURLcode) code);
	long status = 0;

	(void) curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
	exchange->status = (int) status;
	exchange->latency_ms = (int) (time_us(slot, CURLINFO_TOTAL_TIME_T) / 1000);
	exchange->outcome = outcome;
	if (outcome != LLM_HTTP_DONE)
	{
		describe_failure(slot, outcome, (CURLcode) code);
		exchange->failure = slot->failure;
		exchange->cause = LLM_HTTP_CAUSE_NONE;
		if (outcome == LLM_HTTP_NOT_SENT)
			exchange->cause = cause_of(slot, (CURLcode) code);
		else if (outcome == LLM_HTTP_TOO_LARGE && is_head_too_large(slot, (CURLcode) code))
			exchange->cause = code == CODE_TOO_LARGE ? LLM_HTTP_CAUSE_HEAD : LLM_HTTP_CAUSE_HEAD_OR_MEMORY;
	}
	llm_http_answer_publish(&slot->answer, exchange, outcome == LLM_HTTP_DONE);
}

void
llm_http_slot_fail(LlmHttpSlot *slot, LlmHttpOutcome outcome, const char *failure)
{
	strlcpy(slot->failure, failure, LLM_HTTP_FAILURE_BYTES);
	slot->exchange->outcome = outcome;
	slot->exchange->cause = LLM_HTTP_CAUSE_NONE;
	slot->exchange->failure = slot->failure;
}
