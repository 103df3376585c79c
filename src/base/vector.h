/*-------------------------------------------------------------------------
 *
 * vector.h
 *	  Vectors as they are stored in an answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_VECTOR_H
#define LLM_VECTOR_H

#include "base/llm_enrich.h"

#include "utils/array.h"
#include "utils/jsonb.h"

/* As a JSON string: base64 of the numbers as float4, the least byte first.  In the current context. */
extern JsonbValue llm_vector_pack(const float4 *values, int n);

/* Back to real[], in the current context; NULL when it is no such string. */
extern ArrayType *llm_vector_unpack(const char *str, int len);

#endif /* LLM_VECTOR_H */
