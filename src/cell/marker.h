/*-------------------------------------------------------------------------
 *
 * marker.h
 *	  The marker in a cell: made, found, merged with what was there, resolved.
 *
 * Pure functions over jsonb, json and text values; nothing here looks at a table.
 *
 *	  was NULL                  {"llm_enrich": {"task": 42, "status": "pending"}}
 *	  was {"label": "bug"}      {"label": "bug", "llm_enrich": {"task": 42, "status": "pending"}}
 *	  was 7, "x", [..], {}      {"llm_enrich": {"task": 42, "status": "pending", "previous": 7}}
 *	  (text that is not a JSON object is kept as a JSON string in "previous")
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_MARKER_H
#define LLM_MARKER_H

#include "base/llm_enrich.h"

#include "utils/jsonb.h"

/* How a column stores our objects.  OTHER: not capable of a marker. */
typedef enum LlmCellType
{
	LLM_CELL_OTHER = 0,
	LLM_CELL_JSONB,
	LLM_CELL_JSON,
	LLM_CELL_TEXT /* text, varchar, bpchar */
} LlmCellType;

/* Cell type of a column's type, domains looked through. */
extern LlmCellType llm_marker_cell_type(Oid type);

extern Jsonb *llm_marker_pending(int64 task);
extern Jsonb *llm_marker_failed(int64 task, const char *error, const char *message); /* task 0: none */

/*
 * The task that a top-level marker in the cell names, 0 when there is none.
 * *nested is set when the bytes hold the reserved key but not as a whole
 * top-level marker.  Never raises.
 */
extern int64 llm_marker_task(LlmCellType type, Datum cell, bool *nested);

/* "pending", "failed" or NULL; as above. */
extern const char *llm_marker_status(LlmCellType type, Datum cell);

/*
 * The new cell: the marker "fresh" (a cell of the same type) laid over what "old"
 * held.  An older marker of ours gives way, what it remembers stays.  A "fresh" that
 * is anything but a bare marker is returned as it is.
 */
extern Datum llm_marker_keep(LlmCellType type, Datum old, bool old_is_null, Datum fresh);

/* What the cell held before its marker; false when that was nothing.  Without a marker: the cell. */
extern bool llm_marker_restore(LlmCellType type, Datum cell, Datum *held);

/* The object as a cell of that type. */
extern Datum llm_marker_cell(LlmCellType type, Jsonb *object);

#endif /* LLM_MARKER_H */
