/*-------------------------------------------------------------------------
 *
 * marker_text.h
 *	  Markers in JSON kept as text: found, laid over and taken away by cutting
 *	  and pasting, so that what the user wrote comes back byte for byte.  (In json,
 *	  blanks around a value that is kept within the marker do not.)
 *
 * Only marker.c calls these.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLM_MARKER_TEXT_H
#define LLM_MARKER_TEXT_H

#include "base/llm_enrich.h"

/* Bytes of a cell, not terminated. */
typedef struct LlmSpan
{
	const char *data; /* NULL: there is none */
	int len;
} LlmSpan;

/* What a cell's text holds, in spans of that text. */
typedef struct LlmMarkerText
{
	bool is_object; /* one JSON object and nothing else */
	bool has_marker; /* with exactly one whole marker at its top */
	bool has_key; /* with the reserved key at its top, marker or not */
	int members; /* the reserved key not counted */
	int64 task; /* 0: the marker names none */
	const char *status; /* constant string */
	LlmSpan marker; /* the marker's object */
	LlmSpan previous; /* the marker's "previous" */
	int cut_start; /* without these bytes the marker is gone */
	int cut_end;
	int paste_at; /* behind the last member */
} LlmMarkerText;

/* Take the text apart; never raises, keeps no memory. */
extern void llm_marker_text_read(LlmSpan cell, LlmMarkerText *result);

/* Does the text hold the reserved key as a key, at any depth, even within a quoted string? */
extern bool llm_marker_text_mentions(LlmSpan cell);

/* One complete JSON value of any kind, nested so little that it can be kept within a marker? */
extern bool llm_marker_text_can_keep(LlmSpan cell);

#endif /* LLM_MARKER_TEXT_H */
