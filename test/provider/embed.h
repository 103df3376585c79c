/*-------------------------------------------------------------------------
 *
 * embed.h
 *	  Requests for vectors: what their forms (form_embed.c) and chat.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EMBED_H
#define EMBED_H

#include "provider.h"

#define EMBED_DIMENSIONS 8 /* of a model that was asked for no number */
#define EMBED_MOST_DIMENSIONS 4096

/* One more input of the request; false: refused. */
extern bool embed_add(ChatRequest *chat, Span input, size_t most);

extern size_t embed_count(void);
extern Span embed_input(size_t number);

/* Tokens of all inputs, and of the longest. */
extern uint64_t embed_tokens(void);
extern uint64_t embed_longest(void);

/*
 * The numbers of an input's vector between brackets: first the number at the end of its mark
 * (0: none), then its length in bytes, then what its bytes make of it.  "lame": one number is missing.
 */
extern void embed_write(Buf *out, const ChatRequest *chat, size_t number, bool lame);
extern void embed_forget(void);
extern void embed_free(void);

#endif /* EMBED_H */
