/*-------------------------------------------------------------------------
 *
 * secret.h
 *	  Read an API key, fingerprint it, wipe it.  Sender only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_SECRET_H
#define LLM_SECRET_H

#include "base/llm_enrich.h"

#include "catalog/catalog_target.h"

/*
 * The key of a target, palloc'ed in the current context, NUL-terminated, without
 * surrounding white space.  NULL with *problem and *hint set when it cannot be had
 * (the texts name the file or variable, never the key).  NULL without a problem: no
 * key is configured.  Raises only when memory runs out.
 */
extern char *llm_secret_read(const LlmTarget *target, const char **problem, const char **hint);

/* The same for the password of the target's proxy. */
extern char *llm_secret_read_proxy_password(const LlmTarget *target, const char **problem, const char **hint);

/*
 * Why this cannot be a key, as the end of a sentence that begins with "the key"; NULL
 * when it can.  Constant text; never repeats the key.
 */
extern const char *llm_secret_fault(const char *key);

/* First 8 bytes of SHA-256, for limits and logs; 0 for no key. */
extern uint64 llm_secret_fingerprint(const char *key);

/* Overwrite and free; NULL is fine. */
extern void llm_secret_wipe(char *key);

#endif /* LLM_SECRET_H */
