/*-------------------------------------------------------------------------
 *
 * image.h
 *	  What a value is, in 128 bits; and the fence of a quiet cell, made of such.
 *
 * "=" is too kind to tell whether somebody has stored something else: it takes 1.0 for
 * 1.00 and -0 for 0.  So values are compared by their image: the bytes that the type's
 * send function gives, or those of the value itself where they are the same for the same
 * value.
 *
 * Filled in by bind (defer_quiet.c), looked at by llm.cell_stands() (sql_cell.c) in the
 * write-back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_IMAGE_H
#define LLM_IMAGE_H

#include "base/llm_enrich.h"

#include "access/attnum.h"
#include "base/siphash.h"
#include "fmgr.h"

/* How to take the image of a type's values. */
typedef struct LlmImageType
{
	Oid type; /* as declared: a domain stays one */
	bool is_raw; /* by its bytes */
	bool by_value;
	int16 length;
	FmgrInfo send; /* else by this */
} LlmImageType;

/* An image of several values, in the making. */
typedef struct LlmImage
{
	LlmSipHash so_far;
} LlmImage;

/* "context" is where the function's information goes. */
extern void llm_image_type(Oid type, MemoryContext context, LlmImageType *result);

extern void llm_image_add(LlmImage *image, const LlmImageType *type, Datum value, bool is_null);

/* Keys of one integer: cells whose keys differ only in so many low bits have numbers that lie beside each other. */
#define LLM_CELL_NEAR_BITS 16
#define LLM_CELL_NEAR_MASK ((UINT64CONST(1) << LLM_CELL_NEAR_BITS) - 1)

/*
 * A number for the cell in that column of the row with that key: not 0, and in all
 * likelihood no other cell's.  Two of the same column with different keys are as unlikely to
 * meet as two hashes of 64 bits, on the average of all pairs, whichever function made them.
 */
extern int64 llm_cell_number(Oid table, AttrNumber attno, const AttrNumber *key_attnos, int nkeys, const LlmImage *key);

/*
 * The same, of a key that is one integer.  Rows that were added together are mostly asked
 * about together: so their entries in an index are neighbours, and what there is of all of them
 * is found by one look.
 */
extern int64 llm_cell_number_near(Oid table, AttrNumber attno, AttrNumber key_attno, int64 key);

/* Columns that a fence can tell apart. */
#define LLM_FENCE_READS 64

/*
 * What must still hold for an answer to be written into a quiet cell: the cell has the value
 * that it had, and its row is the one that was asked about, which is to say that nobody has
 * stored it since, or that the columns that were read are as they were.
 */
typedef struct LlmCellFence
{
	Oid type; /* of the column */
	bool was_null;
	TransactionId xmin; /* that stored the row */
	LlmSipHash cell;
	uint64 reads; /* which of the job's columns were read; 0: none, xmin alone decides */
	LlmSipHash row; /* image of those */
} LlmCellFence;

/* In the current context.  read() raises on bytes that write() never gave. */
extern bytea *llm_cell_fence_write(const LlmCellFence *fence);
extern void llm_cell_fence_read(const bytea *bytes, LlmCellFence *fence);

#endif /* LLM_IMAGE_H */
