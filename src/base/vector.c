/*-------------------------------------------------------------------------
 *
 * vector.c
 *	  Vectors as they are stored in an answer.
 *
 * A vector of 1,536 numbers is 8 kB of base64.  As JSON numbers it would be three times as
 * much, and the sender, which is one process, would spend more on writing them in
 * decimals than on all else that it does for a row (ADR 77).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"

#include "base/vector.h"

#define FLOAT_BYTES 4

JsonbValue
llm_vector_pack(const float4 *values, int n)
{
	JsonbValue packed = {.type = jbvString};
	unsigned char *bytes = palloc(Max(n, 1) * FLOAT_BYTES);
	int room = pg_b64_enc_len(n * FLOAT_BYTES);

	for (int i = 0; i < n; i++)
	{
		uint32 bits;

		memcpy(&bits, &values[i], sizeof(bits));
		for (int b = 0; b < FLOAT_BYTES; b++)
			bytes[i * FLOAT_BYTES + b] = (unsigned char) (bits >> 8 * b);
	}
	packed.val.string.val = palloc(Max(room, 1));
	packed.val.string.len = pg_b64_encode((void *) bytes, n * FLOAT_BYTES, packed.val.string.val, room);
	pfree(bytes);
	return packed;
}

ArrayType *
llm_vector_unpack(const char *str, int len)
{
	int room = pg_b64_dec_len(len);
	unsigned char *bytes = palloc(Max(room, 1));
	int got = pg_b64_decode(str, len, (void *) bytes, room);
	ArrayType *array;
	Datum *values;
	int n = got / FLOAT_BYTES;

	if (got < FLOAT_BYTES || got % FLOAT_BYTES != 0)
		return NULL;
	values = palloc(n * sizeof(Datum));
	for (int i = 0; i < n; i++)
	{
		const unsigned char *b = bytes + i * FLOAT_BYTES;
		uint32 bits = (uint32) b[0] | (uint32) b[1] << 8 | (uint32) b[2] << 16 | (uint32) b[3] << 24;
		float4 value;

		memcpy(&value, &bits, sizeof(value));
		values[i] = Float4GetDatum(value);
	}
	array = construct_array(values, n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT);
	pfree(values);
	pfree(bytes);
	return array;
}
