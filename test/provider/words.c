/*-------------------------------------------------------------------------
 *
 * words.c
 *	  The words of a text, and which labels they speak for.
 *
 * This is all the understanding that the simulation has.  A word is lower-cased
 * and lightly stemmed, so that "charges", "charged" and "charging" are one.  A
 * label gets votes from its own words, from the words of a line
 * "label: description" in the prompt, and from the words of example lines that
 * end in the label ("input -> label").  A Ballot is made once per schema and
 * prompt by schema.c and asked for each input by answer.c.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <string.h>
#include <strings.h>

#define WEIGHT_NAME 8
#define WEIGHT_DESCRIPTION 3
#define WEIGHT_EXAMPLE 2
#define MAX_STEM 48
#define MAX_VOTES 20000 /* from the prompt of one ballot */

static const char *const weak_words[] = {
	"a",
	"about",
	"after",
	"again",
	"all",
	"am",
	"an",
	"and",
	"any",
	"are",
	"as",
	"at",
	"be",
	"been",
	"but",
	"by",
	"can",
	"cannot",
	"could",
	"did",
	"do",
	"does",
	"for",
	"from",
	"had",
	"has",
	"have",
	"he",
	"her",
	"his",
	"how",
	"i",
	"if",
	"in",
	"into",
	"is",
	"it",
	"its",
	"just",
	"me",
	"my",
	"no",
	"not",
	"of",
	"on",
	"or",
	"our",
	"please",
	"she",
	"should",
	"since",
	"so",
	"some",
	"than",
	"that",
	"the",
	"their",
	"them",
	"then",
	"there",
	"they",
	"this",
	"to",
	"too",
	"up",
	"us",
	"very",
	"was",
	"we",
	"were",
	"what",
	"when",
	"which",
	"while",
	"who",
	"why",
	"will",
	"with",
	"would",
	"you",
	"your",
};

#define WEAK_SLOTS 512

static uint64_t weak_hashes[WEAK_SLOTS]; /* open addressing; 0: free */

/*
 * Is it part of a word?  All of UTF-8 beyond ASCII counts as letters.
 */
static bool
word_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
}

static size_t
strip_ending(const char *stem, size_t len)
{
	static const char *const endings[] = {"ing", "ed", "es", "s"};

	if (len > 4 && memcmp(stem + len - 3, "ies", 3) == 0)
		return len - 2;
	for (size_t i = 0; i < 4; i++)
	{
		size_t end = strlen(endings[i]);

		if (len >= end + 3 && memcmp(stem + len - end, endings[i], end) == 0 &&
			!(end == 1 && stem[len - 2] == 's'))
			return len - end;
	}
	return len;
}

/*
 * Hash of the stem of a word; never 0.
 */
static uint64_t
stem_hash(const char *word, size_t len)
{
	char stem[MAX_STEM];

	if (len > MAX_STEM)
		len = MAX_STEM;
	for (size_t i = 0; i < len; i++)
		stem[i] = word[i] >= 'A' && word[i] <= 'Z' ? (char) (word[i] + 32) : word[i];
	len = strip_ending(stem, len);
	if (len > 3 && stem[len - 1] == 'e')
		len--;
	if (len > 2 && stem[len - 1] == stem[len - 2] && stem[len - 1] >= 'a')
		len--;
	if (len > 2 && stem[len - 1] == 'y')
		stem[len - 1] = 'i';
	return hash_bytes(stem, len, 5) | 1;
}

static void
learn_weak_words(void)
{
	for (size_t i = 0; i < sizeof(weak_words) / sizeof(weak_words[0]); i++)
	{
		uint64_t hash = stem_hash(weak_words[i], strlen(weak_words[i]));
		size_t at = (hash >> 8) & (WEAK_SLOTS - 1);

		while (weak_hashes[at] != 0)
			at = (at + 1) & (WEAK_SLOTS - 1);
		weak_hashes[at] = hash;
	}
}

static bool
is_weak(uint64_t hash)
{
	for (size_t at = (hash >> 8) & (WEAK_SLOTS - 1); weak_hashes[at] != 0;
		 at = (at + 1) & (WEAK_SLOTS - 1))
	{
		if (weak_hashes[at] == hash)
			return true;
	}
	return false;
}

/*
 * Split a text; words beyond MAX_WORDS are not looked at.
 */
void
words_split(Words *words, Span text)
{
	const char *at = text.at;
	const char *end = at + text.len;

	if (weak_hashes[0] == 0 && !is_weak(stem_hash("the", 3)))
		learn_weak_words();
	words->count = 0;
	while (words->count < MAX_WORDS)
	{
		Word *word = &words->word[words->count];

		while (at < end && !word_char((unsigned char) *at))
			at++;
		if (at == end)
			break;
		word->at = at;
		while (at < end && (word_char((unsigned char) *at) ||
							(*at == '\'' && at + 1 < end && word_char((unsigned char) at[1]))))
			at++;
		word->len = (uint32_t) (at - word->at);
		word->hash = stem_hash(word->at, word->len);
		word->weak = is_weak(word->hash);
		words->count++;
	}
}

bool
words_have(const Words *words, uint64_t hash)
{
	for (size_t i = 0; i < words->count; i++)
	{
		if (words->word[i].hash == hash)
			return true;
	}
	return false;
}

/* ---- ballots ---- */

static size_t
ballot_slot(const Ballot *ballot, uint64_t hash)
{
	size_t at = (hash >> 8) & (ballot->size - 1);

	while (ballot->slots[at] >= 0 && ballot->votes[ballot->slots[at]].hash != hash)
		at = (at + 1) & (ballot->size - 1);
	return at;
}

/*
 * Add a vote; the heaviest of the same stem for the same label stands.
 */
static void
add_vote(Ballot *ballot, size_t room, uint64_t hash, uint32_t label, uint32_t weight)
{
	size_t slot = ballot_slot(ballot, hash);
	Vote *vote;

	for (int32_t at = ballot->slots[slot]; at >= 0; at = ballot->votes[at].next)
	{
		vote = &ballot->votes[at];
		if (vote->label != label)
			continue;
		if (vote->weight < weight)
			vote->weight = weight;
		return;
	}
	if (ballot->count >= room)
		return;
	vote = &ballot->votes[ballot->count];
	*vote = (Vote){hash, label, weight, ballot->slots[slot]};
	ballot->slots[slot] = (int32_t) ballot->count++;
}

static void
add_votes(Ballot *ballot, size_t room, Span text, uint32_t label, uint32_t weight)
{
	static Words words;

	words_split(&words, text);
	for (size_t i = 0; i < words.count; i++)
	{
		if (!words.word[i].weak || weight == WEIGHT_NAME)
			add_vote(ballot, room, words.word[i].hash, label, weight);
	}
}

static bool
is_decoration(char c)
{
	return c == ' ' || c == '\t' || c == '-' || c == '*' || c == '"' || c == '\'' || c == '`' ||
		   c == '.' || c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == '(' ||
		   c == ')' || (c >= '0' && c <= '9');
}

/*
 * Is the line "label: description" (or with = or a dash)?  Gives what follows.
 */
static bool
line_describes(Span line, Span label, Span *rest)
{
	const char *at = line.at;
	const char *end = at + line.len;

	while (at < end && is_decoration(*at) &&
		   !((size_t) (end - at) >= label.len && strncasecmp(at, label.at, label.len) == 0))
		at++;
	if ((size_t) (end - at) <= label.len || strncasecmp(at, label.at, label.len) != 0)
		return false;
	at += label.len;
	while (at < end && (*at == '"' || *at == '\'' || *at == '`' || *at == '*' || *at == ' '))
		at++;
	if (at == end || (*at != ':' && *at != '=' && *at != '(' && !(*at == '-' && at[-1] == ' ') &&
					  memcmp(at, "\xe2\x80", 2) != 0))
		return false;
	*rest = (Span){at + 1, (size_t) (end - at - 1)};
	return true;
}

/*
 * Does the line end in the label, behind a quote, arrow, colon or equals sign?
 */
static bool
line_ends_in(Span line, Span label, Span *before)
{
	const char *start;

	while (line.len > 0 && is_decoration(line.at[line.len - 1]) &&
		   !(line.len >= label.len &&
			 strncasecmp(line.at + line.len - label.len, label.at, label.len) == 0))
		line.len--;
	if (line.len <= label.len ||
		strncasecmp(line.at + line.len - label.len, label.at, label.len) != 0)
		return false;
	start = line.at + line.len - label.len;
	while (start > line.at &&
		   (start[-1] == ' ' || start[-1] == '"' || start[-1] == '\'' || start[-1] == '`'))
		start--;
	if (start == line.at || (start[-1] != ':' && start[-1] != '=' && start[-1] != '>' &&
							 (unsigned char) start[-1] < 0x80))
		return false;
	*before = (Span){line.at, (size_t) (start - line.at)};
	return true;
}

/*
 * Does the line stand alone as an answer, so that the line before it is the input?
 */
static bool
answer_line(Span before)
{
	Words words;

	words_split(&words, before);
	return words.count <= 2;
}

static void
read_hint_line(Ballot *ballot, size_t room, const Span *labels, Span line, Span previous)
{
	for (uint32_t i = 0; i < ballot->labels; i++)
	{
		Span text;

		if (labels[i].len == 0)
			continue;
		if (line_describes(line, labels[i], &text))
			add_votes(ballot, room, text, i, WEIGHT_DESCRIPTION);
		else if (line_ends_in(line, labels[i], &text))
			add_votes(ballot, room, answer_line(text) ? previous : text, i, WEIGHT_EXAMPLE);
	}
}

/*
 * Make the ballot of a set of labels under a prompt.
 */
Ballot *
ballot_make(Arena *arena, const Span *labels, uint32_t count, Span hints)
{
	Ballot *ballot = arena_alloc(arena, sizeof(Ballot));
	size_t room = 64;
	Span previous = {0};

	/* every word of the prompt may speak for one label; more than that is not needed */
	for (uint32_t i = 0; i < count; i++)
		room += labels[i].len / 2 + 1;
	room += hints.len / 2 < MAX_VOTES ? hints.len / 2 : MAX_VOTES;
	for (ballot->size = 64; ballot->size < 2 * room;)
		ballot->size *= 2;
	ballot->labels = count;
	ballot->votes = arena_alloc(arena, room * sizeof(Vote));
	ballot->slots = arena_alloc(arena, ballot->size * sizeof(int32_t));
	memset(ballot->slots, 0xff, ballot->size * sizeof(int32_t));

	for (uint32_t i = 0; i < count; i++)
		add_votes(ballot, room, labels[i], i, WEIGHT_NAME);
	for (const char *at = hints.at, *end = at + hints.len; at < end;)
	{
		const char *stop = memchr(at, '\n', (size_t) (end - at));
		Span line = {at, (size_t) ((stop != NULL ? stop : end) - at)};

		read_hint_line(ballot, room, labels, line, previous);
		if (line.len > 0)
			previous = line;
		at += line.len + 1;
	}
	return ballot;
}

/*
 * Count the votes of an input; scores has one element per label.
 */
void
ballot_count(const Ballot *ballot, const Words *words, uint32_t *scores)
{
	memset(scores, 0, ballot->labels * sizeof(uint32_t));
	for (size_t i = 0; i < words->count; i++)
	{
		int32_t at = ballot->slots[ballot_slot(ballot, words->word[i].hash)];

		for (; at >= 0; at = ballot->votes[at].next)
			scores[ballot->votes[at].label] += ballot->votes[at].weight;
	}
}

/*
 * Is it a label for what fits nowhere?
 */
bool
looks_like_other(Span label)
{
	static const char *const names[] = {
		"other",
		"others",
		"unknown",
		"none",
		"null",
		"misc",
		"miscellaneous",
		"general",
		"unclear",
		"n/a",
		"na",
		"neutral",
		"uncategorized",
		"unclassified",
		"something else",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (span_is_nocase(label, names[i]))
			return true;
	}
	return false;
}
