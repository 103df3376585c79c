/*-------------------------------------------------------------------------
 *
 * fuzz_memory.c
 *	  The server's palloc(), with bounds that the address sanitizer sees.
 *
 * The linker sends the calls of our sources here (--wrap); those of the server
 * itself stay as they are.  Each piece of memory is malloc'ed, so that one byte
 * too far is noticed, and belongs to its memory context all the same: it goes with
 * a reset.  pfree() and repalloc() get pieces of both kinds and tell them apart by
 * the word in front, where the server's own have a pointer or flags.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include <sanitizer/asan_interface.h>

#include "lib/ilist.h"
#include "utils/memutils.h"

#include "fuzz.h"

#define MARK UINT64CONST(0xF1FAB1EDF1FAB1ED)

/* Stands behind each piece, for servers that the address sanitizer cannot run. */
static const uint8 fence[] = {0xA5, 0x5A, 0xC3, 0x3C, 0x96, 0x69, 0xF0, 0x0F};

/* What is known of a piece. */
typedef struct Piece
{
	dlist_node node; /* in Pieces */
	struct Label *label;
	MemoryContext context;
	size_t size;
} Piece;

/* Stands in front of a piece; nobody may touch it but label_of(). */
typedef struct Label
{
	Piece *piece;
	uint64 mark; /* the last word */
} Label;

/* The pieces of one context; lives in it and goes with it. */
typedef struct Pieces
{
	dlist_node node; /* in contexts */
	MemoryContext context;
	MemoryContextCallback callback;
	dlist_head list;
} Pieces;

static dlist_head contexts = DLIST_STATIC_INIT(contexts);
static size_t held;
static size_t peak;

extern void *__real_palloc(Size size);
extern void *__real_repalloc(void *pointer, Size size);
extern void __real_pfree(void *pointer);
extern void *__wrap_palloc(Size size);
extern void *__wrap_palloc0(Size size);
extern void *__wrap_repalloc(void *pointer, Size size);
extern void __wrap_pfree(void *pointer);
extern char *__wrap_pstrdup(const char *str);
extern char *__wrap_pnstrdup(const char *str, Size len);

void
llm_fuzz_memory_start(void)
{
	peak = held;
}

size_t
llm_fuzz_memory_peak(void)
{
	return peak;
}

size_t
llm_fuzz_memory_held(void)
{
	return held;
}

/* Give a piece back to malloc. */
static void
drop(Piece *piece)
{
	Label *label = piece->label;
	uint8 *end = (uint8 *) (label + 1) + piece->size;

	ASAN_UNPOISON_MEMORY_REGION(end, sizeof(fence));
	must(memcmp(end, fence, sizeof(fence)) == 0);
	dlist_delete(&piece->node);
	held -= piece->size;
	free(piece);
	ASAN_UNPOISON_MEMORY_REGION(label, sizeof(Label));
	free(label);
}

/* The context is reset or deleted. */
static void
drop_all(void *arg)
{
	Pieces *pieces = arg;

	while (!dlist_is_empty(&pieces->list))
		drop(dlist_head_element(Piece, node, &pieces->list));
	dlist_delete(&pieces->node);
}

static Pieces *
pieces_of(MemoryContext context)
{
	dlist_iter iter;
	Pieces *pieces;

	dlist_foreach(iter, &contexts)
	{
		pieces = dlist_container(Pieces, node, iter.cur);
		if (pieces->context == context)
			return pieces;
	}
	pieces = MemoryContextAllocZero(context, sizeof(Pieces));
	pieces->context = context;
	pieces->callback.func = drop_all;
	pieces->callback.arg = pieces;
	dlist_init(&pieces->list);
	dlist_push_head(&contexts, &pieces->node);
	MemoryContextRegisterResetCallback(context, &pieces->callback);
	return pieces;
}

/* The label of a piece of ours; NULL: the server's own. */
__attribute__((no_sanitize("address"))) static Label *
label_of(void *pointer)
{
	Label *label = (Label *) pointer - 1;

	return label->mark == MARK ? label : NULL;
}

__attribute__((no_sanitize("address"))) static Piece *
piece_of(Label *label)
{
	return label->piece;
}

static void *
make_piece(MemoryContext context, Size size)
{
	Piece *piece;
	Label *label;

	/* the server knows how to refuse */
	if (!AllocSizeIsValid(size))
		return __real_palloc(size);
	piece = malloc(sizeof(Piece));
	label = malloc(sizeof(Label) + size + sizeof(fence));
	if (piece == NULL || label == NULL)
		abort();
	piece->label = label;
	piece->context = context;
	piece->size = size;
	label->piece = piece;
	label->mark = MARK;
	memcpy((uint8 *) (label + 1) + size, fence, sizeof(fence));
	ASAN_POISON_MEMORY_REGION(label, sizeof(Label));
	ASAN_POISON_MEMORY_REGION((uint8 *) (label + 1) + size, sizeof(fence));
	dlist_push_head(&pieces_of(context)->list, &piece->node);
	held += size;
	peak = Max(peak, held);
	return label + 1;
}

void *
__wrap_palloc(Size size)
{
	return make_piece(CurrentMemoryContext, size);
}

void *
__wrap_palloc0(Size size)
{
	void *made = make_piece(CurrentMemoryContext, size);

	memset(made, 0, size);
	return made;
}

void
__wrap_pfree(void *pointer)
{
	Label *label = label_of(pointer);

	if (label == NULL)
		__real_pfree(pointer);
	else
		drop(piece_of(label));
}

/* The piece always moves, so that a pointer to the old place is noticed. */
void *
__wrap_repalloc(void *pointer, Size size)
{
	Label *label = label_of(pointer);
	Piece *piece;
	void *made;

	if (label == NULL || !AllocSizeIsValid(size))
		return __real_repalloc(pointer, size);
	piece = piece_of(label);
	made = make_piece(piece->context, size);
	memcpy(made, pointer, Min(piece->size, size));
	drop(piece);
	return made;
}

char *
__wrap_pnstrdup(const char *str, Size len)
{
	Size kept = strnlen(str, len);
	char *copy = __wrap_palloc(kept + 1);

	memcpy(copy, str, kept);
	copy[kept] = '\0';
	return copy;
}

char *
__wrap_pstrdup(const char *str)
{
	return __wrap_pnstrdup(str, strlen(str));
}
