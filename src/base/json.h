/*-------------------------------------------------------------------------
 *
 * json.h
 *	  JSON without surprises: read bytes that anyone may have sent, without
 *	  ever raising; build and read jsonb; write strings fast.
 *
 * The server's own JSON parser raises for deep nesting, for numbers out of
 * range and for some escapes, drops duplicate keys silently, and its interface
 * differs between versions.  The reader here does none of that: it walks over
 * the text once, stops at the first problem and remembers it.
 *
 *	  reader:  open(), then values in the order they stand, then close()
 *	  tree:    JsonbValue trees of plain objects, arrays and scalars; objects
 *			   hold their pairs in jsonb's order, so that a tree can be
 *			   searched, compared and made a Jsonb
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_JSON_H
#define LLM_JSON_H

#include "base/llm_enrich.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* Deeper nesting is refused: nobody's schema needs it, and it bounds all recursion here. */
#define LLM_JSON_MAX_DEPTH 64

/* More values in one text are refused: each takes some 50 bytes while it is checked. */
#define LLM_JSON_MAX_VALUES 500000

/* Characters of a number that we take, written without exponent; a double has some 330. */
#define LLM_JSON_MAX_NUMBER 400

/* A piece of the text: what stands between the quotes of a string, or a number. */
typedef struct LlmJsonSlice
{
	const char *at;
	size_t len;
	bool escaped; /* a string with at least one backslash */
} LlmJsonSlice;

typedef struct LlmJsonReader
{
	const char *start;
	const char *at;
	const char *end;
	int depth;
	const char *problem; /* NULL while all is well; then nothing is read any more */
} LlmJsonReader;

/*
 * Readers.  None of them raises or allocates.  Each of enter(), string(),
 * number() and skip() reads one value; it returns false, and the reader has a problem, if
 * the next value is not of that kind.  peek() tells the kind first: '{', '[',
 * '"', 't', 'f', 'n', '-' (any number), or 0 (no value).
 *
 *	  for (i = 0; llm_json_next_key(reader, i, &key); i++)
 *		  read exactly one value
 */
extern void llm_json_open(LlmJsonReader *reader, const char *str, size_t len);
extern char llm_json_peek(LlmJsonReader *reader);
extern bool llm_json_enter(LlmJsonReader *reader, char open);
extern bool llm_json_next_key(LlmJsonReader *reader, int i, LlmJsonSlice *key);
extern bool llm_json_next_item(LlmJsonReader *reader, int i);
extern bool llm_json_string(LlmJsonReader *reader, LlmJsonSlice *string);
extern bool llm_json_number(LlmJsonReader *reader, LlmJsonSlice *number);
extern bool llm_json_skip(LlmJsonReader *reader);

/* Was the whole text read, and nothing but white space left? */
extern bool llm_json_close(LlmJsonReader *reader);

/* Is the string exactly this name, written without escapes? */
extern bool llm_json_is(const LlmJsonSlice *slice, const char *name);

/*
 * The string with its escapes resolved, NUL-terminated, in the current context.
 * Where \u0000 or half a surrogate pair stands, *clean becomes false and the
 * string holds a NUL or U+FFFD there.
 */
extern char *llm_json_decode(const LlmJsonSlice *slice, size_t *len, bool *clean);

/* Is this valid UTF-8 without NULs? */
extern bool llm_json_is_utf8(const char *str, size_t len);

/* Length of the text cut to at most max bytes, never within a UTF-8 character. */
extern size_t llm_json_clip(const char *str, size_t len, size_t max);

/*
 * Text to tree, or false and one sentence in "fault" about "the answer".
 * Duplicate keys, null characters, numbers beyond 400 digits and the key
 * "llm_enrich" are faults too.  Never raises for what the text holds.  The tree
 * borrows strings from the text.
 */
extern bool llm_json_parse(const char *str, size_t len, JsonbValue *value, StringInfo fault);

/* Jsonb to tree, which borrows from it; false when it is nested too deeply. */
extern bool llm_json_tree(Jsonb *jsonb, JsonbValue *value);

/* Tree to Jsonb, in the current context. */
extern Jsonb *llm_json_store(const JsonbValue *value);

/* The same of an object with this member alone. */
extern Jsonb *llm_json_store_member(const char *key, JsonbValue value);

/* White space between the words of JSON; and that cut off both ends of a text. */
extern bool llm_json_is_blank(char c);
extern void llm_json_trim(const char **str, size_t *len);

/* Value of a key, or NULL when it is missing or the value is not an object. */
extern JsonbValue *llm_json_get(const JsonbValue *object, const char *key);
extern JsonbValue *llm_json_find(const JsonbValue *object, const char *key, int len);

/* A total order over trees in which equal means equal: 1 and 1.0 are. */
extern int llm_json_compare(const JsonbValue *a, const JsonbValue *b);

/* The same of two JsonbValue, for qsort() and bsearch(). */
extern int llm_json_order(const void *one, const void *other);

/* Sort elements of at most the size of a JsonbPair, in n log n comparisons whatever their order is. */
extern void llm_json_sort(void *base, int n, size_t size, int (*compare)(const void *, const void *));

/* Building blocks.  Strings are borrowed; object() sorts the pairs in place, keys must differ. */
extern JsonbValue llm_json_make_string(const char *str, int len);
extern JsonbValue llm_json_make_text(const char *str);
extern JsonbValue llm_json_make_int(int64 number);
extern JsonbValue llm_json_make_bool(bool value);
extern JsonbValue llm_json_make_array(JsonbValue *elements, int n);
extern JsonbValue llm_json_make_object(JsonbPair *pairs, int n);
extern void llm_json_set_pair(JsonbPair *pair, const char *key, JsonbValue value);

/* Is this value a string of exactly this text? */
extern bool llm_json_string_is(const JsonbValue *value, const char *str);

/* A string value as a C string in the current context. */
extern char *llm_json_cstring(const JsonbValue *value);

/* A whole number that is known to fit. */
extern int llm_json_to_int(const JsonbValue *value);

/* "string", "number", … for messages. */
extern const char *llm_json_type(const JsonbValue *value);

/* Append JSON text: of a tree; of a string with its quotes; of a string's inner part. */
extern void llm_json_append(StringInfo buf, const JsonbValue *value);
extern void llm_json_append_string(StringInfo buf, const char *str, size_t len);
extern void llm_json_escape(StringInfo buf, const char *str, size_t len);

#endif /* LLM_JSON_H */
