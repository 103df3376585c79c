/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  An instance of a schema that says something about the input.
 *
 * Walks the nodes that schema.c made and writes JSON text; content.c fills in
 * strings and numbers.  An enum gets the label that most words of the input
 * speak for, an array of labels all that any word speaks for.  Called by
 * chat.c, once per answer.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "provider.h"

#include <string.h>

#define DEEP 6 /* from here on, recursive schemas are brought to an end */
#define TOO_DEEP 40
#define TOO_LONG (1024 * 1024) /* bytes; a schema can ask for more than there is memory */
#define PLAIN_WORDS 30

static Buf scores; /* votes per value of the enum at hand */

static void make_value(Maker *maker, const Node *node, const Property *property, size_t turn);

/*
 * Index of the value that the number in the mark asks for; "row:17" is 17.
 */
static size_t
value_by_mark(const Node *node, Span mark)
{
	size_t start = mark.len;
	uint64_t number = 0;

	while (start > 0 && mark.at[start - 1] >= '0' && mark.at[start - 1] <= '9')
		start--;
	for (; start < mark.len; start++)
		number = number * 10 + (uint64_t) (mark.at[start] - '0');
	return (size_t) (number % node->value_count);
}

/*
 * Index of the value to give when no word speaks for any.
 */
static size_t
value_for_nothing(const Node *node)
{
	return looks_like_other(node->labels[node->value_count - 1]) ? node->value_count - 1 : 0;
}

/*
 * Votes for each value of an enum; good until the next call.
 */
static const uint32_t *
count_votes(const Maker *maker, const Node *node)
{
	scores.len = 0;
	buf_reserve(&scores, node->value_count * sizeof(uint32_t));
	ballot_count(node->ballot, &maker->words, (uint32_t *) (void *) scores.at);
	return (const uint32_t *) (const void *) scores.at;
}

static size_t
choose_value(const Maker *maker, const Node *node)
{
	const uint32_t *votes;
	size_t best = 0;

	if (maker->script->enum_by_mark && maker->chat->mark.len > 0)
		return value_by_mark(node, maker->chat->mark);
	if (node->ballot == NULL)
		return 0;
	votes = count_votes(maker, node);
	for (size_t i = 1; i < node->value_count; i++)
	{
		if (votes[i] > votes[best])
			best = i;
	}
	return votes[best] > 0 ? best : value_for_nothing(node);
}

static void
make_enum(Maker *maker, const Node *node)
{
	Span value;

	if (maker->spoil && node->value_strings)
	{
		maker->spoil = false;
		buf_text(maker->out, "\"no_such_label\"");
		return;
	}
	value = node->values[choose_value(maker, node)];
	buf_add(maker->out, value.at, value.len);
}

/*
 * The node behind references; NULL if they go in a circle.
 */
static const Node *
resolve(const Node *node)
{
	for (int hops = 0; node != NULL && node->target != NULL; node = node->target)
	{
		if (++hops > TOO_DEEP)
			return NULL;
	}
	return node;
}

/*
 * An array of labels: all that have votes, in the order of the enum.
 */
static void
make_labels(Maker *maker, const Node *node, const Node *item)
{
	const uint32_t *votes = count_votes(maker, item);
	size_t most = node->max_items < 0 ? item->value_count : (size_t) node->max_items;
	size_t least = node->min_items > 0 ? (size_t) node->min_items : 0;
	size_t given = 0;
	bool any = false;

	for (size_t i = 0; i < item->value_count; i++)
		any = any || votes[i] > 0;
	for (size_t pass = 0; pass < 2; pass++)
	{
		for (size_t i = 0; i < item->value_count && given < (pass == 0 ? most : least); i++)
		{
			bool voted = votes[i] > 0 || (!any && i == value_for_nothing(item) &&
										  (least > 0 || looks_like_other(item->labels[i])));

			/* the second pass fills up to minItems with what has no votes */
			if (voted != (pass == 0))
				continue;
			if (given++ > 0)
				buf_char(maker->out, ',');
			buf_add(maker->out, item->values[i].at, item->values[i].len);
		}
	}
}

static void
make_array(Maker *maker, const Node *node, const Property *property)
{
	const Node *item = resolve(node->items);
	long count = maker->depth > DEEP ? 0 : 1;

	buf_char(maker->out, '[');
	if (item != NULL && item->ballot != NULL && !maker->spoil &&
		!(maker->script->enum_by_mark && maker->chat->mark.len > 0))
		make_labels(maker, node, item);
	else if (item != NULL)
	{
		if (item->types == TYPE_STRING && item->value_count == 0 && count > 0)
			count = 3;
		if (node->max_items >= 0 && count > node->max_items)
			count = node->max_items;
		if (count < node->min_items)
			count = node->min_items < 10000 ? node->min_items : 10000;
		for (long i = 0; i < count && maker->out->len <= TOO_LONG; i++)
		{
			if (i > 0)
				buf_char(maker->out, ',');
			make_value(maker, item, property, (size_t) i + 1);
		}
	}
	buf_char(maker->out, ']');
}

static void
make_object(Maker *maker, const Node *node)
{
	bool first = true;

	buf_char(maker->out, '{');
	for (size_t i = 0; i < node->property_count; i++)
	{
		const Property *property = &node->properties[i];

		if (!property->required && maker->depth > DEEP)
			continue;
		if (!first)
			buf_char(maker->out, ',');
		first = false;
		buf_add(maker->out, property->quoted.at, property->quoted.len);
		make_value(maker, property->node, property, 0);
	}
	buf_char(maker->out, '}');
}

static void
make_boolean(Maker *maker, const Property *property)
{
	bool yes = false;

	for (size_t i = 0; property != NULL && i < property->stem_count; i++)
		yes = yes || words_have(&maker->words, property->stems[i]);
	buf_text(maker->out, yes ? "true" : "false");
}

/*
 * The alternative to take: the first that is not null, but null when it is
 * time to come to an end.
 */
static const Node *
choose_alternative(const Maker *maker, const Node *node)
{
	const Node *chosen = NULL;

	for (size_t i = 0; i < node->any_count; i++)
	{
		const Node *one = resolve(node->any[i]);
		bool null;

		if (one == NULL)
			continue;
		null = one->types == TYPE_NULL;
		if (null && maker->depth > DEEP)
			return one;
		if (chosen == NULL || (chosen->types == TYPE_NULL && !null))
			chosen = one;
	}
	return chosen;
}

static void
make_typed(Maker *maker, const Node *node, const Property *property, size_t turn)
{
	unsigned types = node->types;
	bool nullable = (types & TYPE_NULL) != 0;

	if (nullable && maker->depth > DEEP)
		types = TYPE_NULL;
	if ((types & TYPE_OBJECT) != 0)
		make_object(maker, node);
	else if ((types & TYPE_ARRAY) != 0)
		make_array(maker, node, property);
	else if ((types & TYPE_STRING) != 0)
		content_string(maker, node, property, turn);
	else if ((types & (TYPE_INTEGER | TYPE_NUMBER)) != 0)
	{
		bool whole = (types & TYPE_NUMBER) == 0;

		if (nullable && !content_has_number(maker, node, whole))
			buf_text(maker->out, "null");
		else
			content_number(maker, node, whole, turn);
	}
	else if ((types & TYPE_BOOLEAN) != 0)
		make_boolean(maker, property);
	else
		buf_text(maker->out, "null");
}

/*
 * Write a value for a node.  property is where it stands, for the meaning of
 * its name; turn counts the elements of an array from 1.
 */
static void
make_value(Maker *maker, const Node *node, const Property *property, size_t turn)
{
	node = resolve(node);
	if (node == NULL || maker->depth > TOO_DEEP || maker->out->len > TOO_LONG)
	{
		buf_text(maker->out, "null");
		return;
	}
	maker->depth++;
	if (node->value_count > 0)
		make_enum(maker, node);
	else if (node->any_count > 0)
		make_value(maker, choose_alternative(maker, node), property, turn);
	else
		make_typed(maker, node, property, turn);
	maker->depth--;
}

/*
 * Write the content of an answer for a recipe.  With spoil, something in it is
 * outside of the schema.
 */
void
answer_make(Buf *out, const ChatRequest *chat, const Script *script, const Recipe *recipe,
			bool spoil)
{
	static Maker maker; /* large; each call sets what it uses */

	maker.out = out;
	maker.chat = chat;
	maker.script = script;
	maker.spoil = spoil;
	maker.depth = 0;
	words_split(&maker.words, chat->input);
	make_value(&maker, recipe->root, NULL, 0);
	if (maker.spoil)
	{
		out->len = 0;
		buf_text(out, "{\"no_such_property\":true}");
	}
}

/*
 * Write the content of an answer where no form is asked for.
 */
void
answer_text(Buf *out, const ChatRequest *chat)
{
	static Words words;
	bool object = chat->format == FORMAT_OBJECT;
	Span text = chat->input;

	words_split(&words, text);
	if (words.count > 0)
	{
		const Word *last = &words.word[(words.count < PLAIN_WORDS ? words.count : PLAIN_WORDS) - 1];

		text.len = (size_t) (last->at + last->len - text.at);
	}
	buf_text(out, object ? "{\"answer\":\"" : "Simulated answer: ");
	if (object)
		buf_json(out, text);
	else
		buf_add(out, text.at, text.len);
	if (chat->mark.len > 0)
	{
		buf_text(out, " [[mark:");
		buf_add(out, chat->mark.at, chat->mark.len);
		buf_text(out, "]]");
	}
	if (object)
		buf_text(out, "\"}");
}

void
answer_free(void)
{
	buf_free(&scores);
	content_free();
}
