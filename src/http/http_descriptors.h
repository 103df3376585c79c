/*-------------------------------------------------------------------------
 *
 * http_descriptors.h
 *	  How many sockets this process may have.
 *
 *	  room()              at start, before any socket: how many simultaneous requests fit
 *	  take() / release()  for each; take() does not raise
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_HTTP_DESCRIPTORS_H
#define LLM_HTTP_DESCRIPTORS_H

#include "base/llm_enrich.h"

/*
 * Asks the operating system for what is needed and not there yet.  How many of "wanted" requests may be under way;
 * *limit becomes its limit for this process.
 */
extern int llm_http_descriptors_room(int wanted, int *limit);

extern bool llm_http_descriptors_take(void);
extern void llm_http_descriptors_release(void);

#endif /* LLM_HTTP_DESCRIPTORS_H */
