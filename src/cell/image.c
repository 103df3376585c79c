/*-------------------------------------------------------------------------
 *
 * image.c
 *	  What a value is, in 128 bits; and the fence of a quiet cell.
 *
 * A send function converts text to the client's encoding, which is another one in the
 * session that asks than in the writer: so it is the server's while an image is taken.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "cell/image.h"

/* Not secret: a role that can store a value in a row can as well store any other. */
static const LlmSipKey image_key = {UINT64CONST(0x6c6c6d5f656e7269), UINT64CONST(0x63685f696d616765)};

/* The first byte of a fence. */
#define FENCE_VERSION 1

/* A fence as it is stored, in network order. */
typedef struct StoredFence
{
	uint8 version;
	uint8 was_null;
	uint8 unused[2];
	uint32 type;
	uint32 xmin;
	uint32 unused_too;
	uint64 reads;
	uint64 cell[2];
	uint64 row[2];
} StoredFence;

StaticAssertDecl(sizeof(StoredFence) == 56, "no padding in a stored fence");

/* Have equal values of the type equal bytes, always? */
static bool
is_raw_type(Oid base, bool by_value)
{
	switch (base)
	{
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case BYTEAOID:
		case JSONOID:
		case JSONBOID:
		case UUIDOID:
			return true;
		default:
			return by_value;
	}
}

void
llm_image_type(Oid type, MemoryContext context, LlmImageType *result)
{
	Oid base = getBaseType(type);
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(base));
	Form_pg_type form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", base);
	form = (Form_pg_type) GETSTRUCT(tuple);
	result->type = type;
	result->by_value = form->typbyval;
	result->length = form->typlen;
	result->is_raw = is_raw_type(base, form->typbyval) || !OidIsValid(form->typsend);
	if (!result->is_raw)
		fmgr_info_cxt(form->typsend, &result->send, context);
	ReleaseSysCache(tuple);
}

/* The bytes of a send function, with no conversion to what the client speaks. */
static bytea *
send_value(const LlmImageType *type, Datum value)
{
	int encoding = pg_get_client_encoding();
	bytea *volatile bytes = NULL;

	if (encoding == GetDatabaseEncoding())
		return SendFunctionCall(unconstify(FmgrInfo *, &type->send), value);
	(void) SetClientEncoding(GetDatabaseEncoding());
	PG_TRY();
	{
		bytes = SendFunctionCall(unconstify(FmgrInfo *, &type->send), value);
	}
	PG_FINALLY();
	{
		(void) SetClientEncoding(encoding);
	}
	PG_END_TRY();
	return bytes;
}

static LlmSipHash
hash_value(const LlmImageType *type, Datum value)
{
	struct varlena *bytes;
	LlmSipHash hash;

	if (type->is_raw && type->by_value)
	{
		/* what stands above the type's own bytes is anybody's guess */
		uint64 bits = type->length == sizeof(Datum) ? value : value & ((UINT64CONST(1) << (8 * type->length)) - 1);

		return llm_siphash(&image_key, &bits, sizeof(bits));
	}
	if (type->is_raw && type->length > 0)
		return llm_siphash(&image_key, DatumGetPointer(value), type->length);
	if (type->is_raw && type->length == -2)
		return llm_siphash(&image_key, DatumGetCString(value), strlen(DatumGetCString(value)));
	bytes = type->is_raw ? PG_DETOAST_DATUM_PACKED(value) : send_value(type, value);
	hash = llm_siphash(&image_key, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	if (bytes != (struct varlena *) DatumGetPointer(value))
		pfree(bytes);
	return hash;
}

void
llm_image_add(LlmImage *image, const LlmImageType *type, Datum value, bool is_null)
{
	struct
	{
		LlmSipHash so_far;
		LlmSipHash value;
		uint64 type; /* no padding behind it */
		uint64 is_null;
	} part;

	memset(&part, 0, sizeof(part));
	part.so_far = image->so_far;
	part.type = type->type;
	part.is_null = is_null;
	if (!is_null)
		part.value = hash_value(type, value);
	image->so_far = llm_siphash(&image_key, &part, sizeof(part));
}

static uint64
hash_cell(Oid table, AttrNumber attno, const AttrNumber *key_attnos, int nkeys, LlmSipHash key)
{
	struct
	{
		LlmSipHash key;
		LlmSipHash attnos;
		uint64 table; /* no padding behind it */
		uint64 attno;
	} cell = {key, llm_siphash(&image_key, key_attnos, nkeys * sizeof(AttrNumber)), table, attno};

	return llm_siphash(&image_key, &cell, sizeof(cell)).low;
}

int64
llm_cell_number(Oid table, AttrNumber attno, const AttrNumber *key_attnos, int nkeys, const LlmImage *key)
{
	uint64 hash = hash_cell(table, attno, key_attnos, nkeys, key->so_far);

	return hash == 0 ? 1 : (int64) hash;
}

int64
llm_cell_number_near(Oid table, AttrNumber attno, AttrNumber key_attno, int64 key)
{
	LlmSipHash block = {(uint64) key >> LLM_CELL_NEAR_BITS, 0};
	uint64 hash = hash_cell(table, attno, &key_attno, 1, block);

	hash = (hash & ~LLM_CELL_NEAR_MASK) | ((uint64) key & LLM_CELL_NEAR_MASK);
	return hash == 0 ? 1 : (int64) hash;
}

bytea *
llm_cell_fence_write(const LlmCellFence *fence)
{
	bytea *bytes = palloc0(VARHDRSZ + sizeof(StoredFence));
	StoredFence stored = {.version = FENCE_VERSION};

	stored.was_null = fence->was_null;
	stored.type = pg_hton32(fence->type);
	stored.xmin = pg_hton32(fence->xmin);
	stored.reads = pg_hton64(fence->reads);
	stored.cell[0] = pg_hton64(fence->cell.low);
	stored.cell[1] = pg_hton64(fence->cell.high);
	stored.row[0] = pg_hton64(fence->row.low);
	stored.row[1] = pg_hton64(fence->row.high);
	SET_VARSIZE(bytes, VARHDRSZ + sizeof(StoredFence));
	memcpy(VARDATA(bytes), &stored, sizeof(StoredFence));
	return bytes;
}

void
llm_cell_fence_read(const bytea *bytes, LlmCellFence *fence)
{
	StoredFence stored;

	if (VARSIZE_ANY_EXHDR(bytes) != sizeof(StoredFence))
		elog(ERROR, "fence of a cell has a size of %d bytes", (int) VARSIZE_ANY_EXHDR(bytes));
	memcpy(&stored, VARDATA_ANY(bytes), sizeof(StoredFence));
	if (stored.version != FENCE_VERSION)
		elog(ERROR, "fence of a cell has version %d", stored.version);
	fence->type = pg_ntoh32(stored.type);
	fence->was_null = stored.was_null != 0;
	fence->xmin = pg_ntoh32(stored.xmin);
	fence->reads = pg_ntoh64(stored.reads);
	fence->cell.low = pg_ntoh64(stored.cell[0]);
	fence->cell.high = pg_ntoh64(stored.cell[1]);
	fence->row.low = pg_ntoh64(stored.row[0]);
	fence->row.high = pg_ntoh64(stored.row[1]);
}
