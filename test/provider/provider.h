/*-------------------------------------------------------------------------
 *
 * provider.h
 *	  What the files of the simulated provider share.
 *
 * The program plays a provider of some form on loopback, so that tests,
 * the demo and the benchmark need no key, no network and no money.  It is no
 * language model: its answers come from word overlap.
 *
 *	  main.c		  options, start and stop
 *	  server.c		  event loop: sockets, timers, partial reads and writes
 *	  timers.c		  the heap of timers
 *	  http.c		  request heads, chunked bodies, answer heads
 *	  api.c			  which path means what; meter and script over HTTP
 *	  chat.c		  one chat request: faults, limits, content, usage
 *	  chat_parse.c	  what forms share to read a request
 *	  embed.c		  inputs to vectors
 *	  form_*.c		  the forms: how requests, answers, errors and limits look
 *	  form_schema.c	  parts of JSON schema that some of them take
 *	  forms.h		  the list of them
 *	  scan.c		  JSON, byte by byte
 *	  schema.c		  JSON schema to nodes
 *	  schema_strict.c the strict subset that OpenAI takes
 *	  recipe.c		  the cache of schemas that were read
 *	  answer.c		  nodes and input text to an instance
 *	  content.c		  the strings and numbers in an instance
 *	  regexmake.c	  a string for a "pattern"
 *	  words.c		  words of a text, labels and what speaks for them
 *	  script.c		  the settings that make it misbehave
 *	  meter.c		  what was received, answered and billed
 *	  buffer.c		  growing buffers, arenas, JSON text
 *
 * Everything runs in one thread; a request is handled in one go when it has
 * come whole, so that no file needs to think of others at work.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROVIDER_H
#define PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define MAX_HEAD (64 * 1024) /* larger heads are answered 431 */
#define MAX_BODY (64 * 1024 * 1024) /* larger bodies are answered 413 */
#define MAX_LANES 1000
#define MAX_NAME 64 /* lane names and marks */
#define MAX_WORDS 400 /* words of an input that are looked at */
#define LOG_ENTRIES 10000 /* requests kept, if --log does not say otherwise */

/* ---- buffer.c ---- */

typedef struct Span
{
	const char *at;
	size_t len;
} Span;

typedef struct Buf
{
	char *at;
	size_t len;
	size_t room;
} Buf;

typedef struct ArenaBlock ArenaBlock;

/* Memory that is freed all at once. */
typedef struct Arena
{
	ArenaBlock *blocks;
	size_t bytes; /* in all */
} Arena;

extern void *need(void *memory);
extern void buf_reserve(Buf *buf, size_t more);
extern void buf_add(Buf *buf, const void *bytes, size_t len);
extern void buf_text(Buf *buf, const char *text);
extern void buf_char(Buf *buf, char c);
extern void buf_uint(Buf *buf, uint64_t number);
extern void buf_hex(Buf *buf, uint64_t number);
extern void buf_print(Buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void buf_json(Buf *buf, Span text);
extern void buf_free(Buf *buf);
extern void *arena_alloc(Arena *arena, size_t size);
extern char *arena_copy(Arena *arena, const char *bytes, size_t len);
extern void arena_free(Arena *arena);
extern Span span_of(const char *text);
extern bool span_is(Span span, const char *text);
extern bool span_is_nocase(Span span, const char *text);
extern const char *span_find(Span haystack, Span needle);
extern uint64_t hash_bytes(const void *bytes, size_t len, uint64_t seed);
extern size_t utf8_cut(const char *text, size_t len, size_t limit);
extern size_t utf8_chars(const char *text, size_t len);

/* ---- script.c ---- */

/* What may befall a request; the names stand in script.c. */
typedef enum Action
{
	ACT_OK,
	ACT_HANG,
	ACT_ERROR_500,
	ACT_ERROR_503,
	ACT_CUT,
	ACT_CUT_MID,
	ACT_MALFORMED,
	ACT_MALFORMED_CONTENT,
	ACT_WRONG_LABEL,
	ACT_TRUNCATED,
	ACT_REFUSAL,
	ACT_CONTENT_FILTER,
	ACT_EMPTY_CONTENT,
	ACT_OVERSIZED,
	ACT_NO_USAGE,
	ACT_RATE_LIMIT,
	ACT_SLOW_HEADERS,
	ACT_SLOW_BODY,
	ACT_REDIRECT,
	ACT_DIE_ON_REUSE,
	ACT_STATUS,
	ACT_COUNT
} Action;

typedef enum RetryForm
{
	RETRY_SECONDS,
	RETRY_DATE,
	RETRY_MS,
	RETRY_NONE
} RetryForm;

/* One entry of "sequence". */
typedef struct Step
{
	char *match;
	long times; /* left; -1 means for ever */
	Action action;
	int status; /* for ACT_STATUS */
	char *body; /* for ACT_STATUS */
	char *headers; /* lines of the answer, each begun by CR LF; or NULL */
	double retry_after; /* seconds; below 0: as the script says */
	double delay_ms; /* added to the latency */
} Step;

typedef struct Override
{
	char *match;
	char *content;
} Override;

typedef struct Script
{
	double latency_ms;
	double latency_jitter_ms;
	double chance[ACT_COUNT];
	double usage_missing;
	double hang_ms;
	double slow_ms;
	double oversized_bytes;
	double retry_after; /* below 0: not set */
	RetryForm retry_after_form;
	int status;
	char *body;
	bool http_close;
	bool hide_limits;
	bool enum_by_mark;
	bool reject_temperature;
	bool reject_max_tokens;
	bool lenient_schema;
	double requests_per_minute;
	double tokens_per_minute;
	double burst;
	double burst_tokens;
	double context_tokens;
	double cached_fraction;
	double cache_write_fraction;
	double reasoning_tokens;
	char *key;
	char **models;
	size_t model_count;
	Step *steps;
	size_t step_count;
	Override *answers;
	size_t answer_count;
} Script;

/* What was decided for one request. */
typedef struct Fate
{
	Action action;
	int status;
	const char *body;
	const char *headers;
	double retry_after;
	double delay_ms;
} Fate;

extern void script_init(Script *script);
extern void script_free(Script *script);
extern bool script_load(Script *script, Span text, char *error, size_t error_size);
extern Fate script_decide(Script *script, Span body, bool reused);
extern void random_seed(uint64_t seed);
extern double random_unit(void);

/* ---- meter.c ---- */

typedef enum Outcome
{
	OUT_OK,
	OUT_RATE_LIMITED,
	OUT_SERVER_ERROR,
	OUT_CUT,
	OUT_HUNG,
	OUT_MALFORMED,
	OUT_MALFORMED_CONTENT,
	OUT_WRONG_LABEL,
	OUT_TRUNCATED,
	OUT_REFUSED,
	OUT_CONTENT_FILTER,
	OUT_EMPTY,
	OUT_OVERSIZED,
	OUT_UNAUTHORIZED,
	OUT_BAD_REQUEST,
	OUT_NOT_FOUND,
	OUT_REDIRECTED,
	OUT_SCRIPTED,
	OUT_DIED_ON_REUSE,
	OUT_CLIENT_GONE,
	OUT_COUNT
} Outcome;

typedef struct Usage
{
	uint64_t prompt;
	uint64_t cached;
	uint64_t cache_write;
	uint64_t completion;
	uint64_t reasoning;
} Usage;

typedef struct MarkTable
{
	struct
	{
		char *mark;
		uint64_t hash;
		uint64_t count;
	} * slots;
	size_t size;
	size_t used;
	uint64_t total;
} MarkTable;

typedef struct Meter
{
	uint64_t requests;
	uint64_t connections;
	uint64_t outcomes[OUT_COUNT];
	Usage billed;
	Usage unseen;
	uint64_t billed_requests;
	uint64_t unseen_requests;
	uint64_t in_flight;
	uint64_t max_in_flight;
	double first_request_at;
	double last_request_at;
	int64_t this_second;
	uint64_t this_second_requests;
	uint64_t peak_per_second;
	MarkTable marks;
	Buf last_body;
} Meter;

/* A bucket of a token bucket limiter. */
typedef struct Bucket
{
	double level;
	double filled_at; /* seconds; 0: not used yet, full */
} Bucket;

/* One process plays several servers: each lane has its own script and meter. */
typedef struct Lane
{
	char name[MAX_NAME + 1];
	Script script;
	Meter meter;
	Bucket requests;
	Bucket tokens;
	uint64_t reset_at; /* log number of the last request before the reset */
} Lane;

/* What meter_receive() is told of a request. */
typedef struct Received
{
	Span mark;
	Span model;
	Span body;
	uint64_t key_print; /* 0: no key was sent */
} Received;

extern Lane *lane_find(Span name, bool create);
extern size_t lane_count(void);
extern Lane *lane_at(size_t number);
extern void lane_reset(Lane *lane);
extern void lanes_free(void);
extern void meter_keep(size_t entries);
extern uint64_t meter_receive(Lane *lane, const Received *received);
extern void meter_mark(Lane *lane, Span mark);
extern void meter_settle(Lane *lane, uint64_t entry, int status, Outcome outcome,
						 const Usage *usage, bool told);
extern void meter_leave(Lane *lane);
extern void meter_show(Buf *out, const Lane *lane);
extern void meter_show_marks(Buf *out, const Lane *lane, uint64_t at_least);
extern void meter_show_log(Buf *out, const Lane *lane, uint64_t last);
extern void meter_show_requests(Buf *out, const Lane *lane, uint64_t since, uint64_t limit);
extern double bucket_wait(Bucket *bucket, double per_minute, double capacity, double amount);
extern void bucket_take(Bucket *bucket, double amount);

/* ---- http.c ---- */

typedef struct HttpRequest
{
	Span method;
	Span path;
	Span query;
	Span authorization;
	Span body;
	size_t head_len;
	uint64_t content_length;
	bool chunked;
	bool expects_continue;
	bool keep_alive;
	bool reused; /* not the first request of its connection */
} HttpRequest;

/* Where the reading of a chunked body stands; positions count from the head's end. */
typedef struct Chunks
{
	size_t raw; /* bytes looked at */
	size_t len; /* bytes of body gathered so far */
	uint64_t left; /* of the present chunk */
	int state;
} Chunks;

typedef enum Progress
{
	STILL_COMING,
	COME_WHOLE,
	NOT_HTTP,
	TOO_LARGE
} Progress;

/* An answer, and what shall go wrong on its way. */
typedef struct Reply
{
	int status;
	const char *content_type;
	const char *location;
	double retry_after; /* seconds; below 0: none */
	RetryForm retry_form;
	bool close; /* close after the answer */
	bool drop; /* close instead of an answer */
	bool hold; /* no answer; drop after delay_ms, or never if that is 0 */
	double delay_ms;
	double pause_ms;
	size_t pause_at; /* bytes of head and body before the pause */
	bool pause_in_body;
	bool cut_in_body;
	size_t cut_at; /* close after so many bytes; 0: no */
	size_t fill; /* filler bytes between body and tail */
	const char *limits; /* ready-made rate limit header lines */
	size_t limits_len;
	Buf body;
	Buf tail;

	/* for the meter; lane is NULL when the request is not metered */
	Lane *lane;
	uint64_t entry;
	Outcome outcome;
	Usage usage;
	bool usage_told;
} Reply;

extern Progress http_parse_head(HttpRequest *request, char *bytes, size_t len);
extern Progress http_read_chunks(Chunks *chunks, char *bytes, size_t len);
extern void http_write_reply(Buf *out, Reply *reply, bool keep_alive);
extern void http_request_id(Buf *out, uint64_t number);
extern bool http_query(Span query, const char *name, char *value, size_t size);

/* ---- server.c ---- */

extern double clock_now(void); /* seconds, never goes back */
extern double clock_epoch_ms(void);
extern void server_run(int port, const char *port_file, bool exit_with_stdin);
extern void server_stop(int signal_number);

/* ---- timers.c ---- */

/* Part of what waits. */
typedef struct Timer
{
	double due; /* by clock_now() */
	size_t at; /* in the heap; 0: does not run */
} Timer;

extern void timer_set(Timer *timer, double due);
extern void timer_clear(Timer *timer);
extern Timer *timer_first(void);
extern void timers_free(void);

/* ---- api.c ---- */

extern void api_set_key(const char *key);
extern void api_handle(const HttpRequest *request, Reply *reply);
extern void api_error(Reply *reply, int status, const char *type, const char *param,
					  const char *code, const char *format, ...)
	__attribute__((format(printf, 6, 7)));
extern void api_free(void);

/* ---- words.c ---- */

typedef struct Word
{
	const char *at;
	uint32_t len;
	bool weak; /* an article and the like */
	uint64_t hash; /* of the stem */
} Word;

typedef struct Words
{
	size_t count;
	Word word[MAX_WORDS];
} Words;

/* Which labels a stem speaks for, and how loudly. */
typedef struct Vote
{
	uint64_t hash;
	uint32_t label;
	uint32_t weight;
	int32_t next; /* vote of the same stem; -1: none */
} Vote;

typedef struct Ballot
{
	Vote *votes;
	size_t count;
	int32_t *slots; /* first vote of a stem; -1: none */
	size_t size; /* a power of two */
	uint32_t labels;
} Ballot;

extern void words_split(Words *words, Span text);
extern bool words_have(const Words *words, uint64_t hash);
extern Ballot *ballot_make(Arena *arena, const Span *labels, uint32_t count, Span hints);
extern void ballot_count(const Ballot *ballot, const Words *words, uint32_t *scores);
extern bool looks_like_other(Span label);

/* ---- scan.c ---- */

typedef struct Scan
{
	const char *at;
	const char *end;
	Buf *texts; /* for strings that had to be unescaped; must not need to grow */
	const char *problem; /* NULL: none so far */
} Scan;

extern void scan_space(Scan *scan);
extern char scan_peek(Scan *scan);
extern bool scan_char(Scan *scan, char c);
extern bool scan_number(Scan *scan);
extern bool scan_word(Scan *scan, const char *word);
extern bool scan_member(Scan *scan, bool *first, Span *name);
extern bool scan_element(Scan *scan, bool *first);
extern bool scan_value(Scan *scan, int depth);
extern bool scan_text(Scan *scan, Span *text);
extern bool valid_utf8(Span text);

/* ---- chat_parse.c ---- */

typedef enum Format
{
	FORMAT_TEXT,
	FORMAT_OBJECT,
	FORMAT_SCHEMA
} Format;

typedef struct ChatRequest
{
	Span model;
	Span hints; /* system and developer messages, examples */
	Span user; /* last user message as sent */
	Span input; /* the same without mark and wrapping tag */
	Span mark; /* empty: none */
	Format format;
	Span schema;
	Span schema_name;
	bool strict;
	int64_t max_tokens; /* below 0: not given */
	bool old_max_tokens; /* given as max_tokens */
	bool has_temperature;
	double temperature;
	Span service_tier;
	uint64_t message_bytes;
	uint64_t messages;
	bool embeds; /* vectors are asked for, of the inputs in embed.c */
	int64_t dimensions; /* of these; 0: not given */

	/* why the body is refused; empty: it is not */
	const char *error_param;
	const char *error_code;
	char error[300];
} ChatRequest;

extern bool chat_refuse(ChatRequest *chat, const char *param, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
extern bool chat_begin(ChatRequest *chat, Scan *scan, Span body);
extern bool chat_end(ChatRequest *chat, Scan *scan);
extern bool chat_read_parts(Scan *scan, ChatRequest *chat, Span *content);
extern void chat_take_message(ChatRequest *chat, Span role, Span content);
extern bool chat_mark_char(char c);
extern Span chat_find_mark(Span text, Span *whole);
extern void chat_parse_free(void);

/* ---- forms: form_*.c, one for each way that a provider speaks ---- */

/* Why a request is not answered; the form has the status's words for it. */
typedef enum Trouble
{
	TROUBLE_REQUEST,
	TROUBLE_SCHEMA,
	TROUBLE_CONTEXT, /* longer than the model takes */
	TROUBLE_KEY,
	TROUBLE_MODEL,
	TROUBLE_REQUESTS, /* per minute */
	TROUBLE_TOKENS, /* per minute */
	TROUBLE_ERROR,
	TROUBLE_OVERLOADED,
	TROUBLE_REDIRECT,
	TROUBLE_COUNT
} Trouble;

typedef struct Complaint
{
	Trouble trouble;
	int status; /* as OpenAI has it; a form may have another */
	const char *param; /* or NULL */
	const char *code; /* where it is more than the trouble tells; or NULL */
	char message[1000];
} Complaint;

typedef enum Finish
{
	FINISH_STOP,
	FINISH_LENGTH,
	FINISH_FILTER,
	FINISH_REFUSAL /* the content is what the model said instead */
} Finish;

/* What an answer says. */
typedef struct Told
{
	Span content;
	Finish finish;
	bool no_usage;
	size_t missing; /* vectors that the answer lacks, of the last inputs */
	bool lame; /* the first one lacks a number */
} Told;

/* Limits as told with an answer; resets in seconds. */
typedef struct Limits
{
	double requests;
	double requests_left;
	double requests_reset;
	double tokens;
	double tokens_left;
	double tokens_reset;
} Limits;

typedef struct Form
{
	const char *name;

	/* Is a POST to this path (without /x/NAME) a chat request of the form? */
	bool (*claims)(Span path);

	/* Read it: see chat_parse.c.  False: refused, and the request says why. */
	bool (*parse)(ChatRequest *chat, const HttpRequest *request);

	/* Make the reply an error: status and body. */
	void (*complain)(Reply *reply, const Complaint *complaint);

	/* Write an answer.  With a tail, the content is split there: what server.c streams in between becomes its end. */
	void (*write)(Buf *out, Buf *tail, const ChatRequest *chat, const Told *told, const Usage *usage);

	/* Append header lines, each begun by CR LF; NULL: the form tells no limits. */
	void (*tell_limits)(Buf *out, const Limits *limits);
} Form;

#define FORM(name) extern const Form form_##name;
#include "forms.h"
#undef FORM

extern bool path_ends_with(Span path, const char *end);

/* ---- form_schema.c: what some forms share ---- */

extern bool form_finds_keyword(Span schema, const char *const *keywords, bool closed, char *found, size_t size);
extern bool form_is_object(Span text);
extern Span form_path_step(Span path, const char *begin, const char *end);

/* ---- schema.c, schema_strict.c, recipe.c ---- */

enum
{
	TYPE_NULL = 1,
	TYPE_BOOLEAN = 2,
	TYPE_INTEGER = 4,
	TYPE_NUMBER = 8,
	TYPE_STRING = 16,
	TYPE_ARRAY = 32,
	TYPE_OBJECT = 64
};

typedef struct Node Node;

typedef struct Property
{
	Span name;
	Span quoted; /* "name": as JSON text */
	Node *node;
	bool required;
	uint64_t stems[4]; /* of the words of the name */
	size_t stem_count;
} Property;

struct Node
{
	unsigned types;
	Property *properties;
	size_t property_count;
	Node *items;
	long min_items;
	long max_items; /* -1: no bound */
	Span *values; /* enum and const, as JSON text */
	Span *labels; /* the same, strings bare */
	size_t value_count;
	bool value_strings; /* at least one is a string */
	Ballot *ballot;
	Node **any;
	size_t any_count;
	Node *target; /* of $ref */
	double minimum;
	double maximum;
	double multiple;
	long min_length;
	long max_length; /* -1: no bound */
	const char *pattern;
	void *regex; /* regex_t; NULL: not usable */
	Span format;
};

/* A schema with its prompt, made ready for answering. */
typedef struct Recipe
{
	struct Recipe *next;
	uint64_t hash;
	Span schema;
	Span hints;
	bool strict;
	Node *root; /* NULL: refused, see error */
	char error[300];
	Arena arena;
	void **regexes;
	size_t regex_count;
} Recipe;

/* A schema being read. */
typedef struct Builder
{
	Recipe *recipe;
	json_t *root;
	struct
	{
		const json_t *from;
		Node *node;
	} * made; /* nodes by their JSON, so that $ref may recurse */
	size_t made_count;
	size_t made_room;
	size_t properties;
	size_t characters;
	size_t values;
} Builder;

extern Recipe *schema_read(Span schema, Span hints, bool strict, uint64_t hash);
extern bool schema_refuse(Builder *builder, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern bool schema_lists(const json_t *array, const char *name);
extern bool schema_check_strict(Builder *builder, const json_t *schema, const Node *node,
								const char *path, int depth);
extern const Recipe *recipe_find(Span schema, Span hints, bool strict);
extern Span schema_in_text(Span text);
extern void recipes_free(void);

/* ---- answer.c, content.c, regexmake.c ---- */

/* One answer being made. */
typedef struct Maker
{
	Buf *out;
	const ChatRequest *chat;
	const Script *script;
	Words words;
	bool spoil; /* put one value outside of its enum */
	int depth;
} Maker;

extern void answer_make(Buf *out, const ChatRequest *chat, const Script *script,
						const Recipe *recipe, bool spoil);
extern void answer_text(Buf *out, const ChatRequest *chat);
extern void content_string(Maker *maker, const Node *node, const Property *property, size_t turn);
extern void content_number(Maker *maker, const Node *node, bool whole, size_t turn);
extern bool content_has_number(const Maker *maker, const Node *node, bool whole);
extern void content_free(void);
extern void answer_free(void);
extern void regex_example(Buf *out, const char *pattern);

/* ---- chat.c ---- */

extern void chat_answer(const Form *form, Lane *lane, const HttpRequest *request, bool authorized, Reply *reply);
extern void chat_free(void);

#endif /* PROVIDER_H */
